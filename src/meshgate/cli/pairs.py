"""The command that proposes declared pairs, from the policies of a mesh or of a baseline."""

from typing import Annotated

import typer

from meshgate.cli.evidence import open_mesh
from meshgate.cli.options import ISTIOD, app, errors, say, show, with_settings
from meshgate.collect.capture import cluster
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.facts.evidence import Evidence
from meshgate.semantics.declared_pairs import write_pairs
from meshgate.semantics.pair_proposals import Proposals
from meshgate.semantics.pair_targets import PairTargets, pair_waypoints
from meshgate.settings import Settings
from meshgate.snapshot.items import expand
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import CouldNotVerify, Gate

READS = frozenset(
    expand(("@mesh", "services", "authorization_policies", "api_gateways", "gateway_classes"))
)


@app.command()
@with_settings(*ISTIOD)
def pairs(
    place: Annotated[str, typer.Argument(metavar="[SNAPSHOT]")] = "",
    *,
    settings: Settings,
) -> None:
    """Print declared pairs for {probes.pairs}, from the AuthorizationPolicies of the mesh.

    Reads the cluster, or a baseline of `capture` (a file or configmap://NAMESPACE/NAME).  Review
    them: they say what the policies say now.
    """
    with errors("propose pairs"):
        evidence = Evidence(_snapshot(place, settings))
    try:
        found = _proposals(evidence).pairs
    except CouldNotVerify as error:
        say(f"could not propose pairs: {error} (fix: {error.remedy})")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    for line in write_pairs(found).splitlines():
        show(line)
    callers = sorted({each.caller for each in found})
    say(f"pairs: {len(found)}; callers (pairs.accounts of the chart): {', '.join(callers)}")


def _proposals(evidence: Evidence) -> Proposals:
    """Return the pairs of a mesh; raise CouldNotVerify if something was not read."""
    own, services = evidence.own_mesh, evidence.services
    namespaces, pods = evidence.namespaces, own.own(evidence.pods)
    waypoints = pair_waypoints(evidence.api_gateways, evidence.gateway_classes, namespaces)
    targets = PairTargets(pods, services, namespaces, waypoints)
    return Proposals(pods, services, evidence.authorization_policies, own, targets)


def _snapshot(place: str, settings: Settings) -> Snapshot:
    if place:
        location = SnapshotLocation(place)
        return location.load(cluster(settings) if location.in_cluster else None)
    return open_mesh(settings).capture(READS)
