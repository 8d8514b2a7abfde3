"""The ConfigMaps of the injectors: which pods they exclude, and which ports bypass sidecars."""

from typing import TYPE_CHECKING

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.semantics import meshes
from meshgate.snapshot.base import Base
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.items import Items, Kind
from meshgate.snapshot.kubernetes import LabelSelector

if TYPE_CHECKING:
    from meshgate.collect.readers import Context


class _Data(Base, frozen=True):
    config: str = ""
    values: str = ""


class _ConfigMap(Base, frozen=True):
    data: _Data = _Data()


class _Config(Base, frozen=True):
    """The key `config`; istiod's own names."""

    policy: str = "enabled"
    never_inject_selector: tuple[LabelSelector, ...] | None = None
    always_inject_selector: tuple[LabelSelector, ...] | None = None


class _Proxy(Base, frozen=True):
    exclude_inbound_ports: str = ""
    include_inbound_ports: str = ""


class _Global(Base, frozen=True):
    proxy: _Proxy = _Proxy()


class _Values(Base, frozen=True):
    global_: _Global = msgspec.field(default=_Global(), name="global")


_KIND = Kind("configmaps", "", "v1", "configmaps", _ConfigMap)
# before there are threads, see snapshot/model.py
_VALUES = msgspec.json.Decoder(_Values)


def read(context: "Context", found: Items) -> tuple[InjectorConfig, ...]:
    """Return the configuration of the injector of each revision that has an istiod here.

    Raises ReadError if one cannot be read or decoded.
    """
    namespace = context.expectations.istio_namespace
    revisions = {
        meshes.revision(pod.metadata.labels)
        for pod in found.pods
        if pod.metadata.namespace == namespace and pod.metadata.labels.get("app") == "istiod"
    }
    configs = (_of(context, namespace, revision) for revision in sorted(revisions))
    return tuple(config for config in configs if config is not None)


def _of(context: "Context", namespace: str, revision: str) -> InjectorConfig | None:
    """Return the configuration of a revision; None if it has no ConfigMap."""
    name = "istio-sidecar-injector" + ("" if revision == meshes.DEFAULT else f"-{revision}")
    only = f"metadata.namespace={namespace},metadata.name={name}"
    maps = context.cluster.objects(msgspec.structs.replace(_KIND, only=only))
    if not maps:
        return None
    data = maps[0].data
    try:
        config = msgspec.yaml.decode(data.config or "{}", type=_Config)
        proxy = _VALUES.decode(data.values or "{}").global_.proxy
    except (ValueError, msgspec.MsgspecError) as error:
        # not the error's own words: they may quote what was read
        raise ReadError(
            f"cannot decode ConfigMap {namespace}/{name}",
            f"kubectl -n {namespace} get configmap {name} -o yaml",
        ) from error
    return InjectorConfig(
        revision=revision,
        policy=config.policy,
        never=config.never_inject_selector or (),
        always=config.always_inject_selector or (),
        excluded_ports=proxy.exclude_inbound_ports,
        included_ports=proxy.include_inbound_ports,
    )
