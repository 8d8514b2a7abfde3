"""istiod's metrics over a window: pushes, memory and restarts, and conflicting configuration."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property

from meshgate.facts.controlplane.conflicts import in_objects, possible, reported
from meshgate.facts.controlplane.control_plane import INSTALL, ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.istiod_metrics import (
    CLEARS_PUSH_STATUS,
    CONVERGENCE,
    ERRORS,
    JWKS_FAILURES,
    JWKS_FETCHES,
    JWKS_RETRY,
    OBTAINED,
    ONLY,
    PUSHED,
    RELEASED,
    STARTED,
    from_istiod,
    growth,
)
from meshgate.semantics.versions import Version
from meshgate.snapshot.istiod import IstiodMetrics
from meshgate.snapshot.kubernetes import ContainerStatus, Pod, Terminated
from meshgate.verdict import CouldNotVerify, Finding

# Seconds that a push may take, for all but one percent of them: a warning, and a failure.
SLOW, TOO_SLOW, ALLOWED = 10, 30, 0.01

# Shares of the memory limit: a warning, and a failure.
MUCH, TOO_MUCH = 0.75, 0.90

# As many objects are named in one finding.
NAMED = 5

# As many restarts, less than a day apart, are no accident.
TOO_OFTEN = 3
RECENT = timedelta(days=1)

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3} | {
    f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGT", 1)
}


class Numbers:
    """The metrics of istiod's replicas."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)

    @property
    def _replicas(self) -> list[tuple[Pod, IstiodMetrics]]:
        """Every running replica with its metrics; raises CouldNotVerify unless all have some."""
        self._control_plane.need_own()
        running = [pod for pod in self._control_plane.replicas if pod.status.phase == "Running"]
        if not running:
            raise CouldNotVerify(
                f"no istiod pod is running in namespace {self._control_plane.namespace}",
                INSTALL,
                transient=bool(self._control_plane.replicas),
            )
        given = {metrics.pod: metrics for metrics in self._evidence.istiod_metrics}
        return [(pod, self._given(pod, given.get(pod.metadata.name))) for pod in running]

    @staticmethod
    def _given(pod: Pod, metrics: IstiodMetrics | None) -> IstiodMetrics:
        if metrics and metrics.denied:
            raise CouldNotVerify(f"{pods.name(pod)}: {metrics.denied.rstrip('.')}")
        why = _useless(metrics)
        if metrics is None or why:
            raise CouldNotVerify(
                f"cannot read the metrics of {pods.name(pod)}: {why}",
                f"kubectl -n {pod.metadata.namespace} port-forward pod/{pod.metadata.name} 15014 "
                "and curl localhost:15014/metrics",
                transient=not pods.fails_permanently(pod),
            )
        return metrics

    # --- pushes ---------------------------------------------------------------------------------

    @property
    def push_errors(self) -> list[Finding]:
        """Replicas that counted errors within the window, or pushed far too slowly."""
        return [
            finding
            for pod, metrics in self._replicas
            for finding in (
                *self._errors(pod, metrics),
                *self._late(pod, metrics, TOO_SLOW),
                *self._keys(pod, metrics),
            )
        ]

    @property
    def slow(self) -> list[Finding]:
        """Replicas that pushed slowly."""
        return [
            finding
            for pod, metrics in self._replicas
            if not list(self._late(pod, metrics, TOO_SLOW))
            for finding in self._late(pod, metrics, SLOW)
        ]

    @staticmethod
    def _errors(pod: Pod, metrics: IstiodMetrics) -> Iterator[Finding]:
        grown = growth(metrics)
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
                    f"{sum(counts.values()):.0f} {words}"
                    + (f" ({kinds})" if kinds else "")
                    + f" within {metrics.seconds:g} s",
                    f"{series} does not grow",
                    f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name}",
                    transient=True,
                    problem=series,
                    owner=workloads.owner(pod),
                )

    def _keys(self, pod: Pod, metrics: IstiodMetrics) -> Iterator[Finding]:
        """Report key sets (JWKS) that istiod cannot fetch: proxies then reject every token.

        The counter names no URI and only grows.  Failures count if a RequestAuthentication still
        has a jwksUri, and no fetch ever succeeded, or there were as many failures as one key set
        causes that is retried all the time.
        """
        users = [
            f"RequestAuthentication {each.metadata.namespace}/{each.metadata.name} "
            f"({', '.join(uris)})"
            for each in self._evidence.request_authentications
            if (uris := [rule.jwks_uri for rule in each.spec.jwt_rules if rule.jwks_uri])
        ]
        if not users:
            return
        failed = metrics.after.get(JWKS_FAILURES, 0.0)
        retries = (self._evidence.snapshot.taken.timestamp() - metrics.after[STARTED]) / JWKS_RETRY
        if failed and (not metrics.after.get(JWKS_FETCHES) or failed >= retries / 2):
            yield Finding(
                pods.name(pod),
                f"could not fetch a key set (JWKS) {failed:.0f} times since it started: proxies "
                f"reject every token of that issuer, of {_one_of(sorted(users))}",
                "every jwksUri reachable from istiod",
                "kubectl get requestauthentications -A -o yaml | grep -E 'issuer|jwksUri', and "
                f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name} | grep -i jwks",
                problem="jwks",
                owner=workloads.owner(pod),
            )

    @staticmethod
    def _late(pod: Pod, metrics: IstiodMetrics, limit: int) -> Iterator[Finding]:
        grown = growth(metrics)
        pushed = grown.get(PUSHED, 0.0)
        late = pushed - grown.get(f"{CONVERGENCE}|{limit}", pushed)
        if late > ALLOWED * pushed:
            yield Finding(
                pods.name(pod),
                f"{late:.0f} of {pushed:.0f} pushes within {metrics.seconds:g} s took longer than "
                f"{limit} s to reach their proxy",
                f"at most {ALLOWED:.0%} of them",
                "increase istiod's CPU (pilot.resources) or its replicas",
                transient=True,
                problem="slow-pushes",
                owner=workloads.owner(pod),
            )

    # --- memory and restarts --------------------------------------------------------------------

    @property
    def failing(self) -> list[Finding]:
        """Replicas that were killed for their memory, keep restarting, or are close to a kill."""
        # a replica that died may have no metrics: it is reported anyway
        return self._died or [
            finding
            for pod, metrics in self._replicas
            for finding in self._memory(pod, metrics, TOO_MUCH, 1e9)
        ]

    @cached_property
    def _died(self) -> list[Finding]:
        return [
            finding
            for pod in self._control_plane.replicas
            for status in discovery(pod)
            for finding in (
                *self._killed(pod, status, recent=True),
                *self._restarted(pod, status, often=True),
            )
        ]

    @property
    def restarted(self) -> list[Finding]:
        """Replicas that restarted within the last day, use much memory, or were killed before."""
        found = [
            finding
            for pod in self._control_plane.replicas
            for status in discovery(pod)
            for finding in (
                *self._killed(pod, status, recent=False),
                *self._restarted(pod, status, often=False),
            )
        ]
        if not self._died:
            for pod, metrics in self._replicas:
                found += self._memory(pod, metrics, MUCH, TOO_MUCH)
        return found

    def _killed(self, pod: Pod, status: ContainerStatus, *, recent: bool) -> Iterator[Finding]:
        """Report an OOM kill within the last day, or without `recent` the last one before that."""
        for state in (status.state, status.last_state):
            if (
                state.terminated
                and state.terminated.reason == "OOMKilled"
                and self._is_recent(state.terminated) is recent
            ):
                bound = f"its limit, {_limit(pod)}" if _limit(pod) else "its node has"
                yield Finding(
                    pods.name(pod),
                    f"was OOMKilled: it needed more memory than {bound}"
                    + ("" if recent else f" ({state.terminated.finished_at:%Y-%m-%d})"),
                    "no OOM kill",
                    "raise istiod's memory limit (pilot.resources)",
                    problem="oom-killed",
                    owner=workloads.owner(pod),
                )
                return

    def _restarted(self, pod: Pod, status: ContainerStatus, *, often: bool) -> Iterator[Finding]:
        """Report restarts within the last day: `often` those that are no accident, else others."""
        count, last = status.restart_count, status.last_state.terminated
        if count == 0 or (last and not self._is_recent(last)):
            return
        accident = last is not None and last.reason == pods.NODE_STOPPED
        if (count >= TOO_OFTEN and self._is_frequent(pod, count) and not accident) is not often:
            return
        if last and last.reason == "OOMKilled":
            return  # reported as such
        yield Finding(
            pods.name(pod),
            f"restarted {count} times since its creation"
            + (f", the last time with exit code {last.exit_code} ({last.reason})" if last else ""),
            "no restart",
            f"kubectl -n {pod.metadata.namespace} logs --previous {pod.metadata.name}",
            problem="restarts",
            owner=workloads.owner(pod),
        )

    def _is_recent(self, ended: Terminated) -> bool:
        """Whether a container ended within the last day; True where the API does not say when."""
        return (
            ended.finished_at is None or self._evidence.snapshot.taken - ended.finished_at <= RECENT
        )

    def _is_frequent(self, pod: Pod, restarts: int) -> bool:
        """Whether a pod restarts more than once a day, on average since its creation."""
        created = pod.metadata.creation_timestamp
        return created is None or self._evidence.snapshot.taken - created <= restarts * RECENT

    @staticmethod
    def _memory(pod: Pod, metrics: IstiodMetrics, share: float, below: float) -> Iterator[Finding]:
        limit = quantity(_limit(pod))
        if not limit:
            return
        if OBTAINED not in metrics.after:
            raise CouldNotVerify(
                f"{pods.name(pod)} does not report its memory ({OBTAINED})", "run meshgate again"
            )
        used = metrics.after[OBTAINED] - metrics.after.get(RELEASED, 0.0)
        if share <= used / limit < below:
            yield Finding(
                pods.name(pod),
                f"uses {used / 2**20:.0f} MiB of memory, {used / limit:.0%} of its limit "
                f"{_limit(pod)}",
                f"less than {share:.0%}",
                "raise istiod's memory limit (pilot.resources) before it is killed",
                transient=True,
                problem="memory-near-limit",
                owner=workloads.owner(pod),
            )

    # --- conflicts ------------------------------------------------------------------------------

    @property
    def conflicting(self) -> list[Finding]:
        """Configuration that istiod omits because something older conflicts with it."""
        found: dict[Finding, None] = {}
        for pod, metrics in self._replicas:
            if metrics.conflicts is None:
                raise CouldNotVerify(
                    f"{pods.name(pod)} has not pushed anything yet",
                    "wait until a proxy connects",
                    transient=True,
                )
            found |= dict.fromkeys(reported(metrics.conflicts))
        if self._clears_push_status:
            found |= dict.fromkeys(in_objects(self._evidence))
        return list(found)

    @property
    def possibly_conflicting(self) -> list[Finding]:
        """Conflicts in the objects that istiod may have reported and cleared."""
        return list(possible(self._evidence)) if self._clears_push_status else []

    @property
    def _clears_push_status(self) -> bool:
        """Whether a replica clears what it reports: 1.31 and later, or an unknown version."""
        versions = [
            Version.of_image(each.image)
            for pod, _ in self._replicas
            for each in pod.spec.containers
            if each.name == "discovery"
        ]
        return any(each is None or each[:2] >= CLEARS_PUSH_STATUS for each in versions)


def _useless(metrics: IstiodMetrics | None) -> str:
    """Return why the metrics of a replica prove nothing; empty if they do."""
    if metrics and metrics.error:
        return metrics.error
    if metrics is None or STARTED not in metrics.after:
        return f"{STARTED} is missing"
    return "" if from_istiod(metrics) else "no series of istiod in one of the two readings"


def discovery(pod: Pod) -> list[ContainerStatus]:
    """Return the status of istiod's own container."""
    return [each for each in pod.status.container_statuses if each.name == "discovery"]


def _limit(pod: Pod) -> str:
    limits = [each.resources.limits for each in pod.spec.containers if each.name == "discovery"]
    return limits[0].memory if limits else ""


def quantity(text: str) -> float:
    """Return the bytes of a Kubernetes quantity of memory; 0 for anything else."""
    number = text.rstrip("kKMGTim")
    try:
        return float(number or 0) * UNITS.get(text[len(number) :], 1.0)
    except ValueError:
        return 0.0


def _one_of(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"one of {', '.join(names[:NAMED])}{more}"
