"""How istiod is set: environment, mesh config, values and the CNI's, a few named fields of each.

What is read here holds whatever people put there: only the names that a change of a release is
about leave this module, with a value only where that is `true` or `false`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.facts.precheck.release_changes import looked_for, settling
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import KINDS, Kind
from meshgate.snapshot.kubernetes import Metadata
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


class _Deployment(Base, frozen=True):
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


class _Mesh(Base, frozen=True):
    extension_providers: tuple[dict[str, Any], ...] | None = None
    default_config: _DefaultConfig | None = None


class _Networks(Base, frozen=True):
    networks: dict[str, Any] | None = None


class _Values(Base, frozen=True):
    compatibility_version: str = ""


CONFIG_MAPS = Kind("configmaps", "", "v1", "configmaps", _ConfigMap)


def read(cluster: Cluster, istio_namespace: str) -> tuple[Settings, ...]:
    """What every istiod of the namespace is set to; raises Unreadable."""
    only = f"metadata.namespace={istio_namespace}"
    deployments = cluster.objects(
        msgspec.structs.replace(KINDS["deployments"], type=_Deployment, only=only)
    )
    cni = _cni(cluster)
    return tuple(
        _settings(cluster, istio_namespace, each, cni)
        for each in deployments
        if each.metadata.labels.get("app") == "istiod"
    )


def _settings(
    cluster: Cluster, namespace: str, deployment: _Deployment, cni: dict[str, str]
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
    defaults = mesh.default_config or _DefaultConfig()
    return Settings(
        deployment=f"Deployment {namespace}/{deployment.metadata.name}",
        variables=_variables(deployment),
        proxy_metadata=_kept(defaults.proxy_metadata or {}, looked_for("proxy_metadata")),
        cni=cni,
        providers=tuple(
            Provider(name=str(each.get("name", "")), kind=kind)
            for each in mesh.extension_providers or ()
            for kind in sorted(each.keys() - {"name"})
        ),
        # beside the kinds stand settings of all of them
        tracers=tuple(sorted(TRACERS & (defaults.tracing or {}).keys())),
        networks=bool(networks.networks),
        compatibility=merged.compatibility_version,
    )


TRACERS = frozenset({"zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"})


def _variables(deployment: _Deployment) -> dict[str, str]:
    names = looked_for("variable") | looked_for("dry_run") | settling()
    containers = deployment.spec.template.spec.containers
    return _kept({each.name: each.value for box in containers for each in box.env}, names)


def _kept(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Those of the names that are set; what is no switch keeps its value for itself."""
    return {
        name: value if (value := str(found[name]).lower()) in ("true", "false") else ""
        for name in sorted(names)
        if name in found
    }


def _config_map(cluster: Cluster, namespace: str, name: str) -> _Data:
    only = f"metadata.namespace={namespace},metadata.name={name}"
    found = cluster.objects(msgspec.structs.replace(CONFIG_MAPS, only=only))
    return found[0].data if found else _Data()


def _cni(cluster: Cluster) -> dict[str, str]:
    only = "metadata.name=istio-cni-config"
    found = cluster.objects(msgspec.structs.replace(CONFIG_MAPS, type=_Flags, only=only))
    return _kept(found[0].data, settling()) if found else {}
