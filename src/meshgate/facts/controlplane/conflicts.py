"""Configuration that istiod omits because it conflicts: reported by istiod, or in the objects."""

from collections.abc import Iterator, Mapping

from meshgate.facts.evidence import Evidence
from meshgate.semantics import conflicts as semantics
from meshgate.snapshot.istiod import Conflict, Conflicts
from meshgate.verdict import Finding


def reported(seen: Conflicts) -> Iterator[Finding]:
    """Yield the conflicts that a replica of istiod reports."""
    for kind, found, remedy in (
        (
            "Listener",
            seen.inbound,
            "declare the port with one protocol in all Services of its pods",
        ),
        ("Listener", seen.outbound, "change the port of one of the Services"),
        ("Cluster", seen.clusters, "merge the ServiceEntries that have the same host"),
        ("Domain", seen.domains, "merge the VirtualServices of this host"),
        ("Host", seen.subsets, "name each subset once in this host's DestinationRules"),
    ):
        yield from _reported(kind, found, remedy)


def _reported(kind: str, found: Mapping[str, Conflict], remedy: str) -> Iterator[Finding]:
    for name, conflict in found.items():
        yield Finding(
            f"{kind} {name}",
            f"istiod omits a part of it: {conflict.message or 'it is defined twice'}",
            "no conflict",
            remedy,
            problem="conflict",
        )


def in_objects(evidence: Evidence) -> Iterator[Finding]:
    """Yield conflicts that the objects prove, whatever istiod reports now."""
    own = evidence.own_mesh
    for each in semantics.subsets(evidence.destination_rules, own.cluster_domain):
        yield _found("Host", each, "name the subset once in the DestinationRules of this host")
    for each in semantics.inbound(evidence.pods, evidence.services):
        yield _found("Listener", each, "declare the port with one protocol in these Services")


def possible(evidence: Evidence) -> Iterator[Finding]:
    """Yield conflicts of objects that only exist for sidecars to which both are visible.

    A `Sidecar` resource can hide one of them, and addresses that istiod allocates can separate
    them where sidecars capture DNS.
    """
    own, services = evidence.own_mesh, evidence.virtual_services
    exports = own.default_exports
    for each in semantics.domains(services, own.cluster_domain, exports.virtual_services):
        yield _found("Domain", each, "merge these VirtualServices")
    for each in semantics.outbound(evidence.service_entries, exports.services):
        yield _found("Listener", each, "set addresses in these ServiceEntries")


def _found(kind: str, each: semantics.ObjectConflict, remedy: str) -> Finding:
    found = " and ".join(each.objects)
    many = len(each.objects) > 1
    return Finding(
        f"{kind} {each.name}",
        f"istiod omits a part of it: {found} {'conflict' if many else 'defines it twice'}",
        "no conflict",
        remedy,
        problem="conflict",
        about=(("objects", found),),
    )
