"""Changes between releases: only those on the way, and only where they affect the mesh."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.facts.precheck.detections import DETECTIONS
from meshgate.semantics.releases import NO_PROMETHEUS_MERGE, Rule, rules
from meshgate.semantics.versions import Version
from meshgate.snapshot.gateway_api import (
    AncestorStatus,
    ApiGateway,
    BackendReference,
    BackendTlsPolicy,
    BackendTlsPolicySpec,
    GatewayAddress,
    GatewayClass,
    GatewayClassSpec,
    GatewaySpec,
    Listener,
    ListenerSet,
    ListenerSetParent,
    ListenerSetSpec,
    ObservedCondition,
    ParentReference,
    PolicyStatus,
    PolicyTarget,
    Route,
    RouteFilter,
    RouteRule,
    RouteSpec,
)
from meshgate.snapshot.istio import (
    AuthorizationFrom,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    AuthorizationRule,
    AuthorizationSource,
    ClientTls,
    DestinationRule,
    DestinationRuleSpec,
    Gateway,
    HttpRoute,
    Mirrored,
    OutlierDetection,
    PortTraffic,
    Present,
    RetryBudget,
    Server,
    ServerTls,
    ServiceEntry,
    ServiceEntrySpec,
    Subset,
    TrafficPolicy,
    VirtualService,
    VirtualServiceSpec,
    WorkloadEntry,
)
from meshgate.snapshot.istio import GatewaySpec as IstioGatewaySpec
from meshgate.snapshot.kubernetes import Annotations, Metadata, Owner
from meshgate.snapshot.request_authentication import (
    JwtRule,
    RequestAuthentication,
    RequestAuthenticationSpec,
)
from meshgate.snapshot.webhooks import WebhookConfiguration, WebhookMetadata
from meshgate.verdict import CouldNotVerify, Finding
from tests.support.builders import expecting, istiod, mesh, pod, reading, running, sidecar, sync
from tests.support.upgrade_builders import definition, patch, patched, settings, workload
from tests.support.webhook_builders import namespace

ISTIOD = "Deployment istio-system/istiod"
ALPHA = {"PILOT_ENABLE_ALPHA_GATEWAY_API": "true"}


def upgraded(start: str, target: str, **changes: Any) -> Mesh:
    """A mesh of one version that is about to be upgraded to another."""
    answer = reading(version=start, proxies=[sync(version=start)])
    return mesh(**{"istiod": (answer,), **changes}, **expecting(target_version=target))


def at(name: str = "web", where: str = "shop", **labels: str) -> Metadata:
    return Metadata(name=name, namespace=where, labels=labels)


def destination_rule(policy: TrafficPolicy | None = None, *subsets: Subset) -> dict[str, Any]:
    spec = DestinationRuleSpec(traffic_policy=policy, subsets=subsets)
    return {"destination_rules": (DestinationRule(metadata=at(), spec=spec),)}


def route(*rule: RouteRule, parent: str = "web") -> dict[str, Any]:
    """An HTTPRoute at the Gateway shop/web, which is Istio's, or at another parent."""
    return {**tls_gateway("HTTP"), "http_routes": (attached(*rule, parent=parent),)}


def attached(*rule: RouteRule, parent: str = "web", kind: str = "Gateway") -> Route:
    """A route at one parent."""
    parents = (ParentReference(name=parent, kind=kind),)
    return Route(metadata=at(), spec=RouteSpec(rules=rule, parent_refs=parents))


def of_another_controller() -> dict[str, Any]:
    """The Gateway shop/web, of a class of another controller."""
    spec = GatewayClassSpec(controller_name="gateway.envoyproxy.io/gatewayclass-controller")
    other = GatewayClass(metadata=Metadata(name="envoy"), spec=spec)
    listener = Listener(name="tls", port=443, protocol="TLS")
    gateway = GatewaySpec(gateway_class_name="envoy", listeners=(listener,))
    return {
        "gateway_classes": (other,),
        "api_gateways": (ApiGateway(metadata=at(), spec=gateway),),
    }


def listener_set(parent: str) -> dict[str, Any]:
    """The ListenerSet shop/more of a Gateway."""
    spec = ListenerSetSpec(parent_ref=ListenerSetParent(name=parent))
    return {"listener_sets": (ListenerSet(metadata=at("more"), spec=spec),)}


def policy(**source: tuple[str, ...]) -> dict[str, Any]:
    rule = AuthorizationRule(from_=(AuthorizationFrom(source=AuthorizationSource(**source)),))
    found = AuthorizationPolicy(metadata=at(), spec=AuthorizationPolicySpec(rules=(rule,)))
    return {"authorization_policies": (found,)}


def entry(*hosts: str, resolution: str = "DNS", where: str = "shop") -> ServiceEntry:
    spec = ServiceEntrySpec(hosts=hosts, resolution=resolution)
    return ServiceEntry(metadata=at(where=where), spec=spec)


def tls_gateway(protocol: str = "TLS") -> dict[str, Any]:
    listener = Listener(name="tls", port=443, protocol=protocol)
    spec = GatewaySpec(gateway_class_name="istio", listeners=(listener,))
    return {"api_gateways": (ApiGateway(metadata=at(), spec=spec),)}


def istio_gateway(credential: str = "web", where: str = "shop", **selector: str) -> dict[str, Any]:
    server = Server(tls=ServerTls(credential_name=credential))
    spec = IstioGatewaySpec(selector=selector, servers=(server,))
    return {"gateways": (Gateway(metadata=at(where=where), spec=spec),)}


def template(**values: str) -> dict[str, Any]:
    return {"workloads": (workload(values=values),)}


def api_gateway(annotation: str | None = None, **spec: Any) -> ApiGateway:
    """A Gateway with an HTTPS listener, as istiod deploys it."""
    listener = Listener(name="https", port=443, protocol="HTTPS")
    metadata = Metadata(
        name="web", namespace="shop", annotations=Annotations(service_account=annotation)
    )
    return ApiGateway(
        metadata=metadata,
        spec=GatewaySpec(**{"gateway_class_name": "istio", "listeners": (listener,), **spec}),
    )


def gateway_pods(account: str) -> dict[str, Any]:
    """istiod, and a pod of that Gateway with a ServiceAccount."""
    one = pod("web-1", "shop", labels={"gateway.networking.k8s.io/gateway-name": "web"})
    spec = msgspec.structs.replace(one.spec, service_account_name=account)
    return {"pods": (istiod(), msgspec.structs.replace(one, spec=spec))}


def backend_tls(
    name: str = "web", section: str = "", kind: str = "Service", status: str = "True"
) -> BackendTlsPolicy:
    """A BackendTLSPolicy for web, with a status of istiod."""
    condition = ObservedCondition(type="ResolvedRefs", status=status, reason="InvalidCACertificate")
    ancestor = AncestorStatus("istio.io/gateway-controller", (condition,))
    target = PolicyTarget(name="web", kind=kind, section_name=section)
    return BackendTlsPolicy(
        metadata=at(name),
        spec=BackendTlsPolicySpec(target_refs=(target,)),
        status=PolicyStatus(ancestors=(ancestor,)),
    )


def jwks(uri: str) -> dict[str, Any]:
    spec = RequestAuthenticationSpec(jwt_rules=(JwtRule(jwks_uri=uri),))
    return {"request_authentications": (RequestAuthentication(metadata=at(), spec=spec),)}


def webhook(name: str) -> dict[str, Any]:
    found = WebhookConfiguration(metadata=WebhookMetadata(name=name))
    return {"validating_webhooks": (found,)}


def tls_rule(host: str) -> dict[str, Any]:
    """A DestinationRule that sets TLS for a host."""
    spec = DestinationRuleSpec(
        host=host, traffic_policy=TrafficPolicy(tls=ClientTls(mode="SIMPLE"))
    )
    return {"destination_rules": (DestinationRule(metadata=at(), spec=spec),)}


ZTUNNEL = pod(
    "ztunnel-1", "istio-system", containers=[running("istio-proxy")], labels={"app": "ztunnel"}
)
AMBIENT = {"pods": (istiod(), ZTUNNEL)}
OLD_ZTUNNEL = {
    **AMBIENT,
    "istiod": (
        reading(version="1.28.2", proxies=[sync("ztunnel-1.istio-system", version="1.28.2")]),
    ),
}
EXCLUDED = {
    "settings": (settings(excluded_namespaces=("kube-system", "shop")),),
    "namespaces": (namespace("shop", **{"istio.io/dataplane-mode": "ambient"}),),
}
MANAGED = pod("gw-1", "edge", labels={"gateway.istio.io/managed": "istio", "app": "gw"})
BACKENDS = (BackendReference(name="web", port=80),)
CORS = RouteRule(filters=(RouteFilter(type="CORS"),), backend_refs=BACKENDS)
DRY_RUN = {"AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY": "true"}
ENROLLED = pod("app", "shop", labels={"istio.io/dataplane-mode": "ambient"})
LARGE = {"pods": (istiod(), ZTUNNEL, *(ENROLLED,) * 40_000)}
CPU = "sidecar.istio.io/proxyCPU"
PORT = "prometheus.io/port"
INTERFACES = "traffic.sidecar.istio.io/excludeInterfaces"

OWNER = Owner(kind="Deployment", name="web", controller=True)
BARE = pod("web-1", containers=[running("app")], owner=OWNER)
INJECTED = sidecar("web-2", owner=OWNER)

# rule: from, to, a mesh that it affects, the object that the finding names
AFFECTED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "inference-pool-alpha": (
        *("1.27.0", "1.28.0"),
        {"definitions": (definition("inferencepools.inference.networking.x-k8s.io", "v1alpha2"),)},
        "CustomResourceDefinition inferencepools.inference.networking.x-k8s.io",
    ),
    "metric-rotation": (
        *("1.27.0", "1.28.0"),
        {"settings": (settings(variables={"METRIC_ROTATION_INTERVAL": ""}),)},
        ISTIOD,
    ),
    "metric-rotation-of-proxies": (
        *("1.27.0", "1.28.0"),
        {"settings": (settings(proxy_metadata={"METRIC_ROTATION_INTERVAL": ""}),)},
        ISTIOD,
    ),
    "passthrough-entries": (
        *("1.27.0", "1.28.0"),
        {**AMBIENT, "service_entries": (entry("a.example", resolution="NONE"),)},
        "ServiceEntry shop/web",
    ),
    "shadow-suffix": (
        *("1.27.0", "1.28.0"),
        {
            "virtual_services": (
                VirtualService(
                    metadata=at(), spec=VirtualServiceSpec(http=(HttpRoute(mirror=Mirrored()),))
                ),
            )
        },
        "VirtualService shop/web",
    ),
    "gateway-spans": ("1.27.0", "1.28.0", {"settings": (settings(tracers=("zipkin",)),)}, ISTIOD),
    "profile-1-24": ("1.27.0", "1.28.0", {"settings": (settings(compatibility="1.24"),)}, ISTIOD),
    "debug-endpoints": (
        *("1.28.2", "1.29.1"),
        {"pods": (istiod(), pod("kiali-1", "observe", labels={"app": "kiali"}))},
        "Pod observe/kiali-1",
    ),
    "stats-compression": (
        *("1.28.2", "1.29.1"),
        {"workloads": (workload(annotations=("sidecar.istio.io/statsCompression",)),)},
        "Deployment shop/web",
    ),
    "remaining-metrics": (
        *("1.28.2", "1.29.1"),
        destination_rule(TrafficPolicy(connection_pool=Present())),
        "DestinationRule shop/web",
    ),
    "ambient-reconcile": ("1.28.2", "1.29.1", AMBIENT, "Pod istio-system/ztunnel-1"),
    "dry-run-policies": (
        *("1.28.2", "1.29.1"),
        {**OLD_ZTUNNEL, "settings": (settings(variables=DRY_RUN),)},
        "Pod istio-system/ztunnel-1",
    ),
    "cors": ("1.28.2", "1.29.1", route(CORS), "HTTPRoute shop/web"),
    "tls-defaults": (
        *("1.28.2", "1.29.1"),
        {"settings": (settings(mesh=("tlsDefaults.minProtocolVersion",)),)},
        ISTIOD,
    ),
    "retry-budget-percent": (
        *("1.29.1", "1.29.2"),
        destination_rule(TrafficPolicy(retry_budget=RetryBudget())),
        "DestinationRule shop/web",
    ),
    "retry-budget-subsets": (
        *("1.29.1", "1.29.2"),
        destination_rule(
            TrafficPolicy(retry_budget=RetryBudget(percent=10)),
            Subset(name="v1", traffic_policy=TrafficPolicy()),
        ),
        "DestinationRule shop/web",
    ),
    "policy-metacharacters": (
        *("1.29.1", "1.29.2"),
        policy(principals=("*/ns/a.b/sa/web",)),
        "AuthorizationPolicy shop/web",
    ),
    "nftables": ("1.30.4", "1.31.0", {"settings": (settings(native_nftables=True),)}, ISTIOD),
    "experimental-listener-sets": (
        *("1.29.1", "1.30.0"),
        {
            "settings": (settings(variables=ALPHA),),
            "definitions": (definition("xlistenersets.gateway.networking.x-k8s.io", "v1alpha1"),),
        },
        "CustomResourceDefinition xlistenersets.gateway.networking.x-k8s.io",
    ),
    "tls-listeners": ("1.29.1", "1.30.0", tls_gateway(), "Gateway shop/web"),
    "excluded-ambient-namespaces": ("1.29.1", "1.30.0", EXCLUDED, "Namespace shop"),
    "best-service-namespace": (
        *("1.29.1", "1.30.0"),
        {"service_entries": (entry("a.example"), entry("a.example", where="other"))},
        "ServiceEntry shop/web",
    ),
    "routes-without-backends-404": ("1.29.1", "1.30.0", route(RouteRule()), "HTTPRoute shop/web"),
    "interface-names": (
        *("1.29.1", "1.30.0"),
        template(**{INTERFACES: "eth0, bad;name"}),
        "Deployment shop/web",
    ),
    "external-sds": ("1.29.1", "1.30.1", istio_gateway("sds://web"), "Gateway shop/web"),
    "default-export-to": (
        *("1.29.1", "1.30.3"),
        {"settings": (settings(mesh=("defaultServiceExportTo",)),)},
        ISTIOD,
    ),
    "untaint-variable": (
        *("1.29.1", "1.30.0"),
        {"settings": (settings(variables={"PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS": "true"}),)},
        ISTIOD,
    ),
    "prometheus-port": ("1.30.4", "1.31.0", template(**{PORT: "metrics"}), "Deployment shop/web"),
    "strict-gateway-merging": (
        *("1.30.4", "1.31.0"),
        {"pods": (istiod(), MANAGED), **istio_gateway(app="gw")},
        "Gateway shop/web",
    ),
    "unready-endpoints": (
        *("1.30.4", "1.31.0"),
        destination_rule(TrafficPolicy(outlier_detection=OutlierDetection())),
        "DestinationRule shop/web",
    ),
    "no-spawn-upstream-span": (
        *("1.30.4", "1.31.0"),
        {"settings": (settings(variables={"PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY": "false"}),)},
        ISTIOD,
    ),
    "routes-without-backends-500": ("1.30.4", "1.31.0", route(RouteRule()), "HTTPRoute shop/web"),
    "subset-tls-mode": (
        *("1.30.4", "1.31.0"),
        destination_rule(
            TrafficPolicy(tls=ClientTls(mode="SIMPLE")),
            Subset(name="v1", traffic_policy=TrafficPolicy()),
        ),
        "DestinationRule shop/web",
    ),
    "auto-registered-entries": (
        *("1.30.2", "1.30.3"),
        {"workload_entries": (WorkloadEntry(metadata=at()),)},
        "WorkloadEntry shop/web",
    ),
    "gateway-service-accounts": (
        *("1.27.1", "1.28.0"),
        {**gateway_pods("default"), "api_gateways": (api_gateway(),)},
        "Pod shop/web-1",
    ),
    "resource-annotations": ("1.28.2", "1.29.1", template(**{CPU: "a lot"}), "Deployment shop/web"),
    "link-local-jwks": (
        *("1.30.3", "1.30.4"),
        jwks("http://169.254.169.254/keys"),
        "RequestAuthentication shop/web",
    ),
    "proxy-version-length": (
        *("1.30.3", "1.30.4"),
        {"envoy_filters": (patched(patch("1" * 1025)),)},
        "EnvoyFilter shop/lua",
    ),
    "backend-tls-fails-closed": (
        *("1.30.3", "1.30.4"),
        {"backend_tls_policies": (backend_tls(status="False"),)},
        "BackendTLSPolicy shop/web",
    ),
    "backend-tls-conflicts": (
        *("1.29.1", "1.30.0"),
        {"backend_tls_policies": (backend_tls(), backend_tls("other"))},
        "BackendTLSPolicy shop/other",
    ),
    "large-ambient-mesh": ("1.30.3", "1.30.4", LARGE, "Pod istio-system/ztunnel-1"),
    "backend-tls-precedence": (
        *("1.30.4", "1.31.0"),
        {"backend_tls_policies": (backend_tls(),), **tls_rule("web")},
        "BackendTLSPolicy shop/web",
    ),
    "tcp-listeners": (
        *("1.30.4", "1.31.0"),
        {**tls_gateway("TCP"), "tcp_routes": (attached(),)},
        "TCPRoute shop/web",
    ),
    "network-failover": ("1.30.4", "1.31.0", {"settings": (settings(networks=True),)}, ISTIOD),
    "image-signing-key": (
        *("1.31.0", "1.31.1"),
        webhook("policy.sigstore.dev"),
        "ValidatingWebhookConfiguration policy.sigstore.dev",
    ),
}

# unusual but unaffected meshes: rule, from, to, mesh
UNAFFECTED: list[tuple[str, str, str, dict[str, Any]]] = [
    *(
        ("gateway-service-accounts", "1.27.1", "1.28.0", {**gateway_pods(account), **gateway})
        for account, gateway in (
            ("web-istio", {"api_gateways": (api_gateway(),)}),
            ("own", {"api_gateways": (api_gateway("own"),)}),
            # istiod does not deploy it
            (
                "own",
                {"api_gateways": (api_gateway(addresses=(GatewayAddress("Hostname", "web"),)),)},
            ),
            # it serves no certificate
            (
                "own",
                {
                    "api_gateways": (
                        api_gateway(listeners=(Listener(name="a", port=80, protocol="HTTP"),)),
                    )
                },
            ),
        )
    ),
    *(
        ("resource-annotations", "1.28.2", "1.29.1", template(**{CPU: quantity}))
        for quantity in ("100m", "1.5", "128Mi", "2e3", "0")
    ),
    *(
        ("link-local-jwks", "1.30.3", "1.30.4", jwks(uri))
        for uri in ("https://10.0.0.1/keys", "https://issuer.example/keys", "http://localhost/", "")
    ),
    # 1.31.0 does not have the change of 1.30.4
    ("link-local-jwks", "1.30.4", "1.31.0", jwks("http://169.254.169.254/keys")),
    (
        *("proxy-version-length", "1.30.3", "1.30.4"),
        {"envoy_filters": (patched(patch("1" * 1024), patch()),)},
    ),
    (
        *("backend-tls-fails-closed", "1.30.3", "1.30.4"),
        {"backend_tls_policies": (backend_tls(),)},
    ),
    (
        *("backend-tls-conflicts", "1.29.1", "1.30.0"),
        {"backend_tls_policies": (backend_tls(), backend_tls("other", section="https"))},
    ),
    (
        *("backend-tls-precedence", "1.30.4", "1.31.0"),
        {"backend_tls_policies": (backend_tls(),), **tls_rule("other")},
    ),
    (
        *("backend-tls-precedence", "1.30.4", "1.31.0"),
        {
            "backend_tls_policies": (backend_tls(kind="ServiceEntry"),),
            "service_entries": (entry("a.example"),),
            **tls_rule("b.example"),
        },
    ),
    (
        *("tcp-listeners", "1.30.4", "1.31.0"),
        {
            **tls_gateway("TCP"),
            "tcp_routes": (attached(),),
            "settings": (settings(variables=ALPHA),),
        },
    ),
    # another controller's Gateway, and what is attached to it
    ("tls-listeners", "1.29.1", "1.30.0", of_another_controller()),
    (
        *("tcp-listeners", "1.30.4", "1.31.0"),
        {
            **of_another_controller(),
            **listener_set("web"),
            "tcp_routes": (attached(), attached(parent="more", kind="ListenerSet")),
        },
    ),
    *(
        (rule, before, after, {**route(rules_of), **of_another_controller()})
        for rule, before, after, rules_of in (
            ("cors", "1.28.2", "1.29.1", CORS),
            ("routes-without-backends-404", "1.29.1", "1.30.0", RouteRule()),
            ("routes-without-backends-500", "1.30.4", "1.31.0", RouteRule()),
        )
    ),
    ("cors", "1.28.2", "1.29.1", route(CORS, parent="elsewhere")),
    (
        *("gateway-service-accounts", "1.27.1", "1.28.0"),
        {
            **gateway_pods("own"),
            **of_another_controller(),
        },
    ),
    ("large-ambient-mesh", "1.30.3", "1.30.4", AMBIENT),
    ("network-failover", "1.30.4", "1.31.0", {"settings": (settings(),)}),
    ("image-signing-key", "1.31.0", "1.31.1", webhook("cert-manager-webhook")),
    ("inference-pool-alpha", "1.27.0", "1.28.0", {"definitions": (definition("x", "v1"),)}),
    ("passthrough-entries", "1.27.0", "1.28.0", {"service_entries": (entry(resolution="NONE"),)}),
    (
        *("debug-endpoints", "1.28.2", "1.29.1"),
        {"pods": (istiod(), pod("kiali-1", "istio-system", labels={"app": "kiali"}))},
    ),
    (
        *("ambient-reconcile", "1.28.2", "1.29.1"),
        {
            **AMBIENT,
            "settings": (settings(cni={"AMBIENT_RECONCILE_POD_RULES_ON_STARTUP": "true"}),),
        },
    ),
    ("dry-run-policies", "1.28.2", "1.29.1", OLD_ZTUNNEL),
    ("cors", "1.28.2", "1.29.1", route(RouteRule(backend_refs=BACKENDS))),
    (
        *("retry-budget-percent", "1.29.1", "1.29.2"),
        destination_rule(TrafficPolicy(retry_budget=RetryBudget(percent=20))),
    ),
    ("policy-metacharacters", "1.29.1", "1.29.2", policy(principals=("cluster.local/ns/a/sa/b",))),
    ("policy-metacharacters", "1.29.1", "1.29.2", policy(principals=("*/ns/a/sa/b",))),
    (
        *("experimental-listener-sets", "1.29.1", "1.30.0"),
        {"definitions": (definition("xlistenersets.gateway.networking.x-k8s.io", "v1alpha1"),)},
    ),
    ("tls-listeners", "1.29.1", "1.30.0", tls_gateway("HTTPS")),
    (
        *("tls-listeners", "1.29.1", "1.30.0"),
        {**tls_gateway(), "settings": (settings(variables=ALPHA),)},
    ),
    (
        *("excluded-ambient-namespaces", "1.29.1", "1.30.0"),
        {**EXCLUDED, "namespaces": (namespace("shop"),)},
    ),
    (
        *("best-service-namespace", "1.29.1", "1.30.0"),
        {"service_entries": (entry("a.example"), entry("b.example", where="other"))},
    ),
    (
        *("routes-without-backends-404", "1.29.1", "1.30.0"),
        route(RouteRule(filters=(RouteFilter(type="RequestRedirect"),))),
    ),
    ("interface-names", "1.29.1", "1.30.0", template(**{INTERFACES: "eth0, eth1.100"})),
    *(
        ("prometheus-port", "1.30.4", "1.31.0", template(**{PORT: port, **more}))
        for port, more in (
            ("9090", {}),
            ("15020", {}),
            ("15090", {"prometheus.io/scrape": "false"}),
            ("metrics", {"prometheus.istio.io/merge-metrics": "false"}),
        )
    ),
    # the injector does not read what it does not inject, or merges no metrics
    *(
        (rule, before, after, {**template(**{name: "bad value"}), "pods": (istiod(), BARE)})
        for rule, before, after, name in (
            ("prometheus-port", "1.30.4", "1.31.0", PORT),
            ("interface-names", "1.29.1", "1.30.0", INTERFACES),
            ("resource-annotations", "1.28.3", "1.28.4", CPU),
        )
    ),
    (
        *("prometheus-port", "1.30.4", "1.31.0"),
        {**template(**{PORT: "metrics"}), "settings": (settings(mesh=(NO_PROMETHEUS_MERGE,)),)},
    ),
    (
        *("strict-gateway-merging", "1.30.4", "1.31.0"),
        {"pods": (istiod(), MANAGED), **istio_gateway(where="edge", app="gw")},
    ),
    (
        *("unready-endpoints", "1.30.4", "1.31.0"),
        destination_rule(TrafficPolicy(outlier_detection=OutlierDetection(min_health_percent=0))),
    ),
    (
        *("subset-tls-mode", "1.30.4", "1.31.0"),
        destination_rule(TrafficPolicy(tls=ClientTls(mode="SIMPLE")), Subset(name="v1")),
    ),
    (
        *("auto-registered-entries", "1.30.2", "1.30.3"),
        {
            "workload_entries": (
                WorkloadEntry(metadata=at(**{"networking.istio.io/tunnel": "http"})),
            )
        },
    ),
]


@pytest.mark.parametrize(
    ("rule", "affected"),
    [
        # at a ListenerSet of Istio's Gateway, or in the mesh without a Gateway
        (
            "routes-without-backends-500",
            {
                **route(),
                **listener_set("web"),
                "http_routes": (attached(RouteRule(), parent="more", kind="ListenerSet"),),
            },
        ),
        (
            "routes-without-backends-500",
            {"http_routes": (attached(RouteRule(), kind="Service"),)},
        ),
        # one pod of the workload is injected
        ("prometheus-port", {**template(**{PORT: "metrics"}), "pods": (istiod(), BARE, INJECTED)}),
        # a pod's own annotation comes before the mesh config
        (
            "prometheus-port",
            {
                **template(**{PORT: "metrics", "prometheus.istio.io/merge-metrics": "true"}),
                "settings": (settings(mesh=(NO_PROMETHEUS_MERGE,)),),
            },
        ),
        (
            "unready-endpoints",
            destination_rule(
                TrafficPolicy(
                    port_level_settings=(PortTraffic(outlier_detection=OutlierDetection()),)
                )
            ),
        ),
    ],
)
def test_what_also_affects_a_mesh(rule: str, affected: dict[str, Any]) -> None:
    assert found(upgraded("1.30.4", "1.31.0", **affected), rule)


def found(seen: Mesh, rule: str) -> list[Finding]:
    """The findings of one rule."""
    return [each for each in [*seen.changes.removed, *seen.changes.turned] if each.problem == rule]


def test_every_rule_has_a_detection_and_a_case() -> None:
    assert {rule.look for rule in rules().values()} == DETECTIONS.keys()
    assert rules().keys() == AFFECTED.keys()


@pytest.mark.parametrize("rule", AFFECTED)
def test_an_affected_object_is_named(rule: str) -> None:
    start, target, affected, subject = AFFECTED[rule]

    assert subject in {each.subject for each in found(upgraded(start, target, **affected), rule)}


@pytest.mark.parametrize("rule", AFFECTED)
def test_a_change_that_already_happened_is_no_finding(rule: str) -> None:
    _, target, affected, _ = AFFECTED[rule]
    affected = {item: seen for item, seen in affected.items() if item != "istiod"}

    assert found(upgraded(target, target, **affected), rule) == []


@pytest.mark.parametrize(("rule", "start", "target", "unaffected"), UNAFFECTED)
def test_an_unusual_mesh_that_is_not_affected_is_no_finding(
    rule: str, start: str, target: str, unaffected: dict[str, Any]
) -> None:
    assert found(upgraded(start, target, **unaffected), rule) == []


@pytest.mark.parametrize("rule", [name for name, each in rules().items() if each.unless])
def test_an_istiod_that_opted_out_by_a_variable_is_no_finding(rule: str) -> None:
    start, target, affected, _ = AFFECTED[rule]
    (chosen, *_) = rules()[rule].unless
    (before,) = affected.get("settings", (settings(),))
    after = settings(variables={chosen: "false"}, tracers=before.tracers)

    assert found(upgraded(start, target, **{**affected, "settings": (after,)}), rule) == []


@pytest.mark.parametrize("rule", [name for name, each in rules().items() if each.profile])
def test_compatibility_version_keeps_the_old_behavior(rule: str) -> None:
    start, target, affected, _ = AFFECTED[rule]
    (before,) = affected.get("settings", (settings(),))

    def seen(compatibility: str) -> list[Finding]:
        after = settings(compatibility=compatibility, tracers=before.tracers)
        return found(upgraded(start, target, **{**affected, "settings": (after,)}), rule)

    assert seen(rules()[rule].profile) == []
    assert seen("1.31") != []


@pytest.mark.parametrize(
    "uri",
    [
        "http://user@169.254.1.1:8080/keys",
        "https://[fe80::1]/keys",
        "https://[fd00:ec2::254]/keys",
        "http://100.100.100.200",
        "http://metadata.google.internal/keys",
    ],
)
def test_every_form_of_a_link_local_jwks_uri_is_found(uri: str) -> None:
    assert len(found(upgraded("1.30.3", "1.30.4", **jwks(uri)), "link-local-jwks")) == 1


def test_a_backend_tls_policy_for_a_service_entry_is_compared_by_its_hosts() -> None:
    affected = {
        "backend_tls_policies": (backend_tls(kind="ServiceEntry"),),
        "service_entries": (entry("a.example"),),
        **tls_rule("*.example"),
    }
    (seen,) = found(upgraded("1.30.4", "1.31.0", **affected), "backend-tls-precedence")

    assert seen.about == (("host", "a.example"), ("rule", "DestinationRule shop/web"))


def test_one_istiod_that_opted_out_does_not_excuse_another() -> None:
    start, target, affected, _ = AFFECTED["gateway-spans"]
    (before,) = affected["settings"]
    opted_out = settings(
        tracers=before.tracers, variables={"PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY": "false"}
    )

    assert len(found(upgraded(start, target, settings=(before, opted_out)), "gateway-spans")) == 1


@pytest.mark.parametrize("target", ["1.27.4", "1.32.0", "1.99"])
def test_an_unknown_release_is_unknown(target: str) -> None:
    with pytest.raises(CouldNotVerify, match="this meshgate does not know Istio"):
        upgraded("1.27.0", target).changes.removed  # noqa: B018


def test_a_target_without_a_patch_has_what_any_of_its_patches_has() -> None:
    _, _, affected, _ = AFFECTED["default-export-to"]

    assert len(found(upgraded("1.29.1", "1.30", **affected), "default-export-to")) == 1


def test_an_unaffected_mesh_has_no_findings() -> None:
    seen = upgraded("1.28.2", "1.29.1")

    assert (seen.changes.removed, seen.changes.turned) == ([], [])


@pytest.mark.parametrize(
    ("version", "holds"),
    [
        ("1.26.9", False),
        ("1.27.5", False),
        ("1.27.6", True),
        ("1.28.2", False),
        ("1.28.4", True),
        ("1.29.0-rc.0", True),
        ("1.30.0", True),
        ("1.31.0", False),
    ],
)
def test_a_backport_counts_for_its_own_minor(version: str, holds: bool) -> None:
    rule = Rule(since=("1.27.6", "1.28.4", "1.29.0"), until="1.31.0", what="", look="", do="")
    parsed = Version.parse(version)
    assert parsed is not None

    assert rule.holds(parsed) is holds


@pytest.mark.parametrize("name", rules())
def test_a_remedy_is_one_sentence_without_a_period(name: str) -> None:
    rule = rules()[name]

    assert rule.do[0].islower()
    assert not rule.do.endswith(".")
    assert all(Version.parse(each) for each in rule.since)


def test_one_of_several_credentials_of_a_server_counts() -> None:
    server = Server(tls=ServerTls(credential_names=("rsa", "sds://ecdsa")))
    gateway = Gateway(metadata=at(), spec=IstioGatewaySpec(servers=(server,)))

    (finding,) = found(upgraded("1.29.1", "1.30.1", gateways=(gateway,)), "external-sds")

    assert "uses the credentialName sds://ecdsa" in finding.seen
