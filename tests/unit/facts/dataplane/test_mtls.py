"""What the wire shows, held against what the policies say."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.certificates import SidecarCertificates
from meshgate.facts.dataplane.mtls import MtlsProbes, seen_mode
from meshgate.semantics.workloads import in_shard
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.istio import PeerAuthentication, WorkloadEntry
from meshgate.snapshot.kubernetes import (
    Annotations,
    LabelSelector,
    Metadata,
    NetworkPolicy,
    NetworkPolicySpec,
)
from meshgate.snapshot.mtls import Attempt, PortProbe
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support import ambient_builders
from tests.support.builders import HTTP, expecting, istiod, mesh, sidecar
from tests.support.mtls_builders import (
    ANSWERED,
    DISABLED,
    PERMISSIVE,
    REFUSED,
    SILENT,
    leaf,
    peer,
    port_probe,
    port_probes,
    shown,
)
from tests.support.webhook_builders import AT


def wire(seen: PortProbe | None = None, policy: str = "STRICT", **changes: Any) -> MtlsProbes:
    """The facts of one port under a mesh-wide policy."""
    told: tuple[PeerAuthentication, ...] = (peer(policy),) if policy else ()
    found = {
        "peer_authentications": told,
        "port_probes": port_probes(seen or port_probe()),
        **changes,
    }
    return mesh(**found).wire


def disagreement(seen: PortProbe, policy: str = "STRICT", **changes: Any) -> Finding:
    (finding,) = wire(seen, policy, **changes).disagreements
    return finding


# --- mode ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "policy"),
    [
        (port_probe(), "STRICT"),
        (port_probe(plain=None, mesh=shown("held")), "STRICT"),
        (port_probe(**PERMISSIVE), "PERMISSIVE"),
        (port_probe(**PERMISSIVE), ""),
        (port_probe(**{**PERMISSIVE, "plain": REFUSED}), "PERMISSIVE"),
        (port_probe(**DISABLED, chain=()), "DISABLE"),
        # what an AuthorizationPolicy says to us is no matter of mTLS
        (port_probe(mesh=shown("answered", status=403, denied=True)), "STRICT"),
    ],
)
def test_a_port_that_does_what_its_policy_says(seen: PortProbe, policy: str) -> None:
    assert wire(seen, policy).disagreements == []


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (port_probe(plain=None, mesh=shown("refused")), 0),
        (port_probe(plain=None, mesh=shown("refused", error="alert unknown ca")), 1),
        # a port of HTTP answers
        (port_probe(mesh=shown("refused")), 1),
    ],
)
def test_a_tcp_port_may_close_an_accepted_connection(seen: PortProbe, wrong: int) -> None:
    assert len(wire(seen).disagreements) == wrong


@pytest.mark.parametrize(
    ("seen", "policy", "words"),
    [
        (port_probe(**PERMISSIVE), "STRICT", "answers plaintext HTTP (200)"),
        (
            port_probe(**{**PERMISSIVE, "plain": None}),
            "STRICT",
            "is PERMISSIVE: it accepts plaintext",
        ),
        (port_probe(plain=ANSWERED), "STRICT", "answers plaintext HTTP (200)"),
        (port_probe(**{**DISABLED, "plain": None}), "STRICT", "does not accept mTLS"),
        (port_probe(**DISABLED), "PERMISSIVE", "does not accept mTLS"),
        (port_probe(), "PERMISSIVE", "accepts only mTLS"),
        (port_probe(), "DISABLE", "accepts only mTLS"),
        (port_probe(anonymous=shown("held")), "STRICT", "a client without a certificate"),
        (port_probe(foreign=shown("answered", status=200)), "STRICT", "of an unknown CA"),
        (
            port_probe(mesh=shown("refused", error="alert unknown ca")),
            "STRICT",
            "refuses a certificate that istiod signed (alert unknown ca)",
        ),
    ],
)
def test_a_port_that_does_other_than_its_policy_says(
    seen: PortProbe, policy: str, words: str
) -> None:
    finding = disagreement(seen, policy)

    assert finding.subject == "Pod shop/web-1"
    assert words in finding.seen
    assert "port 8080" in finding.seen
    assert finding.expected == f"{policy} by PeerAuthentication istio-system/default"
    assert finding.transient


def bypassing(policy: str, **changes: Any) -> MtlsProbes:
    pods = (
        istiod(),
        sidecar(ip="10.0.0.1", ports=(HTTP,), annotations=Annotations(bypassing_ports="8080")),
    )
    return wire(port_probe(**DISABLED), policy, pods=pods, **changes)


def test_a_port_that_goes_past_its_sidecar() -> None:
    (finding,) = bypassing("STRICT").disagreements

    assert "bypasses its sidecar (traffic.sidecar.istio.io/excludeInboundPorts: 8080)" in (
        finding.seen
    )
    assert not finding.transient
    assert bypassing("PERMISSIVE").disagreements == []


@pytest.mark.parametrize(
    ("config", "annotations", "bypasses"),
    [
        ({"excluded_ports": "9090, 8080"}, Annotations(), True),
        ({"excluded_ports": "9090"}, Annotations(), False),
        ({"included_ports": "9090"}, Annotations(), True),
        ({"included_ports": "*"}, Annotations(), False),
        # an annotation replaces the value
        ({"excluded_ports": "8080"}, Annotations(bypassing_ports="9090"), False),
    ],
)
def test_ports_that_bypass_all_sidecars(
    config: dict[str, Any], annotations: Annotations, bypasses: bool
) -> None:
    changes = {
        "pods": (istiod(), sidecar(ip="10.0.0.1", ports=(HTTP,), annotations=annotations)),
        "injector_configs": (InjectorConfig(revision="default", **config),),
    }
    seen = port_probe(**DISABLED)

    assert (wire(seen, "PERMISSIVE", **changes).disagreements == []) is bypasses
    (finding,) = wire(seen, "STRICT", **changes).disagreements
    assert ("bypasses its sidecar (the injector's value" in finding.seen) is bypasses


def test_what_takes_plaintext_by_its_policy_is_told_and_fails_only_if_strict_is_asked() -> None:
    seen = port_probe(**PERMISSIVE)

    (warning,) = wire(seen, "PERMISSIVE").lax
    assert (
        "accepts plaintext: PERMISSIVE by PeerAuthentication istio-system/default" in warning.seen
    )
    assert wire().lax == []

    strict = wire(seen, "PERMISSIVE", **expecting(require_mtls="strict"))
    assert strict.lax == []
    (finding,) = strict.disagreements
    assert finding.expected == "STRICT"
    assert wire(**expecting(require_mtls="strict")).disagreements == []


@pytest.mark.parametrize("field", ["plain", "anonymous", "foreign", "mesh"])
def test_a_time_out_is_neither_yes_nor_no(field: str) -> None:
    seen = msgspec.structs.replace(port_probe(), **{field: SILENT})

    with pytest.raises(CouldNotVerify, match="does not answer") as raised:
        _ = wire(seen).disagreements

    assert raised.value.transient
    assert "not a refusal" in raised.value.remedy


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        ("PERMISSIVE", {**PERMISSIVE, "plain": SILENT, "anonymous": SILENT}),
        ("DISABLE", {**DISABLED, "anonymous": SILENT, "foreign": SILENT, "mesh": SILENT}),
    ],
)
def test_an_application_may_be_silent(policy: str, seen: dict[str, Any]) -> None:
    assert wire(port_probe(**seen), policy).disagreements == []


def test_a_network_policy_that_may_be_why() -> None:
    blocking = NetworkPolicy(
        metadata=Metadata(name="closed", namespace="shop"),
        spec=NetworkPolicySpec(pod_selector=LabelSelector()),
    )
    silent = PortProbe(pod="shop/web-1", port=8080, anonymous=Attempt(end="unreachable"))

    with pytest.raises(CouldNotVerify) as raised:
        _ = wire(silent, network_policies=(blocking,)).disagreements
    assert "NetworkPolicy shop/closed, which selects it" in raised.value.remedy

    elsewhere = msgspec.structs.replace(
        blocking, spec=NetworkPolicySpec(pod_selector=LabelSelector(match_labels={"a": "b"}))
    )
    with pytest.raises(CouldNotVerify) as raised:
        _ = wire(silent, network_policies=(elsewhere,)).disagreements
    assert "NetworkPolicy" not in raised.value.remedy


def test_the_mode_that_the_wire_shows() -> None:
    assert seen_mode(port_probe()) == "STRICT"
    assert seen_mode(port_probe(**PERMISSIVE)) == "PERMISSIVE"
    assert seen_mode(port_probe(**DISABLED)) == "DISABLE"
    assert seen_mode(port_probe(**{**DISABLED, "anonymous": SILENT})) == ""


# --- what was not seen --------------------------------------------------------------------------


def test_from_a_laptop_nothing_is_proven() -> None:
    for facts, name in (("wire", "disagreements"), ("certificates", "bad")):
        with pytest.raises(CouldNotVerify, match="from here") as raised:
            getattr(
                getattr(mesh(port_probes=port_probes(skipped_reason="not from here")), facts), name
            )
        assert "inside the cluster" in raised.value.remedy


def test_refusals_prove_nothing_while_nobody_is_let_in() -> None:
    with pytest.raises(CouldNotVerify, match="does not prove mTLS"):
        _ = wire(port_probes=port_probes(port_probe(mesh=None), unsigned="denied")).disagreements


def test_a_port_that_was_not_connected_to() -> None:
    with pytest.raises(
        CouldNotVerify, match="port 8080 of Pod shop/web-1 was not probed"
    ) as raised:
        _ = wire(port_probe(port=9090)).disagreements

    assert raised.value.transient


AMBIENT = ambient_builders.app("a")
MACHINE = WorkloadEntry(metadata=Metadata(name="vm", namespace="shop"))


WEB = sidecar(ip="10.0.0.1", ports=(HTTP,))


def test_machines_are_counted() -> None:
    (warning,) = wire(workload_entries=(MACHINE,)).unseen

    assert "1 WorkloadEntries were not probed" in warning.seen


def test_ports_of_pods_in_ambient_mode_are_left_to_other_checks() -> None:
    beside = wire(pods=(istiod(), WEB, AMBIENT))

    assert beside.disagreements == []
    assert [port.pod for port, _ in beside.pairs] == [WEB]
    with pytest.raises(NotApplicable, match="no pod with a sidecar has a known port"):
        _ = wire(pods=(istiod(), AMBIENT)).disagreements


def test_another_ca_may_be_accepted() -> None:
    seen = port_probes(port_probe(mesh=None), unsigned="UNIMPLEMENTED", identity="")
    facts = mesh(port_probes=seen, **expecting(accepted_unverified=("CA",)))

    assert facts.wire.disagreements == []
    assert facts.certificates.bad == []
    (warning,) = facts.wire.unseen
    assert "no port was probed with a mesh certificate" in warning.seen
    with pytest.raises(CouldNotVerify, match="UNIMPLEMENTED") as raised:
        _ = mesh(port_probes=seen).wire.disagreements
    assert "--accept-unverified=CA" in raised.value.remedy


def test_another_ca_that_is_accepted_hides_no_plaintext() -> None:
    probe = port_probe(mesh=None, plain=ANSWERED)
    seen = port_probes(probe, unsigned="UNIMPLEMENTED", identity="")

    assert mesh(
        port_probes=seen,
        peer_authentications=(peer(),),
        **expecting(accepted_unverified=("CA",)),
    ).wire.disagreements


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"excluded": ("shop/web-2:*",)}, "--exclude-port"),
        ({"shard": "0/1", "excluded": ("shop/web-2:*",)}, "--exclude-port, --shard=0/1"),
    ],
)
def test_what_was_left_out_is_told(asked: dict[str, Any], why: str) -> None:
    pods = tuple(sidecar(f"web-{n}", ip="10.0.0.1", ports=(HTTP,)) for n in (1, 2))

    (warning,) = wire(pods=(istiod(), *pods), **expecting(**asked)).unseen

    assert warning.seen == f"1 of 2 ports were not probed ({why})"


def test_a_shard_without_a_port_proves_nothing() -> None:
    other = next(f"{n}/2" for n in (0, 1) if not in_shard("shop/web-1:8080", f"{n}/2"))

    with pytest.raises(NotApplicable, match="no port belongs to this shard"):
        _ = wire(**expecting(shard=other)).pairs


# --- certificates -------------------------------------------------------------------------------


def certificates(**seen: Any) -> SidecarCertificates:
    return mesh(port_probes=port_probes(port_probe(**seen))).certificates


def certificate(**seen: Any) -> Finding:
    (finding,) = certificates(**seen).bad
    return finding


def test_a_good_certificate() -> None:
    assert certificates().bad == []
    assert certificates().ageing == []


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://cluster.local/ns/shop/sa/other",
        "spiffe://cluster.local/ns/other/sa/default",
        "spiffe://old.domain/ns/shop/sa/default",
    ],
)
def test_a_certificate_of_somebody_else(name: str) -> None:
    finding = certificate(chain=(leaf(name),))

    assert f"certificate is for {name}" in finding.seen
    assert finding.about == (("identity", name),)
    assert finding.expected == "spiffe://cluster.local/ns/shop/sa/default"


@pytest.mark.parametrize("domain", ["corp", "old.corp"])
def test_the_mesh_config_says_which_trust_domains_count(domain: str) -> None:
    config = InjectorConfig(
        revision="default", trust_domain="corp", trust_domain_aliases=("old.corp",)
    )
    served = port_probe(chain=(leaf(f"spiffe://{domain}/ns/shop/sa/default"),))
    seen = {"port_probes": port_probes(served), "injector_configs": (config,)}

    assert mesh(**seen).certificates.bad == []


def test_an_identity_of_another_trust_domain_is_wrong_though_ours_has_it_too() -> None:
    config = InjectorConfig(revision="default", trust_domain="corp")
    seen = {"port_probes": port_probes(port_probe()), "injector_configs": (config,)}

    (finding,) = mesh(**seen).certificates.bad

    assert finding.expected == "spiffe://corp/ns/shop/sa/default"


def test_a_certificate_that_nobody_trusts() -> None:
    assert "not trusted: it leads to none" in certificate(distrust="it leads to none").seen


@pytest.mark.parametrize(
    ("left", "verdict"),
    [(0.45, "good"), (0.35, "ageing"), (0.15, "bad"), (-0.1, "bad")],
)
def test_what_is_left_of_a_certificate(left: float, verdict: str) -> None:
    lifetime = timedelta(hours=1) / (1 - left)
    facts = certificates(chain=(leaf(ends=AT - timedelta(hours=1) + lifetime),))

    assert bool(facts.ageing) is (verdict == "ageing")
    assert bool(facts.bad) is (verdict == "bad")


def test_without_any_certificate_nothing_is_proven() -> None:
    with pytest.raises(CouldNotVerify, match="none of the 1 probed ports"):
        _ = certificates(**DISABLED, chain=()).bad
