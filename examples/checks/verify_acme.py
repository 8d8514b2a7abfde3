"""Acme's own rules, beside the built-in checks: `meshgate verify --checks=examples/checks`."""

import pytest

from meshgate.api import Basis, Finding, Mesh, NotApplicable, listed

DECISIONS = ("istio-injection", "istio.io/rev", "istio.io/dataplane-mode")
SYSTEM = ("default", "istio-system", "kube-node-lease", "kube-public", "kube-system")
DOMAINS = (".example.com", ".svc")


@pytest.mark.check("ACME-001")
def test_every_namespace_decides_about_injection(mesh: Mesh, basis: Basis) -> None:
    """A namespace without a label gets sidecars only if the injector's default says so."""
    namespaces = [each for each in mesh.evidence.namespaces if each.metadata.name not in SYSTEM]
    basis(len(namespaces), "namespace")
    undecided = [
        Finding(
            subject=f"Namespace {each.metadata.name}",
            seen="has no label about sidecar injection",
            expected=f"one of {', '.join(DECISIONS)}",
            remedy=f"kubectl label namespace {each.metadata.name} istio-injection=disabled",
            problem="undecided",
        )
        for each in namespaces
        if not any(label in each.metadata.labels for label in DECISIONS)
    ]

    assert not undecided, listed(undecided)


@pytest.mark.check("ACME-002")
def test_public_hosts_are_ours(mesh: Mesh, basis: Basis) -> None:
    """A misspelt domain is served by nobody, and its certificate is never issued."""
    public = [
        each
        for each in mesh.evidence.virtual_services
        if any(gateway != "mesh" for gateway in each.spec.gateways)
    ]
    if not public:
        raise NotApplicable("no VirtualService is bound to a gateway")
    basis(len(public), "VirtualService")
    foreign = [
        Finding(
            subject=f"VirtualService {each.metadata.namespace}/{each.metadata.name}",
            seen=f"serves {host}",
            expected=f"a host below {' or '.join(DOMAINS)}",
            problem="foreign-host",
            about=(("host", host),),
        )
        for each in public
        for host in each.spec.hosts
        if not host.endswith(DOMAINS)
    ]

    assert not foreign, listed(foreign)
