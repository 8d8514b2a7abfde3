"""What the injector adds to the same workload, before the upgrade and now."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics.workloads import PROXY
from meshgate.settings import flag
from meshgate.snapshot.new_pods import NewContainer, NewPod
from meshgate.verdict import Finding, NotApplicable

# The path to which the injector changes the probes of applications.
_REWRITTEN = "httpGet /app-health/"


class InjectionChanges:
    """The pods that a restart would create, compared with those of the baseline."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def pairs(self) -> list[tuple[NewPod, NewPod]]:
        """Pods of the same workload, before and now; raises NotApplicable without a baseline."""
        now = {each.workload: each for each in self._evidence.new_pods.pods if each.injected}
        found = [(each, now[each.workload]) for each in self._before if each.workload in now]
        if not found and not self._lost:
            raise NotApplicable("no workload of the baseline is injected now")
        return found

    @cached_property
    def _before(self) -> list[NewPod]:
        before = self._evidence.expectations.before
        if before is None:
            raise NotApplicable(f"no baseline is given ({flag('run.baseline')})")
        if before.new_pods is None or before.new_pods.skipped_reason:
            raise NotApplicable("the baseline does not contain the pods that a restart creates")
        return [each for each in before.new_pods.pods if each.injected]

    @property
    def _lost(self) -> list[str]:
        others = set(self._evidence.new_pods.others)
        return [each.workload for each in self._before if each.workload in others]

    @property
    def losses(self) -> list[Finding]:
        """Workloads that would lose their sidecar, rewritten probes or start-up hold."""
        found = [
            _finding(
                workload,
                "lost-sidecar",
                "its new pods get no sidecar; in the baseline they get one",
                "restore the label that enables injection",
            )
            for workload in self._lost
        ]
        for before, now in self.pairs:
            if probes := sorted(_rewritten(before) - _rewritten(now)):
                found.append(
                    _finding(
                        now.workload,
                        "lost-probe-rewrite",
                        f"the injector does not rewrite its probes any more: {', '.join(probes)}",
                        "set sidecarInjectorWebhook.rewriteAppHTTPProbe=true in istiod's values",
                    )
                )
            if _holds(before) and not _holds(now):
                found.append(
                    _finding(
                        now.workload,
                        "lost-hold",
                        "its containers start before the sidecar is ready; in the baseline they "
                        "wait for it",
                        "set holdApplicationUntilProxyStarts: true in its proxy config",
                    )
                )
        return found

    @property
    def changes(self) -> list[Finding]:
        """All other differences; one that all workloads share is one finding with their number."""
        found: defaultdict[tuple[str, str], list[NewPod]] = defaultdict(list)
        for before, now in self.pairs:
            for difference in _differences(before, now):
                found[difference].append(now)
        result = []
        for (problem, words), pods in sorted(found.items()):
            if len(pods) == len(self.pairs) > 1:
                result.append(
                    Finding(
                        pods[0].webhook,
                        f"the pods of all {len(pods)} workloads change: {words}",
                        "the same as in the baseline",
                        "compare the values of istiod's chart with those before the upgrade",
                        problem=problem,
                        about=(("change", words),),
                    )
                )
                continue
            result += [
                _finding(
                    each.workload,
                    problem,
                    f"its new pods change: {words}",
                    "compare its annotations and istiod's values with those before the upgrade",
                    about=(("change", words),),
                )
                for each in pods
            ]
        return result


def _finding(
    workload: str, problem: str, seen: str, remedy: str, about: tuple[tuple[str, str], ...] = ()
) -> Finding:
    return Finding(
        workload, seen, "the same as in the baseline", remedy, problem=problem, about=about
    )


def _rewritten(pod: NewPod) -> set[str]:
    return {
        f"{kind} of container {each.name}"
        for each in pod.containers
        if not each.injected
        for kind, handler in each.probes.items()
        if handler.startswith(_REWRITTEN)
    }


def _holds(pod: NewPod) -> bool:
    """Return whether the containers of the application wait for the proxy."""
    proxy = _proxy(pod)
    return proxy is not None and (
        "postStart" in proxy.hooks or (proxy.sidecar and "startupProbe" in proxy.probes)
    )


def _proxy(pod: NewPod) -> NewContainer | None:
    return next((each for each in pod.containers if each.name == PROXY), None)


def _differences(before: NewPod, now: NewPod) -> Iterator[tuple[str, str]]:
    """Yield problem code and words of each difference of what the injector adds."""
    then = {each.name: each for each in before.containers if each.injected}
    present = {each.name: each for each in now.containers if each.injected}
    for name in sorted(then.keys() - present.keys()):
        yield "container-removed", f"container {name} is not added any more"
    for name in sorted(present.keys() - then.keys()):
        yield "container-added", f"container {name} is added"
    for name in sorted(then.keys() & present.keys()):
        for field, read in _COMPARED.items():
            old, new = read(then[name]), read(present[name])
            if old != new:
                words = f"{field} of container {name} {_change(old, new)}"
                yield f"changed-{field.replace(' ', '-')}", words


def _change(old: object, new: object) -> str:
    if isinstance(old, frozenset) and isinstance(new, frozenset):
        added, removed = sorted(new - old), sorted(old - new)
        parts = [f"gain {', '.join(added)}"] if added else []
        parts += [f"lose {', '.join(removed)}"] if removed else []
        return " and ".join(parts)
    return f"is {new or 'none'}, was {old or 'none'}"


def _kind(container: NewContainer) -> str:
    if container.sidecar:
        return "native sidecar"
    return "init container" if container.init else "container"


def _security(container: NewContainer) -> frozenset[str]:
    own = container.security
    if own is None:
        return frozenset()
    capabilities = own.capabilities
    added = capabilities.add if capabilities else ()
    values = {
        "privileged": own.privileged or None,
        "runAsUser": own.run_as_user,
        "runAsNonRoot": own.run_as_non_root,
        "allowPrivilegeEscalation": own.allow_privilege_escalation,
        "readOnlyRootFilesystem": own.read_only_root_filesystem,
    }
    return frozenset(
        [*(f"{name}={value}" for name, value in values.items() if value is not None), *added]
    )


def _registry(container: NewContainer) -> str:
    """Return the image without its tag: versions are expected to change."""
    path, _, digest = container.image.partition("@")
    name = path.rsplit("/", 1)[-1].partition(":")[0]
    folder = path.rpartition("/")[0]
    return f"{folder}/{name}{' by digest' if digest else ''}".lstrip("/")


_COMPARED: dict[str, Callable[[NewContainer], object]] = {
    "kind": _kind,
    "image": _registry,
    "probes": lambda each: frozenset(f"{k} {v}".strip() for k, v in each.probes.items()),
    "ports": lambda each: frozenset(each.ports),
    "resources": lambda each: frozenset(
        [
            *(f"requests.{name}={value}" for name, value in each.requests.items()),
            *(f"limits.{name}={value}" for name, value in each.limits.items()),
        ]
    ),
    "security context": _security,
    "environment variables": lambda each: frozenset(each.variables),
}
