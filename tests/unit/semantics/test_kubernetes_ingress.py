"""Kubernetes Ingress objects: which of them istiod serves, and the requests of their routes."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.requests import planned_requests
from meshgate.snapshot.ingress import Request
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import Annotations, Metadata, ServicePort
from meshgate.snapshot.kubernetes_ingress import (
    BackendPort,
    BackendService,
    Ingress,
    IngressBackend,
    IngressClass,
    IngressClassSpec,
    IngressPath,
    IngressPaths,
    IngressRule,
    IngressSpec,
    IngressTls,
)
from meshgate.verdict import NotApplicable
from tests.support import ingress_builders as build
from tests.support.builders import after
from tests.support.mtls_builders import service

CONFIG = InjectorConfig(revision="default", ingress_selector="front")
ISTIO = IngressClass(
    metadata=Metadata(name="istio"), spec=IngressClassSpec(controller="istio.io/ingress-controller")
)
NGINX = IngressClass(
    metadata=Metadata(name="nginx"), spec=IngressClassSpec(controller="k8s.io/ingress-nginx")
)


def path(text: str = "/", type: str = "Prefix", port: int | str = 80, to: str = "web") -> Any:
    number = BackendPort(number=port) if isinstance(port, int) else BackendPort(name=port)
    backend = IngressBackend(service=BackendService(name=to, port=number))
    return IngressPath(path=text, path_type=type, backend=backend)


def ingress(
    *paths: IngressPath,
    host: str = build.HOST,
    name: str = "web",
    tls: str = "",
    class_name: str = "istio",
    annotation: str | None = None,
    seconds: float = 0,
) -> Ingress:
    return Ingress(
        metadata=Metadata(
            name=name,
            namespace="shop",
            annotations=Annotations(ingress_class=annotation),
            creation_timestamp=after(seconds),
        ),
        spec=IngressSpec(
            ingress_class_name=class_name,
            rules=(IngressRule(host=host, http=IngressPaths(paths=paths or (path(),))),),
            tls=(IngressTls(hosts=(host,), secret_name=tls),) if tls else (),
        ),
    )


def mesh(*ingresses: Ingress, config: InjectorConfig = CONFIG, **changes: Any) -> Any:
    return build.mesh(
        **{
            "gateways": (),
            "virtual_services": (),
            "ingresses": ingresses,
            "ingress_classes": (ISTIO, NGINX),
            "injector_configs": (config,),
            "ingress": build.traffic(),
            **changes,
        }
    )


def requests(*ingresses: Ingress, **changes: Any) -> list[Request]:
    topology = mesh(*ingresses, **changes).ingress.all
    return [
        planned.request(listener, "inside", entrypoint.subject)
        for listener in topology.listeners
        for entrypoint in topology.entrypoints(listener)
        for planned in planned_requests(topology, listener)
    ]


def asked(*ingresses: Ingress, **changes: Any) -> list[tuple[str, tuple[str, ...]]]:
    """The URLs of HTTP requests, with their backends."""
    return [
        (each.url, each.backends)
        for each in requests(*ingresses, **changes)
        if each.kind == "request" and not each.http2
    ]


WEB = ("web.shop.svc.cluster.local:80",)


def test_a_path_is_a_route_of_the_gateway() -> None:
    (request,) = requests(ingress(path("/cart")))

    assert request.url == "http://shop.example.com:80/cart"
    assert request.backends == WEB
    assert request.subject == request.gateway == "Ingress shop/web"


def test_a_secret_makes_a_listener_for_tls() -> None:
    found = requests(ingress(tls="a-cert"))

    assert {(each.kind, each.url) for each in found if not each.tls_version} == {
        ("request", "http://shop.example.com:80/"),
        ("request", "https://shop.example.com:443/"),
        ("connect", "https://shop.example.com:443"),
    }


@pytest.mark.parametrize(
    ("fields", "mode", "served"),
    [
        ({"class_name": "istio"}, "STRICT", True),
        ({"class_name": "istio"}, "OFF", True),  # the class decides
        ({"class_name": "nginx"}, "DEFAULT", False),
        ({"class_name": ""}, "STRICT", False),
        ({"class_name": ""}, "", False),
        ({"class_name": ""}, "DEFAULT", True),
        ({"class_name": "no-such-class"}, "STRICT", False),
        ({"class_name": "", "annotation": "istio"}, "STRICT", True),
        ({"class_name": "", "annotation": "istio"}, "OFF", False),
        ({"class_name": "", "annotation": "nginx"}, "DEFAULT", False),
        ({"class_name": "istio", "annotation": "nginx"}, "STRICT", False),
    ],
)
def test_only_ingresses_of_istios_class_are_served(
    fields: dict[str, Any], mode: str, served: bool
) -> None:
    config = msgspec.structs.replace(CONFIG, ingress_mode=mode)

    assert bool(asked(ingress(**fields), config=config)) is served


def test_another_value_of_the_annotation_may_be_istios() -> None:
    config = msgspec.structs.replace(CONFIG, ingress_class="internal")

    assert asked(ingress(annotation="internal"), config=config)
    assert not asked(ingress(annotation="istio"), config=config)


@pytest.mark.parametrize(
    ("text", "type", "url"),
    [
        ("/cart", "Exact", "/cart"),
        ("/cart", "ImplementationSpecific", "/cart"),
        ("/cart/*", "ImplementationSpecific", "/cart"),
        ("/cart.*", "", "/cart"),
        ("/*", "ImplementationSpecific", "/"),
        ("", "", "/"),
    ],
)
def test_every_type_of_path(text: str, type: str, url: str) -> None:
    assert asked(ingress(path(text, type))) == [(f"http://shop.example.com:80{url}", WEB)]


def test_a_port_may_be_named() -> None:
    web = service("web", ports=(ServicePort(port=8080, name="http"),))
    services = (*build.HEALTHY["services"], web)

    ((_, backends),) = asked(ingress(path(port="http")), services=services)

    assert backends == ("web.shop.svc.cluster.local:8080",)
    assert not asked(ingress(path(port="no-such-port")), services=services)


def test_longer_paths_come_first_over_all_ingresses() -> None:
    first = ingress(path("/", to="web"), path("/cart", to="cart"), name="a")
    second = ingress(path("/cart/admin", to="admin"), name="b", seconds=60)

    found = {url: backends[0].partition(".")[0] for url, backends in asked(first, second)}

    assert found == {
        "http://shop.example.com:80/": "web",
        "http://shop.example.com:80/cart": "cart",
        "http://shop.example.com:80/cart/admin": "admin",
    }


def test_an_older_ingress_hides_the_same_path_of_a_newer_one() -> None:
    older = ingress(path("/cart", to="cart"), name="b")
    newer = ingress(path("/cart", to="other"), name="a", seconds=60)
    sent = build.traffic(*(build.answered(each) for each in requests(older, newer)))

    (finding,) = mesh(older, newer, ingress=sent).route_answers.unanswered

    assert finding.subject == "Ingress shop/a"
    assert "Ingress shop/b (route /cart) takes its requests first" in finding.seen
    assert "one Ingress" in finding.remedy


def test_a_route_without_an_answer_names_the_ingress() -> None:
    sent = build.traffic(
        *(
            build.answered(each, status=503, upstream=False, reason="UH")
            for each in requests(ingress())
        )
    )

    (finding,) = mesh(ingress(), ingress=sent).route_answers.unanswered

    assert finding.subject == "Ingress shop/web"
    assert "no healthy endpoint" in finding.seen


def test_a_gateway_whose_pods_are_not_there_names_the_ingress() -> None:
    config = msgspec.structs.replace(CONFIG, ingress_selector="")  # istio=ingressgateway

    (finding, *_) = mesh(ingress(), config=config).gateway_rollout.unfinished

    assert finding.subject == "Ingress shop/web"


def test_an_ingress_of_another_controller_is_no_listener() -> None:
    with pytest.raises(NotApplicable, match="no Gateway"):
        _ = mesh(ingress(class_name="nginx")).route_answers.unanswered


def test_scoped_gateways_look_for_pods_in_istiods_namespace() -> None:
    config = msgspec.structs.replace(CONFIG, scoped_gateways=True)

    assert asked(ingress(), config=config) == []


def test_a_default_backend_is_a_warning_because_istio_ignores_it() -> None:
    def default(class_name: str) -> Ingress:
        plain = ingress(class_name=class_name)
        spec = msgspec.structs.replace(plain.spec, default_backend=path().backend)
        return msgspec.structs.replace(plain, spec=spec)

    (finding,) = mesh(default("istio")).route_answers.ignored
    assert finding.subject == "Ingress shop/web"
    assert "its defaultBackend has no effect" in finding.seen
    assert mesh(default("nginx"), ingress()).route_answers.ignored == []
