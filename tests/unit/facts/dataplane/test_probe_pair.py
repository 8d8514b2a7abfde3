"""The probe pair: what its report means."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.probe_pair import ProbePair
from meshgate.semantics.sampling import sample
from meshgate.snapshot.kubernetes import ServicePort
from meshgate.snapshot.model import Before, Expectations
from meshgate.snapshot.pair import Pair, Peer, PeerCall
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import AT, HTTP, expecting, mesh, sidecar
from tests.support.mtls_builders import service

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
        f"Probe {NAMESPACE}/a: has no sidecar (expected a sidecar of version 1.29.1)",
        f"Probe {NAMESPACE}/b: has a sidecar of version 1.28.2 (expected 1.29.1)",
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
        with pytest.raises(CouldNotVerify, match="a did not run: ImagePullBackOff"):
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
        ({"error": "timed out", "status": 0}, "its call to b gets no answer: timed out"),
        (
            {"local": True, "status": 503, "words": "reset", "caller": None},
            "its call to b is answered 503 by its own sidecar: reset",
        ),
        (
            {"status": 503, "caller": None},
            "its call to b is answered 503, but not by the peer: its server refuses the call",
        ),
        ({"caller": ""}, "its call to b arrives without mTLS"),
        ({"caller": "spiffe://x/ns/other/sa/default"}, "arrives as spiffe://x/ns/other/sa/default"),
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

    with pytest.raises(CouldNotVerify, match="an AuthorizationPolicy denies"):
        _ = seen(denied).broken
    both = seen(denied, call(peer="b", target="a", error="timed out"))
    assert len(both.broken) == 1


def test_a_pod_that_told_nothing() -> None:
    peers = (Peer(name="a", proxy_image=PROXY, stuck="it told nothing within 60 s"), BOTH[1])

    assert "told nothing" in lines(seen(peers=peers).broken)[0]


def test_a_call_that_was_answered_before_the_upgrade_and_is_denied_now() -> None:
    """A policy that rejects a caller which it admitted is a finding, whoever wrote the policy."""
    web = {"kind": "sampled", "target": "http://web.shop/", "caller": None}
    pair = Pair(namespace=NAMESPACE, peers=BOTH, calls=(call(**web),))
    before = Before(taken=AT, pair=pair)
    denied = call(**web, status=403, denied=True)

    (finding,) = seen(denied, **expecting(before=before)).broken

    assert "denies its call to http://web.shop/" in finding.seen
    assert seen(denied).broken == []
    refused = msgspec.structs.replace(pair, calls=(denied,))
    as_before = msgspec.structs.replace(before, pair=refused)
    assert seen(denied, **expecting(before=as_before)).broken == []


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
