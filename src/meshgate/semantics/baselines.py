"""Whether a baseline is of this mesh, and from before the rollout that is judged."""

from meshgate.semantics.versions import Target, Version
from meshgate.settings import flag
from meshgate.snapshot.model import Before, Snapshot, cluster_namespaces, istiod_rollouts

# What must be read to know both.
ITEMS = frozenset({"namespaces", "deployments"})


def belongs_elsewhere(before: Before, snapshot: Snapshot) -> str:
    """Return why the baseline is not of the mesh in a snapshot; empty if it is, or may be.

    Namespaces keep their UIDs for as long as a cluster exists, also when it is restored.
    """
    here = snapshot.expectations.istio_namespace
    if before.istio_namespace and before.istio_namespace != here:
        return (
            f"it is of the mesh whose istiod is in namespace {before.istio_namespace}, "
            f"and this one's is in {here}"
        )
    then, now = before.namespaces or {}, cluster_namespaces(snapshot)
    both = sorted(then.keys() & now.keys())
    if both and all(then[name] != now[name] for name in both):
        return f"it is of another cluster: its namespace {both[0]} has another UID"
    return ""


def objection(snapshot: Snapshot) -> str:
    """Return why the baseline of a snapshot excuses nothing; empty if it does, or there is none.

    It excuses nothing if it may be of another cluster, or if istiod ran the target version when it
    was captured and was not rolled out since: then it also has what the upgrade broke.  A rollout
    since is another upgrade, or a rollback to the version of the baseline.
    """
    before = snapshot.expectations.before
    if before is None or before.namespaces is None:
        return ""
    if elsewhere := belongs_elsewhere(before, snapshot):
        return elsewhere
    if not before.namespaces.keys() & cluster_namespaces(snapshot).keys():
        return "whether it is of this cluster is unknown: the namespaces were not read"
    target = Target.parse(snapshot.expectations.target_version or "")
    if target is None or istiod_rollouts(snapshot).items() - (before.rollouts or {}).items():
        return ""
    versions = [Version.parse(each) for each in before.istiod_versions]
    if versions and not any(each is None or target.met_by(each) for each in versions):
        return ""
    ran = f"istiod already ran {target}" if versions else "the version of istiod was not known"
    return (
        f"{ran} when it was captured, and was not rolled out since: it also has what the upgrade "
        "broke"
    )


def note(snapshot: Snapshot) -> str:
    """Return the objection as a remark on a run, with what to do; empty if there is none."""
    if why := objection(snapshot):
        return (
            f"the baseline excuses nothing: {why} (fix: name with {flag('run.baseline')} one of "
            "this mesh from before the upgrade; waive what you accept)"
        )
    return ""
