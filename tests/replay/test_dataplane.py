"""The recorded healthy mesh after its restart, with one thing broken at a time: stage D's lines."""

from pathlib import Path

import pytest

from tests.conftest import Gate
from tests.replay.conftest import Break, Broken, Recording, named


def web(recording: Recording) -> Recording:
    """What the port of shop's web did."""
    return next(
        each
        for each in recording["portProbes"]["probes"]
        if each["pod"].startswith("shop/web-") and each["port"] == 8080
    )


def no_sidecar(recording: Recording) -> None:
    spec = named(recording["pods"], "web-")["spec"]
    for key in ("containers", "initContainers"):
        spec[key] = [each for each in spec[key] if each["name"] != "istio-proxy"]


def an_old_sidecar(recording: Recording) -> None:
    for proxy in recording["istiod"][0]["proxies"]:
        if proxy["proxy"].startswith("web-"):
            proxy["istio_version"] = "1.28.2"


def follows_nobody(recording: Recording) -> None:
    proxies = recording["istiod"][0]["proxies"]
    proxies.remove(next(each for each in proxies if each["proxy"].startswith("web-")))


def plaintext_is_answered(recording: Recording) -> None:
    web(recording)["plain"] = {"end": "answered", "status": 200}


def strangers_are_let_in(recording: Recording) -> None:
    web(recording)["foreign"].update(end="answered", status=200)


def the_mesh_is_refused(recording: Recording) -> None:
    web(recording)["mesh"].update(end="refused", error="alert unknown ca")


def the_port_goes_past_the_sidecar(recording: Recording) -> None:
    annotations = named(recording["pods"], "web-")["metadata"]["annotations"]
    annotations["traffic.sidecar.istio.io/excludeInboundPorts"] = "8080"


def the_policy_says_otherwise(recording: Recording) -> None:
    recording["peerAuthentications"][0]["spec"]["mtls"]["mode"] = "DISABLE"


def the_port_is_silent(recording: Recording) -> None:
    web(recording)["plain"] = {"end": "silent"}


def another_name(recording: Recording) -> None:
    web(recording)["chain"][0]["sans"] = ["spiffe://cluster.local/ns/shop/sa/other"]


def another_root(recording: Recording) -> None:
    web(recording)["distrust"] = "O=other leads to none of the roots"


def nearly_expired(recording: Recording) -> None:
    leaf = web(recording)["chain"][0]
    leaf["notAfter"] = recording["taken"]


def a_rule_without_tls(recording: Recording) -> None:
    recording["destinationRules"] = [
        {
            "metadata": {"name": "plain", "namespace": "shop"},
            "spec": {"host": "web", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
        }
    ]


def a_policy_that_is_not_enforced(recording: Recording) -> None:
    recording["authorizationPolicies"] = [
        {
            "metadata": {"name": "nobody", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": [{}]},
        }
    ]


def a_policy_that_lets_nobody_in(recording: Recording) -> None:
    a_policy_that_is_not_enforced(recording)
    web(recording)["mesh"].update(status=403, denied=True)


def from_a_laptop(recording: Recording) -> None:
    recording["portProbes"] = {"skippedReason": "a port-forward ends inside the pod"}


def not_signed(recording: Recording) -> None:
    recording["portProbes"].update(unsigned="istiod-1: UNAUTHENTICATED", identity="")


def pods_that_the_injector_refuses(recording: Recording) -> None:
    status = named(recording["deployments"], "web")["status"]
    status.update(updatedReplicas=0, availableReplicas=0)
    status["conditions"] = [
        {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": 'admission webhook "rev.namespace.sidecar-injector.istio.io" denied the '
            "request: invalid annotations",
        }
    ]


def a_job_that_pod_security_refuses(recording: Recording) -> None:
    recording["jobs"] = [{"metadata": {"name": "export", "namespace": "shop"}}]
    recording["creationEvents"] = [
        {
            "metadata": {"name": "an-event", "namespace": "shop"},
            "involvedObject": {"kind": "Job", "namespace": "shop", "name": "export"},
            "message": 'pods "export-" is forbidden: violates PodSecurity "baseline:latest"',
        }
    ]


def a_set_without_pods(recording: Recording) -> None:
    recording["pods"] = [
        each for each in recording["pods"] if each["metadata"]["name"] != "cache-0"
    ]
    proxies = recording["istiod"][0]["proxies"]
    proxies.remove(next(each for each in proxies if each["proxy"].startswith("cache-0.")))
    probes = recording["portProbes"]["probes"]
    recording["portProbes"]["probes"] = [
        each for each in probes if not each["pod"].startswith("shop/cache-0")
    ]


def a_pod_in_ambient_mode(recording: Recording) -> None:
    annotations = named(recording["pods"], "batch-")["metadata"]["annotations"]
    annotations["ambient.istio.io/redirection"] = "enabled"


def no_sidecar_for_a_new_pod(recording: Recording) -> None:
    recording["pair"]["peers"][0]["proxyImage"] = ""


def a_call_that_does_not_arrive(recording: Recording) -> None:
    recording["pair"]["calls"][0] = {
        "peer": "a",
        "kind": "peer",
        "target": "b",
        "status": 503,
        "local": True,
        "words": "upstream connect error",
    }


def a_call_without_mtls(recording: Recording) -> None:
    recording["pair"]["calls"][0]["caller"] = ""


def a_pair_that_could_not_be_run(recording: Recording) -> None:
    recording["pair"]["peers"][0]["unmade"] = "container call is in ImagePullBackOff"


FAILED = [
    (no_sidecar, "DP001", "Pod shop/web-"),
    (an_old_sidecar, "DP002", "Pod shop/web-"),
    (follows_nobody, "DP003", "Pod shop/web-"),
    (plaintext_is_answered, "DP004", "Pod shop/web-"),
    (strangers_are_let_in, "DP004", "Pod shop/web-"),
    (the_mesh_is_refused, "DP004", "Pod shop/web-"),
    (the_port_goes_past_the_sidecar, "DP004", "Pod shop/web-"),
    (the_policy_says_otherwise, "DP004", "Pod payments/api-"),
    (another_name, "DP005", "Pod shop/web-"),
    (another_root, "DP005", "Pod shop/web-"),
    (nearly_expired, "DP005", "Pod shop/web-"),
    (a_rule_without_tls, "DP006", "DestinationRule shop/plain"),
    (a_policy_that_is_not_enforced, "DP007", "Pod shop/web-"),
    (a_policy_that_lets_nobody_in, "DP007", "Pod shop/web-"),
    (a_job_that_pod_security_refuses, "DP010", "Job shop/export: its pods cannot be created"),
    (pods_that_the_injector_refuses, "DP010", "Deployment shop/web: its new pods cannot be"),
    (no_sidecar_for_a_new_pod, "DP008", "Probe istio-verification-probes/a: has no sidecar"),
    (a_call_that_does_not_arrive, "DP009", "Probe istio-verification-probes/a: its call to b is"),
    (a_call_without_mtls, "DP009", "Probe istio-verification-probes/a: its call to b arrives"),
]

UNKNOWN = [
    (the_port_is_silent, {"DP004"}),
    (from_a_laptop, {"DP004", "DP005", "DP007"}),
    (a_pair_that_could_not_be_run, {"DP008", "DP009"}),
    (not_signed, {"DP004", "DP005", "DP007"}),
    (a_pod_in_ambient_mode, {"DP004", "DP005", "DP007"}),
    (a_set_without_pods, {"DP010"}),
]

CHECK_MTLS = Path("verification/check_mtls.py")


def test_the_healthy_recording_opens_the_gate(gate: Gate, root: Path) -> None:
    run = gate(CHECK_MTLS, f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert run.code == 0, run.out


@pytest.mark.parametrize(
    ("change", "check", "object"), FAILED, ids=[change.__name__ for change, _, _ in FAILED]
)
def test_one_thing_broken_closes_the_gate(
    change: Break, check: str, object: str, broken: Broken, gate: Gate
) -> None:
    run = gate(CHECK_MTLS, f"--snapshot={broken(change)}")

    assert run.code == 1, run.out
    failures = [line for line in run.verdict if line.startswith(("FAIL ", "UNKNOWN "))]
    assert failures[0].startswith(f"FAIL {check} {object}"), run.out


@pytest.mark.parametrize(
    ("change", "checks"), UNKNOWN, ids=[change.__name__ for change, _ in UNKNOWN]
)
def test_one_thing_not_seen_is_never_a_pass(
    change: Break, checks: set[str], broken: Broken, gate: Gate
) -> None:
    run = gate(CHECK_MTLS, f"--snapshot={broken(change)}")

    assert run.code == 10, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("UNKNOWN ")} == checks
