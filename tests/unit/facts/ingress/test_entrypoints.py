"""Whether Services lead to listeners."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.entrypoints import GatewayEntrypoints
from meshgate.snapshot.kubernetes import (
    Container,
    ContainerPort,
    LoadBalancer,
    Metadata,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from meshgate.snapshot.kubernetes import Ingress as Address
from meshgate.verdict import Finding
from tests.support import builders
from tests.support import ingress_builders as build


def entrypoints(**changes: Any) -> GatewayEntrypoints:
    return build.mesh(**changes).gateway_entrypoints


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def node_ports(**spec: Any) -> dict[str, Any]:
    """A gateway that no Service leads to, and a pod of this shape."""
    front = build.gateway_pod()
    there = msgspec.structs.replace(front, spec=PodSpec(**spec))
    return {
        "services": (),
        "endpoint_slices": (),
        "gateways": (build.gateway(build.server()),),
        "pods": (builders.istiod(), there),
    }


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (
            {"services": (build.service(80),)},
            "Gateway ways/front port 443/HTTPS: no Service exposes port 443 (found: ways/front)",
        ),
        (
            {"endpoint_slices": (build.endpoints(80),)},
            "Service ways/front: port 443 (targetPort 8443) has no ready endpoint",
        ),
    ],
)
def test_a_listener_that_nobody_leads_to(lists: dict[str, Any], words: str) -> None:
    assert words in told(entrypoints(**lists).unserved)


def test_a_service_whose_ports_are_not_translated_leads_to_its_target_alone() -> None:
    """Knative's local gateway: its port 80 leads to port 8081 of the same pods."""
    local = Service(
        metadata=Metadata(
            name="local",
            namespace=build.NAMESPACE,
            labels={"experimental.istio.io/disable-gateway-port-translation": "true"},
        ),
        spec=ServiceSpec(
            selector=build.LABELS, ports=(ServicePort(port=80, name="http", target_port=8081),)
        ),
    )
    servers = (build.server(), build.server(8081, "HTTP", "local.example.com"))
    topology = build.topology(
        gateways=(build.gateway(*servers),), services=(build.service(80), local)
    )

    led_to = {
        listener.port: [each.subject for each in topology.entrypoints(listener)]
        for listener in topology.listeners
    }

    assert led_to == {80: ["Service ways/front"], 8081: ["Service ways/local"]}


@pytest.mark.parametrize(
    "spec",
    [
        {"host_network": True},
        {
            "containers": (
                Container(name="p", ports=(ContainerPort(container_port=80, host_port=8),)),
            )
        },
    ],
)
def test_a_gateway_on_its_nodes_ports_needs_no_service(spec: dict[str, Any]) -> None:
    lists = node_ports(**spec)
    (entrypoint,) = build.topology(**lists).entrypoints(build.topology(**lists).listeners[0])

    assert entrypoints(**lists).unserved == []
    assert [each.pod for each in entrypoint.backends] == ["front-1"]
    assert build.requests(**lists)[0].service == "Gateway ways/front"


def test_a_gateway_that_nothing_leads_to_and_one_that_is_not_ready() -> None:
    inside = node_ports()
    waits = node_ports(host_network=True)
    (istiod, pod) = waits["pods"]
    waits["pods"] = (istiod, msgspec.structs.replace(pod, status=PodStatus(phase="Running")))

    assert "no Service exposes port 80 (found: none)" in told(entrypoints(**inside).unserved)
    assert "port 80 (targetPort 80) has no ready endpoint" in told(entrypoints(**waits).unserved)


def test_a_load_balancer_without_an_address_warns() -> None:
    waits = build.service(type="LoadBalancer")
    there = msgspec.structs.replace(
        waits, status=ServiceStatus(load_balancer=LoadBalancer(ingress=(Address(ip="192.0.2.1"),)))
    )

    reached = build.well(services=(waits,))
    sent = reached["ingress"]
    outside = [
        msgspec.structs.replace(
            each, request=msgspec.structs.replace(each.request, vantage="outside")
        )
        for each in sent.exchanges
    ]

    assert "has no external address" in told(entrypoints(services=(waits,)).addressless)
    assert entrypoints(**reached | {"ingress": build.traffic(*outside)}).addressless == []
    assert entrypoints(services=(there,)).addressless == []
