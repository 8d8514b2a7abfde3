"""Ambient mode on a real mesh, with a simulated ztunnel: each fault closes its gate."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshgate.semantics.declared_pairs import read_pairs
from tests.lab.gates import PROBE_IMAGE, Gates
from tests.lab.harness import NEW, OLD, Lab, Stage, lab_of, until
from tests.lab.rights import VERIFIER, grant

MESHGATE = str(Path(sys.executable).with_name("meshgate"))
NODE_AGENTS = ("-n", "istio-system")
WAYPOINT = "gateway.networking.k8s.io/gateway-name=waypoint"
PAIR = (f"--probe-pair={PROBE_IMAGE}", "--probe-deadline=180")


@pytest.fixture(scope="module")
def ambient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A mesh with sidecars and ambient mode: $MESHGATE_LAB_AMBIENT, or one for this module."""
    workspace = tmp_path_factory.mktemp("ambient")
    with lab_of(NEW, workspace, "--ambient", named="MESHGATE_LAB_AMBIENT") as lab:
        yield lab


@pytest.fixture
def mesh(ambient: Lab) -> Iterator[Lab]:
    """That mesh when it is healthy; healthy again after the test."""
    ambient.verb("reset")
    yield ambient
    ambient.verb("reset")


def ingress(lab: Lab, *words: str) -> Stage:
    grant(lab)
    return lab.pytest("-m", "ingress", "--settle=10", *words, identity=VERIFIER)


def dataplane(lab: Lab, *words: str) -> Stage:
    grant(lab)
    return lab.pytest("-m", "dataplane", "--settle=10", *words, identity=VERIFIER)


def controlplane(lab: Lab, *words: str) -> Stage:
    grant(lab)
    return lab.pytest("-m", "controlplane", "--settle=10", *words, identity=VERIFIER)


def agents(lab: Lab, *words: str) -> Stage:
    """Stage `ambient`: after the CNI agent and ztunnel."""
    grant(lab)
    return lab.pytest("-m", "ambient", "--settle=10", *words, identity=VERIFIER)


def found(stage: Stage, check: str, subject: str, words: str) -> None:
    """Check that a line says so."""
    assert any(
        line.startswith(f"FAIL {check} {subject}") and words in line for line in stage.failures
    ), f"no line {check} {subject} … {words} in:\n{stage.output}"


def test_a_healthy_mesh_opens_the_gates(mesh: Lab) -> None:
    """Nothing is accepted unverified: what is in ambient mode was verified on the wire."""
    for stage, checks in (
        (controlplane(mesh), ("CP025", "CP026", "CP027")),
        (agents(mesh), ("AM001", "AM002", "AM003", "AM004")),
        (ingress(mesh), ("IG014", "IG015")),
        (dataplane(mesh, "--require-mtls=strict", *PAIR), ("DP004", "DP012", "DP013", "DP014")),
    ):
        assert stage.exit == 0, stage.output
        for check in checks:
            assert any(line.startswith(f"pass {check} ") for line in stage.verdict), stage.output


def test_a_pair_in_ambient_mode(mesh: Lab) -> None:
    labels = ("istio-injection-", "istio.io/dataplane-mode=ambient")
    mesh.kubectl("label", "namespace", "istio-verification-probes", *labels)

    stage = dataplane(mesh, *PAIR)

    assert stage.exit == 0, stage.output


# --- faults -------------------------------------------------------------------------------------


def test_without_ztunnel_no_pod_serves_hbone_and_no_new_pod_starts(mesh: Lab) -> None:
    mesh.kubectl("delete", "daemonset", "ztunnel", "-n", "istio-system", "--wait")
    until(lambda: not mesh.get("pods", "-n", "istio-system", "-l", "app=ztunnel")["items"])

    before = mesh.pytest("-m", "precheck", f"--target-version={NEW}", "--settle=5")
    after = controlplane(mesh)
    traffic = dataplane(mesh)

    for stage, check in ((before, "PC016"), (after, "CP027"), (agents(mesh), "AM003")):
        assert stage.exit == 1, stage.output
        found(stage, check, "Node ", "pods in ambient mode and no Ready ztunnel")
    assert after.first.startswith("FAIL CP027 Node "), after.output
    assert traffic.exit == 1, traffic.output
    assert traffic.first.startswith("FAIL DP012 Pod "), traffic.output
    found(traffic, "DP012", "Pod library/catalog-", "does not serve HBONE")

    mesh.kubectl("rollout", "restart", "-n", "library", "deployment/catalog")
    until(lambda: bool(_events(mesh, "library", "FailedCreatePodSandBox")))
    stuck = controlplane(mesh)
    found(stuck, "CP027", "Pod library/catalog-", "cannot start on node")
    found(agents(mesh), "AM002", "Pod library/catalog-", "cannot start on node")


def _events(lab: Lab, namespace: str, reason: str) -> list[object]:
    items: list[object] = lab.get("events", "-n", namespace, f"--field-selector=reason={reason}")[
        "items"
    ]
    return items


def test_a_pod_that_was_never_captured_accepts_plaintext(mesh: Lab) -> None:
    mesh.kubectl("delete", "daemonset", "istio-cni-node", "-n", "istio-system", "--wait")
    cni = ("-n", "istio-system", "-l", "k8s-app=istio-cni-node")
    until(lambda: not mesh.get("pods", *cni)["items"])
    labels = ("istio-injection-", "istio.io/dataplane-mode=ambient")
    mesh.kubectl("label", "namespace", "legacy", *labels)

    stage = dataplane(mesh, *PAIR)

    assert stage.exit == 1, stage.output
    found(stage, "DP012", "Pod legacy/batch-", "does not serve HBONE")
    words = "is in ambient mode by its labels, but the CNI agent has not captured it"
    found(controlplane(mesh), "CP027", "Pod legacy/batch-", words)
    found(agents(mesh), "AM002", "Pod legacy/batch-", words)


def test_a_ztunnel_that_istiod_does_not_support(mesh: Lab) -> None:
    old, new = "docker.io/istio/ztunnel:1.28.2", f"docker.io/istio/ztunnel:{NEW}"
    mesh.verb("node", "ctr", "--namespace=k8s.io", "images", "tag", "--force", new, old)
    mesh.kubectl("set", "image", "daemonset/ztunnel", *NODE_AGENTS, f"istio-proxy={old}")
    mesh.kubectl("rollout", "status", "daemonset/ztunnel", *NODE_AGENTS, "--timeout=60s")

    stage = controlplane(mesh)

    assert stage.exit == 1, stage.output
    assert stage.first.startswith("FAIL CP016 DaemonSet istio-system/ztunnel"), stage.output
    found(stage, "CP016", "DaemonSet istio-system/ztunnel", "is of version 1.28.2")
    found(agents(mesh), "AM003", "DaemonSet istio-system/ztunnel", "is of version 1.28.2")
    before = mesh.pytest("-m", "precheck", f"--target-version={NEW}", "--settle=5")
    found(before, "PC015", "DaemonSet istio-system/ztunnel", "3 minor versions behind the target")


def test_ambient_mode_that_istiod_has_switched_off(mesh: Lab) -> None:
    mesh.kubectl("set", "env", "deployment/istiod", *NODE_AGENTS, "PILOT_ENABLE_AMBIENT=false")
    mesh.kubectl("rollout", "status", "deployment/istiod", *NODE_AGENTS, "--timeout=120s")

    stage = controlplane(mesh)

    assert stage.exit == 1, stage.output
    found(stage, "CP025", "Pod istio-system/istiod-", "ambient mode is disabled in istiod")


def test_a_waypoint_that_labels_select_and_istiod_does_not_use(mesh: Lab) -> None:
    mesh.kubectl("label", "service", "catalog", "-n", "library", "istio.io/use-waypoint=absent")

    stage = controlplane(mesh)

    assert stage.exit == 1, stage.output
    assert stage.first.startswith(
        "FAIL CP025 Service library/catalog: its labels select the waypoint library/absent"
    ), stage.output


def test_a_policy_that_ztunnel_rejected_is_not_enforced(mesh: Lab) -> None:
    rejecting = "LAB_REJECT=Authorization"
    mesh.kubectl("set", "env", "daemonset/ztunnel", "-n", "istio-system", rejecting)
    mesh.kubectl("rollout", "status", "daemonset/ztunnel", "-n", "istio-system")
    reader = ("-n", "library", "deployment/reader")
    mesh.kubectl("rollout", "restart", *reader)
    mesh.kubectl("rollout", "status", *reader, "--timeout=60s")

    rejected = controlplane(mesh)
    assert rejected.exit == 1, rejected.output
    assert rejected.first.startswith("FAIL CP004 Pod istio-system/ztunnel-"), rejected.output

    stage = dataplane(mesh, *PAIR)

    assert stage.exit == 1, stage.output
    found(stage, "DP013", "Pod library/catalog-", "port 8080 accepts plaintext from a pod")
    found(stage, "DP014", "Pod library/archive-", "although AuthorizationPolicy library/archive")


def test_an_old_waypoint(mesh: Lab) -> None:
    """Its Gateway names the old image: istiod reverts a change of the Deployment."""
    image = f"docker.io/istio/proxyv2:{OLD}"
    container = {"name": "istio-proxy", "image": image}
    overlay = {"spec": {"template": {"spec": {"containers": [container]}}}}
    mesh.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "old", "namespace": "gallery"},
            "data": {"deployment": json.dumps(overlay)},
        }
    )
    reference = {"group": "", "kind": "ConfigMap", "name": "old"}
    patch = json.dumps({"spec": {"infrastructure": {"parametersRef": reference}}})
    where = ("-n", "gallery")
    gateway = "gateways.gateway.networking.k8s.io"
    mesh.kubectl("patch", gateway, "waypoint", *where, "--type=merge", "-p", patch)
    until(lambda: image in json.dumps(mesh.get("deployment", "waypoint", *where)["spec"]))
    mesh.kubectl("rollout", "status", "deployment/waypoint", *where, "--timeout=60s")

    stage = ingress(mesh)

    assert stage.exit == 1, stage.output
    found(stage, "IG014", "Pod gallery/waypoint-", f"its proxy is {OLD}")


def test_a_waypoint_whose_listeners_are_rejected(mesh: Lab) -> None:
    """The EnvoyFilter that adapts waypoints to stock Envoy is gone: new listeners are rejected."""
    mesh.kubectl("delete", "envoyfilter", "stock-envoy-waypoint", "-n", "istio-system")
    mesh.kubectl("delete", "pod", "-n", "gallery", "-l", WAYPOINT, "--wait")
    gateway = mesh.get("gateways.gateway.networking.k8s.io", "waypoint", "-n", "gallery")
    programmed = [each for each in gateway["status"]["conditions"] if each["type"] == "Programmed"]
    assert [each["status"] for each in programmed] == ["True"]

    stage = ingress(mesh)

    assert stage.exit == 1, stage.output
    assert any(line.startswith("FAIL IG01") for line in stage.failures), stage.output
    found(controlplane(mesh), "CP004", "Pod gallery/waypoint-", "rejected its ")


def test_a_service_behind_a_waypoint_without_a_backend(mesh: Lab) -> None:
    mesh.kubectl("scale", "deployment/sculptures", "-n", "gallery", "--replicas=0")
    mesh.kubectl("wait", "pod", "-n", "gallery", "-l", "app=sculptures", "--for=delete")

    stage = ingress(mesh)

    assert stage.exit == 1, stage.output
    found(stage, "IG015", "Gateway gallery/waypoint", "to a request to Service gallery/sculptures")


# --- declared pairs -----------------------------------------------------------------------------


def declared(lab: Lab, file: Path, *rows: str) -> Stage:
    """DP017 with these pairs, by a verifier that may request the tokens of their callers."""
    if rows:
        file.write_text("pairs:\n" + "".join(f"  - {{ {row} }}\n" for row in rows))
    callers = sorted({each.caller for each in read_pairs(file.read_text())})
    grant(lab, *(word for each in callers for word in ("--token-of", each)))
    only = ("-m", "dataplane", "--check=DP017", "--settle=10", f"--pairs={file}")
    return lab.pytest(*only, identity=VERIFIER)


CATALOG, PAINTINGS = "library/catalog:80 GET", "gallery/paintings:80 GET"


def only_the_reader(lab: Lab) -> None:
    """A policy of layer 4, which ztunnel enforces for the catalog."""
    principal = "cluster.local/ns/library/sa/reader"
    lab.apply(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "catalog", "namespace": "library"},
            "spec": {
                "selector": {"matchLabels": {"app": "catalog"}},
                "rules": [{"from": [{"source": {"principals": [principal]}}]}],
            },
        }
    )


def test_declared_pairs_hold_at_ztunnel_and_at_a_waypoint(mesh: Lab, tmp_path: Path) -> None:
    """The callers are in ambient mode and with a sidecar; the policies are of layers 4 and 7."""
    only_the_reader(mesh)

    stage = declared(
        mesh,
        tmp_path / "pairs.yaml",
        f'from: library/reader, to: "{CATALOG} /healthz", expect: 200',
        f'from: library/reader, to: "{CATALOG} /status/403", expect: 403',
        f'from: payments/auditor, to: "{CATALOG} /healthz", expect: denied',
        'from: library/catalog, to: "library/archive:9000 GET /", expect: denied',
        f'from: library/reader, to: "{PAINTINGS} /healthz", expect: 200',
        f'from: library/reader, to: "{PAINTINGS} /status/403", expect: 403',
        f'from: payments/auditor, to: "{PAINTINGS} /healthz", expect: denied',
        'from: library/reader, to: "gallery/paintings:80 OPTIONS /", expect: denied',
        'from: payments/auditor, to: "gallery/sculptures:80 GET /healthz", expect: allowed',
    )

    assert stage.exit == 0, stage.output
    assert any(line.startswith("pass DP017 ") for line in stage.verdict), stage.output


def test_pairs_that_do_not_hold_in_ambient_mode(mesh: Lab, tmp_path: Path) -> None:
    only_the_reader(mesh)

    stage = declared(
        mesh,
        tmp_path / "pairs.yaml",
        f'from: payments/auditor, to: "{CATALOG} /healthz", expect: 200',
        f'from: library/reader, to: "{CATALOG} /healthz", expect: denied',
        f'from: payments/auditor, to: "{PAINTINGS} /healthz", expect: 200',
        f'from: library/reader, to: "{PAINTINGS} /healthz", expect: denied',
    )

    assert stage.exit == 1, stage.output
    catalog, waypoint = "Pod library/catalog-", "Pod gallery/waypoint-"
    by_ztunnel = "denies by an AuthorizationPolicy (CONNECT is answered 401)"
    found(stage, "DP017", catalog, f"{by_ztunnel} to the request of payments/auditor")
    found(
        stage, "DP017", catalog, "answers 200 by its application to the request of library/reader"
    )
    by_waypoint = "denies by an AuthorizationPolicy (403, RBAC: access denied)"
    found(stage, "DP017", waypoint, f"{by_waypoint} to the request of payments/auditor")
    found(stage, "DP017", waypoint, "answers 200 by the application to the request of library/read")


def test_the_pairs_that_are_generated_in_ambient_mode_hold(mesh: Lab, tmp_path: Path) -> None:
    only_the_reader(mesh)
    printed = mesh.run(MESHGATE, "pairs")
    assert printed.returncode == 0, printed.stderr
    file = tmp_path / "pairs.yaml"
    file.write_text(printed.stdout)
    pairs = read_pairs(printed.stdout)
    for service in ("library/catalog", "gallery/paintings"):
        expected = {each.caller: each.expect for each in pairs if each.service == service}
        assert expected["library/reader"] == "allowed", printed.stdout
        assert "denied" in expected.values(), printed.stdout

    stage = declared(mesh, file)

    assert stage.exit == 0, stage.output


def test_a_pair_for_a_service_whose_waypoint_does_not_exist_is_unknown(
    mesh: Lab, tmp_path: Path
) -> None:
    mesh.kubectl("label", "service", "catalog", "-n", "library", "istio.io/use-waypoint=absent")

    row = f'from: library/reader, to: "{CATALOG} /healthz", expect: 200'
    stage = declared(mesh, tmp_path / "pairs.yaml", row)

    assert stage.exit == 10, stage.output
    assert stage.first.startswith("UNKNOWN DP017 "), stage.output
    assert "the waypoint library/absent, which labels select, does not exist" in stage.first


# --- upgrade ------------------------------------------------------------------------------------


def test_an_upgrade_of_a_mesh_with_sidecars_and_ambient_mode(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each gate opens after its step, and is closed before it."""
    workspace = tmp_path_factory.mktemp("upgrade")
    with lab_of(OLD, workspace, "--ambient") as lab:
        gates = Gates(lab, workspace)
        ready = gates.precheck(NEW)
        assert ready.exit == 0, ready.output
        gates.all_open(OLD)

        lab.verb("upgrade", NEW)
        # the agents come after istiod: they are as they were
        for name, container in (("istio-cni-node", "install-cni"), ("ztunnel", "istio-proxy")):
            _set_agent(lab, name, container, OLD)
        early = gates.ambient(NEW)
        assert early.exit == 1, early.output
        found(early, "AM001", "DaemonSet istio-system/istio-cni-node", f"is of version {OLD}")
        found(early, "AM003", "DaemonSet istio-system/ztunnel", f"is of version {OLD}")
        istiod = gates.controlplane(NEW)
        assert istiod.exit == 0, istiod.output

        _set_agent(lab, "istio-cni-node", "install-cni", NEW)
        cni = gates.ambient(NEW, "--check=AM001,AM002")
        assert cni.exit == 0, cni.output
        _set_agent(lab, "ztunnel", "istio-proxy", NEW)
        ztunnel = gates.ambient(NEW)
        assert ztunnel.exit == 0, ztunnel.output

        lab.verb("upgrade", NEW, "--restart")
        gates.all_open(NEW)


def _set_agent(lab: Lab, name: str, container: str, version: str) -> None:
    repository = {"istio-cni-node": "install-cni"}.get(name, name)
    image = f"{container}=docker.io/istio/{repository}:{version}"
    lab.kubectl("set", "image", f"daemonset/{name}", *NODE_AGENTS, image)
    lab.kubectl("rollout", "status", f"daemonset/{name}", *NODE_AGENTS, "--timeout=120s")
