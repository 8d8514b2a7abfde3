"""What stage A looks at, in a line or two: ready for the next release by default."""

from typing import Any

from meshgate.snapshot.istio import (
    ConfigPatch,
    EnvoyFilter,
    EnvoyFilterSpec,
    Patch,
    PatchMatch,
    PatchValue,
    Present,
    ProxyMatch,
)
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from meshgate.snapshot.kubernetes import (
    LabelSelector,
    Metadata,
)
from meshgate.snapshot.shadow import Injection, ProxyClass, Shadow, TemplateReview
from meshgate.snapshot.upgrade import (
    BundleAnnotations,
    Definition,
    DefinitionMetadata,
    DefinitionSpec,
    DefinitionStatus,
    DefinitionVersion,
    DisruptionBudget,
    DisruptionBudgetSpec,
    DisruptionBudgetStatus,
    Node,
    NodeInfo,
    NodeStatus,
    Settings,
    Workload,
)

DEPLOYMENT = "Deployment istio-system/istiod"


def settings(**changes: Any) -> Settings:
    """How istiod is set: nothing that any release changed."""
    return Settings(deployment=DEPLOYMENT, **changes)


def workload(name: str = "web", namespace: str = "shop", **changes: Any) -> Workload:
    """A Deployment that selects the pods with app=NAME."""
    return Workload(
        **{
            "kind": "Deployment",
            "namespace": namespace,
            "name": name,
            "selector": LabelSelector(match_labels={"app": name}),
            **changes,
        }
    )


def node(version: str = "v1.34.4") -> Node:
    """A Node with a kubelet of this version."""
    return Node(
        metadata=Metadata(name="node"),
        status=NodeStatus(node_info=NodeInfo(kubelet_version=version)),
    )


def definition(
    name: str, *served: str, bundle: str = "v1.4.0", stored: tuple[str, ...] = ()
) -> Definition:
    """A CRD that serves these versions."""
    return Definition(
        metadata=DefinitionMetadata(name=name, annotations=BundleAnnotations(bundle=bundle)),
        spec=DefinitionSpec(
            versions=tuple(DefinitionVersion(name=each, served=True) for each in served)
        ),
        status=DefinitionStatus(stored_versions=stored),
    )


def budget(app: str, *, allowed: int, namespace: str = "shop") -> DisruptionBudget:
    """A PodDisruptionBudget over one pod."""
    return DisruptionBudget(
        metadata=Metadata(name=app, namespace=namespace),
        spec=DisruptionBudgetSpec(selector=LabelSelector(match_labels={"app": app})),
        status=DisruptionBudgetStatus(disruptions_allowed=allowed, expected_pods=1),
    )


def patch(
    pattern: str = "", *, name: str = "envoy.filters.http.lua", typed: bool = True
) -> ConfigPatch:
    """A patch that puts an HTTP filter in, for the proxies of a version."""
    return ConfigPatch(
        apply_to="HTTP_FILTER",
        match=PatchMatch(proxy=ProxyMatch(proxy_version=pattern)) if pattern else None,
        patch=Patch(
            operation="INSERT_BEFORE",
            value=PatchValue(name=name, typed_config=Present() if typed else None),
        ),
    )


def patched(*patches: ConfigPatch, name: str = "lua", namespace: str = "shop") -> EnvoyFilter:
    """An EnvoyFilter of these patches."""
    return EnvoyFilter(
        metadata=Metadata(name=name, namespace=namespace),
        spec=EnvoyFilterSpec(config_patches=patches),
    )


def said(code: str, level: str = "Error") -> AnalysisMessage:
    """A message of the precheck."""
    return AnalysisMessage(code=code, level=level, message="is wrong", origin="Cluster")


GATEWAYS = definition("gateways.gateway.networking.k8s.io", "v1", "v1beta1")

HEALTHY: dict[str, Any] = {
    "istioctl": "1.29.1",
    "precheck": Analysis(istioctl_version="1.29.1"),
    "settings": (settings(),),
    "workloads": (workload(),),
    "nodes": (node(),),
    "definitions": (GATEWAYS,),
    "shadow": Shadow(
        version="1.29.1",
        classes=(ProxyClass(proxies=("web-1.shop",), resources=1),),
        injections=(Injection(namespace="shop"),),
        templates=(TemplateReview(workload="Deployment shop/web"),),
    ),
}

# something for every detection: dry-run policies are on, and a bundle is too old to be read
CONCERNED: dict[str, Any] = {
    "settings": (
        settings(
            variables={"AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY": "true"},
            excluded_namespaces=("shop",),
        ),
    ),
    "definitions": (
        GATEWAYS,
        definition("grpcroutes.gateway.networking.k8s.io", "v1", bundle="v1.0.0"),
        definition("udproutes.gateway.networking.k8s.io", "v1alpha2"),
    ),
    "envoy_filters": (patched(patch("^1\\.24"), patch("^1\\.29")),),
}
