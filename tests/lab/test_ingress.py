"""Stage C on a real mesh: each fault is found, named in its own line, and gone after repair.

Faults that do not touch each other are applied together and found in one run. All have taken effect
before it: where one of them cannot heal it looks once, and finds nothing that is still on its way.
"""

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshgate.snapshot.store import load
from tests.lab.harness import (
    CLASSIC,
    NODE,
    Lab,
    Stage,
    gateway_outage,
    until,
    until_answered,
    watching,
)
from tests.lab.rights import grant

Run = Callable[..., Stage]
Objects = list[dict[str, Any]]

INGRESS = ("-n", "istio-ingress")
SHOP = ("-n", "shop")


@pytest.fixture
def ingress(lab: Lab, verifier: str) -> Run:
    """Runs stage C as a hook Job does."""

    def run(*words: str) -> Stage:
        settle = [] if any(word.startswith("--settle") for word in words) else ["--settle=4"]
        return lab.pytest("-m", "ingress", *settle, *words, identity=verifier)

    return run


@pytest.fixture
def recovers(lab: Lab, ingress: Run) -> Iterator[None]:
    """After the test: remove the fault; the same stage passes."""
    yield
    lab.verb("reset")
    grant(lab)
    stage = ingress("--settle=30")
    assert stage.exit == 0, stage.output


def failure(stage: Stage, begins: str, *words: str) -> None:
    """Has one of the lines begin so, and say these words."""
    lines = [line for line in stage.failures if line.startswith(f"FAIL {begins}")]
    assert any(all(word in line for word in words) for line in lines), (
        f"no FAIL {begins} … {' … '.join(words)}:\n{stage.output}"
    )


def until_refused(lab: Lab, route: str, condition: str) -> None:
    """Waits until istiod says that a route of shop has not this condition."""
    where = f'.status.parents[0].conditions[?(@.type=="{condition}")].status'
    lab.kubectl("wait", route, *SHOP, f"--for=jsonpath={{{where}}}=False", "--timeout=120s")


def until_deserted(lab: Lab, listener: str) -> None:
    """Waits until istiod says that no route is attached to this listener of shop's gateway."""
    where = f'.status.listeners[?(@.name=="{listener}")].attachedRoutes'
    made = "gateways.gateway.networking.k8s.io/shop"
    lab.kubectl("wait", made, *SHOP, f"--for=jsonpath={{{where}}}=0", "--timeout=120s")


def cluster_ip(lab: Lab, service: str, namespace: str) -> str:
    return str(lab.get("service", service, "-n", namespace)["spec"]["clusterIP"])


def gateway(name: str, *servers: dict[str, Any], app: str = "ingressgateway") -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "istio-ingress"},
        "spec": {"selector": {"istio": app}, "servers": list(servers)},
    }


def server(host: str, port: int = 80, protocol: str = "HTTP", **tls: Any) -> dict[str, Any]:
    first = host.partition(".")[0]
    named = {"number": port, "protocol": protocol, "name": f"{first}-{port}"}
    made: dict[str, Any] = {"port": named, "hosts": [host]}
    return made | ({"tls": tls} if tls else {})


def virtual_service(name: str, host: str, service: str = "web", **route: Any) -> dict[str, Any]:
    """A VirtualService of shop at the Gateway `faults`."""
    subset = {"subset": route.pop("subset")} if "subset" in route else {}
    spec = route.pop("spec", {})
    to = {"host": f"{service}.shop.svc.cluster.local", "port": {"number": 80}, **subset}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "hosts": [host],
            "gateways": ["istio-ingress/faults"],
            "http": [{"route": [{"destination": to}], **route}],
            **spec,
        },
    }


def service(name: str, app: str, target: int) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "targetPort": target}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": app}, "ports": [port]},
    }


def http_route(name: str, backend: str, section: str) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "parentRefs": [{"name": "shop", "sectionName": section}],
            "hostnames": ["api.example.com"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": f"/{name}/"}}],
                    "backendRefs": [{"name": backend, "port": 80}],
                }
            ],
        },
    }


def pair(host: str, *, days: int) -> dict[str, str]:
    """A certificate that ends so many days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "tls.crt": made.public_bytes(serialization.Encoding.PEM).decode(),
        "tls.key": private.decode(),
    }


@pytest.mark.usefixtures("recovers")
def test_routes_that_do_not_reach_their_backend(lab: Lab, ingress: Run) -> None:
    lab.apply(
        gateway("faults", server("*.faults.example.com")),
        virtual_service("subset", "subset.faults.example.com", subset="v9"),
        virtual_service("ghost", "ghost.faults.example.com", "ghost"),
        service("empty", "nobody", 8080),
        virtual_service("empty", "empty.faults.example.com", "empty"),
        virtual_service("broken", "broken.faults.example.com", rewrite={"uri": "/status/500"}),
        virtual_service("hidden", "hidden.faults.example.com", spec={"exportTo": ["."]}),
        http_route("backendless", "ghost", "http"),
        http_route("nowhere", "web", "no-such-listener"),
        gateway("unselected", server("un.example.com"), app="no-such-gateway"),
        gateway("portless", server("port.example.com", 8888)),
    )
    until_answered(lab, "HTTP/1.1 503", "http://subset.faults.example.com/")
    until_answered(lab, "HTTP/1.1 503", "http://ghost.faults.example.com/")
    until_answered(lab, "no healthy upstream", "http://empty.faults.example.com/")
    until_answered(lab, "HTTP/1.1 500", "http://broken.faults.example.com/")
    until_refused(lab, "httproute/backendless", "ResolvedRefs")
    until_refused(lab, "httproute/nowhere", "Accepted")

    stage = ingress()

    assert stage.exit == 1, stage.output
    failure(stage, "IG007 VirtualService shop/subset: ", "503 NC", "no DestinationRule defines")
    failure(stage, "IG007 VirtualService shop/ghost: ", "503 NC", "ghost.shop.svc.cluster.local")
    failure(stage, "IG007 VirtualService shop/empty: ", "503 UH", "empty.shop.svc.cluster.local")
    failure(stage, "IG007 VirtualService shop/broken: ", "got 500 from its backend")
    failure(stage, "IG007 VirtualService shop/hidden: ", "does not use it: its exportTo is .,")
    failure(stage, "IG003 HTTPRoute shop/backendless at Gateway shop/shop: ", "ResolvedRefs=False")
    failure(stage, "IG003 HTTPRoute shop/nowhere at Gateway shop/shop: ", "Accepted=False")
    failure(stage, "IG001 Gateway istio-ingress/unselected: ", "no pod and no Deployment matches")
    failure(
        stage,
        "IG002 Gateway istio-ingress/portless port 8888/HTTP: ",
        "no Service exposes port 8888",
    )


@pytest.mark.usefixtures("recovers")
def test_tls_that_clients_do_not_take(lab: Lab, ingress: Run) -> None:
    def https(name: str, credential: str, mode: str = "SIMPLE") -> dict[str, Any]:
        host = f"{name}.faults.example.com"
        return server(host, 443, "HTTPS", mode=mode, credentialName=credential)

    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "expired-cert", "namespace": "istio-ingress"},
            "stringData": pair("expired.faults.example.com", days=-1),
        },
        gateway(
            "faults",
            https("expired", "expired-cert"),
            https("misnamed", "shop-cert"),
            https("missing", "no-such-cert"),
            https("mutual", "shop-cert", mode="MUTUAL"),
            server("passed.faults.example.com", 443, "TLS", mode="PASSTHROUGH"),
        ),
        virtual_service(
            "passed",
            "passed.faults.example.com",
            spec={
                "http": [],
                "tls": [
                    {
                        "match": [{"sniHosts": ["passed.faults.example.com"]}],
                        "route": [
                            {
                                "destination": {
                                    "host": "ghost.shop.svc.cluster.local",
                                    "port": {"number": 443},
                                }
                            }
                        ],
                    }
                ],
            },
        ),
    )
    lab.kubectl(
        *("patch", "gateway.gateway.networking.k8s.io", "shop", *SHOP, "--type=json", "-p"),
        json.dumps(
            [
                {
                    "op": "add",
                    "path": "/spec/listeners/-",
                    "value": {
                        "name": "passed",
                        "port": 8443,
                        "protocol": "TLS",
                        "hostname": "passed.example.com",
                        "tls": {"mode": "Passthrough"},
                    },
                }
            ]
        ),
    )

    # there is no route behind it: a client that gets this has completed the handshake
    until_answered(lab, "HTTP/1.1 404", "https://expired.faults.example.com/")
    until_answered(lab, "HTTP/1.1 404", "https://misnamed.faults.example.com/")
    until_deserted(lab, "passed")

    stage = ingress()
    where = "Gateway istio-ingress/faults port 443/"

    assert stage.exit == 1, stage.output
    failure(stage, f"IG005 {where}HTTPS host expired.faults.example.com: ", "expired on")
    failure(stage, f"IG005 {where}HTTPS host misnamed.faults.example.com: ", "shop.example.com")
    failure(stage, f"IG004 {where}HTTPS: ", "missing.faults.example.com", "no-such-cert")
    failure(stage, f"IG006 {where}HTTPS host mutual.faults.example.com: ", "shop-cert")
    failure(stage, f"IG004 {where}TLS: ", "passed.faults.example.com")
    failure(stage, "IG003 Gateway shop/shop listener passed: ", "no TLSRoute is attached")


TLS_ROUTES = "tlsroutes.gateway.networking.k8s.io"


def test_a_tls_route_passes_through_to_its_backend(lab: Lab, ingress: Run) -> None:
    host = "istiod.istio-system.svc"  # the TLS backend that there is
    listener = {
        "name": "passed",
        "port": 443,
        "protocol": "TLS",
        "hostname": host,
        "tls": {"mode": "Passthrough"},
    }
    lab.kubectl(
        *("patch", "gateway.gateway.networking.k8s.io", "shop", *SHOP, "--type=json", "-p"),
        json.dumps([{"op": "add", "path": "/spec/listeners/-", "value": listener}]),
    )
    lab.apply(
        {
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "passed", "namespace": "istio-system"},
            "spec": {
                "from": [
                    {
                        "group": "gateway.networking.k8s.io",
                        "kind": "TLSRoute",
                        "namespace": "shop",
                    }
                ],
                "to": [{"group": "", "kind": "Service"}],
            },
        },
        tls_route(host, "ghost"),
    )

    until_refused(lab, f"{TLS_ROUTES}/passed", "ResolvedRefs")
    wrong = ingress()
    lab.apply(tls_route(host, "istiod"))
    right = ingress("--settle=30")

    assert right.exit == 0, right.output
    sent = load(right.reports / "snapshot.json.gz").ingress
    assert sent is not None
    (reached,) = [each for each in sent.exchanges if each.request.route == "TLSRoute shop/passed"]
    assert reached.certificate is not None
    assert host in reached.certificate.sans
    assert wrong.exit == 1, wrong.output
    failure(wrong, "IG003 TLSRoute shop/passed at Gateway shop/shop: ", "ResolvedRefs=False")
    failure(
        wrong, "IG004 Gateway shop/shop port 443/TLS: ", host, "backends of TLSRoute shop/passed"
    )


def tls_route(host: str, backend: str) -> dict[str, Any]:
    to = {"name": backend, "namespace": "istio-system", "port": 443}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "TLSRoute",
        "metadata": {"name": "passed", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"name": "shop", "sectionName": "passed"}],
            "hostnames": [host],
            "rules": [{"backendRefs": [to]}],
        },
    }


@pytest.mark.usefixtures("recovers")
def test_what_was_answered_otherwise_before(lab: Lab, ingress: Run, tmp_path: Path) -> None:
    kept = tmp_path / "before.json.gz"
    before = ingress(f"--save-baseline={kept}", "--settle=30")
    assert before.exit == 0, before.output
    lab.kubectl(
        *("patch", "virtualservice", "shop", *SHOP, "--type=json", "-p"),
        json.dumps(
            [{"op": "add", "path": "/spec/http/1/rewrite", "value": {"uri": "/status/418"}}]
        ),
    )
    lab.kubectl("delete", "virtualservice", "partners", *SHOP)
    lab.kubectl("delete", "httproute", "api", *SHOP)
    until_answered(lab, "HTTP/1.1 418", "http://shop.example.com/")
    until_deserted(lab, "http")

    stage = ingress(f"--baseline={kept}")
    replay = lab.pytest("-m", "ingress", f"--snapshot={stage.reports}/snapshot.json.gz")

    assert stage.exit == 1, stage.output
    failure(stage, "IG008 VirtualService shop/shop: ", "got 200 before the upgrade, and gets 418")
    failure(stage, "IG008 VirtualService shop/partners: ", "no listener or route serves it now")
    failure(stage, "IG003 Gateway shop/shop listener http: ", "has 0 attached routes, 1 before")
    assert replay.exit == 1
    assert replay.failures == stage.failures


@pytest.mark.usefixtures("recovers")
def test_a_target_port_that_no_container_has(lab: Lab, ingress: Run) -> None:
    lab.kubectl(
        *("patch", "service", "istio-ingressgateway", *INGRESS, "--type=json", "-p"),
        json.dumps([{"op": "replace", "path": "/spec/ports/2/targetPort", "value": "no-such"}]),
    )
    until_answered(lab, "connection refused", "https://shop.example.com/")

    stage = ingress()

    assert stage.exit == 1, stage.output
    entrypoint = "Service istio-ingress/istio-ingressgateway"
    assert stage.first.startswith(
        f"FAIL IG002 {entrypoint}: port 443 (targetPort no-such) has no ready"
    )
    failure(stage, "IG004 Gateway istio-ingress/shop port 443/HTTPS: ", "no connection from inside")


@pytest.mark.usefixtures("recovers")
def test_a_gateway_that_is_scaled_away(lab: Lab, ingress: Run) -> None:
    lab.kubectl("scale", "deployment/istio-ingressgateway", *INGRESS, "--replicas=0")
    lab.kubectl(
        *("wait", "pod", "-l", "app=istio-ingressgateway", *INGRESS),
        *("--for=delete", "--timeout=120s"),
    )
    until_answered(lab, "connection refused", "http://shop.example.com/")

    stage = ingress()

    assert stage.exit == 1, stage.output
    subject = "Deployment istio-ingress/istio-ingressgateway"
    assert stage.first.startswith(f"FAIL IG001 {subject}: is scaled to 0 replicas")
    failure(stage, "IG002 Service istio-ingress/istio-ingressgateway: ", "has no ready endpoint")


@pytest.mark.usefixtures("recovers")
def test_an_envoy_filter_that_breaks_the_listener(lab: Lab, ingress: Run) -> None:
    code = "function envoy_on_request(h) h:respond({[':status'] = '503'}, 'broken') end"
    manager = {"name": "envoy.filters.network.http_connection_manager"}
    lab.apply(
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "breaks", "namespace": "istio-ingress"},
            "spec": {
                "configPatches": [
                    {
                        "applyTo": "HTTP_FILTER",
                        "match": {
                            "context": "GATEWAY",
                            "listener": {"filterChain": {"filter": manager}},
                        },
                        "patch": {
                            "operation": "INSERT_FIRST",
                            "value": {
                                "name": "breaks",
                                "typed_config": {
                                    "@type": "type.googleapis.com/envoy.extensions.filters.http"
                                    ".lua.v3.Lua",
                                    "default_source_code": {"inline_string": code},
                                },
                            },
                        },
                    }
                ]
            },
        }
    )
    until_answered(lab, "broken", "http://shop.example.com/")

    stage = ingress()

    assert stage.exit == 1, stage.output
    failure(stage, "IG007 VirtualService shop/shop: ", "got 503 from the gateway itself")


@pytest.mark.usefixtures("recovers")
def test_a_load_balancer_and_a_gateway_on_its_node(lab: Lab, ingress: Run) -> None:
    address = "172.30.0.7"
    lab.kubectl(
        *("patch", "service", "istio-ingressgateway", *INGRESS, "--type=merge", "-p"),
        json.dumps({"spec": {"type": "LoadBalancer"}}),
    )
    bare = ingress("--settle=30")
    waits = ingress(f"--ingress-url=https://{NODE}:30443", "--settle=30")
    lab.kubectl(
        *("patch", "service", "istio-ingressgateway", *INGRESS, "--type=merge", "-p"),
        json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}),
        "--subresource=status",
    )
    lab.apply(
        on_node(lab),
        gateway("faults", server("node.faults.example.com", 8099), app="on-node"),
        virtual_service("node", "node.faults.example.com"),
    )
    lab.kubectl("wait", "pod/on-node", *INGRESS, "--for=condition=Ready", "--timeout=120s")

    both = ingress("--settle=30", "--vantage=inside", "--vantage=outside")
    planned = ingress("--dry-run").output

    assert bare.exit == 0, bare.output
    entrypoint = "Service istio-ingress/istio-ingressgateway"
    assert f"WARN IG002 {entrypoint}: LoadBalancer has no external address" in bare.output
    assert waits.exit == 0, waits.output
    assert "has no external address" not in waits.output
    assert both.exit == 0, both.output
    assert " from inside, " in both.output
    assert f"GET https://shop.example.com:443/ by {address}:443 (outside)" in planned
    assert "GET http://node.faults.example.com:8099/ by Gateway istio-ingress/faults" in planned


def on_node(lab: Lab) -> dict[str, Any]:
    """A gateway on its node's network: the other one's pod, which nothing injects."""
    (pod,) = lab.get("pods", *INGRESS, "-l", "app=istio-ingressgateway")["items"]
    network = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    spec = pod["spec"] | network | {"securityContext": {"fsGroup": 1337}}
    for container in spec["containers"]:
        container["ports"] = []
    labels = {"istio": "on-node", "sidecar.istio.io/inject": "false"}
    metadata = {"name": "on-node", "namespace": "istio-ingress", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.usefixtures("recovers")
def test_versions_of_tls_and_certificates_of_clients(
    lab: Lab, ingress: Run, tmp_path: Path
) -> None:
    ours, others = (pair("client.example.com", days=30) for _ in range(2))
    for name, made in (("ours", ours), ("others", others)):
        (tmp_path / f"{name}.pem").write_text(made["tls.crt"] + made["tls.key"])
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "mutual-cert", "namespace": "istio-ingress"},
            "stringData": pair("mutual.faults.example.com", days=30) | {"ca.crt": ours["tls.crt"]},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "old-cert", "namespace": "istio-ingress"},
            "stringData": pair("old.faults.example.com", days=30),
        },
        gateway(
            "faults",
            server(
                *("mutual.faults.example.com", 443, "HTTPS"),
                mode="MUTUAL",
                credentialName="mutual-cert",
            ),
            server(
                *("old.faults.example.com", 443, "HTTPS"),
                mode="SIMPLE",
                credentialName="old-cert",
                minProtocolVersion="TLSV1_1",
                cipherSuites=["ECDHE-ECDSA-AES128-SHA"],
            ),
        ),
        virtual_service("mutual", "mutual.faults.example.com"),
        only_tls_1_3("secure.example.com"),
    )
    until_answered(lab, "certificate required", "https://mutual.faults.example.com/")
    older = f"openssl s_client -tls1_2 -connect {NODE}:30443 -servername secure.example.com"
    until(lambda: "alert protocol version" in lab.verb("node", "sh", "-c", f"{older} 2>&1 || :"))

    stage = ingress(f"--ingress-client-cert={tmp_path}/others.pem")
    lab.kubectl("delete", "envoyfilter", "only-tls-1-3", *INGRESS)
    # partners.example.com has another certificate authority than this client
    lab.kubectl("delete", "virtualservice", "partners", *SHOP)
    lab.kubectl("delete", "gateways.networking.istio.io", "tls", *INGRESS)
    right = ingress(f"--ingress-client-cert={tmp_path}/ours.pem", "--settle=60")

    mutual = "Gateway istio-ingress/faults port 443/HTTPS: "
    assert stage.exit == 1, stage.output
    failure(stage, "IG010 Gateway istio-ingress/tls port 443/HTTPS: ", "refuses TLSv1.2")
    failure(stage, f"IG004 {mutual}", "refuses the client certificate")
    assert right.exit == 0, right.output
    assert f"WARN IG010 {mutual}accepts TLSv1.1, as its Gateway says" in right.output
    sent = load(right.reports / "snapshot.json.gz").ingress
    assert sent is not None
    shown = [
        each
        for each in sent.exchanges
        if each.request.certificate and each.request.kind == "request"
    ]
    assert {(each.alpn, each.status) for each in shown} == {("http/1.1", 200), ("h2", 200)}


def only_tls_1_3(host: str) -> dict[str, Any]:
    """An EnvoyFilter that takes the older versions from one host."""
    context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    least = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}
    socket = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": context, "common_tls_context": least},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "only-tls-1-3", "namespace": "istio-ingress"},
        "spec": {
            "configPatches": [
                {
                    "applyTo": "FILTER_CHAIN",
                    "match": {
                        "context": "GATEWAY",
                        "listener": {"filterChain": {"sni": host}},
                    },
                    "patch": {"operation": "MERGE", "value": {"transport_socket": socket}},
                }
            ]
        },
    }


@pytest.mark.usefixtures("recovers")
def test_answers_that_were_declared(
    lab: Lab, ingress: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "not-to-be-kept")
    answers = tmp_path / "answers.yaml"
    answers.write_text(ANSWERS)
    outside = tmp_path / "outside.yaml"
    outside.write_text(ANSWERS.replace("[inside]", "[outside]"))

    right = ingress(f"--expect={answers}", "--settle=30")
    lab.kubectl(
        *("patch", "virtualservice", "shop", *SHOP, "--type=json", "-p"),
        json.dumps([{"op": "remove", "path": "/spec/http/0"}]),
    )
    until_answered(lab, '"app":"web"', "https://shop.example.com/orders/new")
    wrong = ingress(f"--expect={answers}")
    replay = lab.pytest("-m", "ingress", f"--snapshot={wrong.reports}/snapshot.json.gz")
    unasked = ingress(f"--expect={outside}")

    assert right.exit == 0, right.output
    assert "pass IG009" in right.output
    assert wrong.exit == 1, wrong.output
    asked = "IG009 POST https://shop.example.com:443/orders/new from inside: "
    failure(wrong, asked, "without the declared text", "orders")
    assert replay.failures == wrong.failures
    assert unasked.exit == 10, unasked.output
    assert any("IG009" in line and "outside" in line for line in unasked.failures)
    kept = gzip.decompress((wrong.reports / "snapshot.json.gz").read_bytes())
    assert b"/orders/new" in kept
    assert b"not-to-be-kept" not in kept


ANSWERS = """
answers:
  - host: shop.example.com
    path: /orders/new
    method: POST
    headers: {authorization: "Bearer ${SHOP_TOKEN}"}
    send: "an order"
    from: [inside]
    expect:
      headers: {content-type: application/json}
      body: '"app":"orders"'
  - {host: secure.example.com, scheme: http, expect: {status: 301}}
"""


def test_grpc_servers_and_calls_of_their_methods(lab: Lab, ingress: Run, tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text(CALLS)
    port = {"name": "grpc", "port": 80, "targetPort": 50051}
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "calls", "namespace": "shop"},
            "spec": {"ports": [port]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "calls",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "calls"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE]}],
            "ports": [{"name": "grpc", "port": 50051}],
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GRPCRoute",
            "metadata": {"name": "calls", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"name": "shop", "sectionName": "grpc"}],
                "hostnames": ["grpc.example.com"],
                "rules": [
                    {
                        "matches": [{"method": {"service": "shop.Calls"}}],
                        "backendRefs": [{"name": "calls", "port": 80}],
                    }
                ],
            },
        },
        gateway("faults", server("calls.faults.example.com")),
        virtual_service("calls", "calls.faults.example.com", "calls"),
    )
    api = f"{cluster_ip(lab, 'shop-istio', 'shop')}:80"
    until_answered(lab, "upstream connect error", "http://grpc.example.com/shop.Calls/Get", api)
    until_answered(lab, "upstream connect error", "http://calls.faults.example.com/")
    gone = ingress(f"--expect={answers}")
    serving = lab.start(sys.executable, "-c", GRPC_SERVER, NODE)
    try:
        right = ingress(f"--expect={answers}", "--settle=30")
    finally:
        serving.terminate()
        serving.wait()

    # it breaks off every GET, and is well
    assert right.exit == 0, right.output
    assert "pass IG009" in right.output
    assert "to gRPC routes used GET, which calls no method" in right.output
    sent = load(right.reports / "snapshot.json.gz").ingress
    assert sent is not None
    assert any(each.refused for each in sent.exchanges)
    assert gone.exit == 1, gone.output
    failure(gone, "IG007 GRPCRoute shop/calls: ", "the backend cannot be reached")
    failure(gone, "IG007 VirtualService shop/calls: ", "the backend cannot be reached")
    failure(gone, "IG009 POST http://grpc.example.com:80/shop.Calls/Get ", "got grpc-status: 14")


CALLS = """
answers:
  - {host: grpc.example.com, scheme: http, path: /shop.Calls/Get, grpc: true}
  - {host: calls.faults.example.com, scheme: http, path: /shop.Calls/Get, grpc: true}
  - host: grpc.example.com
    scheme: http
    path: /shop.Calls/NoSuchMethod
    grpc: true
    expect: {headers: {grpc-status: "12"}}
"""

GRPC_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
get = grpc.unary_unary_rpc_method_handler(lambda asked, context: b"")
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Calls", {"Get": get}),))
server.add_insecure_port(f"{sys.argv[1]}:50051")
server.start()
server.wait_for_termination()
"""


def test_from_outside_too_and_not_where_nothing_listens(ingress: Run) -> None:
    urls = (f"--ingress-url={scheme}://{entrypoint}" for scheme, entrypoint in CLASSIC.items())
    both = ingress(*urls, "--settle=30")
    none = ingress("--vantage=outside")

    assert both.exit == 0, both.output
    assert " from inside, " in both.output
    assert " from outside" in both.output
    assert none.exit == 10, none.output
    assert "nothing was sent from outside" in none.first


@pytest.mark.usefixtures("recovers")
def test_public_names_that_a_given_resolver_knows(lab: Lab, ingress: Run) -> None:
    name = "istio-ingressgateway.istio-ingress.svc.cluster.local"
    lab.apply(gateway("faults", server("*.svc.cluster.local")), virtual_service("named", name))
    until_answered(lab, "HTTP/1.1 200", f"http://{name}/")
    (dns,) = lab.get("service", "kube-dns", "-n", "kube-system")["spec"]["clusterIPs"]

    stage = ingress(f"--ingress-resolver={dns}")
    planned = ingress(f"--ingress-resolver={dns}", "--dry-run").output

    # the other names are not in this DNS, which is reported; inside, everything works
    assert stage.exit == 1, stage.output
    failure(stage, "IG004 Gateway istio-ingress/shop port 80/HTTP: ", f"{dns} does not resolve")
    assert not any(name in line for line in stage.failures), stage.output
    assert f"GET http://{name}:80/ by its public name, as {dns} has it" in planned
    assert "nothing was sent from outside" not in stage.output


def test_a_prober_that_is_elsewhere(lab: Lab, ingress: Run) -> None:
    classic = cluster_ip(lab, "istio-ingressgateway", "istio-ingress")
    api = cluster_ip(lab, "shop-istio", "shop")
    names = {
        classic: [
            f"{name}.example.com" for name in ("shop", "limited", "secure", "store", "tickets")
        ],
        api: ["api.example.com", "grpc.example.com"],
    }
    lab.apply(*blackbox_exporter(names))
    lab.kubectl("wait", "pod/prober", "-n", "legacy", "--for=condition=Ready", "--timeout=120s")
    prober = f"http://{lab.get('pod', 'prober', '-n', 'legacy')['status']['podIP']}:9115"
    words = (f"--ingress-prober={prober}/probe?module=http_2xx", "--vantage=prober")

    there = ingress(*words, "--settle=30")
    probes = lab.run("labapp", "get", f"{prober}/").stdout
    lab.kubectl("delete", "pod/prober", "-n", "legacy", "--now")
    gone = ingress(*words)

    assert there.exit == 0, there.output
    assert " from prober" in there.output
    assert "https://shop.example.com/orders/" in probes
    assert "http://api.example.com/" in probes
    assert gone.exit == 10, gone.output
    assert f"cannot use {prober}/probe: " in gone.output


def blackbox_exporter(names: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Prometheus' own, in a pod to which these addresses have these names."""
    module = {
        "prober": "http",
        "http": {
            "preferred_ip_protocol": "ip4",
            "follow_redirects": False,
            "tls_config": {"insecure_skip_verify": True},
        },
    }
    metadata = {"name": "prober", "namespace": "legacy"}
    container = {
        "name": "prober",
        "image": "docker.io/lab/prober:1",
        "imagePullPolicy": "Never",
        "args": ["--config.file=/prober/modules"],
        "readinessProbe": {"tcpSocket": {"port": 9115}, "periodSeconds": 1},
        "volumeMounts": [{"name": "modules", "mountPath": "/prober"}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"modules": json.dumps({"modules": {"http_2xx": module}})},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "hostAliases": [
                    {"ip": ip, "hostnames": hostnames} for ip, hostnames in names.items()
                ],
                "containers": [container],
                "volumes": [{"name": "modules", "configMap": {"name": "prober"}}],
            },
        },
    ]


@pytest.mark.usefixtures("recovers")
def test_a_gateway_that_expects_the_proxy_protocol(lab: Lab, ingress: Run) -> None:
    expects = {"proxy.istio.io/config": '{"gatewayTopology": {"proxyProtocol": {}}}'}
    lab.kubectl(
        *("patch", "deployment", "istio-ingressgateway", *INGRESS, "--type=merge", "-p"),
        json.dumps({"spec": {"template": {"metadata": {"annotations": expects}}}}),
    )
    # the other gateway expects none
    lab.kubectl("delete", "gateways.gateway.networking.k8s.io", "shop", *SHOP)
    lab.kubectl(
        *("rollout", "status", "deployment/istio-ingressgateway", *INGRESS, "--timeout=120s")
    )
    made = "gateway.networking.k8s.io/gateway-name=shop"
    lab.kubectl("wait", "pod", "-l", made, *SHOP, "--for=delete", "--timeout=120s")
    until_answered(lab, "reset by peer", "http://shop.example.com/")

    without = ingress()
    spoken = ingress("--settle=30", "--ingress-proxy-protocol")

    assert without.exit == 1, without.output
    failure(without, "IG007 VirtualService shop/shop: ", "got no answer")
    assert spoken.exit == 0, spoken.output


@pytest.mark.usefixtures("recovers")
def test_what_was_lost_while_a_gateway_was_away(
    lab: Lab, ingress: Run, verifier: str, tmp_path: Path
) -> None:
    kept = tmp_path / "watch.json.gz"
    # a busy machine answers late, and loses nothing
    words = ("--rate=10", "--slow-after=30000")

    with watching(lab, verifier, str(kept), tmp_path / "begun", *words):
        pass
    well = ingress(f"--watch={kept}", "--settle=30")
    with watching(lab, verifier, str(kept), tmp_path / "begun-again", *words):
        gateway_outage(lab)
    lost = ingress(f"--watch={kept}", "--settle=30")
    replay = lab.pytest("-m", "ingress", f"--snapshot={lost.reports}/snapshot.json.gz")

    assert well.exit == 0, well.output
    assert "pass IG011" in well.output
    assert lost.exit == 1, lost.output
    failure(
        lost, "IG011 Gateway istio-ingress/shop: ", "GET http://shop.example.com:80/", " lost, "
    )
    assert {line.split()[1] for line in lost.failures} == {"IG011"}, lost.output
    assert replay.failures == lost.failures


def test_a_laptop_sends_through_a_port_forward(lab: Lab) -> None:
    stage = lab.pytest("-m", "ingress", "--settle=30")

    assert stage.exit == 0, stage.output


def test_a_dry_run_sends_nothing_and_opens_no_gate(lab: Lab, ingress: Run) -> None:
    stage = ingress("--dry-run")

    assert stage.exit == 10, stage.output
    assert "GET https://shop.example.com:443/orders/ by Service istio-ingress/" in stage.output
    assert "requests were planned, none was sent" in stage.output


def test_less_than_all_opens_no_gate(ingress: Run) -> None:
    stage = ingress("--ingress-limit=3")

    assert stage.exit == 10, stage.output
    assert "planned requests were not sent within the limits" in stage.first
