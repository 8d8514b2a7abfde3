"""Label selectors, as the API server evaluates them."""

import msgspec
import pytest

from meshgate.semantics.selectors import selects
from meshgate.semantics.webhooks import injection_enabled
from meshgate.snapshot.kubernetes import LabelSelector, Requirement
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
