"""What ports of pods in ambient mode show, compared with what they should."""

from typing import Any

import msgspec
import pytest

from meshgate.snapshot.conditions import AuthorizationCondition
from meshgate.snapshot.hbone import NO_ANSWER, Tunnel, TunnelProbe, TunnelProbes
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    AuthorizationRule,
)
from meshgate.snapshot.kubernetes import ContainerPort
from meshgate.snapshot.pair import Pair, Peer
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import expecting, mesh, sidecar
from tests.support.mtls_builders import US, authorization, leaf, peer
from tests.support.tunnel_builders import (
    OPEN,
    REFUSED,
    ambient_mesh,
    ambient_pod,
    plaintext,
    tunnel_probe,
)
from tests.unit.facts.dataplane.test_authorization import CLIENT, operation

CLOSED = Tunnel(end="unreachable", error="Connection refused")
TIMED_OUT = Tunnel(end="unreachable", error="timed out")
NOTHING_LISTENS = Tunnel(end="declined", connect=503)
DENIED = Tunnel(end="declined", connect=401)


def test_a_healthy_pod() -> None:
    assert ambient_mesh().ambient_ports.broken == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"anonymous": CLOSED, "mesh": CLOSED, "chain": ()}, "does not serve HBONE"),
        ({"chain": (leaf("spiffe://cluster.local/ns/library/sa/other"),)}, "as spiffe://"),
        ({"chain": ()}, "with an unreadable certificate"),
        ({"distrust": "leads to no root"}, "not trusted: leads to no root"),
        ({"anonymous": OPEN}, "accepts a client without a certificate"),
        ({"foreign": DENIED}, "accepts a client certificate of an unknown CA"),
        ({"mesh": REFUSED}, "refuses a certificate that istiod signed"),
        ({"mesh": Tunnel(end="declined", connect=400)}, "answers CONNECT with 400"),
        ({"mesh": NOTHING_LISTENS}, "no port can be reached through HBONE: CONNECT to 8080"),
        (
            {"mesh": Tunnel(end="open", connect=200, error="the connection was closed")},
            "port 8080 closes the connection of a mesh peer",
        ),
    ],
)
def test_a_broken_pod(changes: dict[str, Any], words: str) -> None:
    (finding,) = ambient_mesh(tunnel_probe(**changes)).ambient_ports.broken

    assert finding.subject == "Pod library/catalog-1"
    assert words in finding.seen
    assert finding.transient


@pytest.mark.parametrize(
    "changes",
    [
        {"anonymous": TIMED_OUT, "foreign": TIMED_OUT, "mesh": TIMED_OUT, "chain": ()},
        {"mesh": Tunnel(end="silent", error=NO_ANSWER)},
        {"mesh": Tunnel(end="open", connect=200, error=NO_ANSWER)},
    ],
)
def test_silence_is_not_evidence(changes: dict[str, Any]) -> None:
    with pytest.raises(CouldNotVerify, match="catalog-1 does not answer through HBONE"):
        _ = ambient_mesh(tunnel_probe(**changes)).ambient_ports.broken


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        (TunnelProbes(identity=US), "was not probed through HBONE"),
        (TunnelProbes(skipped_reason="no wire"), "no wire"),
        (TunnelProbes(unsigned="another CA"), "signed no certificate for the verifier"),
    ],
)
def test_a_pod_that_was_not_probed_is_unknown(probes: TunnelProbes, words: str) -> None:
    facts = ambient_mesh(ambient_probes=probes)

    for read in ("broken", "pairs"):
        with pytest.raises(CouldNotVerify, match=words):
            getattr(facts.ambient_ports, read)


def two_ports(*meshes: Tunnel) -> list[TunnelProbe]:
    return [
        tunnel_probe(port=port, authority=f"10.0.0.9:{port}", mesh=each)
        for port, each in zip((8080, 9090), meshes, strict=True)
    ]


def test_one_closed_port_of_several_is_a_warning() -> None:
    pod = ambient_pod(ports=[ContainerPort(container_port=port) for port in (8080, 9090)])
    ports = ambient_mesh(*two_ports(OPEN, NOTHING_LISTENS), pods=(pod,)).ambient_ports

    assert ports.broken == []
    assert [each.seen.partition(":")[0] for each in ports.closed] == ["port 9090"]


def test_a_pod_without_known_ports_must_serve_hbone_too() -> None:
    pods = (ambient_pod(ports=[]),)
    probe = tunnel_probe(port=0, authority="10.0.0.9:1", mesh=NOTHING_LISTENS)

    assert ambient_mesh(probe, pods=pods).ambient_ports.broken == []
    closed = msgspec.structs.replace(probe, anonymous=CLOSED, mesh=CLOSED, chain=())
    (finding,) = ambient_mesh(closed, pods=pods).ambient_ports.broken
    assert "does not serve HBONE" in finding.seen


def test_ports_that_were_left_out_are_counted() -> None:
    pod = ambient_pod(ports=[ContainerPort(container_port=port) for port in (8080, 9090)])
    asked = expecting(excluded=("library/*:9090",))
    ports = ambient_mesh(*two_ports(OPEN, OPEN), pods=(pod,), **asked).ambient_ports

    (warning,) = ports.unseen
    assert "1 of 2 ports in ambient mode were not probed (--exclude-port)" in warning.seen
    assert ambient_mesh().ambient_ports.unseen == []


def test_without_ambient_pods_nothing_is_read() -> None:
    facts = mesh(pods=(sidecar(),), ambient_probes=None)

    for owner, read in (
        (facts.ambient_ports, "broken"),
        (facts.ambient_policies, "plaintext"),
        (facts.ambient_policies, "policy_violations"),
    ):
        with pytest.raises(NotApplicable, match="no running pod is in ambient mode"):
            getattr(owner, read)


# --- policies of layer 4 ------------------------------------------------------------------------


def violations(tunnel: Tunnel, *policies: AuthorizationPolicy) -> list[str]:
    facts = ambient_mesh(tunnel_probe(mesh=tunnel), authorization_policies=policies)
    return [each.seen for each in facts.ambient_policies.policy_violations]


ONLY_CLIENT = authorization(CLIENT, namespace="library")


def test_a_policy_that_is_enforced() -> None:
    assert violations(DENIED, ONLY_CLIENT) == []


def test_a_policy_that_is_not_enforced() -> None:
    (line,) = violations(OPEN, ONLY_CLIENT)

    assert line == (
        f"port 8080: ztunnel admits {US}, although AuthorizationPolicy library/policy denies it"
    )


def test_a_port_without_an_answer_that_a_policy_closes() -> None:
    silent = Tunnel(end="silent", error="timed out")
    with pytest.raises(CouldNotVerify, match="so AuthorizationPolicy library/policy was not comp"):
        violations(silent, ONLY_CLIENT)
    with pytest.raises(NotApplicable, match="no AuthorizationPolicy denies the verifier"):
        violations(silent)

    # also beside a port that denies as it should
    pod = ambient_pod(ports=[ContainerPort(container_port=port) for port in (8080, 9090)])
    policies = {"authorization_policies": (ONLY_CLIENT,), "pods": (pod,)}
    facts = ambient_mesh(*two_ports(DENIED, silent), **policies).ambient_policies
    with pytest.raises(CouldNotVerify, match=r"Pod library/catalog-1 port 9090 gave no answer"):
        _ = facts.policy_violations


def test_a_denial_without_a_policy() -> None:
    (line,) = violations(DENIED)

    assert "denies the verifier" in line


def test_a_rule_about_http_allows_nothing_at_ztunnel() -> None:
    seven = authorization(operation(methods=("OPTIONS",)), namespace="library")

    assert violations(DENIED, seven) == []
    (line,) = violations(OPEN, seven)
    assert "although AuthorizationPolicy library/policy denies it" in line


def test_a_rule_about_http_denies_more_than_it_says_at_ztunnel() -> None:
    def deny(**to: Any) -> AuthorizationPolicy:
        return authorization(operation(**to), action="DENY", namespace="library")

    assert violations(DENIED, deny(paths=("/admin",))) == []
    assert violations(OPEN, deny(paths=("/admin",)))
    assert violations(DENIED, deny(paths=("/admin",), ports=("9090",)))


@pytest.mark.parametrize(
    ("key", "action", "denied"),
    [
        ("request.headers[x]", "ALLOW", True),
        ("connection.sni", "ALLOW", True),
        ("request.headers[x]", "DENY", True),
        ("source.ip", "ALLOW", None),
        ("source.ip", "DENY", None),
    ],
)
def test_conditions_at_ztunnel(key: str, action: str, denied: bool | None) -> None:
    rule = AuthorizationRule(when=(AuthorizationCondition(key=key),))
    policy = authorization(rule, action=action, namespace="library")

    assert violations(DENIED, policy) == []
    if denied:
        assert violations(OPEN, policy)
    else:
        with pytest.raises(NotApplicable):
            violations(OPEN, policy)


# --- plaintext ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "end", "words"),
    [
        ("STRICT", "answered", "port 8080 accepts plaintext from a pod"),
        ("STRICT", "held", "port 8080 accepts plaintext from a pod"),
        ("STRICT", "refused", ""),
        ("PERMISSIVE", "answered", ""),
        ("PERMISSIVE", "refused", "port 8080 refuses plaintext"),
    ],
)
def test_plaintext_follows_the_policy(mode: str, end: str, words: str) -> None:
    facts = ambient_mesh(pair=plaintext(end), peer_authentications=(peer(mode),))

    assert [each.seen for each in facts.ambient_policies.plaintext] == ([words] if words else [])


def test_a_policy_that_names_identities_refuses_plaintext() -> None:
    def plain(end: str) -> list[str]:
        facts = ambient_mesh(
            pair=plaintext(end),
            peer_authentications=(peer("PERMISSIVE"),),
            authorization_policies=(ONLY_CLIENT,),
        )
        return [each.seen for each in facts.ambient_policies.plaintext]

    assert plain("refused") == []
    (line,) = plain("answered")
    assert "although AuthorizationPolicy library/policy denies it" in line


def test_a_permissive_port_is_not_strict() -> None:
    permissive = (peer("PERMISSIVE"),)
    facts = ambient_mesh(
        pair=plaintext("answered"),
        peer_authentications=permissive,
        **expecting(require_mtls="strict"),
    )

    (finding,) = facts.ambient_policies.plaintext
    assert finding.seen.startswith("port 8080 is PERMISSIVE")


def test_another_shard_than_the_first_connects_in_plaintext_to_nothing() -> None:
    pair = Pair(skipped_reason="this is shard 1/2")
    facts = ambient_mesh(pair=pair, **expecting(shard="1/2"))

    with pytest.raises(NotApplicable, match="the first one connects in plaintext"):
        _ = facts.ambient_policies.plaintext


@pytest.mark.parametrize("strict", [True, False])
def test_plaintext_that_was_not_tried_may_be_accepted(strict: bool) -> None:
    asked = expecting(
        accepted_unverified=("ambient",), **({"require_mtls": "strict"} if strict else {})
    )
    facts = ambient_mesh(pair=Pair(skipped_reason="no pair"), **asked).ambient_policies

    with pytest.raises(CouldNotVerify if strict else NotApplicable, match="no pair") as raised:
        _ = facts.plaintext
    if isinstance(raised.value, CouldNotVerify):
        assert "without --require-mtls=strict" in raised.value.remedy


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (Pair(skipped_reason="the probe pair was not requested"), "not requested"),
        (plaintext("silent"), "does not answer a connection in plaintext"),
        (plaintext(calls=()), "no pod connected in plaintext to Pod library/catalog-1 port 8080"),
        (plaintext(outside=(Peer(name="outside-0", unmade="quota"),)), "plaintext: quota"),
        (plaintext(outside=(Peer(name="outside-0", captured=True),)), "is in the mesh although"),
    ],
)
def test_plaintext_that_was_not_seen_is_unknown(pair: Pair, words: str) -> None:
    with pytest.raises(CouldNotVerify, match=words):
        _ = ambient_mesh(pair=pair).ambient_policies.plaintext
