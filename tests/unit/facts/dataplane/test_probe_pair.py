"""The probe pair: what its report means."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.probe_pair import ProbePair
from meshgate.semantics.retry_after import matching_pod_labels
from meshgate.semantics.sampling import sample
from meshgate.snapshot.kubernetes import ServicePort
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.pair import Pair, Peer, PeerCall
from meshgate.snapshot.retry_after import HeaderRule, RetryFilters
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.builders import HTTP, LUA, expecting, mesh, retry_filter, retry_patch, sidecar
from tests.mtls_builders import service

NAMESPACE = "istio-verification-probes"
US = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/default"
PROXY = "docker.io/istio/proxyv2:1.29.1"
BOTH = (Peer(name="a", proxy_image=PROXY), Peer(name="b", proxy_image=PROXY))


def call(**changes: Any) -> PeerCall:
    """a calls b, and is known."""
    return PeerCall(
        **{"peer": "a", "kind": "peer", "target": "b", "status": 200, "caller": US, **changes}
    )


def seen(*calls: PeerCall, peers: tuple[Peer, ...] = BOTH, **more: Any) -> ProbePair:
    """What is known of a pair that made these calls."""
    pair = Pair(namespace=NAMESPACE, peers=peers, calls=calls)
    return mesh(pair=pair, **more).probe_pair


def lines(findings: list[Any]) -> list[str]:
    """As they are printed."""
    return [str(each) for each in findings]


# --- injection ----------------------------------------------------------------------------------


def test_new_pods_with_the_expected_sidecar() -> None:
    assert seen(**expecting(target_version="1.29.1")).uninjected == []
    assert seen().uninjected == []


def test_a_pod_without_a_sidecar_or_with_an_old_one() -> None:
    old = Peer(name="b", proxy_image="docker.io/istio/proxyv2:1.28.2")

    pair = seen(peers=(Peer(name="a"), old), **expecting(target_version="1.29.1"))

    assert lines(pair.uninjected) == [
        f"Probe {NAMESPACE}/a: was given no sidecar; expected one of 1.29.1",
        f"Probe {NAMESPACE}/b: was given a sidecar of 1.28.2; expected 1.29.1",
    ]


def test_a_sidecar_that_is_named_by_a_digest_alone_is_told() -> None:
    peers = (Peer(name="a", proxy_image="istio/proxyv2@sha256:12"), BOTH[1])

    pair = seen(peers=peers, **expecting(target_version="1.29.1"))

    assert pair.uninjected == []
    assert [each.subject for each in pair.unknown_versions] == [f"Probe {NAMESPACE}/a"]
    assert seen(peers=peers).unknown_versions == []


def test_a_pod_that_could_not_be_run_says_nothing_of_the_mesh() -> None:
    pair = seen(peers=(Peer(name="a", unmade="ImagePullBackOff"), BOTH[1]))

    for claim in ("uninjected", "broken"):
        with pytest.raises(CouldNotVerify, match="a could not be run: ImagePullBackOff"):
            getattr(pair, claim)


def test_without_a_pair_nothing_is_claimed() -> None:
    pair = mesh(pair=Pair(skipped_reason="no probe pair was asked for")).probe_pair

    for claim in ("uninjected", "broken", "unreached"):
        with pytest.raises(NotApplicable, match="no probe pair was asked for"):
            getattr(pair, claim)


# --- calls --------------------------------------------------------------------------------------


def test_calls_that_arrive_as_the_caller() -> None:
    declared = call(kind="declared", target="http://web.shop/", caller=None)

    assert seen(call(), call(peer="b", target="a"), declared).broken == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"error": "timed out", "status": 0}, "its call to b is not answered: timed out"),
        (
            {"local": True, "status": 503, "words": "reset", "caller": None},
            "its call to b is answered 503 by its own sidecar: reset",
        ),
        (
            {"status": 503, "caller": None},
            "its call to b is answered 503, and not by it: its server does not take the call",
        ),
        ({"caller": ""}, "its call to b came without mTLS"),
        ({"caller": "spiffe://x/ns/other/sa/default"}, "came as spiffe://x/ns/other/sa/default"),
        (
            {"kind": "declared", "target": "http://web.shop/", "local": True, "status": 503},
            "its call to http://web.shop/ is answered 503",
        ),
    ],
)
def test_calls_that_do_not(changes: dict[str, Any], words: str) -> None:
    (line,) = lines(seen(call(**changes)).broken)

    assert line.startswith(f"Probe {NAMESPACE}/a: ")
    assert words in line


def test_a_service_may_deny_us_or_be_out_of_order_by_itself() -> None:
    denied = call(kind="declared", target="http://web.shop/", denied=True, status=403, caller=None)
    out_of_order = call(kind="declared", target="http://web.shop/", status=503, caller=None)

    assert seen(denied, out_of_order).broken == []


def test_a_sample_only_warns() -> None:
    pair = seen(call(kind="sampled", target="http://web.shop/", error="timed out"))

    assert pair.broken == []
    assert len(pair.unreached) == 1


def test_a_pair_that_may_not_call_itself_cannot_tell() -> None:
    denied = call(denied=True, status=403, caller=None)

    with pytest.raises(CouldNotVerify, match="denied by an AuthorizationPolicy"):
        _ = seen(denied).broken
    both = seen(denied, call(peer="b", target="a", error="timed out"))
    assert len(both.broken) == 1


def test_a_pod_that_told_nothing() -> None:
    peers = (Peer(name="a", proxy_image=PROXY, stuck="it told nothing within 60 s"), BOTH[1])

    assert "told nothing" in lines(seen(peers=peers).broken)[0]


# --- the sample ---------------------------------------------------------------------------------


def sampled(count: int = 3, *names: str, **asked: Any) -> tuple[str, ...]:
    """Of a mesh of these Services."""
    pods = [
        sidecar(f"{name}-1", labels={"app": name}, ip="10.0.0.1", ports=(HTTP,)) for name in names
    ]
    tcp = service("ledger", ports=(ServicePort(port=9000, name="tcp", target_port=9000),))
    services = [*map(service, names), tcp, service("elsewhere")]
    return sample(pods, services, Expectations(**asked), count)


def test_only_http_services_with_a_sidecar_behind_them_are_sampled() -> None:
    assert sampled(3, "web") == ("http://web.shop:80/",)
    assert sampled(0, "web") == ()


def test_a_sample_is_the_same_each_time_and_no_larger_than_asked() -> None:
    names = [f"web{n}" for n in range(9)]

    assert len(sampled(3, *names)) == 3
    assert sampled(3, *names) == sampled(3, *reversed(names))


def test_what_is_excluded_is_not_called() -> None:
    assert sampled(3, "web", "api", excluded=("shop/web*:*",)) == ("http://api.shop:80/",)


def test_a_headless_service_is_not_called() -> None:
    headless = service()
    spec = msgspec.structs.replace(headless.spec, cluster_ips=("None",))
    pods = [sidecar(labels={"app": "web"}, ip="10.0.0.1", ports=(HTTP,))]

    assert sample(pods, [msgspec.structs.replace(headless, spec=spec)], Expectations(), 3) == ()


# --- Retry-After --------------------------------------------------------------------------------

ROOT = "istio-system"
PATIENT = retry_filter(
    retry_patch(HeaderRule(kind="back-off")), name="patient", namespace=ROOT, selector={}
)


def ignoring_retry_after(*calls: PeerCall, filters: tuple[Any, ...] = (PATIENT,)) -> list[str]:
    """What is wrong with the filters, as it is printed."""
    pair = Pair(namespace=NAMESPACE, peers=BOTH, calls=calls)
    filters_seen = RetryFilters(seen=5, filters=filters)
    return lines(mesh(pair=pair, retry_filters=filters_seen).retry_after.ignoring_retry_after)


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
        f"{subject} tried again 0.03 s after 503 with Retry-After: 2; expected at least 2 s"
    ]
    assert ignoring_retry_after(later(503), later(429)) == [
        f"{subject} passes 503 and 429 on and never tries again; "
        "expected a second try, when Retry-After says"
    ]


def test_filters_that_are_not_about_it_or_not_about_the_probes() -> None:
    other = retry_filter(retry_patch(LUA))
    elsewhere = msgspec.structs.replace(PATIENT, namespace="shop")

    with pytest.raises(NotApplicable, match="none of the 5 EnvoyFilters makes proxies wait"):
        ignoring_retry_after(later(503, 2.0), filters=(other,))
    with pytest.raises(NotApplicable, match="EnvoyFilter shop/patient is for others"):
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
        ).retry_after.ignoring_retry_after


LOUD = retry_filter(retry_patch(LUA), name="loud", namespace=ROOT, selector={"app": "web"})
TEMPTED = Peer(name="c", proxy_image=PROXY, labels={"app": "web", "other": "label"})


def tempted(*calls: PeerCall, filters: tuple[Any, ...] = (LOUD,)) -> Any:
    """What is known of filters when a pod with the labels of one of them was called."""
    pair = Pair(namespace=NAMESPACE, peers=BOTH, tempted=(TEMPTED,), calls=calls)
    filters_seen = RetryFilters(seen=5, filters=filters)
    return mesh(pair=pair, retry_filters=filters_seen).retry_after


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
        "which is neither a number of seconds nor an HTTP date; expected an integer of at least 1, "
        "or an HTTP date in the future"
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
    with pytest.raises(NotApplicable, match="EnvoyFilter shop/loud is for others"):
        _ = tempted(filters=(elsewhere,)).misleading


@pytest.mark.parametrize("changes", [{"error": "timed out"}, {"local": True}, {"denied": True}])
def test_pods_that_were_not_reached_tell_nothing_of_a_filter(changes: dict[str, Any]) -> None:
    with pytest.raises(CouldNotVerify, match="did not reach the pods that were made for"):
        _ = tempted(burst("7"), burst(**changes)).misleading
    with pytest.raises(CouldNotVerify, match="they did not call"):
        _ = tempted().misleading


def test_pods_are_made_for_each_selector_that_filters_use_here() -> None:
    twice = msgspec.structs.replace(LOUD, name="again")
    everyone = msgspec.structs.replace(LOUD, name="everyone", selector={})
    elsewhere = msgspec.structs.replace(LOUD, namespace="shop", selector={"app": "orders"})

    filters = (LOUD, twice, everyone, elsewhere, PATIENT)

    assert matching_pod_labels(filters, NAMESPACE, ROOT) == ({"app": "web"}, {})
