"""The recorded healthy mesh after its restart, with one thing broken at a time: stage D's lines."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gate
from tests.replay.conftest import Break, Broken, Recording, named, tunnel_probes


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


def clients_without_auto_mtls(recording: Recording) -> None:
    recording["injectorConfigs"] = [{"revision": "default", "autoMtls": False}]


def clients_with_a_rule_instead_of_auto_mtls(recording: Recording) -> None:
    clients_without_auto_mtls(recording)
    recording["destinationRules"] = [
        {
            "metadata": {"name": "default", "namespace": "istio-system"},
            "spec": {"host": "*.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
        },
        {
            "metadata": {"name": "batch", "namespace": "legacy"},
            "spec": {"host": "batch", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
        },
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


def a_policy_that_rejects_its_callers(recording: Recording) -> None:
    """It is enforced as written, so only the baseline shows that it rejects callers."""
    before = dict(web(recording), workload="Deployment shop/web")
    identity = recording["portProbes"]["identity"]
    recording["expectations"]["before"] = {
        "taken": recording["taken"],
        "portProbes": {"identity": identity, "probes": [before]},
    }
    account = {"source": {"principals": ["cluster.local/ns/shop/sa/retired"]}}
    recording["authorizationPolicies"] = [
        {
            "metadata": {"name": "callers", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "rules": [{"from": [account]}]},
        }
    ]
    web(recording)["mesh"] = {**web(recording)["mesh"], "status": 403, "denied": True}


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


def in_ambient_mode(recording: Recording, *, mesh: Recording, plain: str = "refused") -> None:
    """Adds a pod in ambient mode, under STRICT, and what connections to it showed."""
    recording["pods"].append(
        {
            "metadata": {
                "name": "catalog-1",
                "namespace": "library",
                "annotations": {"ambient.istio.io/redirection": "enabled"},
            },
            "spec": {
                "serviceAccountName": "catalog",
                "containers": [{"name": "app", "ports": [{"containerPort": 8080, "name": "http"}]}],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.244.0.98",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    recording["ambientProbes"] = tunnel_probes(recording, "catalog", "10.244.0.98:8080", mesh)
    recording["read"] += ["ambient_probes", "sandbox_events"]
    call = {"peer": "outside-0", "kind": "plaintext", "target": "library/catalog-1:8080"}
    recording["pair"].update(outside=[{"name": "outside-0"}])
    recording["pair"]["calls"].append({**call, "end": plain})


OPEN = {"end": "open", "connect": 200, "status": 200}


def no_ztunnel(recording: Recording) -> None:
    gone = {"end": "unreachable", "error": "Connection refused"}
    in_ambient_mode(recording, mesh=gone)
    recording["ambientProbes"]["probes"][0]["anonymous"] = gone


def nothing_connected_in_plaintext(recording: Recording) -> None:
    in_ambient_mode(recording, mesh=OPEN)
    recording["pair"] = {"skippedReason": "the probe pair was not requested", "namespace": "probes"}


def a_pod_that_bypasses_ztunnel(recording: Recording) -> None:
    in_ambient_mode(recording, mesh=OPEN, plain="answered")


def a_denial_without_a_policy(recording: Recording) -> None:
    in_ambient_mode(recording, mesh={"end": "declined", "connect": 401})


def a_declared_pair(recording: Recording, expect: str, **answer: Any) -> None:
    """Declares that shop's client calls payments' api, which answers so."""
    api = named(recording["pods"], "api-")["metadata"]["name"]
    pair = {"caller": "shop/client", "service": "payments/api", "port": 80}
    pair |= {"method": "GET", "path": "/healthz", "expect": expect}
    request = "shop/client payments/api:80 GET /healthz"
    answers = [{"request": request, "pod": f"payments/{api}", **answer}] if answer else []
    recording["expectations"]["pairs"] = [pair]
    recording["pairAnswers"] = {"answers": answers}
    recording["read"].append("pair_answers")


def a_caller_that_is_denied(recording: Recording) -> None:
    a_declared_pair(recording, "200", end="denied", status=403)


def a_caller_that_is_let_in(recording: Recording) -> None:
    a_declared_pair(recording, "denied", end="answered", status=200)


def an_application_that_says_403(recording: Recording) -> None:
    a_declared_pair(recording, "200", end="answered", status=403)


def a_connection_that_is_reset(recording: Recording) -> None:
    a_declared_pair(recording, "denied", end="reset", error="Connection reset by peer")


def a_caller_without_a_certificate(recording: Recording) -> None:
    a_declared_pair(recording, "200")
    recording["pairAnswers"]["unsigned"] = {"shop/client": "no right to create a token"}


def a_403_of_the_application_that_is_declared(recording: Recording) -> None:
    a_declared_pair(recording, "403", end="answered", status=403)


def a_denial_that_is_declared(recording: Recording) -> None:
    a_declared_pair(recording, "denied", end="denied", status=403)


def traffic(recording: Recording, errors: float, alerts: tuple[str, ...] = ()) -> None:
    """What Prometheus recorded: 100,000 requests to web before the upgrade and now."""
    window = {"seconds": 900, "end": "2026-01-01T00:00:00Z"}
    web = {"workload": "shop/web", "requests": 100_000, "p95": 20, "p99": 40}
    old = {"name": "Old", "labels": {"namespace": "shop"}}
    recording["expectations"]["traffic"] = {"requested": True}
    recording["trafficMetrics"] = {
        "before": {**window, "workloads": [web], "alerts": [old]},
        "now": {
            **window,
            "end": "2026-01-01T06:00:00Z",
            "workloads": [{**web, "errors": errors}],
            "alerts": [old, *({"name": each} for each in alerts)],
        },
    }
    recording["read"].append("traffic_metrics")


def more_errors_than_before(recording: Recording) -> None:
    traffic(recording, 5_000)


def an_alert_that_is_new(recording: Recording) -> None:
    traffic(recording, 0, ("HighErrorRate",))


def an_alert_of_another_workload(recording: Recording) -> None:
    """It fired for shop/orders, and now fires for shop/web."""
    traffic(recording, 0)
    for when, workload in (("before", "orders"), ("now", "web")):
        about = {"namespace": "shop", "pod": f"Deployment {workload}"}
        recording["trafficMetrics"][when]["alerts"] = [{"name": "Restarts", "labels": about}]


def a_watchdog_that_is_gone(recording: Recording) -> None:
    traffic(recording, 0)
    recording["trafficMetrics"]["before"]["heartbeats"] = ["Watchdog"]


def fewer_pods_with_an_old_alert(recording: Recording) -> None:
    traffic(recording, 0)
    recording["trafficMetrics"]["before"]["alerts"][0]["count"] = 3


def traffic_as_before(recording: Recording) -> None:
    traffic(recording, 10)


def counted_by_proxies(recording: Recording, errors: float, **more: Any) -> None:
    """What the proxies counted in the baseline and now: 100,000 requests to web each time."""
    window = {"seconds": 60, "source": "proxies"}
    web = {"workload": "shop/web", "requests": 100_000, "p95": 20, "p99": 40}
    recording["expectations"]["traffic"] = {"requested": True}
    recording["expectations"]["before"] = {
        "taken": "2026-01-01T00:00:00Z",
        "traffic": {**window, "end": "2026-01-01T00:00:00Z", "workloads": [web]},
    }
    now = {"workloads": [{**web, "errors": errors}], "end": "2026-01-01T06:00:00Z"}
    recording["trafficMetrics"] = {"now": {**window, **now, **more}}
    recording["read"].append("traffic_metrics")


def more_errors_in_the_proxies(recording: Recording) -> None:
    counted_by_proxies(recording, 5_000)


def as_before_in_the_proxies(recording: Recording) -> None:
    counted_by_proxies(recording, 10)


def a_proxy_that_cannot_be_read(recording: Recording) -> None:
    unread = {"workload": "shop/web", "why": "pod web-1: port 15090: timed out"}
    counted_by_proxies(recording, 0, unread=[unread])


def an_idle_workload_that_cannot_be_read(recording: Recording) -> None:
    unread = {"workload": "shop/orders", "why": "pod orders-1: port 15090: timed out"}
    counted_by_proxies(recording, 0, unread=[unread])


def durations_that_are_gone(recording: Recording) -> None:
    traffic(recording, 0)
    for name in ("p95", "p99"):
        del recording["trafficMetrics"]["now"]["workloads"][0][name]


def too_few_requests(recording: Recording) -> None:
    traffic(recording, 0)
    recording["expectations"]["traffic"]["requests"] = 1_000_000


FAILED = [
    (no_ztunnel, "DP012", "Pod library/catalog-1: does not serve HBONE"),
    (a_pod_that_bypasses_ztunnel, "DP013", "Pod library/catalog-1: port 8080 accepts plaintext"),
    (a_denial_without_a_policy, "DP014", "Pod library/catalog-1: port 8080: ztunnel denies"),
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
    (clients_without_auto_mtls, "DP006", "Service "),
    (a_policy_that_is_not_enforced, "DP007", "Pod shop/web-"),
    (a_policy_that_lets_nobody_in, "DP007", "Pod shop/web-"),
    (a_policy_that_rejects_its_callers, "DP011", "Pod shop/web-"),
    (a_job_that_pod_security_refuses, "DP010", "Job shop/export: its pods cannot be created"),
    (pods_that_the_injector_refuses, "DP010", "Deployment shop/web: its new pods cannot be"),
    (a_caller_that_is_denied, "DP017", "Pod payments/api-"),
    (a_caller_that_is_let_in, "DP017", "Pod payments/api-"),
    (an_application_that_says_403, "DP017", "Pod payments/api-"),
    (a_connection_that_is_reset, "DP017", "Pod payments/api-"),
    (more_errors_than_before, "DP018", "Workload shop/web: answers 5.00% of 100000 requests"),
    (more_errors_in_the_proxies, "DP018", "Workload shop/web: answers 5.00% of 100000 requests"),
    (an_alert_that_is_new, "DP019", "Alert HighErrorRate: fires, and did not fire before"),
    (an_alert_of_another_workload, "DP019", "Alert Restarts: fires, and did not fire before"),
    (no_sidecar_for_a_new_pod, "DP008", "Probe istio-verification-probes/a: has no sidecar"),
    (a_call_that_does_not_arrive, "DP009", "Probe istio-verification-probes/a: its call to b is"),
    (a_call_without_mtls, "DP009", "Probe istio-verification-probes/a: its call to b arrives"),
]

UNUSUAL = [
    a_403_of_the_application_that_is_declared,
    a_denial_that_is_declared,
    clients_with_a_rule_instead_of_auto_mtls,
    traffic_as_before,
    fewer_pods_with_an_old_alert,
    as_before_in_the_proxies,
    an_idle_workload_that_cannot_be_read,
]

UNKNOWN = [
    (too_few_requests, {"DP018"}),
    (a_proxy_that_cannot_be_read, {"DP018"}),
    (durations_that_are_gone, {"DP018"}),
    (a_watchdog_that_is_gone, {"DP019"}),
    (a_caller_without_a_certificate, {"DP017"}),
    (the_port_is_silent, {"DP004"}),
    (from_a_laptop, {"DP004", "DP005", "DP007"}),
    (a_pair_that_could_not_be_run, {"DP008", "DP009"}),
    (not_signed, {"DP004", "DP005", "DP007"}),
    (a_pod_in_ambient_mode, {"DP010", "DP012", "DP013", "DP014"}),
    (nothing_connected_in_plaintext, {"DP013"}),
    (a_set_without_pods, {"DP010"}),
]

CHECK_MTLS = Path("verification/check_mtls.py")


def test_the_healthy_recording_opens_the_gate(gate: Gate, root: Path) -> None:
    run = gate(CHECK_MTLS, f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert run.code == 0, run.out


def test_a_healthy_pod_in_ambient_mode_opens_the_gate(broken: Broken, gate: Gate) -> None:
    run = gate(CHECK_MTLS, f"--snapshot={broken(lambda each: in_ambient_mode(each, mesh=OPEN))}")

    assert run.code == 0, run.out


def test_plaintext_that_was_not_tried_may_be_accepted(broken: Broken, gate: Gate) -> None:
    file, accept = broken(nothing_connected_in_plaintext), "--accept-unverified=ambient"

    accepted = gate(CHECK_MTLS, f"--snapshot={file}", accept)
    strict = gate(CHECK_MTLS, f"--snapshot={file}", accept, "--require-mtls=strict")

    assert accepted.code == 0, accepted.out
    assert f"note what is not verified of ambient mode is accepted ({accept})" in accepted.out
    assert [each for each in strict.verdict if each.startswith("UNKNOWN DP013 ")], strict.out


@pytest.mark.parametrize("change", UNUSUAL)
def test_what_is_unusual_but_declared_opens_the_gate(
    change: Break, broken: Broken, gate: Gate
) -> None:
    run = gate(CHECK_MTLS, f"--snapshot={broken(change)}")

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
