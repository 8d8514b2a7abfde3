"""Traffic during an upgrade: nothing is lost in a mesh that drains, and each loss has its cause.

The tests share one mesh of the release before the newest, and the last one upgrades it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from meshgate.snapshot.store import load
from meshgate.snapshot.watch import Watch
from tests.lab.harness import NEW, OLD, ROOT, Lab, Stage, until
from tests.lab.rights import VERIFIER, grant

IMAGE = "docker.io/lab/python:1"
TARGETS = (
    "http://api.payments/healthz",
    "http2://api.payments/healthz",
    "http://web.shop/healthz",
    "http://orders.shop/healthz",
    "tcp://ledger.shop:9000",
    "idle://ledger.shop:9000",
)
LOSSES = "--check=CP028,IG011,DP015"
# Istio's documentation: stop new requests first, then drain longer than clients need to notice
DRAIN = json.dumps({"terminationDrainDuration": "10s"})
APP = {
    "terminationGracePeriodSeconds": 40,
    "containers": [{"name": "app", "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}],
}
GATEWAY = {
    "terminationGracePeriodSeconds": 40,
    "containers": [
        {"name": "istio-proxy", "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}},
    ],
}
WORKLOADS = {
    "payments": ("api",),
    "shop": ("web", "orders", "ledger"),
    "istio-ingress": ("istio-ingressgateway",),
}


def template(spec: dict[str, Any]) -> str:
    """The patch of a Deployment that lets its pods drain."""
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    metadata = {"annotations": {"proxy.istio.io/config": DRAIN}}
    return json.dumps(
        {"spec": {"strategy": strategy, "template": {"metadata": metadata, "spec": spec}}}
    )


def rolled_out(lab: Lab, namespace: str, name: str) -> None:
    where = (f"deployment/{name}", "-n", namespace, "--timeout=300s")
    lab.kubectl("rollout", "status", *where)


def drain(lab: Lab) -> None:
    """Let every workload that is watched drain as Istio documents it."""
    for namespace, names in WORKLOADS.items():
        for name in names:
            spec = GATEWAY if namespace == "istio-ingress" else APP
            patch = ("--type=strategic", "-p", template(spec))
            lab.kubectl("patch", "deployment", name, "-n", namespace, *patch)
    deployment = {
        "spec": {
            "template": {
                "metadata": {"annotations": {"proxy.istio.io/config": DRAIN}},
                "spec": GATEWAY,
            }
        }
    }
    data = {
        "service": json.dumps({"spec": {"type": "ClusterIP"}}),
        "deployment": json.dumps(deployment),
    }
    lab.kubectl(
        "patch", "configmap", "shop-gateway", "-n", "shop", "-p", json.dumps({"data": data})
    )
    for namespace, names in WORKLOADS.items():
        for name in names:
            rolled_out(lab, namespace, name)
    until(
        lambda: "preStop" in lab.kubectl("get", "deployment", "shop-istio", "-n", "shop", "-ojson")
    )
    rolled_out(lab, "shop", "shop-istio")


@pytest.fixture(scope="module")
def mesh(old: Lab) -> Lab:
    """A mesh whose workloads drain."""
    drain(old)
    old.verb("save")
    return old


class Running:
    """A watch that runs: what it has saved so far, and how the gates judge it."""

    def __init__(self, lab: Lab, file: Path) -> None:
        self._lab, self._file = lab, file

    def seen(self) -> Watch:
        """What it saved last."""
        found = load(self._file).watch
        assert found is not None
        return found

    def more(self, seconds: float = 12) -> None:
        """Wait until so much more was watched and saved."""
        last = self.seen().last
        until(lambda: (self.seen().last - last).total_seconds() >= seconds, timeout=180)

    def judged(self, *words: str) -> Stage:
        """The checks about losses, as the verifier runs them."""
        where = (f"--watch={self._file}", "--settle=0")
        return self._lab.pytest(*(words or (LOSSES,)), *where, identity=VERIFIER)


@contextmanager
def watch(lab: Lab, folder: Path, *targets: str) -> Iterator[Running]:
    """A watch from its first answers to the block's end."""
    grant(lab)
    file, log = folder / "watch.json.gz", (folder / "watch.log").open("w")
    words = [f"--target={each}" for each in targets or TARGETS]
    command = [
        *("--as", VERIFIER, str(ROOT / ".venv/bin/meshgate"), "watch", str(file)),
        *(f"--image={IMAGE}", "--slow-after=60000", "--rate=10", "--mesh-rate=30", *words),
    ]
    process = lab.start(*command)
    running = Running(lab, file)
    try:
        until(lambda: file.exists() or process.poll() is not None, timeout=120)
        until(lambda: _answered(running.seen(), len(targets or TARGETS)), timeout=240)
        running.more(5)
        yield running
    finally:
        process.terminate()
        ended = process.wait()
        log.close()
    assert ended == 0


def _answered(seen: Watch, count: int) -> bool:
    declared = [each for each in seen.flows if each.declared and each.answered]
    return len(declared) >= count and any(not each.observer and each.sent for each in seen.flows)


@pytest.fixture
def lab(mesh: Lab) -> Lab:
    """The mesh, with what an earlier test broke repaired."""
    mesh.verb("reset")
    return mesh


def lines(stage: Stage, check: str) -> list[str]:
    """The findings of a check."""
    return [each for each in stage.failures if each.split()[1] == check]


def test_a_workload_without_drain_loses_requests_while_its_pod_terminates(
    lab: Lab, tmp_path: Path
) -> None:
    abrupt = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "app", "lifecycle": None}],
    }
    patch = {"spec": {"template": {"metadata": {"annotations": None}, "spec": abrupt}}}
    lab.kubectl(
        *("patch", "deployment", "api", "-n", "payments", "--type=strategic", "-p"),
        json.dumps(patch),
    )
    rolled_out(lab, "payments", "api")
    with watch(lab, tmp_path) as running:
        for _ in range(3):
            lab.kubectl("delete", "pod", "-n", "payments", "-l", "app=api")
            rolled_out(lab, "payments", "api")
        running.more()
        stage = running.judged()

    assert stage.exit == 1, stage.output
    found = [each for each in lines(stage, "DP015") if "Service payments/api: " in each]
    assert found, stage.output
    for each in found:
        assert "while Pod payments/api-" in each, stage.output
        assert "was terminating (terminationDrainDuration 1s)" in each, stage.output


def test_a_gateway_that_is_scaled_to_zero_loses_requests(lab: Lab, tmp_path: Path) -> None:
    where = ("deployment/istio-ingressgateway", "-n", "istio-ingress")
    with watch(lab, tmp_path) as running:
        lab.kubectl("scale", *where, "--replicas=0")
        lab.kubectl(
            *("wait", "pod", "-l", "app=istio-ingressgateway", "-n", "istio-ingress"),
            *("--for=delete", "--timeout=120s"),
        )
        time.sleep(2)  # the fault itself
        lab.kubectl("scale", *where, "--replicas=1")
        rolled_out(lab, "istio-ingress", "istio-ingressgateway")
        running.more()
        stage = running.judged()

    assert stage.exit == 1, stage.output
    found = lines(stage, "IG011")
    assert any("Gateway istio-ingress/shop: " in each for each in found), stage.output
    assert any("while Pod istio-ingress/istio-ingressgateway-" in each for each in found)


def test_an_istiod_that_refuses_connections_is_reported_as_seen(lab: Lab, tmp_path: Path) -> None:
    where = ("deployment/istiod", "-n", "istio-system")
    with watch(lab, tmp_path) as running:
        lab.kubectl("scale", *where, "--replicas=0")
        running.more(15)
        lab.kubectl("scale", *where, "--replicas=1")
        rolled_out(lab, "istio-system", "istiod")
        running.more()
        seen, stage = running.seen(), running.judged()

    # proxies keep their configuration: nothing is lost, and what happened is recorded
    assert stage.exit == 0, stage.output
    assert any(each.role == "istiod" and each.what == "was terminating" for each in seen.happenings)


CUT: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "cut", "namespace": "shop"},
    "spec": {
        "workloadSelector": {"labels": {"app": "ledger"}},
        "configPatches": [
            {
                "applyTo": "NETWORK_FILTER",
                "match": {
                    "context": "SIDECAR_INBOUND",
                    "listener": {
                        "filterChain": {"filter": {"name": "envoy.filters.network.tcp_proxy"}}
                    },
                },
                "patch": {
                    "operation": "MERGE",
                    "value": {
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network"
                            ".tcp_proxy.v3.TcpProxy",
                            "idle_timeout": "3s",
                        }
                    },
                },
            }
        ],
    },
}


def test_an_envoy_filter_that_breaks_long_lived_connections_is_named(
    lab: Lab, tmp_path: Path
) -> None:
    with watch(lab, tmp_path) as running:
        lab.apply(CUT)
        running.more(75)  # the proxy drains the changed listener for 45 s
        stage = running.judged()

    assert stage.exit == 1, stage.output
    (found,) = [each for each in lines(stage, "DP015") if "idle://ledger.shop:9000" in each]
    assert "interruptions of the idle connection" in found
    assert "after EnvoyFilter shop/cut was created" in found


# Events without end at /events, and a WebSocket at /ws.
STREAMING = """
import base64, hashlib, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ws":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_header("Sec-WebSocket-Accept", accepted)
            self.end_headers()
            while self.rfile.read(6):  # an empty ping with its mask
                self.wfile.write(b"\\x8a\\x00")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"9\\r\\ndata: x\\n\\n\\r\\n")
            time.sleep(0.5)

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def streaming() -> tuple[dict[str, Any], dict[str, Any]]:
    """A workload of the mesh with long-lived connections, and its Service."""
    labels = {"app": "streams"}
    container = {
        "name": "app",
        "image": IMAGE,
        "command": ["python3", "-c", STREAMING],
        "ports": [{"containerPort": 8080}],
    }
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "streams", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "streams", "namespace": "shop"},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }
    return deployment, service


def short_streams() -> dict[str, Any]:
    """Every stream to that workload ends after three seconds."""
    manager = {"name": "envoy.filters.network.http_connection_manager"}
    options = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "common_http_protocol_options": {"max_stream_duration": "3s"},
    }
    patch = {
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": "SIDECAR_INBOUND",
            "listener": {"filterChain": {"filter": manager}},
        },
        "patch": {"operation": "MERGE", "value": {"typed_config": options}},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "short-streams", "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": "streams"}},
            "configPatches": [patch],
        },
    }


def _applied(lab: Lab, object: dict[str, Any]) -> bool:
    return lab.run("kubectl", "apply", "-f", "-", input=json.dumps(object)).returncode == 0


def test_streams_web_sockets_and_grpc_of_real_services(lab: Lab, tmp_path: Path) -> None:
    lab.apply(*streaming())
    rolled_out(lab, "shop", "streams")
    long_lived = ("stream://streams.shop/events", "ws://streams.shop/ws")
    istiod = "grpc://istiod.istio-system:15010"
    with watch(lab, tmp_path, *long_lived, istiod) as running:
        running.more(20)
        before, healthy = running.seen(), running.judged()
        lab.kubectl("delete", "pod", "-n", "istio-system", "-l", "app=istiod", "--grace-period=1")
        rolled_out(lab, "istio-system", "istiod")
        # its webhook is reachable once kube-proxy knows the new pod
        until(lambda: _applied(lab, short_streams()))
        running.more(75)  # the proxy drains the changed listener for 45 s
        stage = running.judged()

    declared = {each.kind: each for each in before.flows if each.declared}
    assert healthy.exit == 0, healthy.output
    assert declared.keys() == {"stream", "websocket", "grpc"}
    assert declared["grpc"].sent > 10
    assert stage.exit == 1, stage.output
    found = "\n".join(lines(stage, "DP015"))
    for kind in ("stream", "websocket"):
        assert f"interruptions of the {kind} connection to" in found, stage.output
    assert "after EnvoyFilter shop/short-streams was created" in found, stage.output
    (lost,) = [each for each in lines(stage, "DP015") if istiod in each]
    assert "while Pod istio-system/istiod-" in lost, stage.output


def test_a_policy_that_rejects_the_caller_is_named(lab: Lab, tmp_path: Path) -> None:
    source = {"namespaces": ["istio-verification-probes"]}
    deny = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny", "namespace": "payments"},
        "spec": {"action": "DENY", "rules": [{"from": [{"source": source}]}]},
    }
    with watch(lab, tmp_path) as running:
        lab.apply(deny)
        running.more(15)
        stage = running.judged()

    assert stage.exit == 1, stage.output
    found = [each for each in lines(stage, "DP015") if "Service payments/api: " in each]
    assert len(found) == 2, stage.output  # over HTTP/1.1 and over HTTP/2
    for each in found:
        assert "(403 RBAC: access denied), after AuthorizationPolicy payments/deny was" in each


def test_an_upgrade_of_a_mesh_that_drains_loses_nothing(lab: Lab, tmp_path: Path) -> None:
    with watch(lab, tmp_path) as running:
        lab.verb("upgrade", NEW)
        until(lambda: _peers(running.seen()), timeout=240)
        running.more()
        between = running.judged("--check=CP028,DP016")
        lab.verb("upgrade", NEW, "--restart")
        running.more(30)
        seen = running.seen()
        after = running.judged(LOSSES)
        interop = running.judged("--check=DP016")

        lab.apply(incompatible())
        until(lambda: running.judged("--check=DP016").exit == 1, timeout=180)
        broken = running.judged("--check=DP016")

    assert [each.proxy for each in seen.observers] == [OLD, NEW]
    assert interop.exit == 0, interop.output
    assert broken.exit == 1, broken.output
    assert any(f"from proxy {OLD} to proxy {NEW}" in each for each in broken.failures)
    # the other direction still works
    assert not any(f"from proxy {NEW} to proxy {OLD}" in each for each in broken.failures)
    # on an overloaded machine, time-outs are losses too
    assert between.exit == 0, between.output
    assert after.exit == 0, after.output
    assert seen.lost == 0, seen.words


def _peers(seen: Watch) -> bool:
    """Whether both observers answer each other, over everything."""
    flows = [each for each in seen.flows if each.peer in ("a", "b")]
    return len(flows) >= 12 and all(each.answered for each in flows)


def incompatible() -> dict[str, Any]:
    """New proxies refuse what arrives over HTTP, as after an incompatible change."""
    minor = ".".join(NEW.split(".")[:2]).replace(".", r"\.")
    answer = {
        "inline_string": "function envoy_on_request(h) h:respond({[':status']='503'}, '') end"
    }
    lua = {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": answer,
        },
    }
    manager = {"name": "envoy.filters.network.http_connection_manager"}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "SIDECAR_INBOUND",
            "proxy": {"proxyVersion": rf"^{minor}.*"},
            "listener": {"filterChain": {"filter": manager}},
        },
        "patch": {"operation": "INSERT_BEFORE", "value": lua},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "incompatible", "namespace": "istio-verification-probes"},
        "spec": {"configPatches": [patch]},
    }
