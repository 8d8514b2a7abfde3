"""Retry-After on the wire: the answers of targets, and of the pods that the probe pair calls."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.retry_after import matching_pod_labels
from meshgate.snapshot.pair import Pair, Peer, PeerCall
from meshgate.snapshot.retry_after import Burst, HeaderRule, RetryFilters
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import AT, LUA, expecting, mesh, retry_filter, retry_patch
from tests.unit.facts.dataplane.test_probe_pair import BOTH, NAMESPACE, PROXY, call, lines

# --- answers ------------------------------------------------------------------------------------


def announced(**burst: Any) -> list[str]:
    """What is wrong with one target's answers."""
    target = Burst(target="http://a/", at=AT, **burst)
    facts = mesh(bursts=(target,), **expecting(retry_after_targets=("http://a/",))).retry_answers
    return [str(finding) for finding in facts.unannounced]


@pytest.mark.parametrize("status", [429, 503])
def test_a_target_that_says_when(status: int) -> None:
    assert announced(status=status, retry_after=("5",)) == []


@pytest.mark.parametrize(
    ("burst", "words"),
    [
        ({"error": "refused"}, "does not answer: refused"),
        ({"status": 403}, "answers 403: an AuthorizationPolicy"),
        ({"status": 200, "statuses": {200: 19}}, "answers 200 after 20 requests"),
        ({"status": 429}, "answers 429 without Retry-After"),
        (
            {"status": 503, "retry_after": ("soon",)},
            "answers 503 with Retry-After 'soon', which is",
        ),
        ({"status": 429, "retry_after": ("0",)}, "Retry-After '0', which is less than 1"),
    ],
)
def test_a_target_that_does_not(burst: dict[str, Any], words: str) -> None:
    (line,) = announced(**burst)

    assert line.startswith("Target http://a/: ")
    assert words in line


def test_no_target() -> None:
    with pytest.raises(NotApplicable, match="no target is declared"):
        _ = mesh().retry_answers.unannounced


# --- Retry-After --------------------------------------------------------------------------------

ROOT = "istio-system"
PATIENT = retry_filter(
    retry_patch(HeaderRule(kind="back-off")), name="patient", namespace=ROOT, selector={}
)


def ignoring_retry_after(*calls: PeerCall, filters: tuple[Any, ...] = (PATIENT,)) -> list[str]:
    """What is wrong with the filters, as it is printed."""
    pair = Pair(namespace=NAMESPACE, peers=BOTH, calls=calls)
    filters_seen = RetryFilters(seen=5, filters=filters)
    return lines(mesh(pair=pair, retry_filters=filters_seen).retry_answers.ignoring_retry_after)


def later(code: int, gap: float | None = None, **changes: Any) -> PeerCall:
    """The other peer said "not now" for 2 s."""
    return call(kind="later", code=code, asked=2, gap=gap, caller=None, **changes)


def test_a_proxy_that_waits() -> None:
    assert ignoring_retry_after(later(503, 2.0), later(429, 2.9)) == []
    # filters choose which statuses they are about
    assert ignoring_retry_after(later(503, 2.4), later(429, None, status=429)) == []


def test_a_proxy_that_comes_too_early_or_never() -> None:
    subject = "EnvoyFilter istio-system/patient: a proxy that it reaches"
    assert ignoring_retry_after(later(503, 0.03), later(429, 2.9)) == [
        f"{subject} retries 0.03 s after 503 with Retry-After: 2 (expected at least 2 s)"
    ]
    assert ignoring_retry_after(later(503), later(429)) == [
        f"{subject} returns 503 and 429 and never retries "
        "(expected a retry after the time in Retry-After)"
    ]


def test_filters_that_are_not_about_it_or_not_about_the_probes() -> None:
    other = retry_filter(retry_patch(LUA))
    elsewhere = msgspec.structs.replace(PATIENT, namespace="shop")

    with pytest.raises(NotApplicable, match="none of the 5 EnvoyFilters makes proxies honor"):
        ignoring_retry_after(later(503, 2.0), filters=(other,))
    with pytest.raises(NotApplicable, match="EnvoyFilter shop/patient selects other pods"):
        ignoring_retry_after(later(503, 2.0), filters=(elsewhere,))


@pytest.mark.parametrize("changes", [{"error": "timed out"}, {"local": True}, {"denied": True}])
def test_a_pair_that_does_not_reach_itself_cannot_tell(changes: dict[str, Any]) -> None:
    with pytest.raises(CouldNotVerify, match="does not reach itself"):
        ignoring_retry_after(later(503, **changes))
    with pytest.raises(CouldNotVerify, match="does not reach itself"):
        ignoring_retry_after()
    with pytest.raises(CouldNotVerify, match="does not reach itself"):
        ignoring_retry_after(call(status=503, caller=None), later(503), later(429))


def test_without_a_pair_no_wait_is_measured() -> None:
    filters = RetryFilters(seen=5, filters=(PATIENT,))

    with pytest.raises(NotApplicable, match="no probe pair"):
        _ = mesh(
            pair=Pair(skipped_reason="no probe pair"), retry_filters=filters
        ).retry_answers.ignoring_retry_after


LOUD = retry_filter(retry_patch(LUA), name="loud", namespace=ROOT, selector={"app": "web"})
TEMPTED = Peer(name="c", proxy_image=PROXY, labels={"app": "web", "other": "label"})


def tempted(*calls: PeerCall, filters: tuple[Any, ...] = (LOUD,)) -> Any:
    """What is known of filters when a pod with the labels of one of them was called."""
    pair = Pair(namespace=NAMESPACE, peers=BOTH, tempted=(TEMPTED,), calls=calls)
    filters_seen = RetryFilters(seen=5, filters=filters)
    return mesh(pair=pair, retry_filters=filters_seen).retry_answers


def burst(*values: str, **changes: Any) -> PeerCall:
    """A pod that was made for a filter said "not now", and so."""
    return call(
        **{"kind": "burst", "target": "c", "status": 429, "caller": None, "sent": 4, **changes},
        retry_after=values,
    )


def test_a_filter_that_has_a_pod_say_when() -> None:
    assert tempted(burst("7")).misleading == []
    assert tempted(burst("7")).unspoken == []


def test_a_filter_that_has_a_pod_say_nonsense() -> None:
    retry_after = tempted(burst("soon"))

    assert lines(retry_after.misleading) == [
        "EnvoyFilter istio-system/loud: a pod that it reaches answers 429 with Retry-After 'soon', "
        "which is neither a number of seconds nor an HTTP date (expected an integer of at least 1, "
        "or an HTTP date in the future)"
    ]


def test_a_filter_that_was_not_seen_to_say_anything_is_not_green() -> None:
    quiet = msgspec.structs.replace(LOUD, name="quiet")

    with pytest.raises(NotApplicable, match=r"istio-system/loud: .* without Retry-After"):
        _ = tempted(burst(status=503)).misleading
    assert len(tempted(burst("7"), burst(status=503)).unspoken) == 1
    assert "loud, EnvoyFilter istio-system/quiet" in str(
        tempted(burst(status=503), filters=(LOUD, quiet)).unspoken[0]
    )


def test_filters_that_no_pod_of_the_probes_can_be_reached_by() -> None:
    gateway = retry_filter(
        retry_patch(LUA, context="GATEWAY"), name="gateway", namespace=ROOT, selector={}
    )
    elsewhere = msgspec.structs.replace(LOUD, namespace="shop")

    with pytest.raises(NotApplicable, match="none of the 5 EnvoyFilters adds Retry-After"):
        _ = tempted(filters=(gateway, PATIENT)).misleading
    with pytest.raises(NotApplicable, match="EnvoyFilter shop/loud selects other pods"):
        _ = tempted(filters=(elsewhere,)).misleading


@pytest.mark.parametrize("changes", [{"error": "timed out"}, {"local": True}, {"denied": True}])
def test_pods_that_were_not_reached_tell_nothing_of_a_filter(changes: dict[str, Any]) -> None:
    with pytest.raises(CouldNotVerify, match="did not reach the pods for"):
        _ = tempted(burst("7"), burst(**changes)).misleading
    with pytest.raises(CouldNotVerify, match="they made no calls"):
        _ = tempted().misleading


def test_pods_are_made_for_each_selector_that_filters_use_here() -> None:
    twice = msgspec.structs.replace(LOUD, name="again")
    everyone = msgspec.structs.replace(LOUD, name="everyone", selector={})
    elsewhere = msgspec.structs.replace(LOUD, namespace="shop", selector={"app": "orders"})

    filters = (LOUD, twice, everyone, elsewhere, PATIENT)

    assert matching_pod_labels(filters, NAMESPACE, ROOT) == ({"app": "web"}, {})


# --- scripts that should always answer ----------------------------------------------------------

SCRIPT = HeaderRule(kind="lua", code="c", statuses=(429, 503))
ALWAYS = retry_filter(retry_patch(SCRIPT), name="always", namespace=ROOT, selector={})


def test_a_script_that_fails_sends_nothing() -> None:
    """In Envoy `tostring(headers:get("x"))` is an error without the header: nothing is added."""
    (finding,) = tempted(burst(status=503), filters=(ALWAYS,)).misleading

    assert finding.subject == "EnvoyFilter istio-system/always"
    assert "answers 503 without Retry-After" in finding.seen
    assert tempted(burst("7", status=503), filters=(ALWAYS,)).misleading == []


def test_a_script_for_another_status_proves_nothing() -> None:
    with pytest.raises(NotApplicable):
        _ = tempted(burst(status=500), filters=(ALWAYS,)).misleading


def test_two_values_contradict_each_other() -> None:
    (finding,) = tempted(burst("7", "11")).misleading

    assert "2 Retry-After headers: '7', '11'" in finding.seen


def test_a_target_that_was_not_called() -> None:
    with pytest.raises(CouldNotVerify, match="only 0 of the 1 declared targets"):
        _ = mesh(**expecting(retry_after_targets=("http://a/",))).retry_answers.unannounced
