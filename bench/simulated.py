"""A cluster of any size on loopback: an API server's lists, paged and watched, and an istiod.

The pods are one of the lab's, with other names; they belong to 500 namespaces and 2,000 services,
or fewer where there are fewer pods.  istiod answers its debug port, its webhooks (over TLS, from a
CA that is made for the run), and who asks for the proxies' state over xDS; `istioctl analyze` finds
all the kinds that it asks for.
"""

import base64
import gzip
import json
import re
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.status.v3 import csds_pb2

PAGE = 500
NAMESPACES, SERVICES = 500, 2000
SYSTEM, NAME, VERSION = "istio-system", "istiod.istio-system.svc", "1.29.1"
DEBUG_PORT, WEBHOOK_PORT, XDS_PORT = 15014, 15017, 15010
TYPES = (
    "cluster.v3.Cluster",
    "endpoint.v3.ClusterLoadAssignment",
    "listener.v3.Listener",
    "route.v3.RouteConfiguration",
)

# a sidecar's pod as the lab has it
POD = (Path(__file__).parent / "pod.json").read_text()


# --- the mesh -----------------------------------------------------------------------------------


def pod(number: int) -> dict[str, Any]:
    """A meshed pod, real but for its names."""
    has_sidecar: dict[str, Any] = json.loads(POD)
    has_sidecar["metadata"] |= {
        "name": f"app-{number // 5:05}-{number % 5}",
        "namespace": f"team-{number % NAMESPACES:03}",
        "uid": f"pod-{number}",
    }
    has_sidecar["metadata"]["labels"] |= {"app": f"app-{number % SERVICES:04}"}
    address = f"198.18.{number // 250 % 250}.{number % 250 + 1}"
    has_sidecar["status"] |= {"podIP": address, "podIPs": [{"ip": address}]}
    return has_sidecar


def service(number: int) -> dict[str, Any]:
    """The service of every pod whose number leads to it."""
    return {
        "metadata": {"name": f"app-{number:04}", "namespace": f"team-{number % NAMESPACES:03}"},
        "spec": {
            "selector": {"app": f"app-{number:04}"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    }


def istiod(address: str) -> dict[str, Any]:
    """A replica of istiod, which is reached at `address`."""
    return {
        "metadata": {
            "name": f"istiod-{address}",
            "namespace": SYSTEM,
            "labels": {"app": "istiod", "istio.io/rev": "default"},
        },
        "spec": {"containers": [{"name": "discovery", "image": f"istio/pilot:{VERSION}"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def deployment(replicas: int) -> dict[str, Any]:
    """istiod's Deployment, rolled out."""
    container = {"name": "discovery", "image": f"istio/pilot:{VERSION}"}
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {
        "metadata": {
            "name": "istiod",
            "namespace": SYSTEM,
            "labels": {"app": "istiod", "istio.io/rev": "default"},
            "generation": 1,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "istiod"}},
            "template": {
                "metadata": {"labels": {"app": "istiod"}},
                "spec": {"containers": [container]},
            },
        },
        "status": {"observedGeneration": 1, **dict.fromkeys(counts, replicas)},
    }


ISTIOD_SERVICE = {
    "metadata": {"name": "istiod", "namespace": SYSTEM},
    "spec": {
        "selector": {"app": "istiod"},
        "ports": [{"name": "https-webhook", "port": 443, "targetPort": 15017}],
    },
}


def endpoints(addresses: Iterable[str]) -> dict[str, Any]:
    """Where istiod's service leads to."""
    return {
        "metadata": {
            "name": "istiod-1",
            "namespace": SYSTEM,
            "labels": {"kubernetes.io/service-name": "istiod"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": f"istiod-{address}"},
            }
            for address in addresses
        ],
        "ports": [{"name": "https-webhook", "port": WEBHOOK_PORT}],
    }


def webhook(name: str, hook: str, path: str, root: str, **selectors: Any) -> dict[str, Any]:
    """A webhook configuration of istiod."""
    client = {"name": "istiod", "namespace": SYSTEM, "path": path, "port": 443}
    return {
        "metadata": {"name": name, "labels": {"istio.io/rev": "default"}},
        "webhooks": [
            {
                "name": hook,
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": client,
                    "caBundle": base64.b64encode(root.encode()).decode(),
                },
                **selectors,
            }
        ],
    }


def sync(entry: dict[str, Any]) -> dict[str, Any]:
    """istiod's word on one pod's proxy: everything acknowledged."""
    nonce = "2026-01-01T00:00:00Z/167d5761d6-3c30-42c6-87b8-a342c5e60b15"
    state = {"sent": nonce, "acked": nonce, "sentTime": "2026-01-01T00:00:00.123456789Z"}
    return {
        "cluster_id": "Kubernetes",
        "proxy": f"{entry['metadata']['name']}.{entry['metadata']['namespace']}",
        "proxy_type": "sidecar",
        "istio_version": VERSION,
        "resources": {f"type.googleapis.com/envoy.config.{name}": state for name in TYPES},
    }


def _state(entry: dict[str, Any]) -> Any:
    """The same over xDS, as `istioctl proxy-status` asks for it (pilot/pkg/xds/statusgen.go)."""
    name, namespace = entry["metadata"]["name"], entry["metadata"]["namespace"]
    state = csds_pb2.ClientConfig()
    state.node.id = f"{name}.{namespace}"
    state.node.metadata.update(
        {"CLUSTER_ID": "Kubernetes", "NAMESPACE": namespace, "ISTIO_VERSION": VERSION}
    )
    for each in TYPES:
        config = state.generic_xds_configs.add(config_status=csds_pb2.SYNCED)
        config.type_url = f"type.googleapis.com/envoy.config.{each}"
        config.last_updated.GetCurrentTime()
    return state


METRICS = b"""\
pilot_xds_pushes{type="cds"} 7
process_start_time_seconds 1.7e+09
go_memstats_sys_bytes 1.2e+08
go_memstats_heap_released_bytes 2e+07
"""

# --- certificates -------------------------------------------------------------------------------


def issued(name: str, by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None) -> Any:
    """A certificate and its key: a CA, or what one issued for istiod."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[0].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=not by, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(by[1] if by else key, hashes.SHA256())
    )
    return certificate, key


def pem(certificate: x509.Certificate) -> str:
    """The certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


# --- the cluster --------------------------------------------------------------------------------

INJECTED = {"name": "istio-proxy", "image": f"docker.io/istio/proxyv2:{VERSION}"}
PATCH = base64.b64encode(
    json.dumps([{"op": "add", "path": "/spec/containers/1", "value": INJECTED}]).encode()
).decode()


class Body:
    """An answer, and the same packed: made once, so that serving costs next to nothing."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.packed = gzip.compress(plain, 1) if len(plain) > 1000 else b""


class Cluster:
    """`proxies` meshed pods and istiods, as bytes that are ready to be sent.

    Args:
        proxies: how many pods.
        addresses: where each replica of istiod is reached; each has an equal share of the proxies.
        slices: more EndpointSlices.
    """

    def __init__(
        self, proxies: int, addresses: Sequence[str], slices: Iterable[dict[str, Any]] = ()
    ) -> None:
        pods = [pod(number) for number in range(proxies)]
        names = [f"team-{number:03}" for number in range(min(NAMESPACES, proxies))]
        labels = {"istio-injection": "enabled"}
        self.ca = issued("root")
        root = pem(self.ca[0])
        injection = {"key": "istio-injection", "operator": "In", "values": ["enabled"]}
        enabled = {"matchExpressions": [injection]}
        objects: dict[str, list[dict[str, Any]]] = {
            "/api/v1/namespaces": [
                {"metadata": {"name": SYSTEM}},
                *({"metadata": {"name": name, "labels": labels}} for name in names),
            ],
            "/api/v1/pods": [*map(istiod, addresses), *pods],
            "/apis/apps/v1/deployments": [deployment(len(addresses))],
            "/api/v1/services": [
                ISTIOD_SERVICE,
                *(service(number) for number in range(min(SERVICES, proxies))),
            ],
            "/apis/discovery.k8s.io/v1/endpointslices": [endpoints(addresses), *slices],
            "/api/v1/configmaps": [
                {
                    "metadata": {"name": "istio-ca-root-cert", "namespace": name},
                    "data": {"root-cert.pem": root},
                }
                for name in [SYSTEM, *names]
            ],
            f"{ADMISSION}/mutatingwebhookconfigurations": [
                webhook(
                    "istio-sidecar-injector",
                    "namespace.sidecar-injector.istio.io",
                    "/inject",
                    root,
                    namespaceSelector=enabled,
                )
            ],
            f"{ADMISSION}/validatingwebhookconfigurations": [
                webhook(
                    "istio-validator-istio-system", "rev.validation.istio.io", "/validate", root
                )
            ],
        }
        pages = {path: _pages(path, found) for path, found in objects.items()}
        self.lists = {path: [Body(page) for page in found] for path, found in pages.items()}
        self.whole = {path: Body(_whole(found)) for path, found in pages.items()}
        # what a field selector of meshgate's leaves of it
        self.selected = {"/api/v1/services": Body(*_pages("/api/v1/services", [ISTIOD_SERVICE]))}
        self.syncz = {
            address: Body(json.dumps(list(map(sync, pods[number :: len(addresses)]))).encode())
            for number, address in enumerate(addresses)
        }
        self.states = discovery_pb2.DiscoveryResponse(type_url="istio.io/debug/syncz")
        for entry in pods:
            self.states.resources.add().Pack(_state(entry))
        self.bytes = len(self.whole["/api/v1/pods"].plain)
        self.bytes += sum(len(each.plain) for each in self.syncz.values())
        self.requests: Counter[str] = Counter()


ISTIODS = f"metadata.namespace={SYSTEM}"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
# The kinds that `istioctl analyze` asks for; of those without objects there are none.
KINDS = {
    "configmaps": "ConfigMap",
    "customresourcedefinitions": "CustomResourceDefinition",
    "endpoints": "Endpoints",
    "endpointslices": "EndpointSlice",
    "gatewayclasses": "GatewayClass",
    "ingressclasses": "IngressClass",
    "ingresses": "Ingress",
    "serviceaccounts": "ServiceAccount",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
    "authorizationpolicies": "AuthorizationPolicy",
    "destinationrules": "DestinationRule",
    "envoyfilters": "EnvoyFilter",
    "grpcroutes": "GRPCRoute",
    "httproutes": "HTTPRoute",
    "peerauthentications": "PeerAuthentication",
    "proxyconfigs": "ProxyConfig",
    "requestauthentications": "RequestAuthentication",
    "serviceentries": "ServiceEntry",
    "telemetries": "Telemetry",
    "virtualservices": "VirtualService",
    "wasmplugins": "WasmPlugin",
    "workloadentries": "WorkloadEntry",
    "workloadgroups": "WorkloadGroup",
}


def _head(path: str) -> dict[str, str]:
    root, _, resource = path.rpartition("/")
    kind = KINDS.get(resource, resource.removesuffix("s").capitalize())
    return {"kind": f"{kind}List", "apiVersion": root.removeprefix("/apis/").removeprefix("/api/")}


def _pages(path: str, objects: list[dict[str, Any]]) -> list[bytes]:
    starts = range(0, max(len(objects), 1), PAGE)
    return [
        json.dumps(
            {
                **_head(path),
                "metadata": {
                    "resourceVersion": "1",
                    **({"continue": str(start + PAGE)} if start + PAGE < len(objects) else {}),
                },
                "items": objects[start : start + PAGE],
            }
        ).encode()
        for start in starts
    ]


def _one(path: str) -> bytes:
    """A namespace by its name, or an empty list of whatever kind is asked for."""
    if path.startswith("/api/v1/namespaces/") and path.count("/") == 4:
        name = path.rpartition("/")[2]
        return json.dumps(
            {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
        ).encode()
    return _pages(path, [])[0]


def _metadata_only(body: bytes) -> bytes:
    """A list as a client gets it that asks for no more than metadata."""
    whole = json.loads(body)
    head = {"apiVersion": "meta.k8s.io/v1"}
    items = [
        {**head, "kind": "PartialObjectMetadata", "metadata": item["metadata"]}
        for item in whole["items"]
    ]
    return json.dumps(
        {**whole, **head, "kind": "PartialObjectMetadataList", "items": items}
    ).encode()


@contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """Serves the API server on a free port and each istiod on its own; gives the server's URL."""
    addresses = list(cluster.syncz)
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            # a namespace's list is everybody's here: only istiod's is ever asked for, and is small
            url = url._replace(path=re.sub("/namespaces/[^/]+/", "/", url.path))
            query = dict(parse_qsl(url.query))
            here = cast(ThreadingHTTPServer, self.server)
            port = here.server_port
            if port not in (DEBUG_PORT, WEBHOOK_PORT):
                cluster.requests["watch" if "watch" in query else "read"] += 1
            if "watch" in query:
                self._hang()
                return
            position = int(query.get("continue", 0)) // PAGE
            fixed = {
                "/version": b'{"major":"1","minor":"34","gitVersion":"v1.34.4"}',
                "/debug/push_status": b"{}",
                "/metrics": METRICS,
            }
            # from the cache of an API server (version 0) a list comes whole, whatever its limit
            paged = "limit" in query and query.get("resourceVersion") != "0"
            if port == DEBUG_PORT and url.path == "/version":
                body = Body(f"{VERSION}-0000000-Clean".encode())
            elif url.path == "/debug/syncz":
                body = cluster.syncz[here.server_name]
            elif query.get("fieldSelector") == ISTIODS and url.path in cluster.selected:
                body = cluster.selected[url.path]
            elif url.path in cluster.lists:
                body = cluster.lists[url.path][position] if paged else cluster.whole[url.path]
            else:
                body = Body(fixed.get(url.path) or _one(url.path))
            if "as=PartialObjectMetadataList" in self.headers.get("Accept", ""):
                body = Body(_metadata_only(body.plain))
            self._answer(body)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
            response = {"uid": asked["uid"], "allowed": True}
            if self.path == "/inject":
                response |= {"patchType": "JSONPatch", "patch": PATCH}
            else:
                response["allowed"] = bool(asked["object"]["spec"]["servers"][0]["hosts"])
            self._answer(Body(json.dumps({"response": response}).encode()))

        def _answer(self, found: Body) -> None:
            packed = "gzip" in self.headers.get("Accept-Encoding", "") and bool(found.packed)
            body = found.packed if packed else found.plain
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _hang(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            done.wait()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: it would be measured too."""

    tls = _tls(cluster)
    servers = [ThreadingHTTPServer((addresses[0], 0), Handler)]
    for address in addresses:
        debug, webhook = (
            ThreadingHTTPServer((address, port), Handler) for port in (DEBUG_PORT, WEBHOOK_PORT)
        )
        debug.server_name = address
        webhook.socket = tls.wrap_socket(webhook.socket, server_side=True)
        servers += [debug, webhook]
    for server in servers:
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    xds = grpc.server(ThreadPoolExecutor(max_workers=2))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(_States(cluster), xds)
    xds.add_insecure_port(f"{addresses[0]}:{XDS_PORT}")
    xds.start()
    try:
        yield f"http://{addresses[0]}:{servers[0].server_address[1]}"
    finally:
        xds.stop(None)
        done.set()
        for server in servers:
            server.shutdown()
            server.server_close()


class _States(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def StreamAggregatedResources(  # noqa: N802 - gRPC's name
        self, requests: Iterator[Any], context: Any
    ) -> Iterator[Any]:
        yield from (self._cluster.states for _ in islice(requests, 1))
        for _ in requests:
            pass  # what acknowledges it


def _whole(pages: list[bytes]) -> bytes:
    """A list that is not asked for in pages."""
    if len(pages) == 1:
        return pages[0]
    whole = json.loads(pages[0])
    whole["metadata"].pop("continue", None)
    whole["items"] = [item for page in pages for item in json.loads(page)["items"]]
    return json.dumps(whole).encode()


def _tls(cluster: Cluster) -> ssl.SSLContext:
    certificate, key = issued(NAME, cluster.ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        file = Path(folder, "both.pem")
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(pem(certificate).encode() + private)
        context.load_cert_chain(file)
    return context
