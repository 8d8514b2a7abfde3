"""What findings about pods share: the workload that owns the pod, and what was not probed."""

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.versions import Target
from meshgate.settings import flag
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import Expectations
from meshgate.verdict import CouldNotVerify, Finding


def pod_finding(
    pod: Pod,
    seen: str,
    expected: str = "",
    remedy: str = "",
    *,
    problem: str,
    transient: bool = False,
    **about: str | int,
) -> Finding:
    """Return a finding about a pod that its workload owns.

    Args:
        pod: the pod.
        seen: what is wrong.
        expected: what was expected instead.
        remedy: one command or one sentence.
        problem: the code of the kind of problem.
        transient: whether time alone may resolve it.
        about: what distinguishes it from the same problem of the same workload.

    Returns:
        The finding, with the same identity for every pod of the workload.
    """
    return Finding(
        pods.name(pod),
        seen,
        expected,
        remedy,
        transient=transient,
        problem=problem,
        owner=workloads.owner(pod),
        about=tuple(sorted((name, str(value)) for name, value in about.items())),
    )


def not_probed(skipped: int, total: int, asked: Expectations, what: str = "ports") -> list[Finding]:
    """Return a finding for the ports that this run did not probe; none if it probed all.

    Args:
        skipped: how many were not probed.
        total: how many there are.
        asked: the options that left them out.
        what: what they are.

    Returns:
        At most one finding.
    """
    reasons = [
        words
        for given, words in (
            (asked.excluded, flag("probes.exclude_port")),
            (asked.sample, flag("probes.sample", asked.sample)),
            (asked.shard, flag("probes.shard", asked.shard)),
        )
        if given
    ]
    if not skipped:
        return []
    return [
        Finding(
            "the mesh",
            f"{skipped} of {total} {what} were not probed ({', '.join(reasons)})",
            remedy="Accept this if it is intended.",
            problem="ports-not-probed",
        )
    ]


def target(evidence: Evidence) -> Target | None:
    """Return the version that `--target-version` names; None without one.

    Raises CouldNotVerify if it is not a version.
    """
    wanted = evidence.expectations.target_version
    if not wanted:
        return None
    parsed = Target.parse(wanted)
    if parsed is None:
        raise CouldNotVerify(
            f"{wanted!r} is not a version",
            f"pass {flag('criteria.target_version', 'X.Y.Z')}, or X.Y for any patch",
        )
    return parsed
