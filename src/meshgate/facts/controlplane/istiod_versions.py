"""The version of an istiod, as its replicas report it: what proxies are compared with."""

from collections.abc import Collection

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.semantics import meshes
from meshgate.semantics.versions import Version
from meshgate.settings import flag
from meshgate.verdict import CouldNotVerify


def version_of_revision(
    control_plane: ControlPlane, revision: str, connected: Collection[str] = ()
) -> Version:
    """Return the one version of a revision's istiod.

    Args:
        control_plane: the istiods.
        revision: whose replicas count.
        connected: the names of the replicas that count if the revision has none.

    Returns:
        The version.  Raises CouldNotVerify if no replica reports one, or if they differ.
    """
    replicas = control_plane.replicas
    own = [each for each in replicas if meshes.revision(each.metadata.labels) == revision]
    versions = {
        Version.parse(reading.version)
        for each in own or [each for each in replicas if each.metadata.name in connected]
        if (reading := control_plane.readings.get(each.metadata.name))
    } - {None}
    if len(versions) != 1:
        seen = ", ".join(sorted(map(str, versions)))
        raise CouldNotVerify(
            f"istiod replicas of revision {revision} report different versions: {seen}"
            if versions
            else f"no istiod replica of revision {revision} reports its version",
            f"pass the expected version with {flag('criteria.target_version')}",
            transient=True,
        )
    return versions.pop()  # type: ignore[return-value]
