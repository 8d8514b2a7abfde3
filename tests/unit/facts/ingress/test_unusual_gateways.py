"""Gateways that are unusual: what is wrong with them, and what is not."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.gateway_api import GatewayAddress, GatewayClass, GatewayClassSpec
from meshgate.snapshot.ingress import Exchange, Request
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    Port,
    Redirect,
    Server,
    ServerTls,
)
from meshgate.snapshot.kubernetes import Annotations, LabelSelector, Metadata
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import builders, webhook_builders
from tests.support import ingress_builders as build
from tests.support.builders import expecting

OLD = builders.istiod("istiod-old", revision="default")
NEW = builders.istiod("istiod-new", revision="1-29-1")
CANARY = {
    "deployments": (
        builders.deployment(),
        builders.deployment(name="istiod-1-29-1", revision="1-29-1"),
        build.gateway_deployment(),
    ),
    "istiod": (
        builders.reading("istiod-old", [builders.sync()], version="1.28.2-a-Clean"),
        builders.reading("istiod-new", [builders.sync()], version="1.29.1-a-Clean"),
    ),
}


def versions(pod: Any, **changes: Any) -> list[str]:
    pods = (OLD, NEW, builders.sidecar(), pod)
    found = build.mesh(**{**CANARY, "pods": pods, **changes}).gateway_rollout.unfinished
    return [f"{each.problem} {each.seen}" for each in found]


@pytest.mark.parametrize(
    ("version", "revision", "problem"),
    [
        ("1.29.1", "1-29-1", []),
        ("1.28.2", "default", []),
        ("1.28.2", "1-29-1", ["wrong-version its proxy is 1.28.2"]),
    ],
)
def test_a_gateway_follows_the_revision_that_injected_it(
    version: str, revision: str, problem: list[str]
) -> None:
    labels = {**build.LABELS, "istio.io/rev": "a-tag"}
    pod = build.gateway_pod(
        version=version, labels=labels, annotations=Annotations(revision=revision)
    )

    assert versions(pod) == problem


def test_a_target_is_expected_of_every_gateway() -> None:
    pod = build.gateway_pod(version="1.28.2", annotations=Annotations(revision="default"))

    assert versions(pod, **expecting(target_version="1.29.1"))
    assert not versions(pod, **expecting(target_version="1.28"))


def test_a_proxy_without_a_version_proves_nothing() -> None:
    pod = build.gateway_pod(version="latest", annotations=Annotations(revision="1-29-1"))

    with pytest.raises(CouldNotVerify, match="the version of the proxy is unknown"):
        versions(pod)


# --- the Gateway API ----------------------------------------------------------------------------


def test_a_gateway_of_istios_class_without_pods_is_not_forgotten() -> None:
    pending = build.condition("Programmed", "False", reason="DeploymentFailed", message="quota")
    gateway = build.api_gateway(build.condition("Accepted"), pending)

    mesh = build.mesh(api_gateways=(gateway,), http_routes=(build.api_route(),))

    assert "Programmed=False" in str(mesh.gateway_conditions.unaccepted[0])
    assert "no-pods" in {each.problem for each in mesh.gateway_rollout.unfinished}


def classed(name: str) -> Any:
    gateway = build.api_gateway()
    spec = msgspec.structs.replace(gateway.spec, gateway_class_name=name)
    return msgspec.structs.replace(gateway, spec=spec)


@pytest.mark.parametrize(
    ("name", "controller", "ours"),
    [
        ("edge", "istio.io/gateway-controller", True),
        ("edge", "kgateway.dev/kgateway", False),
        ("istio-waypoint", "", False),
        ("istio", "", True),
        ("other", "", False),
    ],
)
def test_a_class_says_whose_gateway_it_is(name: str, controller: str, ours: bool) -> None:
    spec = GatewayClassSpec(controller_name=controller)
    known = (GatewayClass(metadata=Metadata(name=name), spec=spec),) if controller else ()

    topology = build.topology(api_gateways=(classed(name),), gateway_classes=known)

    assert any(each.api for each in topology.listeners) == ours


def test_a_gateway_that_was_deployed_by_hand_is_served_by_the_service_it_names() -> None:
    gateway = build.api_gateway()
    address = GatewayAddress(type="Hostname", value="front.ways.svc.cluster.local")
    spec = msgspec.structs.replace(gateway.spec, addresses=(address,))
    topology = build.topology(
        gateways=(), api_gateways=(msgspec.structs.replace(gateway, spec=spec),)
    )

    (listener,) = topology.listeners

    assert [each.metadata.name for each in topology.pods_of(listener)] == ["front-1"]
    assert [each.subject for each in topology.entrypoints(listener)] == ["Service ways/front"]


def test_a_revision_without_istiod_is_the_reason() -> None:
    waiting = build.condition("Accepted", "Unknown", reason="Pending", message="Waiting")
    gateway = build.api_gateway(waiting)
    metadata = msgspec.structs.replace(gateway.metadata, labels={"istio.io/rev": "1-27-2"})
    lost = msgspec.structs.replace(gateway, metadata=metadata)

    (finding, *_) = build.mesh(api_gateways=(lost,)).gateway_conditions.unaccepted

    assert "istio.io/rev=1-27-2: no istiod has this revision" in finding.seen
    assert not finding.transient


def test_the_opinion_of_another_controller_does_not_count() -> None:
    route = build.api_route(conditions=(build.condition("Accepted", "False"),))
    (parent,) = route.status.parents
    foreign = msgspec.structs.replace(parent, controller_name="example.com/other")
    ours = msgspec.structs.replace(
        parent, controller_name="istio.io/gateway-controller", conditions=build.IN_EFFECT
    )

    def found(*parents: Any) -> list[str]:
        status = msgspec.structs.replace(route.status, parents=parents)
        seen = msgspec.structs.replace(route, status=status)
        mesh = build.mesh(api_gateways=(build.api_gateway(),), http_routes=(seen,))
        return [each.problem for each in mesh.gateway_conditions.unaccepted]

    assert found(foreign, ours) == []
    assert found(foreign) == ["no-status"]


# --- several servers on one port ----------------------------------------------------------------


def https(host: str, **tls: Any) -> Server:
    port = Port(number=443, protocol="HTTPS", name=host)
    given = ServerTls(mode="SIMPLE", credential_name=host, **tls)
    return Server(port=port, hosts=(host,), tls=given)


@pytest.mark.parametrize(("refuses", "problems"), [(True, []), (False, ["version-accepted"])])
def test_servers_of_one_port_have_their_own_tls_versions(
    refuses: bool, problems: list[str]
) -> None:
    strict = https("strict.example.com", min_protocol_version="TLSV1_3")
    lists = {"gateways": (build.gateway(strict, https(build.HOST)),)}

    def answer(request: Request) -> Exchange:
        if refuses and request.host.startswith("strict") and request.tls_version == "TLSv1.2":
            alert = "TLSV1_ALERT_PROTOCOL_VERSION"
            return Exchange(request=request, stage="handshake", error="refused", alert=alert)
        return build.answered(request)

    sent = build.traffic(*map(answer, build.requests(**lists)))

    found = build.mesh(**lists, ingress=sent).tls_versions.mismatched

    assert [each.problem for each in found] == problems


def test_a_plain_redirect_beside_one_to_https_may_lead_anywhere() -> None:
    lists = {
        "gateways": (
            build.gateway(
                build.server(80, "HTTP", "old.example.com"), build.server(redirects=True)
            ),
        ),
        "virtual_services": (
            build.virtual_service(
                build.rule(redirect=Redirect(redirect_code=301), route=()),
                hosts=("old.example.com",),
            ),
        ),
    }
    sent = build.traffic(
        *(
            build.answered(
                each, location=f"{'http' if each.host.startswith('old') else 'https'}://new/"
            )
            for each in build.requests(**lists)
        )
    )

    assert build.mesh(**lists, ingress=sent).route_answers.unanswered == []


def test_a_version_without_a_cipher_suite_warns() -> None:
    lists = {"gateways": (build.gateway(https(build.HOST, min_protocol_version="TLSV1_0")),)}
    refused = {"stage": "handshake", "error": "no", "alert": "SSLV3_ALERT_HANDSHAKE_FAILURE"}
    sent = build.traffic(
        *(
            build.answered(each, **refused if each.tls_version in ("TLSv1", "TLSv1.1") else {})
            for each in build.requests(**lists)
        )
    )

    versions = build.mesh(**lists, ingress=sent).tls_versions

    assert versions.mismatched == []
    assert "no cipher suite" in versions.old[0].seen


def test_a_version_that_this_machine_cannot_offer_proves_nothing() -> None:
    lists = {"gateways": (build.gateway(https(build.HOST, min_protocol_version="TLSV1_0")),)}
    unable = {"stage": "handshake", "error": "no", "alert": "NO_PROTOCOLS_AVAILABLE"}
    sent = build.traffic(
        *(
            build.answered(each, **unable if each.tls_version == "TLSv1" else {})
            for each in build.requests(**lists)
        )
    )

    with pytest.raises(CouldNotVerify, match="OpenSSL on this machine cannot offer it"):
        _ = build.mesh(**lists, ingress=sent).tls_versions.mismatched


def test_a_wildcard_certificate_covers_one_label() -> None:
    host = "reports.eu.example.com"
    lists = {
        "gateways": (build.gateway(https(host)),),
        "virtual_services": (build.virtual_service(hosts=(host,)),),
    }
    served = {"certificate": build.certificate("*.example.com")}
    sent = build.traffic(
        *(build.answered(each, **served if each.tls else {}) for each in build.requests(**lists))
    )

    (finding,) = build.mesh(**lists, ingress=sent).served_certificates.bad

    assert (finding.problem, finding.expected) == ("wrong-certificate-name", f"one for {host}")


def test_a_certificate_that_cannot_be_decoded_is_a_finding() -> None:
    odd = {"certificate": None, "unreadable": "Duplicate extension"}
    sent = build.traffic(
        *(build.answered(each, **odd if each.tls else {}) for each in build.requests())
    )

    assert {each.problem for each in build.mesh(ingress=sent).served_certificates.bad} == {
        "unreadable-certificate"
    }


# --- who answered -------------------------------------------------------------------------------


def answers(status: int, **seen: Any) -> Any:
    """The first route's answer; the others come from an Envoy without its headers."""
    sent = [each for each in build.requests() if each.kind == "request" and not each.tls]
    other = msgspec.structs.replace(sent[0], path="/well")
    plain = build.answered(other, upstream=False, server="istio-envoy")
    return build.mesh(
        ingress=build.traffic(build.answered(sent[0], status=status, upstream=False, **seen), plain)
    ).route_answers


def test_without_envoys_headers_a_404_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match="envoyDebugHeaders are disabled"):
        _ = answers(404, reason="NR").unanswered
    assert answers(404).unanswered == []


def policy(action: str, **spec: Any) -> AuthorizationPolicy:
    body = {"metadata": {"name": "login", "namespace": build.NAMESPACE}}
    return msgspec.convert({**body, "spec": {"action": action, **spec}}, AuthorizationPolicy)


def denied(*policies: AuthorizationPolicy, every: bool = False) -> Mesh:
    sent = build.traffic(
        *(
            build.answered(each, status=403, upstream=False, reason="RBAC")
            if each.kind == "request" and (every or not each.tls)
            else build.answered(each)
            for each in build.requests()
        )
    )
    return build.mesh(ingress=sent, authorization_policies=policies)


def test_a_provider_that_the_mesh_config_lacks_denies_everything() -> None:
    (finding,) = denied(
        policy("CUSTOM", provider={"name": "oauth2-proxy"})
    ).route_answers.unanswered

    assert finding.subject == "AuthorizationPolicy ways/login"
    assert "oauth2-proxy" in finding.remedy


def test_a_denial_by_a_policy_warns_and_is_no_answer() -> None:
    some = denied(policy("ALLOW")).route_answers

    assert some.unanswered == []
    assert [each.problem for each in some.denied] == ["denied"]
    with pytest.raises(CouldNotVerify, match="no backend was reached"):
        _ = denied(policy("ALLOW"), every=True).route_answers.unanswered


def test_a_denial_without_a_policy_fails() -> None:
    (finding,) = denied().route_answers.unanswered

    assert finding.problem == "denied-without-policy"


def test_only_the_mesh_connects_to_an_egress_gateway() -> None:
    egress = build.server(443, "HTTPS", "vendor.example.com", mode="ISTIO_MUTUAL")
    lists = {"gateways": (build.gateway(egress),), "virtual_services": ()}
    mesh = build.mesh(**lists, ingress=build.traffic())

    with pytest.raises(NotApplicable):
        _ = mesh.served_certificates.bad
    with pytest.raises(NotApplicable):
        _ = mesh.tls_versions.mismatched
    with pytest.raises(NotApplicable):
        _ = mesh.route_answers.unanswered


# --- PILOT_SCOPE_GATEWAY_TO_NAMESPACE -----------------------------------------------------------

SCOPED = (InjectorConfig(revision="default", scoped_gateways=True),)


def teams() -> dict[str, Any]:
    """Two namespaces with gateway pods of the same labels, and a Gateway in one of them."""

    def of_team(each: Any) -> Any:
        metadata = msgspec.structs.replace(each.metadata, namespace="team-b")
        return msgspec.structs.replace(each, metadata=metadata)

    return {
        "pods": (
            builders.istiod(),
            builders.sidecar(),
            build.gateway_pod(),
            of_team(build.gateway_pod()),
        ),
        "deployments": (
            builders.deployment(),
            build.gateway_deployment(),
            build.gateway_deployment(namespace="team-b"),
        ),
        "services": (build.service(80), of_team(build.service(80))),
        "endpoint_slices": (build.endpoints(80), of_team(build.endpoints(80))),
        "gateways": (build.gateway(build.server()),),
    }


@pytest.mark.parametrize(
    ("configs", "services"),
    [(SCOPED, {"Service ways/front"}), ((), {"Service ways/front", "Service team-b/front"})],
)
def test_a_gateway_selects_pods_where_istiod_lets_it(
    configs: tuple[InjectorConfig, ...], services: set[str]
) -> None:
    topology = build.mesh(**teams(), injector_configs=configs).ingress.topology

    found = {
        each.subject for listener in topology.listeners for each in topology.entrypoints(listener)
    }

    assert found == services


def test_another_meshs_gateways_are_not_ours() -> None:
    watched = LabelSelector(match_labels={"mesh": "a"})
    seen = {
        **teams(),
        "injector_configs": (InjectorConfig(revision="default", discovery=(watched,)),),
        "namespaces": (
            webhook_builders.namespace("ways", mesh="a"),
            webhook_builders.namespace("team-b", mesh="b"),
        ),
    }
    topology = build.mesh(**seen).ingress.topology

    found = {
        pod.metadata.namespace for each in topology.listeners for pod in topology.pods_of(each)
    }

    assert found == {"ways"}


def test_hosts_are_completed_with_the_clusters_domain() -> None:
    configs = (InjectorConfig(revision="default", cluster_domain="corp.example"),)
    topology = build.mesh(injector_configs=configs).ingress.topology

    assert topology.without_endpoints("web.shop.svc.corp.example:80") is False
    assert topology.lists.domain == "corp.example"
