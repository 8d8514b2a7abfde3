"""Label selectors, as the API server evaluates them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshgate.semantics.selectors import Fronting, fronts, selects
from meshgate.semantics.webhooks import injection_enabled
from meshgate.snapshot.kubernetes import LabelSelector, Metadata, Requirement, Service, ServiceSpec
from tests.support.builders import pod
from tests.support.webhook_builders import namespace, row

LABELS = {"app": "web", "tier": ""}


@pytest.mark.parametrize(
    ("requirement", "holds"),
    [
        (row("app", "In", "web", "api"), True),
        (row("app", "In", "api"), False),
        (row("none", "In", "web"), False),
        (row("app", "NotIn", "web"), False),
        (row("app", "NotIn", "api"), True),
        (row("none", "NotIn", "web"), True),
        (row("tier", "Exists"), True),
        (row("none", "Exists"), False),
        (row("tier", "DoesNotExist"), False),
        (row("none", "DoesNotExist"), True),
    ],
)
def test_a_row(requirement: Requirement, holds: bool) -> None:
    assert selects(LabelSelector(match_expressions=(requirement,)), LABELS) is holds


def test_all_rows_must_hold() -> None:
    both = LabelSelector(match_labels={"app": "web"}, match_expressions=(row("none", "Exists"),))

    assert selects(LabelSelector(), LABELS)
    assert selects(LabelSelector(match_labels={"app": "web"}), LABELS)
    assert not selects(both, LABELS)


def test_an_object_with_an_unknown_operator_is_undecodable() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"'Gt' - at `\$\.operator`"):
        msgspec.convert({"key": "app", "operator": "Gt", "values": ["1"]}, Requirement)


@pytest.mark.parametrize(
    ("labels", "asks"),
    [
        ({"injection": "enabled"}, True),
        ({"injection": "disabled"}, False),
        ({"rev": "canary"}, True),
        ({"injection": "disabled", "rev": "canary"}, False),
        ({"rev": ""}, False),
        ({"rev": "canary", "istio.io/dataplane-mode": "ambient"}, False),
        ({}, False),
    ],
)
def test_who_asks_for_sidecars(labels: dict[str, str], asks: bool) -> None:
    assert bool(injection_enabled([namespace(**labels)])) is asks


def test_namespaces_that_istiod_ignores_do_not_ask() -> None:
    assert injection_enabled([namespace("kube-system", injection="enabled")]) == []


NAMESPACES = st.sampled_from(("shop", "bank"))
SOME_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@given(st.lists(st.tuples(NAMESPACES, SOME_LABELS), max_size=8), NAMESPACES, SOME_LABELS)
def test_the_services_of_a_pod_are_those_that_select_it(
    selectors: list[tuple[str, dict[str, str]]], where: str, labels: dict[str, str]
) -> None:
    services = [
        Service(
            metadata=Metadata(name=f"s-{number}", namespace=each),
            spec=ServiceSpec(selector=selector or None),
        )
        for number, (each, selector) in enumerate(selectors)
    ]
    behind = pod("web-1", where, labels=labels)

    found = Fronting(services).services(behind)

    assert sorted(each.metadata.name for each in found) == [
        f"s-{number}"
        for number, (each, selector) in enumerate(selectors)
        if each == where and selector and selector.items() <= labels.items()
    ]
    assert all(fronts(each, behind) for each in found)
