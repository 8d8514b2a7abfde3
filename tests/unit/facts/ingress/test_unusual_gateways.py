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
    VirtualService,
)
from meshgate.snapshot.kubernetes import Annotations, LabelSelector, Metadata
from meshgate.snapshot.mesh_config import EffectiveConfig, MeshConfig
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import builders, webhook_builders
from tests.support import ingress_builders as build
from tests.support.builders import expecting
from tests.support.mtls_builders import labeled

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

    with pytest.raises(CouldNotVerify, match="its image's tag has no version"):
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


def with_services(*names: str, **lists: Any) -> dict[str, Any]:
    """A Gateway of the Gateway API that names these Services, and the Services front and second."""
    gateway = build.api_gateway()
    addresses = tuple(GatewayAddress(type="Hostname", value=name) for name in names)
    spec = msgspec.structs.replace(gateway.spec, addresses=addresses)
    metadata = Metadata(name="second", namespace=build.NAMESPACE)
    second = msgspec.structs.replace(build.service(), metadata=metadata)
    labels = {"kubernetes.io/service-name": "second"}
    slice_metadata = Metadata(name="second-x", namespace=build.NAMESPACE, labels=labels)
    endpoints = msgspec.structs.replace(build.endpoints(), metadata=slice_metadata)
    return {
        "gateways": (),
        "virtual_services": (),
        "api_gateways": (msgspec.structs.replace(gateway, spec=spec),),
        "http_routes": (build.api_route(),),
        "services": (build.service(), second),
        "endpoint_slices": (build.endpoints(), endpoints),
        **lists,
    }


def test_a_gateway_in_front_of_which_two_services_are_is_asked_through_both() -> None:
    mesh = build.mesh(**with_services("front.ways.svc.cluster.local", "second"))

    assert {each.request.service for each, _ in mesh.ingress.exchanges()} == {
        "Service ways/front",
        "Service ways/second",
    }
    assert {
        (each.request.service, listener.service) for each, listener in mesh.ingress.exchanges()
    } == {("Service ways/front", "ways/front"), ("Service ways/second", "ways/second")}
    assert mesh.gateway_rollout.unfinished == []
    assert mesh.gateway_entrypoints.unserved == []
    assert mesh.route_answers.unanswered == []


@pytest.mark.parametrize(
    ("names", "lists", "problem"),
    [
        (("front", "other"), {}, "Service ways/other, which its addresses name, does not exist"),
        (("front", "second"), {"endpoint_slices": (build.endpoints(),)}, "has no ready endpoint"),
        (
            ("second", "front"),
            {"services": (build.service(8443), *with_services()["services"][1:])},
            "no Service exposes port 80 (found: ways/front)",
        ),
    ],
)
def test_every_service_that_a_gateway_names_must_lead_to_it(
    names: tuple[str, ...], lists: dict[str, Any], problem: str
) -> None:
    mesh = build.mesh(**with_services(*names, **lists))

    found = [*mesh.gateway_rollout.unfinished, *mesh.gateway_entrypoints.unserved]
    assert [each.seen for each in found if problem in each.seen], found


def test_a_route_that_only_one_of_two_services_answers_is_a_finding() -> None:
    lists = with_services("front", "second")
    sent = [
        build.answered(each, status=503, upstream=False)
        if each.service == "Service ways/second"
        else build.answered(each)
        for each in build.requests(**lists)
    ]

    found = build.mesh(ingress=build.traffic(*sent), **lists).route_answers.unanswered
    assert [each.subject for each in found] == ["HTTPRoute shop/web"]


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


@pytest.mark.parametrize(
    ("own", "refuses", "problems"),
    [
        ({}, True, []),
        ({}, False, []),
        ({"min_protocol_version": "TLSV1_2"}, True, ["version-refused"]),
    ],
    ids=["a newer patch", "an older patch", "the server's own"],
)
def test_the_mesh_config_may_raise_the_oldest_tls_version(
    own: dict[str, str], refuses: bool, problems: list[str]
) -> None:
    config = InjectorConfig(revision="default", least_tls="TLSV1_3")
    lists = {"gateways": (build.gateway(https(build.HOST, **own)),)}

    def answer(request: Request) -> Exchange:
        if refuses and request.tls_version == "TLSv1.2":
            alert = "TLSV1_ALERT_PROTOCOL_VERSION"
            return Exchange(request=request, stage="handshake", error="refused", alert=alert)
        return build.answered(request)

    sent = build.traffic(*map(answer, build.requests(**lists)))

    found = build.mesh(**lists, ingress=sent, injector_configs=(config,)).tls_versions.mismatched
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
    assert finding.about == (("names", "*.example.com"),)


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


def denied(*policies: AuthorizationPolicy, every: bool = False, **changes: Any) -> Mesh:
    sent = build.traffic(
        *(
            build.answered(each, status=403, upstream=False, reason="RBAC")
            if each.kind == "request" and (every or not each.tls)
            else build.answered(each)
            for each in build.requests()
        )
    )
    return build.mesh(ingress=sent, authorization_policies=policies, **changes)


def provided(*names: str) -> dict[str, Any]:
    """A mesh config with these extension providers."""
    replica = EffectiveConfig(pod="istiod-1", providers=names)
    config = MeshConfig(
        revision="default", config_map="ConfigMap istio-system/istio", effective=(replica,)
    )
    return {"mesh_configs": (config,)}


LOGIN = policy("CUSTOM", provider={"name": "oauth2-proxy"}, rules=[{}])
AT_ADMIN = policy(
    "CUSTOM",
    provider={"name": "oauth2-proxy"},
    rules=[{"to": [{"operation": {"paths": ["/admin*"]}}]}],
)


def test_a_missing_provider_closes_a_gateway_with_other_policies_too() -> None:
    allowing = policy("ALLOW", rules=SOME)

    (finding,) = denied(allowing, LOGIN, **provided("zipkin")).route_answers.unanswered

    assert (finding.subject, finding.problem) == (
        "AuthorizationPolicy ways/login",
        "missing-provider",
    )
    # where the mesh config has it, or its rules are about other paths, the other policy denies
    assert denied(allowing, LOGIN, **provided("oauth2-proxy")).route_answers.unanswered == []
    assert denied(allowing, AT_ADMIN, **provided()).route_answers.unanswered == []


def by_itself(status: int, *policies: AuthorizationPolicy, every: bool = True, **seen: Any) -> Mesh:
    """The gateway answers in place of its backends, not in the words of RBAC."""
    own = {"status": status, "upstream": False, "server": "istio-envoy", **seen}
    sent = build.traffic(
        *(
            build.answered(each, **own)
            if each.kind == "request" and not each.expected and (every or not each.tls)
            else build.answered(each)
            for each in build.requests()
        )
    )
    return build.mesh(ingress=sent, authorization_policies=policies)


@pytest.mark.parametrize(
    ("status", "policies"), [(403, (LOGIN,)), (401, (LOGIN,)), (302, (LOGIN,)), (403, ())]
)
def test_what_a_provider_answers_is_no_answer_of_the_backend(
    status: int, policies: tuple[AuthorizationPolicy, ...]
) -> None:
    some = by_itself(status, *policies, every=False).route_answers

    assert some.unanswered == []
    assert all(f"answers {status} by itself" in each.seen for each in some.denied)
    assert some.denied
    with pytest.raises(CouldNotVerify, match="no backend was reached"):
        _ = by_itself(status, *policies).route_answers.unanswered


def test_a_backend_may_refuse_or_redirect() -> None:
    for status in (401, 403, 302):
        found = by_itself(status, LOGIN, upstream=True).route_answers
        assert (found.unanswered, found.denied) == ([], [])
    # nothing but a provider redirects in place of a backend
    assert by_itself(302).route_answers.denied == []


def test_a_provider_that_the_mesh_config_lacks_denies_everything() -> None:
    (finding,) = denied(
        policy("CUSTOM", provider={"name": "oauth2-proxy"})
    ).route_answers.unanswered

    assert finding.subject == "AuthorizationPolicy ways/login"
    assert "oauth2-proxy" in finding.remedy


SOME = [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]


def test_a_denial_by_a_policy_warns_and_is_no_answer() -> None:
    some = denied(policy("ALLOW", rules=SOME)).route_answers

    assert some.unanswered == []
    assert [each.problem for each in some.denied] == ["denied"]
    with pytest.raises(CouldNotVerify, match="no backend was reached"):
        _ = denied(policy("ALLOW", rules=SOME), every=True).route_answers.unanswered


@pytest.mark.parametrize(
    "closing",
    [policy("ALLOW"), policy("DENY", rules=[{}])],
    ids=["nothing is allowed", "everything is denied"],
)
def test_a_policy_that_closes_a_gateway_to_everybody_fails(closing: AuthorizationPolicy) -> None:
    (finding,) = denied(closing).route_answers.unanswered

    assert finding.subject == "AuthorizationPolicy ways/login"
    assert finding.problem == "denies-everyone"
    assert denied(policy("ALLOW"), policy("ALLOW", rules=SOME)).route_answers.unanswered == []


@pytest.mark.parametrize(
    "other",
    [
        policy("AUDIT", rules=[{}]),
        msgspec.structs.replace(
            policy("DENY", rules=[{}]),
            metadata=Metadata(
                name="trial", namespace=build.NAMESPACE, annotations=Annotations(dry_run="True")
            ),
        ),
        policy("DENY", rules=[{}], targetRefs=[{"kind": "GatewayClass", "name": "istio"}]),
    ],
    ids=["audit", "dry run", "waypoints"],
)
def test_a_policy_that_enforces_nothing_at_a_gateway_explains_no_denial(
    other: AuthorizationPolicy,
) -> None:
    (finding,) = denied(other).route_answers.unanswered
    assert finding.problem == "denied-without-policy"
    (finding,) = denied(policy("CUSTOM", provider={"name": "a"}), other).route_answers.unanswered
    assert finding.problem == "missing-provider"


def tcp(*policies: AuthorizationPolicy, routed: bool = True, **changes: Any) -> list[str]:
    """What is wrong with a gateway that passes TCP to a backend."""
    database = {"route": [{"destination": {"host": "db", "port": {"number": 5432}}}]}
    spec = {"hosts": ["*"], "gateways": ["ways/front"], "tcp": [database] if routed else []}
    edge = msgspec.convert(
        {"metadata": {"name": "edge", "namespace": "shop"}, "spec": spec}, VirtualService
    )
    found = build.mesh(
        gateways=(build.gateway(build.server(), build.server(5432, "TCP", "*")),),
        services=(build.service(80, 5432),),
        endpoint_slices=(build.endpoints(80, 5432),),
        virtual_services=(build.virtual_service(), edge),
        authorization_policies=policies,
        **changes,
    )
    return [each.seen for each in found.route_answers.unanswered]


ADMIN = [{"to": [{"operation": {"paths": ["/admin*"]}}]}]
WEB_ADMIN = [{"to": [{"operation": {"paths": ["/admin*"], "ports": ["8080"]}}]}]
# the Service's port 5432 leads to the pod's port 13432
DATABASE = [*ADMIN, {"to": [{"operation": {"ports": ["13432"]}}]}]


@pytest.mark.parametrize(
    ("action", "rules", "closed"),
    [
        ("DENY", ADMIN, True),
        ("DENY", WEB_ADMIN, False),
        ("DENY", [{**ADMIN[0], "from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}], False),
        ("ALLOW", ADMIN, True),
        ("ALLOW", DATABASE, False),
        ("ALLOW", [*ADMIN, {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}], False),
    ],
)
def test_policies_about_http_close_tcp_listeners(
    action: str, rules: list[dict[str, Any]], closed: bool
) -> None:
    assert bool(tcp(policy(action, rules=rules))) == closed
    assert tcp(policy(action, rules=rules), routed=False) == []


def test_a_policy_of_another_revision_closes_no_listener() -> None:
    pods = (builders.istiod(), build.gateway_pod(annotations=Annotations(revision="1-30")))

    for revision, closed in (("1-29", False), ("1-30", True)):
        assert bool(tcp(labeled(policy("DENY", rules=ADMIN), revision), pods=pods)) is closed


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


def test_a_policy_may_select_one_of_several_deployments_of_a_gateway() -> None:
    """The labels of all its pods count, not only those of the first one."""
    second = build.gateway_pod(labels={**build.LABELS, "zone": "b"})
    metadata = msgspec.structs.replace(second.metadata, name="front-2")
    of_zone = policy("ALLOW", rules=SOME, selector={"matchLabels": {"zone": "b"}})
    pods = (*build.HEALTHY["pods"], msgspec.structs.replace(second, metadata=metadata))

    found = denied(of_zone, pods=pods).route_answers

    assert found.unanswered == []
    assert [each.problem for each in found.denied] == ["denied"]


def test_several_providers_at_one_gateway_deny_what_they_match() -> None:
    other = policy("CUSTOM", provider={"name": "opa"}, rules=[{}])
    allowing = policy("ALLOW", rules=SOME)
    configs = {"injector_configs": (InjectorConfig(revision="default"),)}

    def found(*policies: AuthorizationPolicy, **config: Any) -> list[str]:
        lists = {**provided("oauth2-proxy", "opa"), **configs, **config}
        return [e.problem for e in denied(*policies, **lists).route_answers.unanswered]

    assert found(allowing, LOGIN, other) == ["several-providers"]
    assert found(allowing, LOGIN) == []
    supported = (InjectorConfig(revision="default", several_providers=True),)
    assert found(allowing, LOGIN, other, injector_configs=supported) == []
    # neither of them is about the request
    elsewhere = policy(
        "CUSTOM",
        provider={"name": "opa"},
        rules=[{"to": [{"operation": {"paths": ["/x*"]}}]}],
    )
    assert found(allowing, AT_ADMIN, elsewhere) == []
