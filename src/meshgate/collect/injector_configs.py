"""How each istiod is configured: injection, identities, namespaces and gateways."""

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.istiod_settings import IstiodDeployment, environment
from meshgate.collect.readers import Context
from meshgate.semantics import meshes
from meshgate.snapshot.base import Base
from meshgate.snapshot.injector import DefaultExports, InjectorConfig
from meshgate.snapshot.items import KINDS, Items
from meshgate.snapshot.kubernetes import LabelSelector
from meshgate.snapshot.mcs import MCS_GROUP, MCS_VERSION
from meshgate.snapshot.sources import Kind


class _Data(Base, frozen=True):
    config: str = ""
    values: str = ""
    mesh: str = ""


class _ConfigMap(Base, frozen=True):
    data: _Data = _Data()


class _Config(Base, frozen=True):
    """The key `config`; istiod's own names."""

    policy: str = "enabled"
    never_inject_selector: tuple[LabelSelector, ...] | None = None
    always_inject_selector: tuple[LabelSelector, ...] | None = None


# ingressControllerMode by its number; without a mode istiod serves no Ingress either
_MODES = ("OFF", "OFF", "DEFAULT", "STRICT")


# minProtocolVersion by its number
_TLS = ("", "TLSV1_2", "TLSV1_3")


class _TlsDefaults(Base, frozen=True):
    # an enum of Istio's: its numbers are valid too
    min_protocol_version: str | int | None = None


class _Mesh(Base, frozen=True):
    discovery_selectors: tuple[LabelSelector, ...] | None = None
    trust_domain: str | None = None
    trust_domain_aliases: tuple[str, ...] | None = None
    root_namespace: str | None = None
    # an enum of Istio's: YAML takes OFF for False, and its numbers are valid too
    ingress_controller_mode: str | int | bool | None = None
    ingress_class: str | None = None
    ingress_selector: str | None = None
    ingress_service: str | None = None
    default_virtual_service_export_to: tuple[str, ...] | None = None
    default_destination_rule_export_to: tuple[str, ...] | None = None
    default_service_export_to: tuple[str, ...] | None = None
    tls_defaults: _TlsDefaults | None = None
    enable_auto_mtls: bool | None = None

    @property
    def ingress_mode(self) -> str:
        mode = self.ingress_controller_mode
        if isinstance(mode, int):
            return _MODES[mode] if 0 <= mode < len(_MODES) else ""
        return mode or ""

    @property
    def gateway_label(self) -> str:
        """The label `istio` of the pods that serve Ingresses; empty for the default."""
        service = self.ingress_service or ""
        return self.ingress_selector or (service if service != "istio-ingressgateway" else "")

    @property
    def least_tls(self) -> str:
        least = self.tls_defaults.min_protocol_version if self.tls_defaults else None
        if isinstance(least, int):
            return _TLS[least] if 0 <= least < len(_TLS) else ""
        return least or ""

    @property
    def default_exports(self) -> DefaultExports:
        return DefaultExports(
            virtual_services=self.default_virtual_service_export_to or (),
            destination_rules=self.default_destination_rule_export_to or (),
            services=self.default_service_export_to or (),
        )

    def over(self, shared: "_Mesh") -> "_Mesh":
        """Return this mesh config completed by a shared one, whose fields it overrides."""
        fields = msgspec.structs.asdict(self)
        own = {name: value for name, value in fields.items() if value is not None}
        return msgspec.structs.replace(shared, **own)


class _Proxy(Base, frozen=True):
    exclude_inbound_ports: str = ""
    include_inbound_ports: str = ""
    cluster_domain: str = ""


class _Global(Base, frozen=True):
    proxy: _Proxy = _Proxy()


class _Values(Base, frozen=True):
    global_: _Global = msgspec.field(default=_Global(), name="global")


# The ID that an istiod without CLUSTER_ID gives to its cluster.
DEFAULT_CLUSTER = "Kubernetes"

_KIND = Kind("configmaps", "", "v1", "configmaps", _ConfigMap)
# before there are threads, see snapshot/model.py
_VALUES = msgspec.json.Decoder(_Values)


def read(context: Context, found: Items) -> tuple[InjectorConfig, ...]:
    """Return the configuration of each revision that has an istiod here.

    Raises ReadError if one cannot be read or decoded.
    """
    namespace = context.expectations.istio_namespace
    revisions = {
        meshes.revision(pod.metadata.labels)
        for pod in found.pods
        if pod.metadata.namespace == namespace and pod.metadata.labels.get("app") == "istiod"
    }
    variables = _environments(context, namespace) if revisions else {}
    configs = (
        _of(context, namespace, revision, variables.get(revision)) for revision in sorted(revisions)
    )
    return tuple(config for config in configs if config is not None)


def _environments(context: Context, namespace: str) -> dict[str, dict[str, str]]:
    """Return the environment of istiod's Deployment by revision."""
    only = f"metadata.namespace={namespace}"
    kind = msgspec.structs.replace(KINDS["deployments"], type=IstiodDeployment, only=only)
    return {
        meshes.revision(each.metadata.labels): environment(each)
        for each in context.cluster.objects(kind)
        if each.metadata.labels.get("app") == "istiod"
    }


def _of(
    context: Context, namespace: str, revision: str, variables: dict[str, str] | None
) -> InjectorConfig | None:
    """Return the configuration of a revision; None if nothing is known about it."""
    suffix = "" if revision == meshes.DEFAULT else f"-{revision}"
    injector = _data(context, namespace, f"istio-sidecar-injector{suffix}")
    istio = _data(context, namespace, f"istio{suffix}")
    if injector is None and istio is None and variables is None:
        return None
    injector, istio = injector or _Data(), istio or _Data()
    known = variables or {}
    name = f"istio-sidecar-injector{suffix}"
    try:
        config = msgspec.yaml.decode(injector.config or "{}", type=_Config)
        proxy = _VALUES.decode(injector.values or "{}").global_.proxy
        name = f"istio{suffix}"
        mesh = msgspec.yaml.decode(istio.mesh or "{}", type=_Mesh)
        if other := known.get("SHARED_MESH_CONFIG", ""):
            name, shared = other, _data(context, namespace, other) or _Data()
            mesh = mesh.over(msgspec.yaml.decode(shared.mesh or "{}", type=_Mesh))
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
        discovery=mesh.discovery_selectors or (),
        trust_domain=mesh.trust_domain or "",
        trust_domain_aliases=mesh.trust_domain_aliases or (),
        root_namespace=mesh.root_namespace or "",
        cluster_domain=proxy.cluster_domain,
        cluster_id="" if variables is None else variables.get("CLUSTER_ID", DEFAULT_CLUSTER),
        ingress_mode=mesh.ingress_mode,
        ingress_class=mesh.ingress_class or "",
        ingress_selector=mesh.gateway_label,
        default_exports=mesh.default_exports,
        least_tls=mesh.least_tls,
        auto_mtls=mesh.enable_auto_mtls is not False,
        gateway_controller=known.get("PILOT_GATEWAY_API_CONTROLLER_NAME", ""),
        scoped_gateways=_is_on(known, "PILOT_SCOPE_GATEWAY_TO_NAMESPACE"),
        several_providers=_is_on(known, "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS"),
        mcs_hosts=_serves_mcs_hosts(known),
    )


def _is_on(variables: dict[str, str], name: str) -> bool:
    return variables.get(name, "").lower() == "true"


def _serves_mcs_hosts(variables: dict[str, str]) -> bool:
    """Return whether istiod reads ServiceImports of the default API group and version.

    It needs both switches (pilot/pkg/features/experimental.go).
    """
    return (
        _is_on(variables, "ENABLE_MCS_HOST")
        and _is_on(variables, "ENABLE_MCS_SERVICE_DISCOVERY")
        and all(
            variables.get(name, value) == value
            for name, value in (("MCS_API_GROUP", MCS_GROUP), ("MCS_API_VERSION", MCS_VERSION))
        )
    )


def _data(context: Context, namespace: str, name: str) -> _Data | None:
    """Return what a ConfigMap contains; None if it does not exist."""
    only = f"metadata.namespace={namespace},metadata.name={name}"
    maps = context.cluster.objects(msgspec.structs.replace(_KIND, only=only))
    return maps[0].data if maps else None
