"""What the facts about HBONE share: which servers were connected to, and with which identity."""

from collections.abc import Iterator
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.settings import flag
from meshgate.snapshot.hbone import NO_ANSWER, Tunnel, TunnelProbe, TunnelProbes
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import EXTERNAL_CA
from meshgate.verdict import CouldNotVerify

UNDECIDED = ("silent", "unreachable")
REFUSED = "refused"  # in the system's words for a port on which nothing listens


def need_signed(probes: TunnelProbes, evidence: Evidence) -> TunnelProbes:
    """Return the probes; raise CouldNotVerify unless they were made with a mesh certificate."""
    if probes.skipped_reason:
        raise CouldNotVerify(
            probes.skipped_reason, "run inside the cluster, as the chart's hook Job does"
        )
    if probes.unsigned and EXTERNAL_CA not in evidence.expectations.accepted_unverified:
        raise CouldNotVerify(
            f"istiod signed no certificate for the verifier ({probes.unsigned}), and HBONE admits "
            "only clients with one",
            "pass a ServiceAccount token of audience istio-ca, or "
            f"{flag('criteria.accept_unverified', EXTERNAL_CA)} if another CA signs for this mesh",
            transient=True,
        )
    return probes


class Problem(NamedTuple):
    """What is wrong with an HBONE server: a code, what was seen, and what was expected."""

    code: str
    seen: str
    expected: str


def server_problems(
    evidence: Evidence, pod: Pod, probe: TunnelProbe, known: str
) -> Iterator[Problem]:
    """Yield what is wrong with the HBONE server of a pod, whatever is behind it.

    Args:
        evidence: the mesh.
        pod: the pod.
        probe: the connections to it.
        known: an identity of the mesh.

    Returns:
        Problems, lazily; only the first one if the port is closed.
    """
    if is_closed(probe):
        seen = f"does not serve HBONE: port 15008: {probe.anonymous.error}"
        yield Problem("no-hbone", seen, "HBONE on port 15008")
        return
    expected, *others = own_identity(evidence, pod, known)
    leaf = probe.chain[0] if probe.chain else None
    if leaf is None and probe.mesh is not None and probe.mesh.connect:
        yield Problem("wrong-identity", "serves HBONE with an unreadable certificate", expected)
    elif leaf is not None and leaf.sans not in {(each,) for each in (expected, *others)}:
        shown = ", ".join(leaf.sans) or "no SPIFFE ID"
        yield Problem("wrong-identity", f"serves HBONE as {shown}", expected)
    elif probe.distrust:
        seen = f"serves HBONE with a certificate that is not trusted: {probe.distrust}"
        yield Problem("not-trusted", seen, "a chain to the mesh's root certificate")
    for tunnel, client in (
        (probe.anonymous, "a client without a certificate"),
        (probe.foreign, "a client certificate of an unknown CA"),
    ):
        if tunnel.connect:
            seen = f"accepts {client} through HBONE"
            yield Problem("accepts-unknown-clients", seen, "a TLS alert")


def is_closed(probe: TunnelProbe) -> bool:
    """Return whether nothing listens on the pod's port 15008."""
    return probe.anonymous.end == "unreachable" and REFUSED in probe.anonymous.error.lower()


def unanswered(probe: TunnelProbe) -> str:
    """Return why a connection shows nothing; empty if all of them show something."""
    for tunnel in (probe.anonymous, probe.foreign, probe.mesh):
        if tunnel is not None and (tunnel.end in UNDECIDED or timed_out(tunnel)):
            return tunnel.error or tunnel.end
    return ""


def timed_out(tunnel: Tunnel) -> bool:
    """Return whether a request in the tunnel was not answered in time."""
    return tunnel.end == "open" and tunnel.error == NO_ANSWER


def own_identity(evidence: Evidence, pod: Pod, known: str) -> list[str]:
    """Return the SPIFFE IDs that a pod's ServiceAccount may have, the usual one first.

    Args:
        evidence: the mesh.
        pod: the pod.
        known: an ID of the mesh, for a capture without istiod's configuration.

    Returns:
        IDs that differ in the trust domain: the mesh's, or one of its aliases.
    """
    own = evidence.own_mesh
    domains = [own.trust_domain, *sorted(own.trust_domain_aliases)]
    if not own.is_configured:
        domains = [known.removeprefix("spiffe://").partition("/")[0] or own.trust_domain]
    namespace, account = pod.metadata.namespace, pod.spec.service_account_name
    return [f"spiffe://{each}/ns/{namespace}/sa/{account}" for each in domains]
