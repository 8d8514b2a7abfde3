"""The chart: each Job as Argo CD and istiod need it, in each situation, and nothing that drifts."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshgate.catalogue import STAGES
from meshgate.collect.rights import (
    GATES,
    PROBES,
    REPORTS,
    cluster_role,
    probes_namespace,
    probes_role,
    reports_namespace,
    reports_role,
    restart_role,
    role,
    token_role,
)
from meshgate.pipeline.restart import EXCLUDED
from tests.chart.conftest import CHART, Helm, Render
from tests.conftest import ROOT

HOOK = "argocd.argoproj.io/hook"
SITUATIONS = sorted(
    path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")
)
MANIFESTS = ROOT / "hooks/manifests"
NESTED = (
    *("image", "pairs", "probes", "record", "removal", "report", "restart", "rollback", "shadow"),
    "watch",
)
SHOWN = ["in-place-istiod", "ingress", "restart", "rights"]


def jobs(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Jobs among them."""
    return [each for each in objects if each["kind"] == "Job"]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is run of them: pods, and the Jobs' templates of pods."""
    return [
        each["spec"]["template"] if each["kind"] == "Job" else each
        for each in objects
        if each["kind"] in ("Job", "Pod")
    ]


def gates(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Jobs that take claims."""
    return [each for each in jobs(objects) if "meshgate/stage" in each["metadata"]["labels"]]


def hooks(objects: list[dict[str, Any]]) -> dict[str, str]:
    """Hook by Job."""
    return {
        each["metadata"]["name"]: each["metadata"]["annotations"][HOOK] for each in jobs(objects)
    }


@pytest.mark.parametrize("situation", SITUATIONS)
def test_helm_finds_nothing_to_mend(helm: Helm, situation: str) -> None:
    done = helm("lint", "--strict", CHART, "--values", CHART / f"ci/{situation}-values.yaml")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (
            "in-place-istiod",
            {
                "control-plane-precheck": "PreSync",
                "control-plane-verification": "PostSync",
                "control-plane-last-verdict": "SyncFail",
            },
        ),
        (
            "ingress",
            {
                "ingress-gateway-verification": "PostSync",
                "control-plane-before-ingress": "PreSync",
                "ingress-gateway-last-verdict": "SyncFail",
            },
        ),
        (
            "restart",
            {
                "data-plane-verification": "PostSync",
                "control-plane-before-restart": "PreSync",
                "ingress-gateway-before-restart": "PreSync",
                "data-plane-last-verdict": "SyncFail",
                "sequential-restart-all-istio-enabled-services": "Sync",
            },
        ),
        ("rights", {}),
    ],
)
def test_each_application_has_its_gates(
    render: Render, situation: str, expected: dict[str, str]
) -> None:
    assert hooks(render(situation)) == expected


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_job_is_as_argo_cd_needs_it(render: Render, situation: str) -> None:
    for job in jobs(render(situation)):
        annotations, spec = job["metadata"]["annotations"], job["spec"]
        assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
        assert "generateName" not in job["metadata"]
        assert spec["backoffLimit"] == 0
        assert spec["activeDeadlineSeconds"] > 0
        assert "ttlSecondsAfterFinished" not in spec
        assert spec["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_pod_is_confined(render: Render, situation: str) -> None:
    for template in pods(render(situation)):
        assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]


@pytest.mark.parametrize(
    "situation", [each for each in SITUATIONS if each not in ("rights", "old-revision", "record")]
)
def test_every_gate_takes_its_stage_and_tells_each_exit_code_apart(
    render: Render, situation: str
) -> None:
    found = gates(render(situation))
    assert found

    for job in found:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        name, words = job["metadata"]["name"], container["args"]
        assert container["command"] == ["pytest"]
        assert words[:2] == ["-m", job["metadata"]["labels"]["meshgate/stage"]]
        assert words[1] in STAGES
        assert name in GATES  # or it may not tell its verdict
        namespace = job["metadata"]["namespace"]
        assert f"--job={namespace}/{name}@$(JOB_UID)" in words
        assert f"--report-to=configmap://{REPORTS}/{name}-reports" in words
        rules = job["spec"]["podFailurePolicy"]["rules"]
        codes = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
        assert codes == [[1], [10], [2], [3], [4], [5]]
        settle = next(int(w.removeprefix("--settle=")) for w in words if w.startswith("--settle="))
        assert job["spec"]["activeDeadlineSeconds"] >= settle + 180


def test_the_gates_show_istiod_a_token_that_it_takes(render: Render) -> None:
    for job in gates(render("in-place-istiod")):
        pod = job["spec"]["template"]["spec"]
        (token,) = [
            source["serviceAccountToken"]
            for volume in pod["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
        ]
        assert (token["audience"], token["path"]) == ("istio-ca", "istio-token")
        assert "/var/run/secrets/tokens" in [
            mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]
        ]


@pytest.mark.parametrize(
    ("situation", "namespace"),
    [("in-place-istiod", "istio-system"), ("another-namespace", "af-toolkit")],
)
def test_all_of_it_is_in_one_namespace_but_what_is_for_the_probes_and_the_reports(
    render: Render, situation: str, namespace: str
) -> None:
    objects = render(situation, "--namespace", "somewhere-else")
    kinds: dict[str | None, list[str]] = {}
    for each in objects:
        kinds.setdefault(each["metadata"].get("namespace"), []).append(each["kind"])

    assert set(kinds) == {namespace, None, PROBES, REPORTS}
    assert kinds[PROBES] == kinds[REPORTS] == ["Role", "RoleBinding"]
    for each in objects:
        clusterwide = each["kind"].startswith("ClusterRole") or each["kind"] == "Namespace"
        assert each["metadata"].get("namespace") or clusterwide
        for subject in each.get("subjects", []):
            assert subject["namespace"] == namespace


def without_labels(object: dict[str, Any]) -> dict[str, Any]:
    """An object without what Argo CD is told by it."""
    metadata = {
        name: value
        for name, value in object["metadata"].items()
        if name not in ("labels", "annotations")
    }
    return {**object, "metadata": metadata}


def test_the_rights_are_those_that_are_printed(render: Render) -> None:
    found = [without_labels(each) for each in render("rights")]

    assert cluster_role("istio-verification") in found
    assert role("istio-verification", "istio-system") in found
    assert without_labels(reports_namespace()) in found
    assert reports_role("istio-verification-reports") in found
    assert probes_role("istio-verification-probes") in found
    assert {each["kind"] for each in found} == {
        *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
        "Namespace",
    }
    assert restart_role("istio-restart") in [without_labels(each) for each in render("restart")]


def test_tokens_are_requested_of_the_listed_accounts_only(render: Render) -> None:
    def found(*words: str) -> list[dict[str, Any]]:
        return [without_labels(each) for each in render("rights", *words)]

    plain = found()
    listed = found("--set-json", 'pairs.accounts=["shop/client","legacy/batch"]')
    added = [each for each in listed if each not in plain]

    assert not [each for each in plain if "token" in json.dumps(each)]
    for account in ("shop/client", "legacy/batch"):
        granted = token_role("istio-verification", account)
        assert granted in added
        (binding,) = [
            each
            for each in added
            if each["kind"] == "RoleBinding"
            and each["metadata"]["namespace"] == granted["metadata"]["namespace"]
        ]
        assert binding["roleRef"]["name"] == granted["metadata"]["name"]
        assert [each["name"] for each in binding["subjects"]] == ["istio-verification-sa"]
    assert len(added) == 4


def test_as_hooks_the_rights_come_before_the_first_job(render: Render) -> None:
    objects = render("in-place-istiod")
    rights = [each for each in objects if each["kind"] not in ("Job", "CronJob")]
    assert len(rights) == 11

    for each in rights:
        assert each["metadata"]["annotations"][HOOK] == "PreSync"
        assert int(each["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) < 0


def test_the_namespaces_are_never_deleted_and_labelled_as_told(render: Render) -> None:
    def namespaces(situation: str, *words: str) -> list[dict[str, Any]]:
        return [each for each in render(situation, *words) if each["kind"] == "Namespace"]

    plain = namespaces("rights")
    for each, made in zip(plain, (reports_namespace(), probes_namespace()), strict=True):
        assert made["metadata"]["labels"].items() <= each["metadata"]["labels"].items()
    hooks = {
        each["metadata"]["name"]: each["metadata"]
        for each in namespaces(
            "in-place-istiod", "--set-json", 'probes.labels={"istio.io/rev":"prod"}'
        )
    }
    assert set(hooks) == {PROBES, REPORTS}
    for each in hooks.values():
        assert each["annotations"]["argocd.argoproj.io/hook-delete-policy"] == "HookFailed"
    assert hooks[PROBES]["labels"]["istio.io/rev"] == "prod"


def test_the_probes_are_made_of_the_gates_own_image_or_not_at_all(render: Render) -> None:
    def words(*more: str) -> list[str]:
        (gate,) = [
            each
            for each in gates(render("restart", *more))
            if each["metadata"]["labels"]["meshgate/stage"] == "dataplane"
        ]
        (container,) = gate["spec"]["template"]["spec"]["containers"]
        assert f"--probe-pair={container['image']}" in container["args"] or more
        return [word for word in container["args"] if word.startswith("--probe-")]

    assert len(words()) == 1
    called = words("--set", "probes.calls={http://web.shop/}")
    assert called[1:] == ["--probe-call=http://web.shop/"]
    assert words("--set", "probes.enabled=false") == []
    rights = render("rights", "--set", "probes.enabled=false")
    assert PROBES not in json.dumps(rights)


def test_reports_are_kept_where_one_says_or_nowhere(render: Render) -> None:
    def kept(situation: str, *words: str) -> tuple[list[str], set[str]]:
        objects = render(situation, *words)
        namespaces = [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]
        writers = {
            each["metadata"]["namespace"]
            for each in objects
            for rule in each.get("rules", [])
            if "configmaps" in rule["resources"] and "update" in rule["verbs"]
        }
        return namespaces, writers

    assert kept("rights") == ([REPORTS, PROBES], {REPORTS})
    assert kept("rights", "--set=report.namespace=af") == (["af", PROBES], {"af"})
    together = "--set=report.namespace=istio-system"
    assert kept("rights", together) == ([PROBES], {"istio-system"})
    assert kept("rights", "--set=report.keep=false") == ([PROBES], set())
    (gate,) = gates(render("ingress", "--set=report.namespace=af", "--set=before=null"))
    (container,) = gate["spec"]["template"]["spec"]["containers"]
    assert "--report-to=configmap://af/ingress-gateway-verification-reports" in container["args"]


def test_the_data_plane_can_be_shared_out_among_pods(render: Render) -> None:
    objects = render("restart", "--set", "shards=3")
    found = {each["metadata"]["labels"]["meshgate/stage"]: each for each in gates(objects)}

    shared = found.pop("dataplane")["spec"]
    assert (shared["completionMode"], shared["completions"], shared["parallelism"]) == (
        *("Indexed", 3),
        3,
    )
    (container,) = shared["template"]["spec"]["containers"]
    place = f"configmap://{REPORTS}/data-plane-verification-reports"
    assert {"--shard=$(SHARD)/3", f"--report-to={place}-$(SHARD)"} <= set(container["args"])
    (index,) = [each["valueFrom"] for each in container["env"] if each["name"] == "SHARD"]
    assert "job-completion-index" in index["fieldRef"]["fieldPath"]
    for each in found.values():
        assert "completionMode" not in each["spec"]
    (last,) = [each for each in jobs(objects) if each["metadata"]["name"].endswith("last-verdict")]
    (container,) = last["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == [f"{place}-{shard}" for shard in range(3)]


def test_the_watch_goes_on_beside_the_sync_and_ends_with_it(render: Render) -> None:
    chosen = "watch.rate=2,watch.slowAfter=300,watch.lasting=900,before={ingress}"
    objects = render("ingress", "--set", chosen)
    (watch,) = [each for each in objects if each["kind"] == "Pod"]
    annotations, spec = watch["metadata"]["annotations"], watch["spec"]

    # a hook that is no Job, restarted for ever and Ready, holds no sync up
    assert annotations[HOOK] == "PreSync"
    assert spec["restartPolicy"] == "Always"
    assert set(annotations["argocd.argoproj.io/hook-delete-policy"].split(",")) == {
        *("BeforeHookCreation", "HookSucceeded"),
        "HookFailed",
    }
    assert int(annotations["argocd.argoproj.io/sync-wave"]) > 0
    assert spec["activeDeadlineSeconds"] == 900
    (container,) = spec["containers"]
    assert container["command"] == ["meshgate", "watch"]
    place, *words = container["args"]
    assert {"--rate=2", "--slow-after=300", "--lasting=900"} <= set(words)
    begun = next(each.removeprefix("--begun=") for each in words if each.startswith("--begun="))
    assert container["readinessProbe"]["exec"]["command"] == ["test", "-e", begun]
    assert "--stay" in words
    assert place == f"configmap://{REPORTS}/upgrade-watch"
    judges = {
        each["metadata"]["name"]: f"--watch={place}"
        in each["spec"]["template"]["spec"]["containers"][0]["args"]
        for each in gates(objects)
    }
    assert judges == {"ingress-gateway-verification": True, "ingress-gateway-before-ingress": False}


def test_the_whole_upgrade_is_watched_until_the_last_gate_ends_it(render: Render) -> None:
    chosen = ("watch.enabled=true", "watch.targets={http://api.payments/}", "watch.budgets.a/b=5")
    objects = render("in-place-istiod", "--set", ",".join(chosen))
    (watch,) = [each for each in objects if each["kind"] == "Pod"]
    (container,) = watch["spec"]["containers"]
    place, *words = container["args"]

    # the sync of istiod ends long before the upgrade does
    policy = watch["metadata"]["annotations"]["argocd.argoproj.io/hook-delete-policy"]
    assert policy == "BeforeHookCreation"
    assert {"--target=http://api.payments/", "--sample=3", "--mesh-rate=20"} <= set(words)
    assert f"--image={container['image']}" in words
    last = render("restart", "--set", ",".join(chosen))
    assert [each for each in last if each["kind"] == "Pod"] == []
    given = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["args"]
        for each in (*gates(objects), *gates(last))
    }
    judging = {name for name, words in given.items() if f"--watch={place}" in words}
    assert judging == {"control-plane-verification", "data-plane-verification"}
    assert all("--loss-budget=a/b=5" in given[name] for name in judging)
    ending = f"--end-watch={watch['metadata']['namespace']}/{watch['metadata']['name']}"
    assert [name for name, words in given.items() if ending in words] == ["data-plane-verification"]


def test_the_cluster_is_recorded_under_its_name(render: Render) -> None:
    (made,) = [each for each in render("record") if each["kind"] == "CronJob"]
    url = "s3://bucket/recordings"
    (other,) = [
        each
        for each in render("record", "--set", f"record.url={url},record.keep=2")
        if each["kind"] == "CronJob"
    ]

    assert made["spec"]["concurrencyPolicy"] == "Forbid"
    assert "suspend" not in made["spec"]
    job = made["spec"]["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 900)
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["meshgate", "record"]
    place, *words = container["args"]
    assert place == f"configmap://{REPORTS}/mesh-recordings"
    assert {"--cluster-name=eu-1", "--keep=7"} <= set(words)
    (container,) = other["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == url
    assert "--keep=2" in container["args"]


def test_what_records_may_read_what_a_simulation_reads(render: Render) -> None:
    (granted,) = [each for each in render("record") if each["kind"] == "ClusterRole"]

    assert granted["rules"] == cluster_role("", shadow=True)["rules"]


def test_nothing_is_recorded_unless_it_is_asked_for(render: Render) -> None:
    assert "mesh-recording" not in json.dumps(render("in-place-istiod"))


def test_nothing_is_watched_unless_it_is_asked_for(render: Render) -> None:
    assert "watch" not in json.dumps(render("no-load-balancer"))


def test_the_restart_is_out_of_sync_with_each_version(render: Render) -> None:
    (target,) = [each for each in render("restart") if each["kind"] == "ConfigMap"]

    assert target["data"] == {"version": "1.31.0"}
    assert HOOK not in target["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("preset", "same"),
    [
        ("base", "rights"),
        ("istiod", "revision-with-tag"),
        ("ingress", "no-load-balancer"),
        ("restart", "restart"),
    ],
)
def test_a_preset_sets_what_an_application_needs(
    render: Render, helm: Helm, preset: str, same: str
) -> None:
    words = f"preset={preset},targetVersion=1.31.0,settle=120,deadline=600"
    done = helm("template", "meshgate", CHART, "--set", words)

    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert found == render(same, "--set", "settle=120,deadline=600")


@pytest.mark.parametrize(
    ("preset", "checks"), [("istio-cni", ["--check=AM001,AM002"]), ("ztunnel", [])]
)
def test_the_gates_of_ambient_mode(helm: Helm, preset: str, checks: list[str]) -> None:
    words = f"preset={preset},targetVersion=1.31.0"
    done = helm("template", "meshgate", CHART, "--set", words)

    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert hooks(found) == {
        f"{preset}-verification": "PostSync",
        f"{preset}-last-verdict": "SyncFail",
    }
    (gate,) = [each for each in found if each["metadata"]["name"] == f"{preset}-verification"]
    words_of_gate = gate["spec"]["template"]["spec"]["containers"][0]["args"]
    assert words_of_gate[:2] == ["-m", "ambient"]
    # ztunnel still has its old version after istio-cni
    assert [each for each in words_of_gate if each.startswith("--check")] == checks


def test_values_take_precedence_over_the_preset(render: Render) -> None:
    less = "before={controlplane},restart.enabled=false"
    objects = render("preset-restart", "--set", less, "--set-json", "stages=[]")

    assert hooks(objects) == {"control-plane-before-restart": "PreSync"}


def test_the_pods_get_what_the_values_add(render: Render) -> None:
    objects = render("preset-restart")
    held = {
        each["metadata"]["name"]: each
        for each in objects
        if each["metadata"]["name"].startswith("meshgate-")
    }

    assert {name: set(each["data"]) for name, each in held.items()} == {
        "meshgate-files-restart": {"ca.pem", "notes.txt", "waivers.toml"},
        "meshgate-checks-restart": {"dataplane.toml", "verify_acme.py"},
    }
    for each in held.values():
        assert each["metadata"]["annotations"][HOOK] == "PreSync"
        assert int(each["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) < 0
    for template in pods(objects):
        assert template["metadata"]["labels"]["team"] == "mesh"
        assert template["spec"]["priorityClassName"] == "system-cluster-critical"
        assert "nodeAffinity" in template["spec"]["affinity"]
    for job in gates(objects):
        annotations, pod = job["metadata"]["annotations"], job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert annotations["meshgate/cluster"] == "prod-eu"
        assert "--cluster-name=prod-eu" in container["args"]
        files = {word for word in container["args"] if "/etc/meshgate/" in word}
        assert files == {
            "--waivers=/etc/meshgate/waivers.toml",
            "--ingress-ca=/etc/meshgate/ca.pem",
        }
        mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert (mounted["files"], mounted["client"]) == ("/etc/meshgate", "/etc/client")
        assert f"--checks={mounted['checks']}" in container["args"]
        assert mounted.keys() <= {each["name"] for each in pod["volumes"]}
        assert "HTTPS_PROXY" in {each["name"] for each in container["env"]}


def test_custom_checks_can_be_in_a_config_map_of_the_team(render: Render) -> None:
    objects = render("preset-restart", "--set=checks.configMap=acme-checks")

    names = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    assert "meshgate-checks-restart" not in names
    for job in gates(objects):
        volumes = job["spec"]["template"]["spec"]["volumes"]
        assert {"name": "checks", "configMap": {"name": "acme-checks"}} in volumes


def test_a_stage_can_be_verified_without_a_sync(render: Render) -> None:
    objects = render("in-place-istiod")
    manual = {each["metadata"]["name"]: each for each in objects if each["kind"] == "CronJob"}
    by_sync = {each["metadata"]["name"]: each for each in gates(objects)}

    assert set(manual) == {f"{name}-now" for name in by_sync}
    for name, gate in by_sync.items():
        cron = manual[f"{name}-now"]["spec"]
        assert cron["suspend"] is True
        assert HOOK not in manual[f"{name}-now"]["metadata"].get("annotations", {})
        own, other = deepcopy(cron["jobTemplate"]["spec"]), deepcopy(gate["spec"])
        (here,), (there,) = (
            [each["template"]["spec"]["containers"][0] for each in (spec,)] for spec in (own, other)
        )
        # its Jobs have other names, which the Role does not permit it to change
        there["args"] = [
            f"{word}".replace(f"{name}-reports", f"{name}-now-reports")
            for word in there["args"]
            if not word.startswith("--job=")
        ]
        assert here["args"] == there["args"]
        assert own == other
    assert "CronJob" not in {
        each["kind"] for each in render("in-place-istiod", "--set", "verifyNow=false")
    }


def test_a_revision_is_deleted_only_if_nothing_uses_it(render: Render) -> None:
    (job,) = render("old-revision")

    assert job["metadata"]["annotations"][HOOK] == "PreDelete"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["meshgate", "revisions"]
    assert "--unused=1-30-4" in container["args"]


def test_the_image_is_that_of_the_release() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    release = (ROOT / ".github/workflows/release.yaml").read_text()

    registry, owner, name = values["image"]["repository"].split("/")
    assert f"REGISTRY: {registry}/${{{{ github.repository_owner }}}}" in release
    assert (owner, name) == ("meshgate", "meshgate")


def test_a_registry_of_ones_own(render: Render) -> None:
    for job in jobs(render("air-gapped")):
        pod = job["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"].startswith("registry.example.com/mirror/meshgate@sha")
        assert pod["imagePullSecrets"] == [{"name": "mirror"}]


def shadowed(render: Render, *words: str) -> tuple[dict[str, Any], list[str]]:
    """The precheck gate's pod where it tries the upgrade, and what pytest is told; and the rest's
    is as it is without."""
    found = {
        each["metadata"]["labels"]["meshgate/stage"]: each["spec"]["template"]["spec"]
        for each in gates(render("shadow", *words))
    }
    assert "initContainers" not in found["controlplane"]
    assert "--shadow" not in json.dumps(found["controlplane"])
    pod = found["precheck"]
    told = [word for word in pod["containers"][0]["args"] if "shadow" in word]
    for kind in ("pilot-discovery", "envoy"):
        assert any(word.endswith(f"=/target/{kind}") for word in told)
    return pod, told


def brought(pod: dict[str, Any]) -> list[str]:
    """What the init containers copy."""
    words = [word for each in pod["initContainers"] for word in each["command"]]
    return [word for word in words if "/bin/" in word]


def test_the_targets_programs_are_copied_from_its_images(render: Render) -> None:
    pod, told = shadowed(render)

    images = [each["image"] for each in pod["initContainers"]]
    assert images == ["docker.io/istio/pilot:1.31.0", "docker.io/istio/proxyv2:1.31.0"]
    assert brought(pod) == ["/usr/local/bin/pilot-discovery", "/usr/local/bin/envoy"]
    assert {"--require-shadow", "--shadow-deadline=300", "--shadow-memory=2048"} <= set(told)
    volumes = {each["name"]: each for each in pod["volumes"]}
    for container in (*pod["containers"], *pod["initContainers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "3Gi"}


def test_images_without_cp_are_volumes(render: Render) -> None:
    image = "registry.example.com/pilot@sha256:1"
    pod, _ = shadowed(
        render, "--set", f"shadow.from=volume,shadow.images.pilot={image},shadow.required=false"
    )

    volumes = {each["name"]: each.get("image", {}).get("reference") for each in pod["volumes"]}
    assert volumes["pilot"] == image
    assert volumes["proxy"] == "docker.io/istio/proxyv2:1.31.0"
    # by the gate's own image, which has cp
    (only,) = pod["initContainers"]
    assert only["image"] == pod["containers"][0]["image"]
    mounted = {mount["mountPath"]: mount["name"] for mount in only["volumeMounts"]}
    for word in brought(pod):
        assert mounted["/" + word.split("/")[1]] in ("pilot", "proxy")


def test_the_targets_manifests_are_there_before_the_gate(render: Render) -> None:
    (held,) = [each for each in render("shadow") if each["kind"] == "ConfigMap"]
    assert held["metadata"]["annotations"][HOOK] == "PreSync"
    assert int(held["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) < 0
    assert yaml.safe_load(held["data"]["istiod.yaml"])["metadata"]["name"] == "istio"

    def named(*words: str) -> str:
        pod, _ = shadowed(render, *words)
        (name,) = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
        return str(name)

    assert named() == held["metadata"]["name"]
    own = ("--set", "shadow.configMap=own")
    assert named(*own) == "own"
    assert not [each for each in render("shadow", *own) if each["kind"] == "ConfigMap"]


def test_the_gate_after_istiod_simulates_a_rollback(render: Render) -> None:
    objects = render("rollback")
    found = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in gates(objects)}
    assert "initContainers" not in found["control-plane-precheck"]
    pod = found["control-plane-verification"]

    images = [each["image"] for each in pod["initContainers"]]
    assert images == ["docker.io/istio/pilot:1.30.4", "docker.io/istio/proxyv2:1.30.4"]
    words = pod["containers"][0]["args"]
    assert {"--shadow-rollback", "--require-shadow", "--target-version=1.31.0"} <= set(words)
    (held,) = [each for each in objects if each["kind"] == "ConfigMap"]
    (mounted,) = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
    assert mounted == held["metadata"]["name"]
    # of the same stage, but before another Application: the rollback was simulated already
    before = render("rollback", "--set", "preset=ingress")
    assert "--shadow-rollback" not in json.dumps(before)
    assert cluster_role("istio-verification", shadow=True) in map(without_labels, objects)


def test_with_the_shadow_the_rights_are_what_it_needs(render: Render) -> None:
    def rights(situation: str) -> list[dict[str, Any]]:
        return [
            without_labels(each)
            for each in render(situation)
            if each["kind"] not in ("ConfigMap", "CronJob", "Job")
        ]

    plain, role = (
        cluster_role("istio-verification"),
        cluster_role("istio-verification", shadow=True),
    )
    # and all else is as it is without
    assert [role if each == plain else each for each in rights("in-place-istiod")] == rights(
        "shadow"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [("deadline=500", "shadow.deadline"), ("shadow.manifests=", "shadow.configMap")],
)
def test_a_shadow_that_cannot_be_is_refused(helm: Helm, words: str, why: str) -> None:
    values = CHART / "ci/shadow-values.yaml"
    done = helm("template", "meshgate", CHART, "--values", values, "--set", words)

    assert done.returncode != 0
    assert why in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("stages={controlplan}", "controlplan"),
        ("settle=590", "deadline"),
        ("targetVersion=", "targetVersion"),
        ("targetVersion=newest", "targetVersion"),
        ("image.digest=sha256:1", "digest"),
        ("stage={ingress}", "stage"),
        ("watch.enabled=true,watch.start=dataplane", "start"),
        ("record.enabled=true", "clusterName"),
        ("record.enabled=true,clusterName=a,report.keep=false", "record.url"),
        ("watch.enabled=true,report.keep=false", "report.keep is false"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(helm: Helm, words: str, why: str) -> None:
    values = CHART / "ci/in-place-istiod-values.yaml"
    done = helm("template", "meshgate", CHART, "--values", values, "--set", words)

    assert done.returncode != 0
    assert why in done.stderr


def test_every_value_has_a_line_that_says_what_it_is() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r"[a-zA-Z]+:", line) and not before.startswith("#")
    ]

    assert bare == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    def names(value: Any, prefix: str = "") -> set[str]:
        found = set()
        for name, inner in value.items():
            found.add(f"{prefix}{name}")
            if prefix == "" and name in NESTED:
                found |= names(inner, f"{name}.")
        return found

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    properties = json.loads((CHART / "values.schema.json").read_text())["properties"]
    schema = {name: each.get("properties", {}) for name, each in properties.items()}
    del schema["global"]  # helm's own

    assert names(schema) == names(values)


@pytest.mark.parametrize("situation", SHOWN)
def test_the_plain_manifests_are_what_the_chart_renders(render: Render, situation: str) -> None:
    written = yaml.safe_load_all((MANIFESTS / f"{situation}.yaml").read_text())

    assert [each for each in written if each] == render(situation)


def test_the_annotation_that_excludes_is_documented() -> None:
    assert EXCLUDED in (Path(ROOT) / "hooks/README.md").read_text()
