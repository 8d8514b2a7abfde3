"""istiod's own numbers over a window: its pushes, itself, and what conflicts in them."""

from collections.abc import Iterator, Mapping

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.istiod_metrics import (
    CONVERGENCE,
    ERRORS,
    OBTAINED,
    ONLY,
    PUSHED,
    RELEASED,
    STARTED,
    growth,
)
from meshgate.snapshot.istiod import Conflict, IstiodMetrics
from meshgate.snapshot.kubernetes import ContainerStatus, Pod
from meshgate.verdict import CouldNotVerify, Finding

# Seconds that a change may take to every proxy, for all but one push of a hundred.
SLOW, TOO_SLOW, ALLOWED = 10, 30, 0.01

# Shares of the memory limit.
MUCH, TOO_MUCH = 0.75, 0.90

# Restarts since the rollout that are no accident any more.
TOO_OFTEN = 3

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3} | {
    f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGT", 1)
}


class Numbers:
    """What istiod's replicas counted of themselves."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    @property
    def _replicas(self) -> list[tuple[Pod, IstiodMetrics]]:
        """Every replica that runs, with its numbers; raises unless each of them gave some."""
        running = [pod for pod in self._control_plane.replicas if pod.status.phase == "Running"]
        if not running:
            raise CouldNotVerify(
                f"no istiod runs in {self._control_plane.namespace} that counts anything",
                "bring istiod up first",
                transient=bool(self._control_plane.replicas),
            )
        given = {numbers.pod: numbers for numbers in self._evidence.istiod_metrics}
        return [(pod, self._given(pod, given.get(pod.metadata.name))) for pod in running]

    @staticmethod
    def _given(pod: Pod, numbers: IstiodMetrics | None) -> IstiodMetrics:
        if numbers and numbers.denied:
            raise CouldNotVerify(f"{pods.name(pod)}: {numbers.denied.rstrip('.')}")
        if numbers is None or numbers.error or STARTED not in numbers.after:
            why = (numbers.error if numbers else "") or "its metrics are not there"
            raise CouldNotVerify(
                f"{pods.name(pod)} did not give its numbers: {why}",
                f"curl -s {pod.metadata.name}:15014/metrics from its namespace",
                transient=not pods.hopeless(pod),
            )
        return numbers

    # --- pushes ---------------------------------------------------------------------------------

    @property
    def push_errors(self) -> list[Finding]:
        """Replicas that counted errors within the window, or took far too long to push."""
        return [
            finding
            for pod, numbers in self._replicas
            for finding in (*self._errors(pod, numbers), *self._late(pod, numbers, TOO_SLOW))
        ]

    @property
    def slow(self) -> list[Finding]:
        """Replicas that took longer to push than they should."""
        return [
            finding
            for pod, numbers in self._replicas
            if not list(self._late(pod, numbers, TOO_SLOW))
            for finding in self._late(pod, numbers, SLOW)
        ]

    @staticmethod
    def _errors(pod: Pod, numbers: IstiodMetrics) -> Iterator[Finding]:
        grown = growth(numbers)
        for series, words in ERRORS.items():
            counts = {
                label: count
                for key, count in grown.items()
                for name, _, label in [key.partition("|")]
                if name == series and count > 0 and label.endswith(ONLY.get(series, ""))
            }
            if counts:
                kinds = ", ".join(sorted(filter(None, counts)))
                yield Finding(
                    pods.name(pod),
                    f"within {numbers.seconds:g} s {sum(counts.values()):.0f} {words}"
                    + (f" ({kinds})" if kinds else ""),
                    f"{series} does not grow",
                    f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name}",
                    transient=True,
                )

    @staticmethod
    def _late(pod: Pod, numbers: IstiodMetrics, limit: int) -> Iterator[Finding]:
        grown = growth(numbers)
        pushed = grown.get(PUSHED, 0.0)
        late = pushed - grown.get(f"{CONVERGENCE}|{limit}", pushed)
        if late > ALLOWED * pushed:
            yield Finding(
                pods.name(pod),
                f"within {numbers.seconds:g} s {late:.0f} of {pushed:.0f} pushes took longer than "
                f"{limit} s to reach their proxy",
                f"no more than {ALLOWED:.0%} of them",
                "give istiod more processor time, or more replicas",
                transient=True,
            )

    # --- itself ---------------------------------------------------------------------------------

    @property
    def failing(self) -> list[Finding]:
        """Replicas that were killed for their memory, restart again and again, or are about to."""
        died = [
            finding
            for pod in self._control_plane.replicas
            for status in discovery(pod)
            for finding in (*self._killed(pod, status), *self._restarted(pod, status, often=True))
        ]
        # what has died may have no numbers: that is no reason not to tell of it
        return died or [
            finding
            for pod, numbers in self._replicas
            for finding in self._memory(pod, numbers, TOO_MUCH, 1e9)
        ]

    @property
    def restarted(self) -> list[Finding]:
        """Replicas that restarted, or hold much of what they may."""
        return [
            finding
            for pod, numbers in self._replicas
            for finding in (
                *(each for on in discovery(pod) for each in self._restarted(pod, on, often=False)),
                *self._memory(pod, numbers, MUCH, TOO_MUCH),
            )
        ]

    @staticmethod
    def _killed(pod: Pod, status: ContainerStatus) -> Iterator[Finding]:
        for state in (status.state, status.last_state):
            if state.terminated and state.terminated.reason == "OOMKilled":
                bound = f"its limit, {_limit(pod)}" if _limit(pod) else "its node has"
                yield Finding(
                    pods.name(pod),
                    f"was killed since the rollout because it needed more memory than {bound}",
                    "no OOM kill",
                    "raise istiod's memory limit (pilot.resources)",
                )
                return

    @staticmethod
    def _restarted(pod: Pod, status: ContainerStatus, *, often: bool) -> Iterator[Finding]:
        count, last = status.restart_count, status.last_state.terminated
        if count == 0 or (count >= TOO_OFTEN) is not often:
            return
        if last and last.reason == "OOMKilled":
            return  # told by itself
        yield Finding(
            pods.name(pod),
            f"restarted {count} times since the rollout"
            + (f", the last time with exit code {last.exit_code} ({last.reason})" if last else ""),
            "no restart",
            f"kubectl -n {pod.metadata.namespace} logs --previous {pod.metadata.name}",
        )

    @staticmethod
    def _memory(pod: Pod, numbers: IstiodMetrics, share: float, below: float) -> Iterator[Finding]:
        limit = quantity(_limit(pod))
        if not limit:
            return
        if OBTAINED not in numbers.after:
            raise CouldNotVerify(
                f"{pods.name(pod)} does not say how much memory it holds",
                f"capture it again: {OBTAINED} is not among its numbers",
            )
        used = numbers.after[OBTAINED] - numbers.after.get(RELEASED, 0.0)
        if share <= used / limit < below:
            yield Finding(
                pods.name(pod),
                f"holds {used / 2**20:.0f} MiB of memory, {used / limit:.0%} of its limit "
                f"{_limit(pod)}",
                f"less than {share:.0%}",
                "raise istiod's memory limit (pilot.resources) before it is killed",
                transient=True,
            )

    # --- conflicts ------------------------------------------------------------------------------

    @property
    def conflicting(self) -> list[Finding]:
        """What istiod leaves out of its pushes, for something else was there first."""
        found: dict[Finding, None] = {}
        for pod, numbers in self._replicas:
            if numbers.conflicts is None:
                raise CouldNotVerify(
                    f"{pods.name(pod)} has not pushed anything yet", "look again", transient=True
                )
            seen = numbers.conflicts
            for kind, conflicts, remedy in (
                ("Listener", seen.inbound, "two Services claim one port of the same pods"),
                ("Listener", seen.outbound, "give one of the Services another port"),
                ("Cluster", seen.clusters, "two ServiceEntries have the same host: merge them"),
                ("Domain", seen.domains, "merge the VirtualServices of this host"),
                ("Host", seen.subsets, "name each subset once in this host's DestinationRules"),
            ):
                found |= dict.fromkeys(_conflicts(kind, conflicts, remedy))
        return list(found)


def _conflicts(kind: str, conflicts: Mapping[str, Conflict], remedy: str) -> Iterator[Finding]:
    for name, conflict in conflicts.items():
        yield Finding(
            f"{kind} {name}",
            f"is left out in part: {conflict.message or 'it is there twice'}",
            "no conflict",
            remedy,
        )


def discovery(pod: Pod) -> list[ContainerStatus]:
    """The status of istiod's own container."""
    return [each for each in pod.status.container_statuses if each.name == "discovery"]


def _limit(pod: Pod) -> str:
    limits = [each.resources.limits for each in pod.spec.containers if each.name == "discovery"]
    return limits[0].memory if limits else ""


def quantity(text: str) -> float:
    """Bytes of a Kubernetes quantity of memory; 0 where there is none."""
    number = text.rstrip("kKMGTim")
    try:
        return float(number or 0) * UNITS.get(text[len(number) :], 1.0)
    except ValueError:
        return 0.0
