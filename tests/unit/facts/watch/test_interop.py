"""Old and new proxies: what each of them could call."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.facts.watch.interop import Interoperation
from meshgate.snapshot.watch import Flow, Watch
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ingress_builders as build
from tests.support.builders import after, expecting
from tests.support.watch_builders import OBSERVERS, flow, lost, peer, watch


def interop(given: Watch) -> Interoperation:
    return Mesh(build.snapshot(**expecting(watch=given))).interoperation


def of(*flows: Flow) -> Interoperation:
    return interop(watch(flow(), *flows))


def test_both_directions_are_judged() -> None:
    seen = of(peer(), peer(back=True), peer("idle"), peer("idle", back=True))

    assert seen.broken == []
    assert {(each.old, each.new) for each in seen.directions} == {
        ("1.30.4", "1.31.0"),
        ("1.31.0", "1.30.4"),
    }


@pytest.mark.parametrize("answered", [True, False])
def test_a_direction_that_is_not_answered_is_reported_by_itself(answered: bool) -> None:
    given = {"answered": after(-60)} if answered else {"answered": None, "sent": 0}
    (found,) = of(peer(failing="503 upstream connect error", **given), peer(back=True)).broken

    assert found.subject == "Observer istio-verification-probes/a"
    assert found.seen.startswith("http1 from proxy 1.30.4 to proxy 1.31.0 ")
    assert found.seen.endswith("503 upstream connect error")


def test_a_single_loss_at_the_end_is_not_a_broken_direction() -> None:
    assert of(peer(failing="503"), peer(back=True)).broken == []


def test_a_connection_that_was_not_opened_again_is_broken() -> None:
    kept: dict[str, Any] = {"answered": after(-200), "failing": "cannot be opened", "sent": 1}

    assert of(peer("idle", **kept, lost=(lost(3),)), peer(back=True)).broken == []
    (found,) = of(peer("idle", **kept, lost=(lost(60),)), peer(back=True)).broken
    assert found.seen.startswith("idle from proxy 1.30.4 to proxy 1.31.0 is not answered any more")


def test_a_caller_without_identity_is_reported() -> None:
    (found,) = of(peer(), peer(back=True, caller="")).broken

    assert found.seen.startswith("http1 from proxy 1.31.0 to proxy 1.30.4 arrives without mTLS")


def test_a_service_that_only_one_of_them_can_call_is_reported() -> None:
    denied = flow(observer="b", answered=None, sent=0, failing="403 RBAC: access denied")
    (found,) = of(denied, peer(), peer(back=True)).broken

    assert found.subject == "Service payments/api"
    assert "is not answered to a pod with proxy 1.31.0" in found.seen
    assert "403 RBAC: access denied" in found.seen


def test_a_service_that_neither_can_call_is_not() -> None:
    never = {"answered": None, "sent": 0, "failing": "403 RBAC: access denied"}
    seen = interop(
        watch(flow(target="x"), flow(**never), flow(observer="b", **never), peer(), peer(back=True))
    )

    assert seen.broken == []


def test_the_third_observer_may_have_an_equal_proxy() -> None:
    third = msgspec.structs.replace(OBSERVERS[0], name="c")
    between = peer(failing="no answer", answered=None, peer="c")
    seen = interop(watch(flow(), peer(), peer(back=True), between, observers=(*OBSERVERS, third)))

    assert seen.broken == []


def test_one_version_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match=r"one version of the proxy only: 1\.30\.4"):
        _ = interop(watch(observers=OBSERVERS[:1])).broken
    with pytest.raises(CouldNotVerify, match="did not call each other"):
        _ = interop(watch(flow())).broken


def test_without_observers() -> None:
    with pytest.raises(NotApplicable, match="--image"):
        _ = interop(watch(image="", observers=())).broken
