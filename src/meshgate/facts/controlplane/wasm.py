"""WasmPlugins whose modules the proxies could not load."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics.wasm import FAILED, LOADED, selects
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.wasm import WasmLoads, WasmPlugin
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class WasmModules:
    """The WasmPlugins, and what the agents of their proxies count."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def all(self) -> list[tuple[WasmPlugin, list[WasmLoads]]]:
        """Every plugin that selects a proxy; raises NotApplicable if none does.

        Raises CouldNotVerify if a proxy's agent was not asked.
        """
        plugins = self._evidence.wasm_plugins
        loads = {each.pod: each for each in self._evidence.wasm_loads}
        pods = self._evidence.own_mesh.own(self._evidence.pods)
        found = [(each, list(self._of(each, pods, loads))) for each in plugins]
        used = [(plugin, some) for plugin, some in found if some]
        if not used:
            raise NotApplicable(f"none of {len(plugins)} WasmPlugins selects a running proxy")
        return used

    def _of(
        self, plugin: WasmPlugin, pods: list[Pod], loads: dict[str, WasmLoads]
    ) -> Iterator[WasmLoads]:
        """Yield what the agents of a plugin's proxies count.

        Args:
            plugin: the plugin.
            pods: the mesh's.
            loads: what was read, by pod.
        """
        root = self._evidence.own_mesh.root_namespace
        for pod in pods:
            if selects(plugin, pod, root):
                name = f"{pod.metadata.namespace}/{pod.metadata.name}"
                yield loads.get(name, WasmLoads(pod=name, error="it was not asked"))

    @property
    def failed(self) -> list[Finding]:
        """Plugins whose module a proxy could not load, and loaded no other.

        Raises CouldNotVerify if nothing is wrong, but a proxy does not answer, or no proxy of a
        plugin has tried to load its module.
        """
        found = [
            _finding(plugin, bad)
            for plugin, loads in self.all
            if (bad := [each for each in loads if _failures(each) and not _loaded(each)])
        ]
        for plugin, loads in [] if found else self.all:
            if silent := [each for each in loads if each.error]:
                raise CouldNotVerify(
                    f"the agent of Pod {silent[0].pod}, which {_name(plugin)} selects, does not "
                    f"show its metrics: {silent[0].error}",
                    "check that port 15020 of the pod can be reached",
                    transient=True,
                )
            if not any(map(_loaded, loads)):
                raise CouldNotVerify(
                    f"no proxy that {_name(plugin)} selects has loaded a module yet",
                    f"look at the log of the istio-proxy container of Pod {loads[0].pod}",
                    transient=True,
                )
        return found

    @property
    def partly_failed(self) -> list[Finding]:
        """Plugins of proxies that failed to load a module, but also loaded one."""
        return [
            _finding(plugin, partly)
            for plugin, loads in self.all
            if (partly := [each for each in loads if _failures(each) and _loaded(each)])
        ]


def _finding(plugin: WasmPlugin, loads: list[WasmLoads]) -> Finding:
    count = sum(map(_failures, loads))
    names = loads[0].pod + (f" and {len(loads) - 1} more" if len(loads) > 1 else "")
    some = sum(map(_loaded, loads))
    instead = "allow" if plugin.spec.fail_strategy == "FAIL_OPEN" else "deny"
    return Finding(
        _name(plugin),
        f"its proxies (Pod {names}) failed {count} times to load a module from elsewhere"
        + (
            f", and succeeded {some} times"
            if some
            else f": they {instead} all requests in its place"
        ),
        "modules that every proxy can load",
        f"check {plugin.spec.url or 'its url'}, and its imagePullSecret and sha256",
        transient=True,
        problem="module-not-loaded",
    )


def _name(plugin: WasmPlugin) -> str:
    return f"WasmPlugin {plugin.metadata.namespace}/{plugin.metadata.name}"


def _failures(loads: WasmLoads) -> int:
    return sum(count for result, count in loads.results.items() if result in FAILED)


def _loaded(loads: WasmLoads) -> int:
    return loads.results.get(LOADED, 0)
