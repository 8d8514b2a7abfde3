"""The recorded healthy mesh before an upgrade, with one thing broken at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load
from tests.conftest import Gate

Recording = dict[str, Any]
Break = Callable[[Recording], None]


def precheck_error(recording: Recording) -> None:
    recording["precheck"]["messages"] = [
        {"code": "IST0156", "level": "Error", "message": "too old", "origin": "Cluster"}
    ]


def downgrade(recording: Recording) -> None:
    recording["expectations"]["targetVersion"] = recording["shadow"]["version"] = "1.29.0"


def old_kubernetes(recording: Recording) -> None:
    recording["kubernetesVersion"] = "v1.30.2"


def a_proxy_left_behind(recording: Recording) -> None:
    for proxy in recording["istiod"][0]["proxies"]:
        if proxy["proxy"].startswith("web-"):
            proxy["istio_version"] = "1.27.4"


def a_removed_annotation(recording: Recording) -> None:
    recording["istiod"][0]["version"] = "1.28.2-0000000-Clean"
    web = next(each for each in recording["workloads"] if each["name"] == "web")
    web["annotations"] = ["sidecar.istio.io/statsCompression"]


def a_filter_for_the_old_version(recording: Recording) -> None:
    recording["istiod"][0]["version"] = "1.28.2-0000000-Clean"
    web = next(
        each for each in recording["envoyFilters"] if each["metadata"]["name"] == "retry-after-web"
    )
    for patch in web["spec"]["configPatches"]:
        patch["match"] = {"proxy": {"proxyVersion": "^1\\.28.*"}}


def an_image_of_a_retired_registry(recording: Recording) -> None:
    for each in recording["pods"]:
        if each["metadata"]["name"].startswith("web-"):
            each["spec"]["containers"][0]["image"] = "gcr.io/istio-release/proxyv2:1.29.1"


def a_mesh_config_that_cannot_be_parsed(recording: Recording) -> None:
    recording["meshConfigs"] = [
        {
            "revision": "default",
            "configMap": "ConfigMap istio-system/istio",
            "unparsable": ['connectTimeout: is a number, not a duration such as "10s"'],
        }
    ]


def a_mesh_config_that_istiod_does_not_show(recording: Recording) -> None:
    a_mesh_config_that_cannot_be_parsed(recording)
    config = recording["meshConfigs"][0]
    config["unparsable"], config["effective"] = [], [{"pod": "istiod-1", "denied": "401"}]


def pods_that_pod_security_refuses(recording: Recording) -> None:
    for namespace in recording["namespaces"]:
        if namespace["metadata"]["name"] == "payments":
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"
    init = {"name": "istio-init", "security": {"capabilities": {"add": ["NET_ADMIN"]}}}
    pod = {"workload": "Deployment payments/api", "replicas": 1, "containers": [init]}
    recording["newPods"] = {"pods": [pod]}


def pods_of_which_the_injector_says_nothing(recording: Recording) -> None:
    pod = {"workload": "Deployment payments/api", "replicas": 1, "error": "timed out"}
    recording["newPods"] = {"pods": [pod]}


def routes_of_an_old_version(recording: Recording) -> None:
    for each in recording["definitions"]:
        if each["metadata"]["name"].startswith("httproutes."):
            each["spec"]["versions"] = [{"name": "v1beta1", "served": True}]


def a_second_injector(recording: Recording) -> None:
    hooks = recording["mutatingWebhooks"]
    # istioctl gives the injecting to this tag, and leaves istio-sidecar-injector to select nothing
    names = [each["metadata"]["name"] for each in hooks]
    injector = hooks[names.index("istio-revision-tag-default")]
    hooks.append({**injector, "metadata": {"name": "left-over"}})


def a_label_that_is_gone(recording: Recording) -> None:
    payments = next(
        each for each in recording["namespaces"] if each["metadata"]["name"] == "payments"
    )
    del payments["metadata"]["labels"]["istio-injection"]


def a_filter_that_the_new_envoy_does_not_know(recording: Recording) -> None:
    recording["shadow"]["classes"][0]["refusals"] = [
        {
            "part": "listener virtualInbound",
            "words": "Didn't find a registered implementation for 'not.a.filter'",
            "culprits": ["EnvoyFilter shop/unknown"],
        }
    ]


def a_filter_that_would_be_gone(recording: Recording) -> None:
    recording["shadow"]["classes"][0]["changes"] = [
        {
            "kind": "removed",
            "type": "listener",
            "resource": "virtualInbound",
            "path": "/filterChains[a]/filters[b]/httpFilters[lua]",
            "broughtBy": "EnvoyFilter shop/lua",
        }
    ]


def an_injector_that_brings_no_sidecar(recording: Recording) -> None:
    recording["shadow"]["injections"] = [
        {"namespace": "shop", "refused": "it brings no istio-proxy"}
    ]


def a_template_that_the_new_injector_rejects(recording: Recording) -> None:
    recording["shadow"]["templates"] = [
        {"workload": "Deployment shop/api"},
        {"workload": "Deployment shop/web", "refused": "prometheus.io/port is reserved"},
    ]


def an_injector_that_does_not_answer(recording: Recording) -> None:
    recording["shadow"]["templates"] = [
        {"workload": "Deployment shop/web", "error": "the target's injector does not respond"}
    ]


def a_class_that_was_not_seen(recording: Recording) -> None:
    recording["shadow"]["classes"][0]["error"] = "it ended the stream"


def precheck_not_run(recording: Recording) -> None:
    del recording["precheck"]
    recording["read"].remove("precheck")
    recording["gaps"] = [{"item": "precheck", "why": "there is no istioctl", "remedy": "install"}]


def an_unknown_target(recording: Recording) -> None:
    recording["expectations"]["targetVersion"] = "1.30.0"
    recording["precheck"]["istioctlVersion"] = "1.30.0"
    recording["expectations"]["support"] = {
        "source": "a test",
        "date": "2026-01-01",
        "skew": 1,
        "release": {},
    }


def a_release_outside_the_ledger(recording: Recording) -> None:
    recording["istiod"][0]["version"] = "1.32.0-0000000-Clean"
    for proxy in recording["istiod"][0]["proxies"]:
        proxy["istio_version"] = "1.32.0"
    recording["expectations"]["targetVersion"] = "1.32.1"
    recording["precheck"]["istioctlVersion"] = "1.32.1"


def a_node(recording: Recording, cpu: str) -> None:
    """Web's restart adds a pod that requests a whole CPU; the only node has so much."""
    recording["nodes"] = [
        {
            "metadata": {"name": "one"},
            "status": {
                "allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    ]
    recording["limitRanges"] = []
    new = {"workload": "Deployment shop/web", "replicas": 1, "surge": 1, "injected": True}
    new["containers"] = [{"name": "app", "requests": {"cpu": "1"}}]
    recording["newPods"] = {"pods": [new]}


def nodes_that_are_full(recording: Recording) -> None:
    a_node(recording, "500m")


def nodes_with_room(recording: Recording) -> None:
    a_node(recording, "64")


def nodes_that_were_not_read(recording: Recording) -> None:
    a_node(recording, "64")
    recording["read"].remove("nodes")


def images(recording: Recording, **result: str) -> None:
    pull = {"node": "one", "image": "docker.io/istio/proxyv2:1.31.0", **result}
    recording["expectations"]["images"] = [pull["image"]]
    recording["imagePulls"] = {"pulls": [pull]}
    recording["read"].append("image_pulls")


def an_image_that_a_node_cannot_pull(recording: Recording) -> None:
    images(recording, refused="ErrImagePull: not found")


def an_image_of_which_a_node_says_nothing(recording: Recording) -> None:
    images(recording, error="no pod was created")


def an_image_that_every_node_has(recording: Recording) -> None:
    images(recording)


FAILED = [
    (an_image_that_a_node_cannot_pull, "PC019", "Node one: cannot pull the image docker.io/"),
    (nodes_that_are_full, "PC018", "Deployment shop/web: its rolling restart creates a pod"),
    (precheck_error, "PC001", "Cluster: IST0156 too old"),
    (downgrade, "PC002", "Deployment istio-system/istiod: runs 1.29.1, and 1.29.0 is older"),
    (old_kubernetes, "PC003", "Kubernetes 1.30: Istio 1.29 does not support it"),
    (a_proxy_left_behind, "PC004", "Pod shop/web-"),
    (a_removed_annotation, "PC005", "Deployment shop/web: its pod template has sidecar.istio.io/"),
    (a_filter_for_the_old_version, "PC006", "EnvoyFilter shop/retry-after-web: its proxyVersion"),
    (a_mesh_config_that_cannot_be_parsed, "PC011", "ConfigMap istio-system/istio: its field"),
    (pods_that_pod_security_refuses, "PC012", "Deployment payments/api: its new pods violate"),
    (an_image_of_a_retired_registry, "PC010", "Deployment shop/web: uses the image gcr.io/"),
    (routes_of_an_old_version, "PC007", "CustomResourceDefinition httproutes."),
    (a_second_injector, "PC008", "Namespace istio-ingress: 2 webhook configurations inject"),
    (a_label_that_is_gone, "PC009", "Pod payments/api-"),
    (
        a_filter_that_the_new_envoy_does_not_know,
        "PC101",
        "EnvoyFilter shop/unknown: Envoy 1.29.1 rejects",
    ),
    (a_filter_that_would_be_gone, "PC102", "EnvoyFilter shop/lua: istiod 1.29.1 removes a filter"),
    (an_injector_that_brings_no_sidecar, "PC103", "Namespace shop: the injector of 1.29.1 adds no"),
    (
        a_template_that_the_new_injector_rejects,
        "PC104",
        "Deployment shop/web: the injector of 1.29.1 rejects its pods",
    ),
]
UNKNOWN = [
    (an_image_of_which_a_node_says_nothing, {"PC019"}),
    (nodes_that_were_not_read, {"PC016", "PC018"}),
    (precheck_not_run, {"PC001"}),
    (a_mesh_config_that_istiod_does_not_show, {"PC011"}),
    (pods_of_which_the_injector_says_nothing, {"PC012"}),
    (an_injector_that_does_not_answer, {"PC104"}),
    (an_unknown_target, {"PC003", "PC101", "PC102", "PC103", "PC104"}),
    (
        a_release_outside_the_ledger,
        {
            *("PC002", "PC003", "PC005", "PC006", "PC007", "PC017"),
            *("PC101", "PC102", "PC103", "PC104"),
        },
    ),
    (a_class_that_was_not_seen, {"PC101", "PC102", "PC103"}),
]


@pytest.fixture
def broken(root: Path, recorded: Callable[[Snapshot], Path]) -> Callable[[Break], Path]:
    """The healthy recording after one change, as a file."""

    def write(change: Break) -> Path:
        recording = msgspec.json.decode(
            msgspec.json.encode(load(root / "tests/fixtures/schema-1/healthy.json.gz"))
        )
        change(recording)
        return recorded(msgspec.convert(recording, Snapshot))

    return write


def test_the_healthy_recording_opens_the_gate(gate: Gate, root: Path) -> None:
    run = gate("-m", "precheck", f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert run.code == 0, run.out


@pytest.mark.parametrize(
    ("change", "check", "object"), FAILED, ids=[change.__name__ for change, _, _ in FAILED]
)
def test_one_thing_broken_closes_the_gate(
    change: Break, check: str, object: str, broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "precheck", f"--snapshot={broken(change)}")

    assert run.code == 1, run.out
    failures = [line for line in run.verdict if line.startswith(("FAIL ", "UNKNOWN "))]
    assert failures[0].startswith(f"FAIL {check} {object}"), run.out


@pytest.mark.parametrize(
    ("change", "checks"), UNKNOWN, ids=[change.__name__ for change, _ in UNKNOWN]
)
def test_one_thing_not_seen_is_never_a_pass(
    change: Break, checks: set[str], broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "precheck", f"--snapshot={broken(change)}")

    assert run.code == 10, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("UNKNOWN ")} == checks


def shadow_not_tried(recording: Recording) -> None:
    recording["shadow"] = {"skippedReason": "the target's programs are not given"}


def test_an_upgrade_that_was_not_tried_in_the_shadow_proves_nothing_of_it(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    file = broken(shadow_not_tried)

    run = gate("-m", "precheck", f"--snapshot={file}")
    required = gate("-m", "precheck", "--require-shadow", f"--snapshot={file}")

    assert run.code == 0, run.out
    assert any("the target's programs are not given" in line for line in run.verdict), run.out
    assert required.code == 10, required.out


def test_a_loss_that_is_accepted_closes_no_gate(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    accepted = "--accept-loss=listener virtualInbound *lua*"

    run = gate("-m", "precheck", accepted, f"--snapshot={broken(a_filter_that_would_be_gone)}")

    assert run.code == 0, run.out


@pytest.mark.parametrize("change", [nodes_with_room, an_image_that_every_node_has])
def test_a_restart_that_has_room_and_images_opens_the_gate(
    change: Break, broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "precheck", f"--snapshot={broken(change)}")

    assert run.code == 0, run.out


def test_after_a_step_of_two_minor_versions_there_is_no_way_back(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    def two_steps(recording: Recording) -> None:
        recording["expectations"]["targetVersion"] = recording["shadow"]["version"] = "1.31.0"

    run = gate("-m", "precheck", f"--snapshot={broken(two_steps)}")

    assert run.code == 1, run.out
    wrong = "FAIL PC017 Istio 1.29: does not support proxies of 1.31.0"
    assert any(line.startswith(wrong) for line in run.verdict), run.out


def test_a_rollback_that_was_asked_for_is_a_warning(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "precheck", "--allow-rollback", f"--snapshot={broken(downgrade)}")

    assert run.code == 0, run.out
    warned = "WARN PC002 Deployment istio-system/istiod: runs 1.29.1 and is rolled back"
    assert any(line.startswith(warned) for line in run.verdict), run.out


def test_a_support_matrix_that_is_none_is_wrong_usage(
    gate: Gate, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "matrix").write_text("release = 1")

    run = gate(
        *("-m", "precheck", f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz"),
        f"--support-matrix={tmp_path}/matrix",
    )

    assert run.code == 4, run.out
    assert "cannot use the support matrix" in run.out


def test_what_only_says_that_the_verifier_may_not_install_is_left_out_and_told(
    gate: Gate, root: Path
) -> None:
    run = gate("-m", "precheck", f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert "11 findings of istioctl x precheck (IST0141) are omitted" in run.out
