"""How istiod is configured: its environment, mesh config, chart values and the CNI's ConfigMap.

These hold whatever people put there.  Only names that the release ledger tracks leave this module,
with a value only if that is `true` or `false`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.semantics.releases import (
    NO_PROMETHEUS_MERGE,
    RETIRED_REGISTRIES,
    looked_for,
    opt_outs,
    tracked_variables,
)
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.sources import Kind
from meshgate.snapshot.upgrade import Provider, Settings


class _Variable(Base, frozen=True):
    name: str
    value: str = ""


class _Container(Base, frozen=True):
    env: tuple[_Variable, ...] = ()


class _PodSpec(Base, frozen=True):
    containers: tuple[_Container, ...] = ()


class _Template(Base, frozen=True):
    spec: _PodSpec = _PodSpec()


class _DeploymentSpec(Base, frozen=True):
    template: _Template = _Template()


class IstiodDeployment(Base, frozen=True):
    """A Deployment of istiod with its environment, which leaves this package only in part."""

    metadata: Metadata
    spec: _DeploymentSpec = _DeploymentSpec()


class _Data(Base, frozen=True):
    mesh: str = ""
    mesh_networks: str = ""
    merged_values: str = msgspec.field(default="", name="merged-values")


class _ConfigMap(Base, frozen=True):
    data: _Data = _Data()


class _Flags(Base, frozen=True):
    data: dict[str, str] = msgspec.field(default_factory=dict)


class _DefaultConfig(Base, frozen=True):
    tracing: dict[str, Any] | None = None
    proxy_metadata: dict[str, Any] | None = None


class _TlsDefaults(Base, frozen=True):
    min_protocol_version: str = ""


class _Mesh(Base, frozen=True):
    extension_providers: tuple[dict[str, Any], ...] | None = None
    default_config: _DefaultConfig | None = None
    tls_defaults: _TlsDefaults | None = None
    default_service_export_to: tuple[str, ...] | None = None
    default_virtual_service_export_to: tuple[str, ...] | None = None
    enable_prometheus_merge: bool | None = None

    def tracked(self) -> tuple[str, ...]:
        """Return the fields that are set in a way that a rule is about, as dotted paths."""
        protocol = self.tls_defaults and self.tls_defaults.min_protocol_version
        exports = {
            "defaultServiceExportTo": self.default_service_export_to,
            "defaultVirtualServiceExportTo": self.default_virtual_service_export_to,
        }
        # namespaces beside "." were ignored before Istio 1.30.3
        mixed = [name for name, to in exports.items() if to and "." in to and len(to) > 1]
        off = self.enable_prometheus_merge is False
        return (
            *mixed,
            *(["tlsDefaults.minProtocolVersion"] if protocol else []),
            *([NO_PROMETHEUS_MERGE] if off else []),
        )


class _Networks(Base, frozen=True):
    networks: dict[str, Any] | None = None


class _Global(Base, frozen=True):
    hub: str = ""
    native_nftables: bool = False


class _Values(Base, frozen=True):
    compatibility_version: str = ""
    global_: _Global | None = msgspec.field(default=None, name="global")


CONFIG_MAPS = Kind("configmaps", "", "v1", "configmaps", _ConfigMap)


def read(cluster: Cluster, istio_namespace: str) -> tuple[Settings, ...]:
    """Return the settings of every istiod of the namespace; raise ReadError."""
    only = f"metadata.namespace={istio_namespace}"
    deployments = cluster.objects(
        msgspec.structs.replace(KINDS["deployments"], type=IstiodDeployment, only=only)
    )
    agent = _cni(cluster)
    return tuple(
        _settings(cluster, istio_namespace, each, agent)
        for each in deployments
        if each.metadata.labels.get("app") == "istiod"
    )


def _settings(
    cluster: Cluster, namespace: str, deployment: IstiodDeployment, agent: Mapping[str, str]
) -> Settings:
    revision = deployment.metadata.labels.get("istio.io/rev", "default")
    suffix = "" if revision == "default" else f"-{revision}"
    data = _config_map(cluster, namespace, f"istio{suffix}")
    values = _config_map(cluster, namespace, f"values{suffix}")
    try:
        mesh = msgspec.yaml.decode(data.mesh or "{}", type=_Mesh)
        networks = msgspec.yaml.decode(data.mesh_networks or "{}", type=_Networks)
        merged = msgspec.json.decode(values.merged_values or "{}", type=_Values)
    except ValueError as error:
        # not the error's own words: they may quote what was read
        raise ReadError(
            f"cannot decode the mesh config or the values of {namespace}/istio{suffix}",
            "look at the ConfigMap: istiod cannot read it either",
        ) from error
    defaults, chart = mesh.default_config or _DefaultConfig(), merged.global_ or _Global()
    return Settings(
        deployment=f"Deployment {namespace}/{deployment.metadata.name}",
        variables=_variables(deployment),
        proxy_metadata=_kept(defaults.proxy_metadata or {}, looked_for("proxy_metadata")),
        cni=_kept(agent, opt_outs() | looked_for("ambient_reconcile")),
        providers=tuple(
            Provider(name=str(each.get("name", "")), kind=kind)
            for each in mesh.extension_providers or ()
            for kind in sorted(each.keys() - {"name"})
        ),
        # beside the kinds stand settings of all of them
        tracers=tuple(sorted(TRACERS & (defaults.tracing or {}).keys())),
        networks=bool(networks.networks),
        compatibility=merged.compatibility_version,
        mesh=mesh.tracked(),
        excluded_namespaces=tuple(
            sorted(filter(None, map(str.strip, agent.get("EXCLUDE_NAMESPACES", "").split(","))))
        ),
        hub=next((each for each in RETIRED_REGISTRIES if chart.hub.startswith(each)), ""),
        native_nftables=chart.native_nftables,
    )


TRACERS = frozenset({"zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"})


def _variables(deployment: IstiodDeployment) -> dict[str, str]:
    return _kept(environment(deployment), tracked_variables())


def environment(deployment: IstiodDeployment) -> dict[str, str]:
    """Return istiod's environment variables; one that is read from elsewhere is empty."""
    containers = deployment.spec.template.spec.containers
    return {each.name: each.value for box in containers for each in box.env}


def _kept(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return the names that are set; only `true` and `false` are kept as values."""
    return {
        name: value if (value := str(found[name]).lower()) in ("true", "false") else ""
        for name in sorted(names)
        if name in found
    }


def _config_map(cluster: Cluster, namespace: str, name: str) -> _Data:
    only = f"metadata.namespace={namespace},metadata.name={name}"
    found = cluster.objects(msgspec.structs.replace(CONFIG_MAPS, only=only))
    return found[0].data if found else _Data()


def _cni(cluster: Cluster) -> Mapping[str, str]:
    only = "metadata.name=istio-cni-config"
    found = cluster.objects(msgspec.structs.replace(CONFIG_MAPS, type=_Flags, only=only))
    return found[0].data if found else {}
