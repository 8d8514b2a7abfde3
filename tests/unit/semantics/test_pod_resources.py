"""What pods need, the limits that they break, and the quotas that they exceed."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from meshgate.semantics.pod_resources import broken_limits, defaulted, totals
from meshgate.semantics.quantities import amount, shown
from meshgate.semantics.quotas import Rollout, applies, exceeded, missing, usage
from meshgate.snapshot.new_pods import LimitRange, NewPod, ResourceQuota


def pod(*containers: dict[str, Any], **more: Any) -> NewPod:
    """A pod of these containers, each with a name."""
    named = [{"name": f"c{number}", **each} for number, each in enumerate(containers)]
    return msgspec.convert({"workload": "", "containers": named, **more}, NewPod)


def limit_range(**item: Any) -> LimitRange:
    """A LimitRange with one row."""
    limits = [{"type": "Container", **item}]
    return msgspec.convert({"metadata": {"name": "a"}, "spec": {"limits": limits}}, LimitRange)


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> ResourceQuota:
    """A ResourceQuota."""
    body = {
        "metadata": {"name": "a"},
        "spec": {"hard": hard, **spec},
        "status": {"used": used or {}},
    }
    return msgspec.convert(body, ResourceQuota)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", "0.1"),
        ("1Gi", 2**30),
        ("2k", 2000),
        ("1e3", 1000),
        ("1.5", "1.5"),
        ("5E", 5 * 10**18),
    ],
)
def test_a_quantity_is_a_number(text: str, value: Any) -> None:
    assert amount(text) == Decimal(value)


def test_a_text_that_is_no_quantity_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        amount("many")


@pytest.mark.parametrize(
    ("value", "resource", "words"),
    [("0.1", "cpu", "100m"), ("2", "cpu", "2"), (2**30, "memory", "1Gi"), ("3", "pods", "3")],
)
def test_a_number_is_shown_as_people_write_it(value: Any, resource: str, words: str) -> None:
    assert shown(Decimal(value), resource) == words


def test_init_containers_count_one_by_one_beside_the_sidecars_before_them() -> None:
    sidecar = {"init": True, "sidecar": True, "requests": {"cpu": "100m"}}
    init = {"init": True, "requests": {"cpu": "1"}}
    app = {"requests": {"cpu": "200m"}}

    assert totals(pod(sidecar, init, app), "requests")["cpu"] == Decimal("1.1")
    assert totals(pod(init, sidecar, app), "requests")["cpu"] == Decimal("1")
    assert totals(pod(app, app, overhead={"cpu": "50m"}), "requests")["cpu"] == Decimal("0.45")


def test_a_request_is_the_limit_or_the_default() -> None:
    defaults = limit_range(default={"cpu": "2"}, defaultRequest={"cpu": "1"})

    (limited,) = defaulted(pod({"limits": {"cpu": "3"}}), [defaults]).containers
    (bare,) = defaulted(pod({}), [defaults]).containers

    assert (limited.requests, limited.limits) == ({"cpu": "3"}, {"cpu": "3"})
    assert (bare.requests, bare.limits) == ({"cpu": "1"}, {"cpu": "2"})


@pytest.mark.parametrize(
    ("item", "container"),
    [
        ({"max": {"memory": "64Mi"}}, {"limits": {"memory": "128Mi"}}),
        ({"max": {"memory": "64Mi"}}, {}),
        ({"min": {"cpu": "50m"}}, {"requests": {"cpu": "10m"}}),
        ({"min": {"cpu": "50m"}}, {}),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "2"}},
        ),
        ({"type": "Pod", "max": {"cpu": "1"}}, {"limits": {"cpu": "2"}}),
        # the sidecar requests 100m without a limit
        ({"default": {"cpu": "50m"}}, {"requests": {"cpu": "100m"}}),
    ],
)
def test_a_limit_is_broken(item: Any, container: Any) -> None:
    limit = limit_range(**item)

    assert list(broken_limits(defaulted(pod(container), [limit]), limit))


@pytest.mark.parametrize(
    ("item", "container"),
    [
        ({"max": {"memory": "64Mi"}}, {"limits": {"memory": "64Mi"}}),
        ({"min": {"cpu": "50m"}}, {"requests": {"cpu": "100m"}}),
        (
            {"maxLimitRequestRatio": {"cpu": "20"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "2"}},
        ),
        ({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}, {}),
        ({"default": {"cpu": "200m"}}, {"requests": {"cpu": "100m"}}),
        ({"default": {"cpu": "50m"}}, {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}),
    ],
)
def test_a_limit_is_kept(item: Any, container: Any) -> None:
    limit = limit_range(**item)

    assert not list(broken_limits(defaulted(pod(container), [limit]), limit))


SMALL = {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}


@pytest.mark.parametrize(
    ("replicas", "unavailable", "used", "fits"),
    [
        (2, 0, "800m", True),  # one more beside the old ones
        (2, 0, "1", False),
        (2, 1, "1", True),  # an old one may go first
        (2, 1, "1050m", False),  # the quota was lowered since: no pod is admitted above it
    ],
)
def test_a_rollout_fits_where_its_pods_may_replace_each_other(
    replicas: int, unavailable: int, used: str, fits: bool
) -> None:
    new = pod(SMALL, replicas=replicas, unavailable=unavailable)
    rollout = Rollout(new, usage(pod(SMALL)), replicas)

    assert bool(list(exceeded(quota({"cpu": "1"}, {"cpu": used}), rollout))) is not fits


def test_pods_that_need_more_than_the_old_ones_must_all_fit() -> None:
    new = pod({"requests": {"cpu": "300m"}}, replicas=3, unavailable=1)
    rollout = Rollout(new, usage(pod(SMALL)), 3)

    (words,) = exceeded(quota({"requests.cpu": "700m"}, {"requests.cpu": "300m"}), rollout)

    assert words.startswith("3 new pods need 900m of requests.cpu")


def test_a_quota_of_limits_requires_them_of_every_container() -> None:
    found = list(missing(quota({"limits.cpu": "4"}), pod(SMALL, {})))

    assert found == ["must specify limits.cpu for: c1"]


def test_resources_of_the_pod_replace_those_of_its_containers() -> None:
    whole = pod(SMALL, {}, requests={"cpu": "500m"}, limits={"cpu": "2"})

    assert usage(whole)["requests.cpu"] == amount("500m")
    assert not list(missing(quota({"limits.cpu": "4"}), whole))


NOT_HIGH = {
    "scopeSelector": {
        "matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}
        ]
    }
}


@pytest.mark.parametrize(
    ("spec", "more", "counts"),
    [
        ({}, {}, True),
        ({"scopes": ["BestEffort"]}, {}, False),
        ({"scopes": ["NotTerminating"]}, {}, True),
        ({"scopes": ["Terminating"]}, {"terminating": True}, True),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [
                        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
                    ]
                }
            },
            {"priorityClass": "low"},
            False,
        ),
        (NOT_HIGH, {}, True),
        (NOT_HIGH, {"priorityClass": "high"}, False),
    ],
)
def test_a_quota_counts_the_pods_of_its_scopes(spec: Any, more: Any, counts: bool) -> None:
    assert applies(quota({"pods": "1"}, **spec), pod(SMALL, **more)) is counts
