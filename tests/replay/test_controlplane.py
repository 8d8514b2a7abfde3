"""The recorded healthy mesh, with one thing broken at a time: what each claim then says.

The recordings are real (Istio 1.28 to 1.29); a case changes the least that a real fault changes.
"""

import copy
from pathlib import Path

import pytest

from tests.conftest import Gate
from tests.replay.conftest import Break, Broken, Recording, named


def istiod(recording: Recording) -> Recording:
    """istiod's Deployment."""
    return named(recording["deployments"], "istiod")


def replica(recording: Recording) -> Recording:
    """istiod's pod."""
    return named(recording["pods"], "istiod-")


def web(recording: Recording) -> Recording:
    """What istiod says of shop's web."""
    return next(p for p in recording["istiod"][0]["proxies"] if p["proxy"].startswith("web-"))


LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"


def scaled_to_zero(recording: Recording) -> None:
    istiod(recording)["spec"]["replicas"] = 0


def rollout_unfinished(recording: Recording) -> None:
    istiod(recording)["status"]["updatedReplicas"] = 0


def image_not_pulled(recording: Recording) -> None:
    replica(recording)["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "ImagePullBackOff", "message": "no such image"}
    }


def another_version(recording: Recording) -> None:
    recording["istiod"][0]["version"] = "1.28.2-0000000-Clean"


def not_ready(recording: Recording) -> None:
    for condition in replica(recording)["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition.update(status="False", message="containers with unready status: [discovery]")


def no_answer(recording: Recording) -> None:
    recording["istiod"][0].update(error="no answer: timed out", proxies=[])


def refused(recording: Recording) -> None:
    recording["istiod"][0].update(denied="istiod does not accept our token (401)", proxies=[])


def one_proxy_missing(recording: Recording) -> None:
    recording["istiod"][0]["proxies"].remove(web(recording))


def one_proxy_rejects(recording: Recording) -> None:
    web(recording)["resources"][LISTENER]["lastError"] = "Error adding listener: unknown filter"


def one_proxy_stale(recording: Recording) -> None:
    state = web(recording)["resources"][LISTENER]
    state["acked"] = "before"
    key = f"{web(recording)['proxy']}|{LISTENER}"
    recording["unansweredSince"] = {key: "2026-01-01T00:00:00Z"}


def analyze_error(recording: Recording) -> None:
    recording["analysis"]["messages"].append(
        {
            "code": "IST0101",
            "level": "Error",
            "message": 'Referenced gateway not found: "shop/missing"',
            "origin": "VirtualService shop/lost",
        }
    )


def analyze_error_of_a_canary_without_traffic(recording: Recording) -> None:
    recording["analysis"]["messages"].append(
        {
            "code": "IST0109",
            "level": "Error",
            "message": "The VirtualServices shop/web,shop/web associated with mesh gateway define "
            "the same host web which can lead to undefined behavior.",
            "origin": "VirtualService shop/web",
        }
    )


def an_old_revision_is_kept(recording: Recording) -> None:
    """A canary upgrade: istiod of 1.28.2 still runs beside the one of the target version."""
    old = copy.deepcopy(istiod(recording))
    old["metadata"].update(name="istiod-1-28-2")
    old["metadata"]["labels"]["istio.io/rev"] = "1-28-2"
    for container in old["spec"]["template"]["spec"]["containers"]:
        container["image"] = "docker.io/istio/pilot:1.28.2"
    recording["deployments"].append(old)
    pod = copy.deepcopy(replica(recording))
    pod["metadata"].update(name="istiod-1-28-2-x")
    pod["metadata"]["labels"]["istio.io/rev"] = "1-28-2"
    recording["pods"].append(pod)
    reading = {**recording["istiod"][0], "pod": "istiod-1-28-2-x", "proxies": []}
    recording["istiod"].append({**reading, "version": "1.28.2-abc-Clean"})
    recording["istiodMetrics"].append({**numbers(recording), "pod": "istiod-1-28-2-x"})


def a_remote_proxy_of_the_same_name(recording: Recording) -> None:
    """A StatefulSet's pod is disconnected; its namesake in another cluster is connected."""
    for proxy in recording["istiod"][0]["proxies"]:
        if proxy["proxy"] == "cache-0.shop":
            proxy["clusterId" if "clusterId" in proxy else "cluster_id"] = "remote-eu"


def no_configuration_types(recording: Recording) -> None:
    for proxy in recording["istiod"][0]["proxies"]:
        proxy["resources"] = {}


def an_external_ca(recording: Recording) -> None:
    recording["signing"]["signatures"][0].update(
        chain=[], message="UNIMPLEMENTED unknown service istio.v1.auth.IstioCertificateService"
    )


def cni(recording: Recording, image: str = "1.29.1", available: int = 1) -> None:
    """The DaemonSet of the CNI plugin."""
    recording.setdefault("daemonSets", []).append(
        {
            "metadata": {
                "name": "istio-cni-node",
                "namespace": "istio-system",
                "labels": {"k8s-app": "istio-cni-node"},
            },
            "spec": {
                "template": {
                    "spec": {
                        "containers": [
                            {"name": "install-cni", "image": f"docker.io/istio/install-cni:{image}"}
                        ]
                    }
                }
            },
            "status": {
                "desiredNumberScheduled": 1,
                "updatedNumberScheduled": 1,
                "numberAvailable": available,
            },
        }
    )


def crds(recording: Recording, *fields: str) -> None:
    """The CRD of Telemetry with these fields; the recording is of 1.29."""
    name = "telemetries.telemetry.istio.io"
    envoy_filters = "envoyfilters.networking.istio.io"
    recording["istioCrds"] = [
        {"name": name, "fields": list(fields)},
        {"name": envoy_filters, "fields": ["spec.configPatches.match.waypoint"]},
    ]


def crds_of_istiods_release(recording: Recording) -> None:
    crds(recording, "spec.tracing.customTags.formatter")


def a_crd_of_an_older_release(recording: Recording) -> None:
    crds(recording)


def crds_that_were_not_read(recording: Recording) -> None:
    recording["read"].remove("istio_crds")


def wasm(recording: Recording, **loads: object) -> None:
    """A WasmPlugin for shop's web, and what its agent says."""
    recording["wasmPlugins"] = [
        {
            "metadata": {"name": "auth", "namespace": "shop"},
            "spec": {"url": "oci://a.example/b", "selector": {"matchLabels": {"app": "web"}}},
        }
    ]
    names = [
        each["metadata"]["name"]
        for each in recording["pods"]
        if each["metadata"]["name"].startswith("web-")
    ]
    recording["wasmLoads"] = [{"pod": f"shop/{name}", **loads} for name in names]


def a_module_that_was_fetched(recording: Recording) -> None:
    wasm(recording, results={"success": 1})


def a_module_that_cannot_be_fetched(recording: Recording) -> None:
    wasm(recording, results={"fetch_failure": 3})


def a_module_of_which_nothing_is_known(recording: Recording) -> None:
    wasm(recording, error="timed out")


def mesh_config(recording: Recording, **replica_says: object) -> Recording:
    """The mesh config of the revision, as the replica uses it."""
    config: Recording = {
        "revision": "default",
        "configMap": "ConfigMap istio-system/istio",
        "effective": [{"pod": replica(recording)["metadata"]["name"], **replica_says}],
    }
    recording["meshConfigs"] = [config]
    return config


def mesh_config_in_use(recording: Recording) -> None:
    mesh_config(recording)


def mesh_config_not_parsable(recording: Recording) -> None:
    mesh_config(recording)["unparsable"] = [
        'connectTimeout: is a number, not a duration such as "10s"'
    ]


def mesh_config_not_in_use(recording: Recording) -> None:
    mesh_config(recording, different=["outboundTrafficPolicy.mode"])


def mesh_config_not_told(recording: Recording) -> None:
    mesh_config(recording, denied="istiod does not accept our token (401)")


def new_pod(recording: Recording, **more: object) -> Recording:
    """The pod that a restart of payments/api would create; it needs NET_ADMIN."""
    proxy = {"name": "istio-proxy", "injected": True, "security": {"capabilities": {}}}
    init = {
        "name": "istio-init",
        "init": True,
        "injected": True,
        "security": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}},
    }
    pod: Recording = {
        "workload": "Deployment payments/api",
        "replicas": 1,
        "webhook": "MutatingWebhookConfiguration istio-sidecar-injector",
        "injected": True,
        "containers": [init, {"name": "app"}, proxy],
        **more,
    }
    recording["newPods"] = {"pods": [pod]}
    return pod


def enforced(recording: Recording, level: str) -> None:
    for namespace in recording["namespaces"]:
        if namespace["metadata"]["name"] == "payments":
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = level


def pods_that_are_accepted(recording: Recording) -> None:
    new_pod(recording)
    enforced(recording, "privileged")


def pods_that_pod_security_refuses(recording: Recording) -> None:
    new_pod(recording)
    enforced(recording, "baseline")


def pods_that_the_injector_refuses(recording: Recording) -> None:
    new_pod(recording, injected=False, containers=[], refused="invalid annotations")


def pods_that_a_quota_refuses(recording: Recording) -> None:
    new_pod(recording)
    recording["resourceQuotas"] = [
        {
            "metadata": {"name": "all", "namespace": "payments"},
            "spec": {"hard": {"pods": "3"}},
            "status": {"used": {"pods": "3"}},
        }
    ]


def pods_that_a_limit_range_refuses(recording: Recording) -> None:
    new_pod(recording)
    recording["limitRanges"] = [
        {
            "metadata": {"name": "small", "namespace": "payments"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
        }
    ]


def a_suspended_job_that_pod_security_refuses(recording: Recording) -> None:
    new_pod(recording, workload="Job payments/import")
    enforced(recording, "baseline")


def a_running_job_that_pod_security_refuses(recording: Recording) -> None:
    new_pod(recording, workload="Job payments/import", replicas=0)
    enforced(recording, "baseline")


def a_job_that_waits_for_a_quota(recording: Recording) -> None:
    pods_that_a_quota_refuses(recording)
    recording["newPods"]["pods"][0]["workload"] = "Job payments/import"


def pods_of_which_the_injector_says_nothing(recording: Recording) -> None:
    new_pod(recording, injected=False, containers=[], error="timed out")


def before_the_upgrade(recording: Recording, **proxy: object) -> None:
    """A baseline in which the proxy of payments/api had this too."""
    pod = copy.deepcopy(new_pod(recording))
    pod["containers"][-1].update(proxy)
    recording["expectations"]["before"] = {
        "taken": "2026-01-01T00:00:00Z",
        "newPods": {"pods": [pod]},
    }


def injection_as_before(recording: Recording) -> None:
    before_the_upgrade(recording)


def injection_with_other_resources(recording: Recording) -> None:
    before_the_upgrade(recording, requests={"cpu": "100m"})


def injection_without_the_hold(recording: Recording) -> None:
    before_the_upgrade(recording, hooks=["postStart"])


def injection_not_known_before(recording: Recording) -> None:
    injection_as_before(recording)
    recording["read"].remove("new_pods")
    del recording["newPods"]
    recording["gaps"] = [{"item": "new_pods", "why": "no right to list cronjobs.batch"}]


def a_custom_policy(recording: Recording) -> None:
    recording["authorizationPolicies"] = [
        {
            "metadata": {"name": "login", "namespace": "shop"},
            "spec": {"action": "CUSTOM", "provider": {"name": "oauth2-proxy"}},
        }
    ]


def a_provider_that_is_missing(recording: Recording) -> None:
    a_custom_policy(recording)
    mesh_config(recording, providers=["prometheus"])


def a_provider_that_exists(recording: Recording) -> None:
    a_custom_policy(recording)
    mesh_config(recording, providers=["prometheus", "oauth2-proxy"])


def a_provider_that_nobody_shows(recording: Recording) -> None:
    a_custom_policy(recording)
    mesh_config_not_told(recording)


def a_remote_cluster_that_is_read(recording: Recording) -> None:
    mesh_config(recording, clusters={"eu-2": "synced"})


def a_remote_cluster_that_is_not_read(recording: Recording) -> None:
    mesh_config(recording, clusters={"eu-2": "timeout"})


def cni_of_istiods_version(recording: Recording) -> None:
    cni(recording)


def cni_left_behind(recording: Recording) -> None:
    cni(recording, image="1.27.0")


def cni_not_ready(recording: Recording) -> None:
    cni(recording, available=0)


def cni_of_an_unknown_version(recording: Recording) -> None:
    cni(recording, image="latest")


def analyze_not_run(recording: Recording) -> None:
    del recording["analysis"]
    recording["read"].remove("analysis")
    recording["gaps"] = [{"item": "analysis", "why": "there is no istioctl", "remedy": "install"}]


def pods_not_readable(recording: Recording) -> None:
    recording["read"].remove("pods")
    recording["gaps"] = [{"item": "pods", "why": "no right to list pods", "remedy": "grant it"}]


def no_ca_bundle(recording: Recording) -> None:
    for configuration in recording["mutatingWebhooks"]:
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"].pop("caBundle", None)


def another_certificate_is_served(recording: Recording) -> None:
    recording["admission"]["handshakes"][0]["distrust"] = "unable to get local issuer certificate"
    recording["admission"]["reviews"] = []


def nothing_is_injected(recording: Recording) -> None:
    for review in recording["admission"]["reviews"]:
        if review.get("namespace") == "shop":
            review["containers"] = []


def an_old_proxy_is_injected(recording: Recording) -> None:
    for review in recording["admission"]["reviews"]:
        for container in review.get("containers", []):
            container["image"] = "docker.io/istio/proxyv2:1.28.2"


def invalid_resources_are_accepted(recording: Recording) -> None:
    for review in recording["admission"]["reviews"]:
        if review["sample"] == "invalid":
            review.update(allowed=True, message="")


def nothing_is_signed(recording: Recording) -> None:
    recording["signing"]["signatures"][0].update(chain=[], message="INTERNAL the CA has no key")


def one_namespace_has_no_root(recording: Recording) -> None:
    roots = recording["rootCertificates"]
    roots.remove(next(each for each in roots if each["metadata"]["namespace"] == "shop"))


def a_policy_for_a_revision_that_is_gone(recording: Recording) -> None:
    metadata = {"name": "strict", "namespace": "shop", "labels": {"istio.io/rev": "1-28-2"}}
    recording["peerAuthentications"] = [{"metadata": metadata, "spec": {}}]


def a_pod_of_a_revision_that_is_gone(recording: Recording) -> None:
    named(recording["pods"], "web-")["metadata"]["annotations"]["istio.io/rev"] = "gone"


def numbers(recording: Recording) -> Recording:
    """What istiod counted."""
    found: Recording = recording["istiodMetrics"][0]
    return found


def pushes_are_rejected(recording: Recording) -> None:
    counted = numbers(recording)
    counted["after"]["pilot_total_xds_rejects|lds"] = (
        counted["before"].get("pilot_total_xds_rejects|lds", 0) + 2
    )


def pushes_take_a_minute(recording: Recording) -> None:
    counted = numbers(recording)
    for name in ("pilot_proxy_convergence_time_count", "pilot_proxy_convergence_time_bucket|+Inf"):
        counted["after"][name] = counted["before"][name] + 9


def keys_cannot_be_fetched(recording: Recording) -> None:
    numbers(recording)["after"]["pilot_jwks_resolver_network_fetch_fail_total"] = 4
    recording["requestAuthentications"] = [
        {
            "metadata": {"name": "login", "namespace": "shop"},
            "spec": {"jwtRules": [{"jwksUri": "https://id.example.com/keys"}]},
        }
    ]


def killed_for_its_memory(recording: Recording) -> None:
    status = replica(recording)["status"]["containerStatuses"][0]
    status["restartCount"] = 1
    status["lastState"] = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


def two_listeners_conflict(recording: Recording) -> None:
    numbers(recording)["conflicts"]["pilot_conflict_outbound_listener_tcp_over_current_tcp"] = {
        "0.0.0.0_9999": {"message": "Accepted=TCP Rejected=TCP (two.example.com)"}
    }


def no_metrics(recording: Recording) -> None:
    numbers(recording).update(denied="istiod shows its metrics to nobody but itself (403)")


def metrics_of_another_program(recording: Recording) -> None:
    """Port 15014 serves metrics of a Go program, and none of istiod."""
    for reading in ("before", "after"):
        series = numbers(recording)[reading]
        own = [each for each in series if not each.startswith(("go_", "process_"))]
        for each in own:
            del series[each]


def killed_and_silent(recording: Recording) -> None:
    """It cannot give numbers any more: that it was killed is seen all the same."""
    killed_for_its_memory(recording)
    no_metrics(recording)


def after_an_upgrade(recording: Recording) -> None:
    """1.28.2 ran in the baseline."""
    recording["expectations"]["targetVersion"] = "1.29.1"
    recording["expectations"]["before"] = {
        "taken": recording["taken"],
        "istiodVersions": ["1.28.2-Clean"],
    }


def a_crd_without_the_old_version(recording: Recording) -> None:
    after_an_upgrade(recording)
    crd = named(recording["definitions"], "gateways.gateway.networking")
    crd["spec"]["versions"] = [{"name": "v2", "served": True}]
    crd["status"] = {"storedVersions": ["v2"]}


def definitions_that_were_not_read(recording: Recording) -> None:
    after_an_upgrade(recording)
    recording["read"].remove("definitions")


def a_rollback_that_is_simulated(recording: Recording) -> None:
    after_an_upgrade(recording)
    recording["shadow"] = {
        "version": "1.28.2",
        "classes": [{"proxies": ["web-1.shop"], "resources": 3}],
    }


def a_rollback_that_envoy_rejects(recording: Recording) -> None:
    a_rollback_that_is_simulated(recording)
    refusal = {"part": "listener virtualInbound", "words": "unknown field"}
    recording["shadow"]["classes"][0]["refusals"] = [refusal]


def a_rollback_to_another_release(recording: Recording) -> None:
    a_rollback_that_is_simulated(recording)
    recording["shadow"]["version"] = "1.27.1"


FAILED = [
    (
        a_crd_without_the_old_version,
        "CP029",
        "CustomResourceDefinition gateways.gateway.networking.k8s.io: serves v2",
    ),
    (a_rollback_that_envoy_rejects, "CP030", ""),
    (scaled_to_zero, "CP001", "Deployment istio-system/istiod: is scaled to 0 replicas"),
    (
        rollout_unfinished,
        "CP001",
        "Deployment istio-system/istiod: is not rolled out: 0 of 1 replicas updated",
    ),
    (image_not_pulled, "CP001", "Pod istio-system/istiod-"),
    (another_version, "CP001", "Pod istio-system/istiod-"),
    (not_ready, "CP002", "Pod istio-system/istiod-"),
    (no_answer, "CP002", "Pod istio-system/istiod-"),
    (one_proxy_missing, "CP003", "Pod shop/web-"),
    (one_proxy_rejects, "CP004", "Pod shop/web-"),
    (one_proxy_stale, "CP005", "Pod shop/web-"),
    (a_remote_proxy_of_the_same_name, "CP003", "Pod shop/cache-0"),
    (analyze_error, "CP006", "VirtualService shop/lost: IST0101"),
    (no_ca_bundle, "CP007", "MutatingWebhookConfiguration istio-"),
    (another_certificate_is_served, "CP007", "MutatingWebhookConfiguration istio-"),
    (nothing_is_injected, "CP008", "Namespace shop: "),
    (an_old_proxy_is_injected, "CP008", "Namespace istio-ingress: "),
    (invalid_resources_are_accepted, "CP009", "ValidatingWebhookConfiguration istio"),
    (nothing_is_signed, "CP010", "Pod istio-system/istiod-"),
    (one_namespace_has_no_root, "CP011", "ConfigMap shop/istio-ca-root-cert: "),
    (a_pod_of_a_revision_that_is_gone, "CP012", "Pod shop/web-"),
    (
        a_policy_for_a_revision_that_is_gone,
        "CP012",
        "PeerAuthentication shop/strict: its label istio.io/rev=1-28-2 selects revision 1-28-2",
    ),
    (pushes_are_rejected, "CP013", "Pod istio-system/istiod-"),
    (pushes_take_a_minute, "CP013", "Pod istio-system/istiod-"),
    (keys_cannot_be_fetched, "CP013", "Pod istio-system/istiod-"),
    (killed_for_its_memory, "CP014", "Pod istio-system/istiod-"),
    (killed_and_silent, "CP014", "Pod istio-system/istiod-"),
    (cni_left_behind, "CP016", "DaemonSet istio-system/istio-cni-node: is of version 1.27.0"),
    (cni_not_ready, "CP016", "DaemonSet istio-system/istio-cni-node: is not rolled out"),
    (mesh_config_not_parsable, "CP017", "ConfigMap istio-system/istio: its field connectTimeout"),
    (mesh_config_not_in_use, "CP017", "ConfigMap istio-system/istio: istiod uses another value"),
    (pods_that_pod_security_refuses, "CP018", "Deployment payments/api: its new pods violate"),
    (
        a_suspended_job_that_pod_security_refuses,
        "CP018",
        "Job payments/import: its new pods violate",
    ),
    (pods_that_the_injector_refuses, "CP018", "Deployment payments/api: the injector refuses"),
    (pods_that_a_quota_refuses, "CP018", "Deployment payments/api: ResourceQuota payments/all"),
    (pods_that_a_limit_range_refuses, "CP018", "Deployment payments/api: its new pods break"),
    (injection_without_the_hold, "CP019", "Deployment payments/api: its containers start before"),
    (a_remote_cluster_that_is_not_read, "CP020", "Cluster eu-2: istiod has not read it"),
    (a_provider_that_is_missing, "CP021", "AuthorizationPolicy shop/login: its provider"),
    (a_crd_of_an_older_release, "CP022", "CustomResourceDefinition telemetries.telemetry.istio.io"),
    (a_module_that_cannot_be_fetched, "CP023", "WasmPlugin shop/auth: its proxies (Pod shop/web-"),
    (two_listeners_conflict, "CP015", "Listener 0.0.0.0_9999: "),
]

UNKNOWN = [
    (definitions_that_were_not_read, {"CP029"}),
    (a_rollback_to_another_release, {"CP030"}),
    (refused, {"CP001", "CP002", "CP003", "CP004", "CP005", "CP008"}),
    (analyze_not_run, {"CP006"}),
    (no_configuration_types, {"CP004", "CP005"}),
    (an_external_ca, {"CP010"}),
    (cni_of_an_unknown_version, {"CP016"}),
    (mesh_config_not_told, {"CP017", "CP020"}),
    (a_provider_that_nobody_shows, {"CP017", "CP020", "CP021"}),
    (pods_of_which_the_injector_says_nothing, {"CP018"}),
    (crds_that_were_not_read, {"CP022"}),
    (a_module_of_which_nothing_is_known, {"CP023"}),
    (injection_not_known_before, {"CP018", "CP019"}),
    (no_metrics, {"CP013", "CP014", "CP015"}),
    (metrics_of_another_program, {"CP013", "CP014", "CP015"}),
    (
        pods_not_readable,
        {
            *(
                "CP001",
                "CP002",
                "CP003",
                "CP004",
                "CP005",
                "CP006",
                "CP007",
                "CP008",
                "CP009",
                "CP010",
            ),
            *("CP011", "CP012", "CP013", "CP014", "CP015", "CP016", "CP018", "CP022", "CP023"),
            *("CP025", "CP026", "CP027", "CP028", "CP029", "CP030"),
        },
    ),
]


def test_the_healthy_recording_opens_the_gate(gate: Gate, root: Path) -> None:
    run = gate("-m", "controlplane", f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert run.code == 0, run.out


def test_the_broken_recording_closes_it(gate: Gate, root: Path) -> None:
    run = gate("-m", "controlplane", f"--snapshot={root}/tests/fixtures/schema-1/broken.json.gz")

    assert run.code == 1, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("FAIL ")} == {
        "CP001",
        "CP002",
        "CP004",
        "CP006",
    }


@pytest.mark.parametrize(
    ("change", "check", "object"), FAILED, ids=[change.__name__ for change, _, _ in FAILED]
)
def test_one_thing_broken_closes_the_gate(
    change: Break, check: str, object: str, broken: Broken, gate: Gate
) -> None:
    run = gate("-m", "controlplane", f"--snapshot={broken(change)}")

    assert run.code == 1, run.out
    failures = [line for line in run.verdict if line.startswith(("FAIL ", "UNKNOWN "))]
    assert failures[0].startswith(f"FAIL {check} {object}"), run.out


def test_an_external_ca_can_be_accepted(broken: Broken, gate: Gate) -> None:
    run = gate(
        "-m", "controlplane", f"--snapshot={broken(an_external_ca)}", "--accept-unverified=CA"
    )

    assert run.code == 0, run.out
    assert "accepted without verification" in "\n".join(run.verdict), run.out


@pytest.mark.parametrize(
    ("change", "option"),
    [
        (analyze_error_of_a_canary_without_traffic, "--settle=0"),
        (an_old_revision_is_kept, "--target-version=1.29.1"),
        (cni_of_istiods_version, "--settle=0"),
        (mesh_config_in_use, "--settle=0"),
        (a_provider_that_exists, "--settle=0"),
        (a_remote_cluster_that_is_read, "--settle=0"),
        (pods_that_are_accepted, "--settle=0"),
        (a_running_job_that_pod_security_refuses, "--settle=0"),
        (a_job_that_waits_for_a_quota, "--settle=0"),
        (injection_as_before, "--settle=0"),
        (injection_with_other_resources, "--settle=0"),
        (crds_of_istiods_release, "--settle=0"),
        (a_module_that_was_fetched, "--settle=0"),
        (a_rollback_that_is_simulated, "--settle=0"),
    ],
    ids=[
        "IST0109 with itself",
        "canary upgrade",
        "CNI",
        "mesh config",
        "provider",
        "remote cluster",
        "new pods",
        "running Job",
        "Job in a full quota",
        "injection",
        "resources",
        "CRDs",
        "Wasm",
        "rollback",
    ],
)
def test_what_is_unusual_and_healthy_opens_the_gate(
    change: Break, option: str, broken: Broken, gate: Gate
) -> None:
    run = gate("-m", "controlplane", f"--snapshot={broken(change)}", option)

    assert run.code == 0, run.out


def test_the_level_that_fails_can_be_lowered(gate: Gate, root: Path) -> None:
    recording = f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz"

    run = gate("-m", "controlplane", recording, "--failure-threshold=Warning")

    assert run.code == 1, run.out
    assert any(line.startswith("FAIL CP006 EnvoyFilter ") for line in run.verdict), run.out


def test_what_only_an_empty_list_of_secrets_says_is_left_out_and_told(
    gate: Gate, root: Path
) -> None:
    run = gate("-m", "controlplane", f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert "3 messages of istioctl analyze (IST0101) are omitted" in run.out


@pytest.mark.parametrize(
    ("change", "checks"), UNKNOWN, ids=[change.__name__ for change, _ in UNKNOWN]
)
def test_one_thing_not_seen_is_never_a_pass(
    change: Break, checks: set[str], broken: Broken, gate: Gate
) -> None:
    run = gate("-m", "controlplane", f"--snapshot={broken(change)}")

    assert run.code == 10, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("UNKNOWN ")} == checks
