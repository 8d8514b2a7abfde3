"""check_mtls.py on a real mesh: each fault closes the gate for its own reason, until it is fixed.

Faults that do not touch each other are applied together and found in one run, each by its own line.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from tests.lab.harness import OLD, Lab, Stage, until
from tests.lab.rights import VERIFIER, grant
from tests.support.webhook_builders import issued

Run = Callable[..., Stage]

FILE = "verification/check_mtls.py"
NOW = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def dataplane(lab: Lab) -> Run:
    """Runs check_mtls.py as the verifier in the cluster."""

    def run(*words: str, settle: int = 4) -> Stage:
        # a reset takes the account away again
        grant(lab)
        return lab.pytest(FILE, f"--settle={settle}", *words, identity=VERIFIER)

    return run


@pytest.fixture
def recovers(lab: Lab, dataplane: Run) -> Iterator[None]:
    """After the test: remove the faults; the same stage passes."""
    yield
    lab.verb("reset")
    stage = dataplane(settle=30)
    assert stage.exit == 0, stage.output


pytestmark = pytest.mark.usefixtures("recovers")


def found(stage: Stage, check: str, subject: str, words: str) -> None:
    """One line that says so."""
    assert any(
        line.startswith(f"FAIL {check} {subject}") and words in line for line in stage.failures
    ), f"no line {check} {subject} … {words} in:\n{stage.output}"


def peer(
    name: str, mode: str, namespace: str = "shop", app: str = "", **spec: Any
) -> dict[str, Any]:
    selector = {"selector": {"matchLabels": {"app": app}}} if app else {}
    mtls = {"mtls": {"mode": mode}} if mode else {}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**selector, **mtls, **spec},
    }


def rule(name: str, host: str, **traffic_policy: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"host": host, "trafficPolicy": traffic_policy},
    }


def authorization(name: str, app: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": app}}, **spec},
    }


def workload(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    """A Deployment of the sample application in shop."""
    labels = {"app": name}
    container = {
        "name": "app",
        "image": "docker.io/lab/app:1",
        "imagePullPolicy": "Never",
        "args": ["http"],
        "ports": [{"containerPort": 8080, "name": "http"}],
    }
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def status(lab: Lab, url: str) -> str:
    """How a GET of shop/client, whose sidecar knows the mesh's names, is answered; empty if not."""
    client = ("kubectl", "exec", "-n", "shop", "deployment/client", "-c", "app", "--")
    answer = lab.run(*client, "labapp", "get", url).stdout
    return answer.split()[1] if answer else ""


def injected(lab: Lab) -> bool:
    """Whether a pod that is made in shop now is given a sidecar; none is made."""
    template = workload("tried", {})["spec"]["template"]
    pod = {**template, "apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "tried", "namespace": "shop"}
    tried = ("create", "--dry-run=server", "--output=json", "-f", "-")
    return "istio-proxy" in lab.kubectl(*tried, input=json.dumps(pod))


def proxy_config(**metadata: str) -> dict[str, str]:
    return {"proxy.istio.io/config": json.dumps({"proxyMetadata": metadata})}


def of_another_root() -> tuple[dict[str, Any], dict[str, str]]:
    """A Secret, and the annotations with which a sidecar takes its certificate from it.

    Where an agent finds one in /etc/certs it asks no CA.  With a root beside it, it would not even
    follow istiod.
    """
    root = issued("another root", begins=NOW)
    name = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/shop/sa/default")
    own = issued("workload", root, ca=False, begins=NOW, sans=(name,))
    files = {"cert-chain.pem": own.pem + root.pem, "key.pem": own.key_pem.decode()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "foreign", "namespace": "shop"},
        "stringData": files,
    }
    volume = [{"name": "foreign", "secret": {"secretName": "foreign"}}]
    mount = [{"name": "foreign", "mountPath": "/etc/certs", "readOnly": True}]
    return secret, {
        "sidecar.istio.io/userVolume": json.dumps(volume),
        "sidecar.istio.io/userVolumeMount": json.dumps(mount),
    }


def test_a_healthy_mesh_opens_the_gate_but_not_for_a_laptop(lab: Lab, dataplane: Run) -> None:
    stage = dataplane(settle=30)
    assert stage.exit == 0, stage.output
    assert stage.failures == []

    # a port-forward ends behind the sidecar: STRICT or not, plaintext is answered there
    pod = f"shop/{lab.pod('shop', 'web')}"
    laptop = lab.pytest(FILE, "--settle=4")
    assert laptop.exit == 10, laptop.output
    assert "UNKNOWN DP004" in laptop.output
    assert "run inside the cluster" in laptop.output
    assert pod not in laptop.output


def test_policies_that_accept_too_much(lab: Lab, dataplane: Run) -> None:
    lab.apply(
        peer("default", "PERMISSIVE", "payments"),
        peer("orders", "DISABLE", app="orders"),
        peer("web", "", app="web", portLevelMtls={"8080": {"mode": "PERMISSIVE"}}),
        peer("ledger", "PERMISSIVE", app="ledger"),
    )

    stage = dataplane(settle=30)
    assert stage.exit == 0, stage.output
    assert stage.output.count("WARN DP004") == 4, stage.output

    strict = dataplane("--require-mtls=strict")
    assert strict.exit == 1
    assert strict.first.startswith("FAIL DP004 Pod payments/api-"), strict.output
    assert "PERMISSIVE by PeerAuthentication payments/default (expected STRICT)" in strict.first
    found(strict, "DP004", "Pod shop/orders-", "DISABLE by PeerAuthentication shop/orders")
    found(strict, "DP004", "Pod shop/web-", "PERMISSIVE by PeerAuthentication shop/web, port 8080")
    found(strict, "DP004", "Pod shop/ledger-", "PERMISSIVE by PeerAuthentication shop/ledger")


def test_rules_and_policies_that_reject_callers(lab: Lab, dataplane: Run) -> None:
    port = {"port": {"number": 80}, "tls": {"mode": "DISABLE"}}
    lab.apply(
        authorization("nobody", "web", action="DENY", rules=[{}]),
        authorization("empty", "api", "payments"),
    )
    # what rules say does not heal, so all is judged on one look; and who would see this is stopped
    until(lambda: status(lab, "http://web/") == "403")
    until(lambda: status(lab, "http://api.payments/") == "403")
    lab.apply(
        rule("plain", "web", tls={"mode": "DISABLE"}),
        rule("simple", "ledger.shop.svc.cluster.local", tls={"mode": "SIMPLE"}),
        rule("port", "orders", portLevelSettings=[port]),
        rule("bare", "batch.legacy.svc.cluster.local", tls={"mode": "ISTIO_MUTUAL"}),
    )

    stage = dataplane()

    assert stage.exit == 1
    assert stage.first.startswith("FAIL DP006 DestinationRule shop/bare"), stage.output
    found(stage, "DP006", "DestinationRule shop/plain", "trafficPolicy.tls sets DISABLE")
    found(stage, "DP006", "DestinationRule shop/simple", "for Service shop/ledger")
    found(stage, "DP006", "DestinationRule shop/port", "trafficPolicy port 80 sets DISABLE")
    found(stage, "DP007", "Pod shop/web-", "AuthorizationPolicy shop/nobody denies every request")
    found(stage, "DP007", "Pod payments/api-", "AuthorizationPolicy payments/empty denies every")
    # a denial is not a fault of mTLS
    assert not any(line.startswith("FAIL DP004") for line in stage.failures), stage.output


def test_an_unauthorized_identity_is_denied_as_intended(lab: Lab, dataplane: Run) -> None:
    client = {"source": {"principals": ["cluster.local/ns/shop/sa/client"]}}
    lab.apply(authorization("client", "web", rules=[{"from": [client]}]))

    stage = dataplane(settle=30)

    assert stage.exit == 0, stage.output
    assert "pass DP007" in stage.output


def test_faulty_sidecars(lab: Lab, dataplane: Run) -> None:
    lab.kubectl("label", "namespace", "shop", "istio-injection-", "--overwrite")
    until(lambda: not injected(lab))
    lab.apply(workload("bare", {}))
    lab.kubectl("rollout", "status", "-n", "shop", "deployment/bare", "--timeout=120s")
    lab.kubectl("label", "namespace", "shop", "istio-injection=enabled")
    until(lambda: injected(lab))
    old = {"sidecar.istio.io/proxyImage": f"docker.io/istio/proxyv2:{OLD}"}
    secret, foreign = of_another_root()
    lab.apply(
        secret,
        workload("foreign", foreign),
        workload("pinned", old),
        workload("past", {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}),
        workload("uncaptured", {"traffic.sidecar.istio.io/includeInboundPorts": ""}),
        # Istio dates a certificate two minutes back: of one for 20 s little is left at once
        workload("short", proxy_config(SECRET_TTL="20s")),
    )
    for name in ("foreign", "pinned", "past", "uncaptured", "short"):
        lab.kubectl("rollout", "status", "-n", "shop", f"deployment/{name}", "--timeout=180s")

    stage = dataplane()

    assert stage.exit == 1
    assert stage.first.startswith("FAIL DP001 Pod shop/bare-"), stage.output
    assert (
        "has no sidecar, although its namespace and labels select it for injection" in stage.first
    )
    found(stage, "DP002", "Pod shop/pinned-", f"its sidecar is {OLD}: its image is pinned")
    found(stage, "DP004", "Pod shop/past-", "excludeInboundPorts: 8080")
    found(stage, "DP004", "Pod shop/uncaptured-", "includeInboundPorts")
    found(stage, "DP005", "Pod shop/short-", "of its lifetime is left")
    found(stage, "DP005", "Pod shop/foreign-", "its sidecar's certificate is not trusted")


def test_a_suspended_proxy_is_not_a_rejected_connection(lab: Lab, dataplane: Run) -> None:
    pod = f"shop/{lab.pod('shop', 'web')}"
    lab.verb("freeze", pod)

    stage = dataplane()

    assert stage.exit == 10, stage.output
    assert any(
        line.startswith("UNKNOWN DP004") and f"Pod {pod} port 8080 does not answer" in line
        for line in stage.failures
    ), stage.output


def test_unreachable_ports_are_counted_and_close_no_gate(lab: Lab, dataplane: Run) -> None:
    lab.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "machine", "namespace": "shop"},
            "spec": {"address": "192.0.2.7", "labels": {"app": "machine"}},
        },
        _on_the_node(),
    )
    lab.kubectl("wait", "pod/on-the-node", "-n", "shop", "--for=condition=Ready", "--timeout=120s")

    stage = dataplane(settle=30)

    assert stage.exit == 0, stage.output
    assert "WARN DP004 the mesh: 1 WorkloadEntries were not probed" in stage.output
    assert "on-the-node" not in stage.output


def test_ambient_mode_by_a_label_alone(lab: Lab, dataplane: Run) -> None:
    """Nothing captures the pods of this namespace: the mesh has neither a CNI agent nor ztunnel."""
    lab.kubectl("label", "namespace", "legacy", "istio.io/dataplane-mode=ambient")

    stage = dataplane("--accept-unverified=ambient", settle=5)

    assert stage.exit == 1, stage.output
    assert stage.first.startswith("FAIL DP012 Pod legacy/batch-"), stage.output
    assert "does not serve HBONE" in stage.first


def _on_the_node() -> dict[str, Any]:
    """A pod on the node's network, which no sidecar can be for."""
    container = {
        "name": "app",
        "image": "docker.io/lab/app:1",
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sleep", "3600"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "on-the-node", "namespace": "shop"},
        "spec": {
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    }


@pytest.fixture
def let_nobody_in(lab: Lab) -> Iterator[str]:
    """A NetworkPolicy for web, and what a network that knows such policies does: packets vanish."""
    (pod,) = lab.get("pods", "-n", "shop", "-l", "app=web")["items"]
    lab.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "nobody", "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
        }
    )
    rule = ("OUTPUT", "-p", "tcp", "-d", pod["status"]["podIP"], "--dport", "8080", "-j", "DROP")
    lab.verb("node", "iptables", "-I", *rule)
    yield f"shop/{pod['metadata']['name']}"
    lab.verb("node", "iptables", "-D", *rule)


def test_a_network_policy_that_blocks_probes_is_named(let_nobody_in: str, dataplane: Run) -> None:
    stage = dataplane()

    assert stage.exit == 10, stage.output
    (line,) = [line for line in stage.failures if line.startswith("UNKNOWN DP004")]
    assert f"Pod {let_nobody_in} port 8080 does not answer" in line
    assert "NetworkPolicy shop/nobody, which selects it" in stage.output


def test_shards_together_see_the_same_as_one_run(lab: Lab, dataplane: Run) -> None:
    lab.apply(peer("default", "PERMISSIVE", "payments"), peer("web", "PERMISSIVE", app="web"))
    # a lax policy is reported from the policy itself, before its sidecar follows it
    followed = dataplane(settle=30)
    assert followed.exit == 0, followed.output

    whole = dataplane("--require-mtls=strict")
    shards = [dataplane("--require-mtls=strict", f"--shard={n}/2") for n in range(2)]

    of_ports = [line for line in whole.failures if line.startswith("FAIL DP004")]
    assert len(of_ports) == 2, whole.output
    assert sorted(
        line for shard in shards for line in shard.failures if line.startswith("FAIL DP004")
    ) == sorted(of_ports)
