"""The mesh config: whether istiod can parse its ConfigMap, and whether it uses it."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.snapshot.mesh_config import EffectiveConfig, MeshConfig
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
        for _ in self._answering():
            pass  # every replica shows what it uses
        return []

    def _answering(self) -> Iterator[tuple[MeshConfig, EffectiveConfig]]:
        """Yield what each replica uses; raise CouldNotVerify if one does not say it."""
        for config in self.all:
            for replica in config.effective:
                if why := replica.error or replica.denied:
                    raise CouldNotVerify(
                        f"istiod pod {replica.pod} does not show what it uses: {why}",
                        f"istioctl x internal-debug mesh --revision {config.revision}",
                        transient=bool(replica.error),
                    )
                yield config, replica

    # --- remote clusters ------------------------------------------------------------------------

    @cached_property
    def remote_clusters(self) -> frozenset[str]:
        """The remote clusters that a replica names; raises NotApplicable if there are none."""
        found = frozenset(name for _, replica in self._answering() for name in replica.clusters)
        if not found:
            raise NotApplicable("istiod reads no remote cluster")
        return found

    @property
    def unsynced(self) -> list[Finding]:
        """Remote clusters whose objects a replica of istiod has not read.

        Raises NotApplicable if istiod reads no other cluster.
        """
        _ = self.remote_clusters
        return [
            Finding(
                f"Cluster {cluster}",
                f"istiod has not read it: {status} (pod {replica.pod})",
                "synced",
                f"istioctl remote-clusters, and check the network and the credentials of {cluster}",
                transient=status == "syncing",
                problem="not-synced",
            )
            for _, replica in self._answering()
            for cluster, status in sorted(replica.clusters.items())
            if status != "synced"
        ]

    # --- extension providers --------------------------------------------------------------------

    @property
    def missing_providers(self) -> list[Finding]:
        """CUSTOM policies whose provider no mesh config has: they deny all that they match.

        Raises NotApplicable if no policy and no Telemetry names a provider.
        """
        _ = self.named_providers
        return self._missing(
            self._named_by_policies, "denies every request that it matches with 403"
        )

    @property
    def named_providers(self) -> set[str]:
        """The providers that a policy or a Telemetry names; NotApplicable without any."""
        named = (*self._named_by_policies.values(), *self._named_by_telemetries.values())
        if not named:
            raise NotApplicable("no AuthorizationPolicy and no Telemetry names a provider")
        return set().union(*named)

    @property
    def missing_telemetry_providers(self) -> list[Finding]:
        """Telemetries whose provider no mesh config has: they send nothing."""
        return self._missing(self._named_by_telemetries, "sends nothing to it")

    @property
    def _named_by_policies(self) -> dict[str, set[str]]:
        return {
            f"AuthorizationPolicy {each.metadata.namespace}/{each.metadata.name}": {
                each.spec.provider.name
            }
            for each in self._evidence.authorization_policies
            if each.spec.action == "CUSTOM" and each.spec.provider
        }

    @property
    def _named_by_telemetries(self) -> dict[str, set[str]]:
        found = {
            f"Telemetry {each.metadata.namespace}/{each.metadata.name}": {
                provider.name
                for row in (*each.spec.tracing, *each.spec.metrics, *each.spec.access_logging)
                for provider in row.providers
                if provider.name
            }
            for each in self._evidence.telemetries
        }
        return {subject: names for subject, names in found.items() if names}

    def _missing(self, named: dict[str, set[str]], effect: str) -> list[Finding]:
        if not named:
            return []
        lacking: dict[str, set[str]] = {}
        for config, replica in self._answering():
            for name in set().union(*named.values()) - set(replica.providers):
                lacking.setdefault(name, set()).add(config.config_map)
        return [
            Finding(
                subject,
                f"its provider {name} is not in the mesh config "
                f"({', '.join(sorted(lacking[name]))}), so that it {effect}",
                f"extensionProviders with {name}",
                f"add {name} to meshConfig.extensionProviders, or delete {subject}",
                # a change of the ConfigMap reaches istiod within seconds
                transient=True,
                problem="missing-provider",
                about=(("provider", name),),
            )
            for subject, names in sorted(named.items())
            for name in sorted(names & lacking.keys())
        ]


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
