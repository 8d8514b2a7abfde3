"""The mesh config: whether istiod can parse its ConfigMap, and whether it uses it."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.snapshot.mesh_config import MeshConfig
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class MeshConfigs:
    """The mesh configs of the revisions that have an istiod."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def all(self) -> tuple[MeshConfig, ...]:
        """The mesh configs; raises NotApplicable if there is none."""
        if not self._evidence.mesh_configs:
            raise NotApplicable("no running istiod has a ConfigMap with a mesh config")
        return self._evidence.mesh_configs

    @property
    def unused(self) -> list[Finding]:
        """Mesh configs that istiod cannot parse, or of which it uses other values.

        Raises CouldNotVerify if a replica does not say what it uses.
        """
        found = [each for config in self.all for each in _findings(config)]
        if found:
            return found
        for config in self.all:
            for replica in config.effective:
                if why := replica.error or replica.denied:
                    raise CouldNotVerify(
                        f"cannot read the mesh config of istiod pod {replica.pod}: {why}",
                        f"istioctl x internal-debug mesh --revision {config.revision}",
                        transient=bool(replica.error),
                    )
        return []


def _findings(config: MeshConfig) -> Iterator[Finding]:
    namespace, _, name = config.config_map.partition(" ")[2].partition("/")
    for fault in config.unparsable:
        field, _, why = fault.partition(": ")
        yield Finding(
            config.config_map,
            f"its field {field} {why}: istiod ignores the whole mesh config until the next start, "
            "and then runs with its defaults",
            "a mesh config that istiod can parse",
            f"kubectl -n {namespace} edit configmap {name}",
            problem="unparsable",
            about=(("field", field),),
        )
    different: dict[str, list[str]] = {}
    for replica in config.effective:
        for field in replica.different:
            different.setdefault(field, []).append(replica.pod)
    for field, pods in different.items():
        yield Finding(
            config.config_map,
            f"istiod uses another value of {field} (pod {', '.join(sorted(pods))})",
            "the ConfigMap's value",
            f"look for `invalid mesh config` in the log: kubectl -n {namespace} logs {pods[0]}",
            # a change of the ConfigMap reaches istiod within seconds
            transient=not config.unparsable,
            problem="not-used",
            about=(("field", field),),
        )
