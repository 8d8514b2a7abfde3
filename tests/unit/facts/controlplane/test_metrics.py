"""istiod's own numbers: what is added now counts, not what was counted long ago."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.facts.controlplane.metrics import Numbers, quantity
from meshgate.snapshot.istio import (
    DestinationRule,
    DestinationRuleSpec,
    ServiceEntry,
    ServiceEntryPort,
    ServiceEntrySpec,
    Subset,
)
from meshgate.snapshot.istiod import Conflict, Conflicts, IstiodMetrics
from meshgate.snapshot.kubernetes import (
    Container,
    ContainerState,
    ContainerStatus,
    Limits,
    Metadata,
    Pod,
    Resources,
    Terminated,
)
from meshgate.snapshot.request_authentication import (
    JwtRule,
    RequestAuthentication,
    RequestAuthenticationSpec,
)
from meshgate.verdict import CouldNotVerify, Finding
from tests.support.builders import AT, istiod, mesh, numbers, running

BUCKET, COUNT = "pilot_proxy_convergence_time_bucket", "pilot_proxy_convergence_time_count"
REJECTS = "pilot_total_xds_rejects|lds"
OBTAINED, GIVEN_BACK = "go_memstats_sys_bytes", "go_memstats_heap_released_bytes"


def facts(*given: IstiodMetrics, **changes: Any) -> Numbers:
    """The numbers of a mesh whose replicas gave these."""
    return mesh(istiod_metrics=given, **changes).numbers


def only(findings: list[Finding]) -> Finding:
    """The one finding."""
    (finding,) = findings
    return finding


# --- pushes -------------------------------------------------------------------------------------


def test_what_was_counted_before_the_window_is_history() -> None:
    assert facts(numbers(before={REJECTS: 900})).push_errors == []


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (REJECTS, "3 pushes were rejected by proxies (lds)"),
        ("pilot_total_xds_internal_errors", "3 requests of proxies ended in an internal error"),
        ("pilot_xds_write_timeout", "3 pushes timed out"),
        ("pilot_xds_pushes|cds_senderr", "3 pushes could not be sent (cds_senderr)"),
    ],
)
def test_what_was_added_within_it_is_told_and_may_pass(series: str, words: str) -> None:
    finding = only(facts(numbers(before={series: 2}, after={series: 5})).push_errors)

    assert finding.subject == "Pod istio-system/istiod-1"
    assert finding.seen == f"{words} within 5 s"
    assert finding.transient


FAILED, FETCHED = (
    "pilot_jwks_resolver_network_fetch_fail_total",
    "pilot_jwks_resolver_network_fetch_success_total",
)


JWT = RequestAuthentication(
    metadata=Metadata(name="login", namespace="shop"),
    spec=RequestAuthenticationSpec(jwt_rules=(JwtRule(jwks_uri="https://id.example.com/keys"),)),
)


@pytest.mark.parametrize(
    ("failed", "fetched", "minutes", "findings"),
    [(0, 0, 600, 0), (3, 0, 600, 1), (3, 2, 600, 0), (590, 2, 600, 1), (0, 9, 600, 0)],
    ids=["no JWT", "never fetched", "once in a while", "all the time", "well"],
)
def test_key_sets_that_cannot_be_fetched(
    failed: int, fetched: int, minutes: int, findings: int
) -> None:
    counted: dict[str, float] = {
        "process_start_time_seconds": AT.timestamp() - 60 * minutes,
        FAILED: failed,
        FETCHED: fetched,
    }

    found = facts(numbers(before=counted), request_authentications=(JWT,)).push_errors

    assert len(found) == findings
    assert all("JWKS" in each.seen and not each.transient for each in found)
    assert all("shop/login" in each.seen for each in found)


def test_failures_of_a_key_set_that_nothing_names_any_more_are_history() -> None:
    counted = {"process_start_time_seconds": AT.timestamp() - 600, FAILED: 9.0}
    inline = RequestAuthentication(
        metadata=Metadata(name="inline", namespace="shop"),
        spec=RequestAuthenticationSpec(jwt_rules=(JwtRule(),)),
    )

    assert facts(numbers(before=counted), request_authentications=(inline,)).push_errors == []


def test_a_series_that_was_not_there_was_at_nothing() -> None:
    assert "4 pushes" in only(facts(numbers(after={REJECTS: 4})).push_errors).seen


def test_pushes_that_went_well_are_no_error() -> None:
    assert facts(numbers(after={"pilot_xds_pushes|cds": 50})).push_errors == []


def test_a_process_that_began_within_the_window_began_at_nothing() -> None:
    again = numbers(before={REJECTS: 9}, after={REJECTS: 2, "process_start_time_seconds": 8.0})

    assert "2 pushes" in only(facts(again).push_errors).seen


@pytest.mark.parametrize(
    ("within_10", "within_30", "slow", "push_errors"),
    [(200, 200, 0, 0), (198, 200, 0, 0), (150, 200, 1, 0), (150, 150, 0, 1)],
    ids=["in time", "one of a hundred", "slow", "too slow"],
)
def test_pushes_that_take_long_warn_and_then_fail(
    within_10: int, within_30: int, slow: int, push_errors: int
) -> None:
    after: dict[str, float] = {
        f"{BUCKET}|10": 9 + within_10,
        f"{BUCKET}|30": 9 + within_30,
        COUNT: 209,
    }
    taken = facts(numbers(before={f"{BUCKET}|10": 9, f"{BUCKET}|30": 9, COUNT: 9}, after=after))

    assert (len(taken.slow), len(taken.push_errors)) == (slow, push_errors)


RUNTIME = {"process_start_time_seconds": 1.0, "go_memstats_sys_bytes": 100 * 2.0**20}
COUNTED = {**RUNTIME, "pilot_xds_pushes|cds": 7.0}


@pytest.mark.parametrize("fact", ["push_errors", "slow", "failing", "restarted", "conflicting"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(RUNTIME, RUNTIME), (COUNTED, RUNTIME), ({}, COUNTED), (RUNTIME, COUNTED)],
    ids=["neither reading", "not the second", "an empty first one", "not the first"],
)
def test_metrics_without_a_series_of_istiod_prove_nothing(
    before: dict[str, float], after: dict[str, float], fact: str
) -> None:
    given = msgspec.structs.replace(numbers(), before=before, after=after)

    with pytest.raises(CouldNotVerify, match=r"istiod-1: no series of istiod") as raised:
        getattr(facts(given), fact)

    assert raised.value.transient


@pytest.mark.parametrize("series", ["pilot_info", "pilot_xds_pushes|cds"])
def test_an_istiod_that_counted_no_error_yet_is_healthy(series: str) -> None:
    said = {**RUNTIME, series: 1.0}

    given = msgspec.structs.replace(numbers(), before=said, after=said)

    assert (facts(given).push_errors, facts(given).slow) == ([], [])


# --- itself -------------------------------------------------------------------------------------


def restarted(times: int, reason: str = "Error", exit_code: int = 1) -> ContainerStatus:
    """istiod's container, which runs again."""
    ended = Terminated(reason=reason, exit_code=exit_code)
    return msgspec.structs.replace(
        running("discovery"), restart_count=times, last_state=ContainerState(terminated=ended)
    )


def limited(memory: str) -> Pod:
    """A replica with a memory limit."""
    pod = istiod()
    resources = Resources(limits=Limits(memory=memory))
    container = Container(name="discovery", resources=resources)
    spec = msgspec.structs.replace(pod.spec, containers=(container,))
    return msgspec.structs.replace(pod, spec=spec)


def test_a_replica_that_never_restarted_is_well() -> None:
    assert (facts(numbers()).failing, facts(numbers()).restarted) == ([], [])


def test_restarts_of_the_node_only_warn() -> None:
    taken = facts(numbers(), pods=(istiod(discovery=restarted(4, "Unknown", 255)),))

    assert taken.failing == []
    found = only(taken.restarted)
    assert found.seen.endswith("the last time with exit code 255 (Unknown)")


@pytest.mark.parametrize(("times", "failing", "shaky"), [(1, 0, 1), (2, 0, 1), (3, 1, 0)])
def test_restarts_warn_until_they_are_no_accident(times: int, failing: int, shaky: int) -> None:
    taken = facts(numbers(), pods=(istiod(discovery=restarted(times)),))

    assert (len(taken.failing), len(taken.restarted)) == (failing, shaky)
    told = only(taken.failing + taken.restarted)
    assert told.seen.endswith(
        f"restarted {times} times since its creation, the last time with exit code 1 (Error)"
    )


def long_running(times: int, last_restart: timedelta, reason: str = "Unknown") -> Pod:
    """A replica that has run for 200 days."""
    ended = Terminated(reason=reason, exit_code=255, finished_at=AT - last_restart)
    status = msgspec.structs.replace(restarted(times), last_state=ContainerState(terminated=ended))
    pod = istiod(discovery=status)
    metadata = msgspec.structs.replace(pod.metadata, creation_timestamp=AT - timedelta(days=200))
    return msgspec.structs.replace(pod, metadata=metadata)


@pytest.mark.parametrize(
    ("times", "ago", "reason", "failing", "shaky"),
    [
        (3, timedelta(days=150), "Unknown", 0, 0),
        (3, timedelta(hours=1), "Unknown", 0, 1),
        (300, timedelta(hours=1), "Error", 1, 0),
        (1, timedelta(days=150), "OOMKilled", 0, 1),
        (1, timedelta(hours=1), "OOMKilled", 1, 0),
    ],
)
def test_restarts_are_judged_by_how_long_the_replica_has_run(
    times: int, ago: timedelta, reason: str, failing: int, shaky: int
) -> None:
    taken = facts(numbers(), pods=(long_running(times, ago, reason),))

    assert (len(taken.failing), len(taken.restarted)) == (failing, shaky)


def test_one_kill_for_memory_is_one_too_many() -> None:
    taken = facts(numbers(), pods=(istiod(discovery=restarted(1, "OOMKilled", 137)),))

    assert "needed more memory than its node has" in only(taken.failing).seen
    assert not only(taken.failing).transient
    assert taken.restarted == []


@pytest.mark.parametrize(
    ("mebibytes", "failing", "shaky"), [(70, 0, 0), (80, 0, 1), (95, 1, 0), (400, 1, 0)]
)
def test_memory_near_its_limit_warns_and_then_fails(
    mebibytes: int, failing: int, shaky: int
) -> None:
    held = {OBTAINED: (mebibytes + 30) * 2.0**20, GIVEN_BACK: 30 * 2.0**20}
    taken = facts(numbers(after=held), pods=(limited("100Mi"),))

    assert (len(taken.failing), len(taken.restarted)) == (failing, shaky)


def test_a_limit_is_not_held_against_memory_that_nobody_told_of() -> None:
    silent = numbers(before={}, after={})
    silent = msgspec.structs.replace(
        silent, after={key: value for key, value in silent.after.items() if key != OBTAINED}
    )

    with pytest.raises(CouldNotVerify, match="does not report its memory"):
        _ = facts(silent, pods=(limited("100Mi"),)).failing


def test_a_replica_that_was_killed_is_told_though_it_gives_no_numbers() -> None:
    killed = istiod(discovery=restarted(1, "OOMKilled", 137))

    assert "needed more memory" in only(facts(pods=(killed,)).failing).seen


@pytest.mark.parametrize(
    ("text", "bytes"),
    [
        ("64Mi", 2**26),
        ("1Gi", 2**30),
        ("2G", 2e9),
        ("500", 500),
        ("1.5Ki", 1536),
        ("", 0),
        ("?", 0),
    ],
)
def test_a_quantity_of_memory_is_bytes(text: str, bytes: float) -> None:
    assert quantity(text) == bytes


# --- conflicts ----------------------------------------------------------------------------------


def test_what_conflicts_is_told_once_whatever_the_replicas() -> None:
    conflicts = Conflicts(outbound={"0.0.0.0_9999": Conflict(message="Rejected=TCP (two.example)")})
    both = [numbers(name, conflicts=conflicts) for name in ("istiod-1", "istiod-2")]

    finding = only(facts(*both, pods=(istiod(), istiod("istiod-2"))).conflicting)

    assert finding.subject == "Listener 0.0.0.0_9999"
    assert "Rejected=TCP (two.example)" in finding.seen


@pytest.mark.parametrize("kind", ["inbound", "outbound", "clusters", "domains", "subsets"])
def test_each_kind_of_conflict_is_told(kind: str) -> None:
    conflicts = Conflicts(**{kind: {"it": Conflict()}})

    assert only(facts(numbers(conflicts=conflicts)).conflicting).seen.endswith(
        "it is defined twice"
    )


def with_image(tag: str) -> Pod:
    """An istiod of this image tag."""
    pod = istiod()
    containers = (Container(name="discovery", image=f"docker.io/istio/pilot{tag}"),)
    spec = msgspec.structs.replace(pod.spec, containers=containers)
    return msgspec.structs.replace(pod, spec=spec)


SHARED = {
    "destination_rules": tuple(
        DestinationRule(
            metadata=Metadata(name=name, namespace="shop"),
            spec=DestinationRuleSpec(host="web", subsets=(Subset(name="v1"),)),
        )
        for name in ("a", "b")
    ),
    "service_entries": tuple(
        ServiceEntry(
            metadata=Metadata(name=name, namespace="shop"),
            spec=ServiceEntrySpec(
                hosts=(f"{name}.example",), ports=(ServiceEntryPort(number=9999, protocol="TCP"),)
            ),
        )
        for name in ("a", "b")
    ),
}


@pytest.mark.parametrize("tag", [":1.31.0", ":1.32.1-distroless", "@sha256:0"])
def test_a_conflict_that_a_new_istiod_may_have_cleared_is_found_in_the_objects(tag: str) -> None:
    seen = facts(numbers(conflicts=Conflicts()), pods=(with_image(tag),), **SHARED)

    finding, warning = only(seen.conflicting), only(seen.possibly_conflicting)

    assert finding.subject == "Host web.shop.svc.cluster.local subset v1"
    assert "DestinationRule shop/a and DestinationRule shop/b conflict" in finding.seen
    assert warning.subject == "Listener 0.0.0.0_9999"


def test_an_older_istiod_reports_all_conflicts_itself() -> None:
    seen = facts(numbers(conflicts=Conflicts()), pods=(with_image(":1.30.4"),), **SHARED)

    assert (seen.conflicting, seen.possibly_conflicting) == ([], [])


def test_a_new_istiod_without_conflicts_in_its_objects_omits_nothing() -> None:
    seen = facts(numbers(conflicts=Conflicts()), pods=(with_image(":1.31.0"),))

    assert (seen.conflicting, seen.possibly_conflicting) == ([], [])


# --- not seen -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fact", ["push_errors", "slow", "failing", "restarted", "conflicting"])
@pytest.mark.parametrize(
    ("given", "transient"),
    [
        ([], True),
        ([numbers(error="no answer")], True),
        ([IstiodMetrics(pod="istiod-1")], True),
        ([numbers(denied="shows its metrics to nobody")], False),
    ],
    ids=["no reading", "no answer", "no metrics", "denied"],
)
def test_numbers_that_are_not_there_prove_nothing(
    given: list[IstiodMetrics], transient: bool, fact: str
) -> None:
    with pytest.raises(CouldNotVerify, match="istio-system/istiod-1") as raised:
        getattr(facts(*given), fact)

    assert raised.value.transient is transient


def test_without_any_istiod_nothing_is_counted() -> None:
    with pytest.raises(CouldNotVerify, match="no istiod pod is running"):
        _ = facts(pods=()).push_errors


def test_an_istiod_that_has_not_pushed_yet_says_nothing_of_conflicts() -> None:
    with pytest.raises(CouldNotVerify, match="has not pushed anything yet") as raised:
        _ = facts(numbers(conflicts=None)).conflicting

    assert raised.value.transient
