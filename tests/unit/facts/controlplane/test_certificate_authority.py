"""The CA: what it signs, what is trusted, and for how long."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.semantics.certificates import distrust, fingerprint, parse, remaining
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import Annotations, LabelSelector
from meshgate.snapshot.wire import Certificate, Signing
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support import builders
from tests.support import webhook_builders as build


def mesh(**changes: Any) -> Mesh:
    return builders.mesh(**{**build.HEALTHY, **changes})


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_a_healthy_ca_has_no_finding() -> None:
    authority = mesh().authority

    assert authority.unsigned == []
    assert authority.split_trust == []
    assert authority.expiring == []
    assert authority.ageing == []


def test_a_laptop_without_a_token_asks_nobody() -> None:
    with pytest.raises(NotApplicable, match="no token"):
        _ = mesh(signing=Signing(skipped_reason="no token")).authority.unsigned


def test_no_replica_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match="no istiod pod is running"):
        _ = mesh(signing=Signing(identity=build.IDENTITY)).authority.unsigned


def test_an_external_ca_is_unknown_until_somebody_accepts_it() -> None:
    words = "UNIMPLEMENTED unknown service istio.v1.auth.IstioCertificateService"
    external = build.signing(message=words)

    with pytest.raises(CouldNotVerify, match="CA is disabled") as raised:
        _ = mesh(signing=external).authority.unsigned
    assert "--accept-unverified=CA" in raised.value.remedy
    accepted = builders.expecting(accepted_unverified=("CA",))
    with pytest.raises(NotApplicable, match="accepted without verification"):
        _ = mesh(signing=external, **accepted).authority.unsigned
    # what istiod does sign is judged, whatever was accepted
    assert mesh(signing=build.signing(message="INTERNAL"), **accepted).authority.unsigned


def test_a_namespace_of_another_mesh_has_other_roots() -> None:
    theirs = build.namespace("team-b", rev="mesh-b")
    by_label = LabelSelector(match_labels={"istio.io/rev": "mesh-b"})
    istiod = builders.istiod("b-1", namespace="istio-system-b", revision="mesh-b")
    two = {
        "namespaces": (build.namespace(injection="enabled"), theirs),
        "mutating_webhooks": (
            build.injector(),
            build.injector("b", revision="mesh-b", selects=by_label),
        ),
    }

    assert mesh(**two, pods=(builders.istiod(), istiod)).authority.split_trust == []
    assert len(mesh(**two, pods=(builders.istiod(),)).authority.split_trust) == 1


def test_a_namespace_that_names_another_mesh_needs_no_webhook_to_be_known_by() -> None:
    theirs = build.namespace("team-b", rev="mesh-b")
    istiod = builders.istiod("b-1", namespace="istio-system-b", revision="mesh-b")
    found = mesh(namespaces=(theirs,), pods=(builders.istiod(), istiod))

    assert found.authority.split_trust == []
    with pytest.raises(NotApplicable, match="no namespace"):
        _ = found.admission.uninjected
    # without an istiod elsewhere the revision is ours
    assert mesh(namespaces=(theirs,), pods=(builders.istiod(),)).authority.split_trust


def test_a_namespace_outside_discovery_selectors_has_no_root() -> None:
    watched = LabelSelector(match_labels={"mesh": "a"})
    enabled = build.namespace("sandbox", injection="enabled")
    only: dict[str, Any] = {
        "namespaces": (enabled,),
        "pods": (builders.istiod(),),
        "injector_configs": (InjectorConfig(revision="default", discovery=(watched,)),),
    }

    assert mesh(**only).authority.split_trust == []
    with pytest.raises(NotApplicable, match="no namespace"):
        _ = mesh(**only).admission.uninjected
    # a proxy cannot start there
    proxy = builders.sidecar(namespace="sandbox", annotations=Annotations(revision="default"))
    assert mesh(**{**only, "pods": (builders.istiod(), proxy)}).authority.split_trust
    # another revision watches everything
    every = (*only["injector_configs"], InjectorConfig(revision="1-29-1"))
    assert mesh(**{**only, "injector_configs": every}).authority.split_trust
    # one of the selectors matches
    labeled = msgspec.structs.replace(
        enabled,
        metadata=msgspec.structs.replace(
            enabled.metadata, labels={"istio-injection": "enabled", "mesh": "a"}
        ),
    )
    assert mesh(**{**only, "namespaces": (labeled,)}).authority.split_trust


def test_a_token_that_istiod_refuses_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match="istiod-1 does not accept our token: UNAUTHENTICATED"):
        _ = mesh(signing=build.signing(denied="UNAUTHENTICATED")).authority.unsigned


@pytest.mark.parametrize(
    ("seen", "words", "transient"),
    [
        ({"error": "UNAVAILABLE"}, "does not sign certificates: UNAVAILABLE", True),
        ({"message": "INTERNAL"}, "does not sign certificates: INTERNAL", False),
        (
            {"distrust": "leads to none of the roots"},
            "certificates that workloads do not trust",
            True,
        ),
    ],
)
def test_a_replica_that_does_not_sign(seen: Any, words: str, transient: bool) -> None:
    (found,) = mesh(signing=build.signing(**seen)).authority.unsigned

    assert found.subject == "Pod istio-system/istiod-1"
    assert words in found.seen
    assert found.transient is transient


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (
            (build.leaf(uri="spiffe://cluster.local/ns/shop/sa/verifier"), build.ca()),
            "signed a certificate for spiffe://cluster.local/ns/shop/sa/verifier",
        ),
        ((build.leaf(timedelta(minutes=5)), build.ca()), "signs certificates for only 0:05:00"),
        ((build.leaf(timedelta(days=91)), build.ca(left=0.9)), "their issuer expires on"),
    ],
)
def test_a_certificate_that_no_proxy_can_use(chain: Any, words: str) -> None:
    (found,) = mesh(signing=build.signing(*chain)).authority.unsigned

    assert words in found.seen


def test_a_day_s_certificate_is_as_it_should_be() -> None:
    day = build.signing(build.leaf(timedelta(hours=24), age=0.99), build.ca())

    assert mesh(signing=day).authority.unsigned == []
    assert mesh(signing=day).authority.ageing == []


def test_a_namespace_with_other_roots_or_none() -> None:
    other = build.trust("shop", build.issued("other"))

    (differs,) = mesh(root_certificates=(build.trust("istio-system"), other)).authority.split_trust
    (missing,) = mesh(root_certificates=(build.trust("istio-system"),)).authority.split_trust

    assert differs.subject == missing.subject == "ConfigMap shop/istio-ca-root-cert"
    assert "contains other roots" in differs.seen
    assert "does not exist" in missing.seen


def test_a_namespace_that_asks_for_nothing_may_trust_what_it_likes() -> None:
    other = build.trust("legacy", build.issued("other"))
    roots = (build.trust("istio-system"), build.trust("shop"), other)

    assert mesh(root_certificates=roots).authority.split_trust == []


def test_istiod_s_own_namespace_is_what_others_are_held_against() -> None:
    (found,) = mesh(root_certificates=(build.trust("shop"),)).authority.split_trust

    assert found.subject == "ConfigMap istio-system/istio-ca-root-cert"


@pytest.mark.parametrize(
    ("left", "expiring", "ageing"),
    [(0.21, 0, 0), (0.19, 0, 1), (0.05, 0, 1), (0.04, 1, 0), (-0.1, 1, 0)],
)
def test_an_issuer_s_remaining_share(left: float, expiring: int, ageing: int) -> None:
    authority = mesh(signing=build.signing(build.leaf(), build.ca(left=left))).authority

    assert (len(authority.expiring), len(authority.ageing)) == (expiring, ageing)


def test_a_root_that_is_about_to_end_is_named() -> None:
    old = build.issued("old", begins=build.AT - timedelta(days=97), lasts=timedelta(days=100))
    roots = tuple(build.trust(name, build.ROOT, old) for name in ("istio-system", "shop"))

    (found,) = mesh(root_certificates=roots).authority.expiring

    assert "CN=old expires on 2026-01-05, in 3 days: 3% of its lifetime is left" in found.seen


def test_a_certificate_that_is_not_valid_yet_has_nothing_left() -> None:
    later = Certificate(
        subject="", not_before=build.AT + timedelta(days=1), not_after=build.AT + timedelta(days=9)
    )

    assert remaining(later, build.AT) == 0


# --- chains -------------------------------------------------------------------------------------


def test_a_chain_that_leads_to_a_root() -> None:
    middle = build.issued("middle", build.ROOT)
    end = build.issued("end", middle, ca=False)

    chain = [end.certificate, middle.certificate]

    assert distrust(chain, [build.ROOT.certificate], build.AT) == ""
    assert distrust([*chain, build.ROOT.certificate], [build.ROOT.certificate], build.AT) == ""


def test_chains_that_lead_nowhere() -> None:
    end = build.issued("end", build.ROOT, ca=False)
    twin = build.issued("root")  # the same name, another key
    by_a_leaf = build.issued("victim", end, ca=False)
    late = build.AT + timedelta(days=9999)

    assert "none of the roots" in distrust([end.certificate], [twin.certificate], build.AT)
    assert "none of the roots" in distrust(
        [by_a_leaf.certificate, end.certificate], [build.ROOT.certificate], build.AT
    )
    assert "is not valid at" in distrust([end.certificate], [build.ROOT.certificate], late)
    assert distrust([], [build.ROOT.certificate], build.AT) == "no certificate was sent"
    assert "no root" in distrust([end.certificate], [], build.AT)


def test_a_bundle_is_the_same_whatever_its_white_space() -> None:
    pem = build.ROOT.pem

    assert fingerprint(pem.encode()) == fingerprint(f"\n{pem}\n\n".encode())
    assert fingerprint(pem.encode()) != fingerprint(build.issued("other").pem.encode())
    assert parse("no certificate") == []
