"""Messages of analyze that other evidence disproves, and those that it does not disprove."""

from typing import Any

import pytest

from meshgate.snapshot.injector import DefaultExports, InjectorConfig
from meshgate.snapshot.istio import (
    ConfigPatch,
    Destination,
    DestinationRule,
    DestinationRuleSpec,
    EnvoyFilter,
    EnvoyFilterSpec,
    Gateway,
    GatewaySpec,
    HttpRoute,
    Mirrored,
    MirrorPolicy,
    Patch,
    PeerSelector,
    Port,
    PortSelector,
    RouteDestination,
    Server,
    ServerTls,
    ServiceEntry,
    ServiceEntrySpec,
    Subset,
    TargetRef,
    TlsRoute,
    VirtualService,
    VirtualServiceSpec,
    WorkloadEntry,
    WorkloadEntrySpec,
    WorkloadSelector,
)
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from meshgate.snapshot.kubernetes import (
    Annotations,
    LabelSelector,
    Metadata,
    Namespace,
    Service,
    ServicePort,
    ServiceSpec,
)
from meshgate.snapshot.mcs import ServiceImport, ServiceImportSpec
from meshgate.snapshot.mesh_config import EffectiveConfig, MeshConfig
from meshgate.snapshot.request_authentication import (
    RequestAuthentication,
    RequestAuthenticationSpec,
)
from meshgate.snapshot.telemetry import Telemetry, TelemetrySpec
from tests.support.builders import istiod, mesh, message, pod

NO_PODS = message(
    "IST0173",
    text="The Subset canary defined in the DestinationRule does not select any pods, which may "
    "lead to 503 UH (NoHealthyUpstream).",
    origin="DestinationRule shop/web",
)


def judged(said: AnalysisMessage, **changes: Any) -> tuple[int, int]:
    """How many errors and how many warnings one message is."""
    facts = mesh(analysis=Analysis(istioctl_version="1.29.1", messages=(said,)), **changes).analysis
    return len(facts.errors), len(facts.warnings)


def virtual_service(
    *routes: HttpRoute, name: str = "web", gateways: tuple[str, ...] = ()
) -> VirtualService:
    """A VirtualService of shop."""
    return VirtualService(
        metadata=Metadata(name=name, namespace="shop"),
        spec=VirtualServiceSpec(hosts=("web",), gateways=gateways, http=routes),
    )


def split(host: str = "web", mirror: Mirrored | None = None, **weights: int) -> HttpRoute:
    """A route with a weight for each subset."""
    return HttpRoute(
        route=tuple(
            RouteDestination(Destination(host=host, subset=subset), weight)
            for subset, weight in weights.items()
        ),
        mirror=mirror,
    )


RULE = DestinationRule(
    metadata=Metadata(name="web", namespace="shop"), spec=DestinationRuleSpec(host="web")
)
FULL = "web.shop.svc.cluster.local"
CANARY = Mirrored(host="web", subset="canary")
STABLE = Mirrored(host="web", subset="stable")


@pytest.mark.parametrize(
    ("routes", "verdict"),
    [
        pytest.param((split(stable=100, canary=0),), (0, 1), id="no traffic"),
        pytest.param((split(FULL, stable=100, canary=0),), (0, 1), id="full name"),
        pytest.param((split(stable=50, canary=50),), (1, 0), id="half of it"),
        pytest.param((split(canary=0),), (1, 0), id="alone: all of it"),
        pytest.param(
            (split(stable=100, canary=0), split(stable=99, canary=1)), (1, 0), id="another route"
        ),
        pytest.param((split(stable=100),), (0, 1), id="no route to it"),
        pytest.param((split("api", stable=100, canary=100),), (0, 1), id="another host"),
        pytest.param((), (0, 1), id="no VirtualService"),
        pytest.param(
            (split(stable=100, mirror=CANARY),),
            (1, 0),
            id="mirrored",
        ),
        pytest.param(
            (split("api", stable=100, mirror=Mirrored(host=FULL, subset="canary")),),
            (1, 0),
            id="mirrored by a route of another host",
        ),
        pytest.param(
            (HttpRoute(mirrors=(MirrorPolicy(destination=CANARY),)),),
            (1, 0),
            id="mirrored twice",
        ),
        pytest.param(
            (split(stable=100, mirror=STABLE),),
            (0, 1),
            id="another mirror",
        ),
        pytest.param((split(stable=100, mirror=Mirrored()),), (1, 0), id="mirror of an old record"),
    ],
)
def test_a_subset_without_pods_needs_none_without_traffic(
    routes: tuple[HttpRoute, ...], verdict: tuple[int, int]
) -> None:
    seen = {"virtual_services": (virtual_service(*routes),), "destination_rules": (RULE,)}

    assert judged(NO_PODS, **seen) == verdict


@pytest.mark.parametrize(
    ("names", "verdict"), [("shop/web,shop/web", (0, 1)), ("shop/web,shop/old", (1, 0))]
)
def test_a_virtual_service_does_not_conflict_with_itself(
    names: str, verdict: tuple[int, int]
) -> None:
    conflict = message(
        "IST0109",
        text=f"The VirtualServices {names} associated with mesh gateway define the same host * "
        "which can lead to undefined behavior.",
    )

    assert judged(conflict) == verdict


@pytest.mark.parametrize(
    ("reference", "verdict"),
    [
        ("oldstyle.istio-ingress.svc.cluster.local", (0, 1)),
        ("oldstyle.istio-ingress", (0, 1)),
        ("missing.istio-ingress.svc.cluster.local", (1, 0)),
        ("istio-ingress/oldstyle", (1, 0)),
    ],
)
def test_a_gateway_may_have_its_legacy_name(reference: str, verdict: tuple[int, int]) -> None:
    gateway = Gateway(metadata=Metadata(name="oldstyle", namespace="istio-ingress"))
    missing = message("IST0101", text=f'Referenced gateway not found: "{reference}"')

    assert judged(missing, gateways=(gateway,)) == verdict


FRONT = Gateway(
    metadata=Metadata(name="front", namespace="istio-ingress"),
    spec=GatewaySpec(selector={"istio": "front"}),
)


@pytest.mark.parametrize(
    ("gateways", "export_to", "pods", "verdict"),
    [
        (("istio-ingress/front",), ("istio-ingress",), "istio-ingress", (0, 1)),
        (("istio-ingress/front",), (".",), "istio-ingress", (0, 1)),
        (("front.istio-ingress",), (".",), "istio-ingress", (0, 1)),
        (("istio-ingress/front", "mesh"), ("istio-ingress",), "istio-ingress", (1, 0)),
        ((), ("istio-ingress",), "istio-ingress", (1, 0)),
        (("istio-ingress/front",), ("payments",), "istio-ingress", (1, 0)),
        (("front",), ("istio-ingress",), "istio-ingress", (1, 0)),
        # where the pods are counts, and not where the Gateway is
        (("istio-ingress/front",), ("istio-ingress",), "edge", (1, 0)),
        (("istio-ingress/front",), ("edge",), "edge", (0, 1)),
        (("istio-ingress/front",), ("istio-ingress",), "", (1, 0)),
    ],
)
def test_a_host_need_only_be_exported_to_the_gateways(
    gateways: tuple[str, ...], export_to: tuple[str, ...], pods: str, verdict: tuple[int, int]
) -> None:
    entry = ServiceEntry(
        metadata=Metadata(name="api", namespace="istio-ingress"),
        spec=ServiceEntrySpec(hosts=("api.example.com",), export_to=export_to),
    )
    missing = message("IST0101", text='Referenced host not found: "api.example.com"')
    seen = {
        "virtual_services": (virtual_service(gateways=gateways),),
        "service_entries": (entry,),
        "gateways": (FRONT,),
        "pods": (pod("front-1", pods, labels={"istio": "front"}),) if pods else (),
    }

    assert judged(missing, **seen) == verdict


def of(name: str, *hosts: str, namespace: str = "shop", **spec: Any) -> VirtualService:
    """A VirtualService with a route."""
    given = {"http": (split(stable=100),), **spec}
    return VirtualService(
        metadata=Metadata(name=name, namespace=namespace),
        spec=VirtualServiceSpec(hosts=hosts, **given),
    )


TLS: dict[str, Any] = {"http": (), "tls": (TlsRoute(),)}


@pytest.mark.parametrize(
    ("other", "default", "verdict"),
    [
        pytest.param(of("old", "web"), (), (1, 0), id="same host"),
        pytest.param(of("old", FULL, namespace="other"), (), (1, 0), id="full name"),
        pytest.param(of("old", "*.example.com"), (), (0, 1), id="a wildcard beside a name"),
        pytest.param(of("old", "web", **TLS), (), (0, 1), id="TLS beside HTTP"),
        pytest.param(of("old", "web", gateways=("front",)), (), (0, 1), id="of a gateway"),
        pytest.param(of("old", FULL, namespace="other"), (".",), (0, 1), id="private by default"),
        pytest.param(
            of("old", FULL, namespace="other", export_to=("~",)), (), (0, 1), id="exported nowhere"
        ),
    ],
)
def test_virtual_services_conflict_if_they_route_the_same(
    other: VirtualService, default: tuple[str, ...], verdict: tuple[int, int]
) -> None:
    names = f"shop/web,{other.metadata.namespace}/old"
    conflict = message(
        "IST0109",
        text=f"The VirtualServices {names} associated with mesh gateway define the same host */web "
        "which can lead to undefined behavior.",
    )
    exports = DefaultExports(virtual_services=default)
    seen = {
        "virtual_services": (of("web", "web", "a.example.com"), other),
        "injector_configs": (InjectorConfig(revision="default", default_exports=exports),),
    }

    assert judged(conflict, **seen) == verdict
    # a VirtualService that is not known may conflict
    assert judged(conflict, **{**seen, "virtual_services": (of("web", "web"),)}) == (1, 0)


@pytest.mark.parametrize(
    ("host", "domain", "verdict"),
    [
        ("web.shop.svc.corp.example", "corp.example", (0, 1)),
        ("missing.shop.svc.corp.example", "corp.example", (1, 0)),
        ("web.shop.svc.cluster.local", "corp.example", (1, 0)),
        ("web.shop.svc.cluster.local", "cluster.local", (1, 0)),
    ],
)
@pytest.mark.parametrize("kind", ["host", "mirror host"])
def test_services_of_another_cluster_domain_exist(
    host: str, domain: str, verdict: tuple[int, int], kind: str
) -> None:
    missing = message("IST0101", text=f'Referenced {kind} not found: "{host}"')
    seen = {
        "services": (Service(metadata=Metadata(name="web", namespace="shop")),),
        "injector_configs": (InjectorConfig(revision="default", cluster_domain=domain),),
    }

    assert judged(missing, **seen) == verdict


IMPORTED = "web.shop.svc.clusterset.local"


def service(*ports: int, name: str = "web", export_to: str | None = None) -> Service:
    """A Service of shop."""
    return Service(
        metadata=Metadata(
            name=name, namespace="shop", annotations=Annotations(export_to=export_to)
        ),
        spec=ServiceSpec(ports=tuple(ServicePort(port=each) for each in ports)),
    )


def imported(*ips: str, namespace: str = "shop", version: str = "v1alpha1") -> ServiceImport:
    return ServiceImport(
        metadata=Metadata(name="web", namespace=namespace),
        api_version=f"multicluster.x-k8s.io/{version}",
        spec=ServiceImportSpec(ips=ips),
    )


def to_imported(port: int | None = None) -> dict[str, Any]:
    """A VirtualService that routes to the imported host."""
    selected = PortSelector(number=port) if port else None
    destination = Destination(host=IMPORTED, port=selected)
    route = HttpRoute(route=(RouteDestination(destination, 100),))
    return {"virtual_services": (virtual_service(route),)}


IMPORT = {
    "injector_configs": (InjectorConfig(revision="default", mcs_hosts=True),),
    "service_imports": (imported("10.8.0.1"),),
    "services": (service(80),),
    **to_imported(),
}
PRIVATE = InjectorConfig(
    revision="default", mcs_hosts=True, default_exports=DefaultExports(services=(".",))
)
SELECTIVE = InjectorConfig(
    revision="default", mcs_hosts=True, discovery=(LabelSelector(match_labels={"mesh": "a"}),)
)


@pytest.mark.parametrize("kind", ["host", "mirror host"])
def test_istiod_serves_the_hosts_of_service_imports(kind: str) -> None:
    missing = message("IST0101", text=f'Referenced {kind} not found: "{IMPORTED}"')

    assert judged(missing, **IMPORT) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        pytest.param({"service_imports": (imported("fd00::1"),)}, (0, 1), id="IPv6"),
        pytest.param({"services": (service(80, 81),), **to_imported(81)}, (0, 1), id="a port"),
        pytest.param({"services": (service(80, export_to="*"),)}, (0, 1), id="exported"),
        pytest.param({"service_imports": ()}, (1, 0), id="not imported"),
        pytest.param({"service_imports": (imported(),)}, (1, 0), id="headless"),
        pytest.param({"service_imports": (imported(""),)}, (1, 0), id="no address yet"),
        pytest.param(
            {"service_imports": (imported("10.8.0.1", namespace="other"),)}, (1, 0), id="elsewhere"
        ),
        pytest.param(
            {"service_imports": (imported("10.8.0.1", version="v1beta1"),)},
            (1, 0),
            id="at a version that istiod does not read",
        ),
        pytest.param({"services": (service(80, name="api"),)}, (1, 0), id="no Service"),
        pytest.param({"services": (service(80, export_to="."),)}, (1, 0), id="private"),
        pytest.param({"injector_configs": (PRIVATE,)}, (1, 0), id="private by default"),
        pytest.param(
            {
                "injector_configs": (SELECTIVE,),
                "namespaces": (Namespace(metadata=Metadata(name="shop")),),
            },
            (1, 0),
            id="not watched",
        ),
        pytest.param(to_imported(81), (1, 0), id="another port"),
        pytest.param({"services": (service(80, 81),)}, (1, 0), id="no port of several"),
        pytest.param({"virtual_services": ()}, (1, 0), id="unknown VirtualService"),
        pytest.param({"injector_configs": ()}, (1, 0), id="nothing known of istiod"),
        pytest.param(
            {"injector_configs": (InjectorConfig(revision="default"),)}, (1, 0), id="turned off"
        ),
        pytest.param(
            {"injector_configs": (*IMPORT["injector_configs"], InjectorConfig(revision="1-30"))},
            (1, 0),
            id="turned off in one revision",
        ),
        pytest.param(
            {"pods": (istiod(), istiod("istiod-canary", revision="1-30"))},
            (1, 0),
            id="nothing known of one revision",
        ),
    ],
)
def test_a_host_of_the_cluster_set_needs_evidence(
    changes: dict[str, Any], verdict: tuple[int, int]
) -> None:
    missing = message("IST0101", text=f'Referenced host not found: "{IMPORTED}"')

    assert judged(missing, **{**IMPORT, **changes}) == verdict


def test_only_the_names_of_imported_services_are_hosts_of_the_cluster_set() -> None:
    for host in ("api.shop.svc.clusterset.local", f"a.{IMPORTED}", "web.shop.clusterset.local"):
        missing = message("IST0101", text=f'Referenced host not found: "{host}"')

        assert judged(missing, **IMPORT) == (1, 0)


def destination_rule(
    host: str, *subsets: str, namespace: str = "istio-system", **spec: Any
) -> DestinationRule:
    return DestinationRule(
        metadata=Metadata(name="external", namespace=namespace),
        spec=DestinationRuleSpec(host=host, subsets=tuple(Subset(name=e) for e in subsets), **spec),
    )


API = "api.example.com"


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        pytest.param((destination_rule(API, "v1"),), (0, 1), id="in the root namespace"),
        pytest.param((destination_rule("*.example.com", "v1"),), (0, 1), id="a wildcard"),
        pytest.param((destination_rule(API, "v1", namespace="egress"),), (0, 1), id="of the entry"),
        pytest.param((destination_rule(API, "v2"),), (1, 0), id="another subset"),
        pytest.param((destination_rule(API, "v1", namespace="other"),), (1, 0), id="not used"),
        pytest.param((destination_rule(API, "v1", export_to=(".",)),), (1, 0), id="private"),
        pytest.param(
            (destination_rule(API, "v1"), destination_rule(API, namespace="shop")),
            (1, 0),
            id="hidden by a nearer one",
        ),
        pytest.param((), (1, 0), id="none"),
    ],
)
def test_a_subset_may_be_defined_in_another_namespace(
    rules: tuple[DestinationRule, ...], verdict: tuple[int, int]
) -> None:
    text = f'Referenced host+subset in destinationrule not found: "{API}+v1"'
    entry = ServiceEntry(
        metadata=Metadata(name="api", namespace="egress"), spec=ServiceEntrySpec(hosts=(API,))
    )

    seen = {"destination_rules": rules, "service_entries": (entry,)}
    assert judged(message("IST0101", text=text), **seen) == verdict


@pytest.mark.parametrize(
    ("kind", "verdict"), [("Sidecar", (0, 1)), ("Telemetry", (0, 1)), ("Gateway", (1, 0))]
)
def test_a_sidecar_without_pods_configures_none(kind: str, verdict: tuple[int, int]) -> None:
    missing = message(
        "IST0101", text='Referenced selector not found: "app=nightly"', origin=f"{kind} shop/web"
    )

    assert judged(missing) == verdict


@pytest.mark.parametrize(
    ("gateways", "hosts", "verdict"),
    [
        ((), ("web",), (0, 1)),
        (("mesh",), (FULL,), (0, 1)),
        (("mesh", "front"), ("web",), (1, 0)),
        (("front",), ("web",), (1, 0)),
        ((), ("web", "api"), (1, 0)),
        ((), ("api",), (1, 0)),
        ((), (), (1, 0)),
    ],
)
def test_sidecars_keep_the_port_of_their_client(
    gateways: tuple[str, ...], hosts: tuple[str, ...], verdict: tuple[int, int]
) -> None:
    text = (
        'This VirtualService routes to a service "web" that exposes multiple ports [80 9090]. '
        "Specifying a port in the destination is required to disambiguate."
    )

    service = of("web", *hosts, gateways=gateways)
    assert judged(message("IST0112", text=text), virtual_services=(service,)) == verdict


def front(name: str, protocol: str = "HTTP", tls: ServerTls | None = None) -> Gateway:
    """A Gateway on port 80, with another server that has TLS."""
    server = Server(port=Port(number=80, protocol=protocol, name="a"), hosts=("*",), tls=tls)
    port = Port(number=443, protocol="HTTPS", name="b")
    secure = Server(port=port, hosts=("*",), tls=ServerTls(mode="SIMPLE"))
    return Gateway(
        metadata=Metadata(name=name, namespace="shop"),
        spec=GatewaySpec(selector={"istio": "front"}, servers=(server, secure)),
    )


REDIRECT = ServerTls(https_redirect=True)


@pytest.mark.parametrize(
    ("port", "one", "other", "verdict"),
    [
        pytest.param(80, front("web"), front("b"), (0, 1), id="plaintext"),
        pytest.param(80, front("web"), front("b", "HTTP2"), (0, 1), id="HTTP/2"),
        pytest.param(
            80, front("web", tls=REDIRECT), front("b", tls=REDIRECT), (0, 1), id="redirects"
        ),
        pytest.param(80, front("web"), front("b", tls=REDIRECT), (1, 0), id="one redirects"),
        pytest.param(80, front("web"), front("b", "TCP"), (1, 0), id="TCP"),
        pytest.param(443, front("web"), front("b"), (1, 0), id="TLS"),
        pytest.param(80, front("web"), front("c"), (1, 0), id="unknown"),
    ],
)
def test_plaintext_servers_of_one_port_are_merged(
    port: int, one: Gateway, other: Gateway, verdict: tuple[int, int]
) -> None:
    conflict = message(
        "IST0145",
        text=f"Conflict with gateways shop/b (workload selector istio=front, port {port}, hosts "
        "*).",
        origin="Gateway shop/web",
    )

    assert judged(conflict, gateways=(one, other)) == verdict


@pytest.mark.parametrize(
    ("code", "operation", "places", "verdict"),
    [
        ("IST0153", "ADD", ("HTTP_ROUTE",), (0, 1)),
        ("IST0153", "ADD", ("HTTP_ROUTE", "CLUSTER"), (0, 1)),
        ("IST0153", "ADD", ("HTTP_ROUTE", "ROUTE_CONFIGURATION"), (1, 0)),
        ("IST0153", "ADD", (), (1, 0)),
        ("IST0154", "REMOVE", ("HTTP_ROUTE",), (0, 1)),
        ("IST0154", "REMOVE", ("ROUTE_CONFIGURATION",), (1, 0)),
        ("IST0152", "REPLACE", ("VIRTUAL_HOST", "HTTP_FILTER"), (0, 1)),
        ("IST0152", "REPLACE", ("LISTENER_FILTER",), (0, 1)),
        ("IST0152", "REPLACE", ("CLUSTER",), (1, 0)),
    ],
)
def test_operations_that_istiod_applies_are_right(
    code: str, operation: str, places: tuple[str, ...], verdict: tuple[int, int]
) -> None:
    text = {
        "ADD": "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or "
        "HTTP_ROUTE.",
        "REMOVE": "The REMOVE operation will be ignored when applyTo is set to "
        "ROUTE_CONFIGURATION, or HTTP_ROUTE.",
        "REPLACE": "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.",
    }[operation]
    patches = tuple(ConfigPatch(apply_to=e, patch=Patch(operation=operation)) for e in places)
    found = EnvoyFilter(
        metadata=Metadata(name="web", namespace="shop"),
        spec=EnvoyFilterSpec(
            config_patches=(
                *patches,
                ConfigPatch(apply_to="ROUTE_CONFIGURATION", patch=Patch(operation="MERGE")),
            )
        ),
    )

    said = message(code, text=text, origin="EnvoyFilter shop/web")
    assert judged(said, envoy_filters=(found,)) == verdict


TARGET = (TargetRef(kind="Gateway", name="waypoint"),)


@pytest.mark.parametrize(
    ("specs", "verdict"),
    [
        (({}, {"target_refs": TARGET}), (0, 1)),
        (({"target_refs": TARGET}, {"target_ref": TARGET[0]}), (0, 1)),
        (({}, {}), (1, 0)),
        (({}, {}, {"target_refs": TARGET}), (1, 0)),
    ],
)
def test_telemetries_with_targets_are_not_for_the_whole_namespace(
    specs: tuple[dict[str, Any], ...], verdict: tuple[int, int]
) -> None:
    text = (
        'The Telemetries [a b] in namespace "shop" have no workload selector, which can lead to '
        "undefined behavior."
    )
    found = tuple(
        Telemetry(
            metadata=Metadata(name=f"t{number}", namespace="shop"), spec=TelemetrySpec(**spec)
        )
        for number, spec in enumerate(specs)
    )

    said = message("IST0160", text=text, origin="Telemetry shop/t0")
    assert judged(said, telemetries=found) == verdict


@pytest.mark.parametrize(
    ("annotation", "verdict"),
    [
        ("istio-ingress", (0, 1)),
        ("payments,istio-ingress", (0, 1)),
        (".", (1, 0)),
        ("payments", (1, 0)),
        (None, (1, 0)),
    ],
)
def test_a_service_need_only_be_exported_to_the_gateways(
    annotation: str | None, verdict: tuple[int, int]
) -> None:
    metadata = Metadata(name="api", namespace="shop", annotations=Annotations(export_to=annotation))
    seen = {
        "virtual_services": (virtual_service(gateways=("istio-ingress/front",)),),
        "services": (Service(metadata=metadata),),
        "gateways": (FRONT,),
        "pods": (pod("front-1", "istio-ingress", labels={"istio": "front"}),),
    }

    assert judged(message("IST0101", text='Referenced host not found: "api"'), **seen) == verdict
    # another Service
    assert judged(message("IST0101", text='Referenced host not found: "web"'), **seen) == (1, 0)


V2 = {"version": "v2"}
VM = {"app": "vm"}


def machine(spec: dict[str, str], namespace: str = "shop", **labels: str) -> WorkloadEntry:
    """A WorkloadEntry, whose labels are its own and those of its spec."""
    return WorkloadEntry(
        metadata=Metadata(name="vm-1", namespace=namespace, labels=labels),
        spec=WorkloadEntrySpec(labels=spec),
    )


@pytest.mark.parametrize(
    ("subset", "entry", "machines", "verdict"),
    [
        pytest.param(V2, {"endpoints": (WorkloadEntrySpec(labels=V2),)}, (), (0, 1), id="endpoint"),
        pytest.param(V2, {"endpoints": (WorkloadEntrySpec(),)}, (), (1, 0), id="other labels"),
        pytest.param({}, {"endpoints": (WorkloadEntrySpec(),)}, (), (1, 0), id="no labels"),
        pytest.param(V2, {}, (machine({**VM, **V2}),), (0, 1), id="labels of the spec"),
        pytest.param(V2, {}, (machine(V2, app="vm"),), (0, 1), id="labels of both"),
        pytest.param(V2, {}, (machine(VM),), (1, 0), id="another version"),
        pytest.param(V2, {}, (machine(V2),), (1, 0), id="not selected"),
        pytest.param(V2, {}, (machine({**VM, **V2}, "other"),), (1, 0), id="another namespace"),
        pytest.param(
            V2, {"hosts": ("x.example.com",)}, (machine({**VM, **V2}),), (1, 0), id="another host"
        ),
    ],
)
def test_endpoints_of_a_subset_need_not_be_pods(
    subset: dict[str, str],
    entry: dict[str, Any],
    machines: tuple[WorkloadEntry, ...],
    verdict: tuple[int, int],
) -> None:
    spec = {"hosts": (API,), "workload_selector": WorkloadSelector(labels=VM), **entry}
    found = ServiceEntry(
        metadata=Metadata(name="api", namespace="shop"), spec=ServiceEntrySpec(**spec)
    )
    seen = {"service_entries": (found,), "workload_entries": machines}

    assert judged(NO_PODS, **seen, **used_subset(API, subset)) == verdict


@pytest.mark.parametrize(("labels", "verdict"), [({**VM, **V2}, (0, 1)), (V2, (1, 0))])
def test_a_service_may_select_machines(labels: dict[str, str], verdict: tuple[int, int]) -> None:
    service = Service(
        metadata=Metadata(name="vms", namespace="shop"), spec=ServiceSpec(selector=VM)
    )
    seen = {"services": (service,), "workload_entries": (machine(labels),)}

    assert judged(NO_PODS, **seen, **used_subset("vms", V2)) == verdict


def used_subset(host: str, labels: dict[str, str]) -> dict[str, Any]:
    """The subset that NO_PODS is about, with traffic."""
    spec = DestinationRuleSpec(host=host, subsets=(Subset("canary", labels),))
    rule = DestinationRule(metadata=Metadata(name="web", namespace="shop"), spec=spec)
    routes = virtual_service(split(host, stable=50, canary=50))
    return {"destination_rules": (rule,), "virtual_services": (routes,)}


def labeled(name: str, revision: str) -> dict[str, Any]:
    labels = {"istio.io/rev": revision} if revision else {}
    return {"metadata": Metadata(name=name, namespace="shop", labels=labels)}


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [
        pytest.param("1-29", "1-30", (0, 1), id="each of its own istiod"),
        pytest.param("1-29", "1-29", (1, 0), id="the same"),
        pytest.param("1-29", "", (1, 0), id="one of all"),
        pytest.param("", "1-30", (1, 0), id="the other of all"),
        pytest.param("1-29", "stable", (1, 0), id="a tag, perhaps of the same istiod"),
    ],
)
@pytest.mark.parametrize("code", ["IST0109", "IST0145"])
def test_objects_of_different_revisions_do_not_conflict(
    own: str, other: str, verdict: tuple[int, int], code: str
) -> None:
    host = VirtualServiceSpec(hosts=("web",), http=(split(stable=100),))
    texts = {
        "IST0109": "The VirtualServices shop/web,shop/old associated with mesh gateway define the "
        "same host */web which can lead to undefined behavior.",
        "IST0145": "Conflict with gateways shop/old (workload selector istio=front, port 443, "
        "hosts *).",
    }
    kind = "VirtualService" if code == "IST0109" else "Gateway"
    said = message(code, text=texts[code], origin=f"{kind} shop/web")
    secure = front("web").spec
    seen = {
        "virtual_services": (
            VirtualService(**labeled("web", own), spec=host),
            VirtualService(**labeled("old", other), spec=host),
        ),
        "gateways": (
            Gateway(**labeled("web", own), spec=secure),
            Gateway(**labeled("old", other), spec=secure),
        ),
        "pods": tuple(
            pod(f"istiod-{each}", "istio-system", labels={"app": "istiod", "istio.io/rev": each})
            for each in ("1-29", "1-30")
        ),
    }

    assert judged(said, **seen) == verdict


GATEWAY_POD = pod("front-1", "istio-ingress", labels={"istio": "front"})
SELECTED = PeerSelector(match_labels={"istio": "front"})


@pytest.mark.parametrize(
    ("root", "namespace", "spec", "verdict"),
    [
        pytest.param("mesh-config", "mesh-config", {}, (0, 1), id="all pods"),
        pytest.param("mesh-config", "mesh-config", {"selector": SELECTED}, (0, 1), id="selected"),
        pytest.param("mesh-config", "shop", {}, (1, 0), id="another namespace"),
        pytest.param(
            "mesh-config",
            "mesh-config",
            {"selector": PeerSelector(match_labels={"istio": "other"})},
            (1, 0),
            id="other pods",
        ),
        pytest.param(
            "mesh-config",
            "mesh-config",
            {"target_refs": (TargetRef(kind="Gateway", name="waypoint"),)},
            (1, 0),
            id="another target",
        ),
    ],
)
def test_an_authentication_of_the_root_namespace_applies_to_gateways(
    root: str, namespace: str, spec: dict[str, Any], verdict: tuple[int, int]
) -> None:
    text = (
        "The virtual service uses the JWT claim based routing (key: @request.auth.claims.sub) but "
        "found no request authentication for the gateway (istio-ingress/front) pod (front-1). The "
        "request authentication must first be applied."
    )
    found = RequestAuthentication(
        metadata=Metadata(name="all", namespace=namespace), spec=RequestAuthenticationSpec(**spec)
    )
    seen = {
        "request_authentications": (found,),
        "gateways": (FRONT,),
        "pods": (GATEWAY_POD,),
        "injector_configs": (InjectorConfig(revision="default", root_namespace=root),),
    }

    assert judged(message("IST0149", text=text), **seen) == verdict
    # a pod that is not known
    assert judged(message("IST0149", text=text), **{**seen, "pods": ()}) == (1, 0)


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        (NO_PODS, True),
        (message("IST0101", text='Referenced host not found: "remote"'), True),
        (message("IST0101", text='Referenced namespace not found: "remote"'), True),
        (message("IST0101", text='Referenced gateway not found: "remote"'), False),
        (message("IST0101", text='Referenced host:port not found: "web:81"'), False),
        (message("IST0106", text="Schema validation error: no host"), False),
    ],
)
def test_what_one_cluster_lacks_may_be_in_another(said: AnalysisMessage, explained: bool) -> None:
    def effective(**clusters: str) -> dict[str, Any]:
        config = EffectiveConfig(pod="istiod-1", clusters=clusters)
        return {
            "mesh_configs": (
                MeshConfig(revision="default", config_map="istio", effective=(config,)),
            )
        }

    seen = {"destination_rules": (RULE,), "virtual_services": (virtual_service(split(canary=1)),)}
    assert judged(said, **seen, **effective()) == (1, 0)
    assert judged(said, **seen, **effective(west="synced")) == ((0, 1) if explained else (1, 0))
