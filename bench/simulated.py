"""A cluster of any size on loopback: an API server's lists, paged, and istiod's debug port.

The pods are one of the lab's, with other names.
"""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PAGE = 500
TYPES = ("cluster.v3.Cluster", "endpoint.v3.ClusterLoadAssignment", "listener.v3.Listener")
TYPES = (*TYPES, "route.v3.RouteConfiguration")


# a sidecar's pod as the lab has it
POD = (Path(__file__).parent / "pod.json").read_text()


def pod(number: int) -> dict[str, Any]:
    """A meshed pod, real but for its name and namespace."""
    meshed: dict[str, Any] = json.loads(POD)
    meshed["metadata"] |= {
        "name": f"app-{number // 5:05}-{number % 5}",
        "namespace": f"team-{number % 500:03}",
    }
    return meshed


def istiod(address: str) -> dict[str, Any]:
    """istiod's only replica, which is reached at `address`."""
    return {
        "metadata": {"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {"containers": [{"name": "discovery", "image": "istio/pilot:1.29.1"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


DEPLOYMENT = {
    "metadata": {
        "name": "istiod",
        "namespace": "istio-system",
        "labels": {"app": "istiod"},
        "generation": 1,
    },
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {"containers": [{"name": "discovery", "image": "istio/pilot:1.29.1"}]}
        },
    },
    "status": {
        "observedGeneration": 1,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
    },
}


def sync(entry: dict[str, Any]) -> dict[str, Any]:
    """istiod's word on one pod's proxy: everything acknowledged."""
    nonce = "2026-01-01T00:00:00Z/167d5761d6-3c30-42c6-87b8-a342c5e60b15"
    state = {"sent": nonce, "acked": nonce, "sentTime": "2026-01-01T00:00:00.123456789Z"}
    return {
        "cluster_id": "Kubernetes",
        "proxy": f"{entry['metadata']['name']}.{entry['metadata']['namespace']}",
        "proxy_type": "sidecar",
        "istio_version": "1.29.1",
        "resources": {f"type.googleapis.com/envoy.config.{name}": state for name in TYPES},
    }


class Cluster:
    """`proxies` meshed pods and one istiod, as bytes that are ready to be sent."""

    def __init__(self, proxies: int, address: str) -> None:
        pods = [pod(number) for number in range(proxies)]
        self.lists = {
            "/api/v1/pods": _pages([istiod(address), *pods]),
            "/apis/apps/v1/deployments": _pages([DEPLOYMENT]),
        }
        self.syncz = json.dumps([sync(entry) for entry in pods]).encode()
        self.bytes = sum(map(len, self.lists["/api/v1/pods"])) + len(self.syncz)


def _pages(objects: list[dict[str, Any]]) -> list[bytes]:
    starts = range(0, max(len(objects), 1), PAGE)
    return [
        json.dumps(
            {
                "metadata": {"continue": str(start + PAGE)} if start + PAGE < len(objects) else {},
                "items": objects[start : start + PAGE],
            }
        ).encode()
        for start in starts
    ]


@contextmanager
def serving(cluster: Cluster, address: str) -> Iterator[str]:
    """Serves the API server on a free port and istiod on its own; gives the API server's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            position = int(dict(parse_qsl(url.query)).get("continue", 0))
            fixed = {
                "/version": b'{"gitVersion":"v1.34.4"}',
                "/debug/syncz": cluster.syncz,
            }
            if url.path in cluster.lists:
                body = cluster.lists[url.path][position // PAGE]
            else:
                body = fixed.get(url.path, b'{"items":[]}')
            if self.server.server_address[1] == 15014 and url.path == "/version":
                body = b"1.29.1-0000000-Clean"
            packed = "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1000
            body = gzip.compress(body, 1) if packed else body
            self.send_response(200)
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: it would be measured too."""

    servers = [ThreadingHTTPServer((address, port), Handler) for port in (0, 15014)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{servers[0].server_address[1]}"
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
