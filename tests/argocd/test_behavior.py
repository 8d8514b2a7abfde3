"""What hooks/README.md says about Argo CD itself, with small Applications whose hooks take seconds.

Each test has an Application and a folder of its own in the repository.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.argocd.argo import Argo, Object
from tests.chart.test_health import application as health
from tests.lab.harness import ROOT, Lab, until

NAMESPACE = "argo-behavior"
IMAGE = "docker.io/lab/python:1"
PREFIX = "argocd.argoproj.io"
APPROVED = f"{PREFIX}/deletion-approved"

Made = Callable[..., None]


def config(name: str, **metadata: Any) -> Object:
    """Return a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, **metadata},
        "data": {"version": "1"},
    }


def hook(name: str, phase: str, command: str) -> Object:
    """Return a Job that is a hook, with the chart's deletion policy."""
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}
    annotations = {f"{PREFIX}/hook": phase, f"{PREFIX}/hook-delete-policy": "BeforeHookCreation"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 300,
            "template": {
                "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [container],
                },
            },
        },
    }


@pytest.fixture(scope="module")
def place(lab: Lab, argocd: Argo) -> None:
    """The namespace of the Applications' resources."""
    del argocd
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})


@pytest.fixture
def made(lab: Lab, argocd: Argo, place: None) -> Iterator[Made]:
    """Commit objects and apply the Application of them; it is removed after the test."""
    names = []

    def make(
        name: str,
        *objects: Object,
        policy: Object | None = None,
        hydrated: bool = False,
        **metadata: Any,
    ) -> None:
        argocd.commit_objects(name, objects)
        if name not in names:
            names.append(name)
        body = app(argocd, name, policy, **metadata)
        if hydrated:
            sync = {"targetBranch": "env/lab", "path": name}
            body["spec"]["sourceHydrator"] = {"drySource": body["spec"].pop("source")}
            body["spec"]["sourceHydrator"]["syncSource"] = sync
        lab.apply(body)

    yield make
    for name in names:
        lab.run(
            "kubectl", "-n", "argocd", "patch", f"application/{name}", "--type=merge", "-p", FREE
        )
        lab.run("kubectl", "-n", "argocd", "delete", f"application/{name}", "--ignore-not-found")
    lab.run("kubectl", "-n", NAMESPACE, "delete", "jobs,configmaps,cronjobs,pods", "--all")


FREE = '{"metadata": {"finalizers": null}}'


def app(argocd: Argo, name: str, policy: Object | None, **metadata: Any) -> Object:
    """Return an Application of a folder in the repository."""
    source = {"repoURL": f"file://{argocd.repository}", "path": name, "targetRevision": "main"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": "argocd", **metadata},
        "spec": {
            "project": "default",
            "destination": {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE},
            "source": source,
            "syncPolicy": policy or {"retry": {}},
        },
    }


def shown(argocd: Argo, name: str) -> tuple[str, str]:
    """Return the health that our check reports for an Application, with its message.

    With MESHGATE_RECORD=FOLDER, the object is kept there, for tests/chart/test_health.py.
    """
    found = argocd.lab.get("-n", "argocd", f"application/{name}")
    if folder := os.environ.get("MESHGATE_RECORD"):
        release = ".".join(map(str, argocd.release))
        text = json.dumps(found, indent=1).replace(str(argocd.repository), "/mesh")
        number = len(list(Path(folder).glob(f"{release}-{name}-*")))
        Path(folder, f"{release}-{name}-{number}.json").write_text(text + "\n")
    return health(found)


def uid(lab: Lab, job: str) -> str:
    """Return the UID of a Job, which is another one after each run of the hook."""
    return str(lab.get("-n", NAMESPACE, f"job/{job}")["metadata"]["uid"])


def test_self_heal_runs_no_hooks(lab: Lab, argocd: Argo, made: Made) -> None:
    policy = {"automated": {"selfHeal": True}, "retry": {}}
    made("healed", config("healed"), hook("healed", "PostSync", "true"), policy=policy)
    argocd.until("healed", lambda app: app.done)
    before = uid(lab, "healed")

    lab.kubectl("-n", NAMESPACE, "patch", "configmap/healed", "-p", '{"data": {"version": "2"}}')
    argocd.until("healed", lambda app: app.done and bool(app.selected), timeout=120)

    found = lab.get("-n", NAMESPACE, "configmap/healed")
    assert found["data"]["version"] == "1"
    assert uid(lab, "healed") == before
    # nothing new was deployed, so the verdict of the last complete sync still counts
    assert shown(argocd, "healed")[0] == "Healthy"


def test_a_terminated_sync_runs_no_sync_fail_hook(lab: Lab, argocd: Argo, made: Made) -> None:
    jobs = (hook("slow", "PreSync", "sleep 250"), hook("said", "SyncFail", "true"))
    made("terminated", config("terminated"), *jobs)
    argocd.begin("terminated")
    argocd.until("terminated", lambda app: app.gates.get("slow") == "Running")

    done = argocd.cli("app", "terminate-op", "terminated")
    ended = argocd.until("terminated", lambda app: app.over)

    assert done.returncode == 0, done.stderr
    assert ended.phase == "Failed"
    assert "terminated" in ended.message
    assert "said" not in ended.gates
    assert "configmap/terminated" not in present(lab, "configmap")
    status, words = shown(argocd, "terminated")
    assert status == "Degraded", words


def test_a_hook_that_vanishes_fails_the_sync(lab: Lab, argocd: Argo, made: Made) -> None:
    made("vanished", config("vanished"), hook("gone", "PreSync", "sleep 250"))
    argocd.begin("vanished")
    argocd.until("vanished", lambda app: app.gates.get("gone") == "Running")

    # Argo CD protects a running hook by a finalizer: without it, the Job is gone at once
    lab.kubectl("-n", NAMESPACE, "delete", "job/gone", "--wait=false")
    lab.kubectl("-n", NAMESPACE, "patch", "job/gone", "--type=merge", "-p", FREE)
    ended = argocd.until("vanished", lambda app: app.over)

    assert ended.phase == "Failed", ended
    assert "configmap/vanished" not in present(lab, "configmap")
    assert shown(argocd, "vanished")[0] == "Degraded"


def test_a_hook_that_is_deleted_after_the_sync_keeps_no_finalizer(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    annotations = {
        f"{PREFIX}/hook": "PreSync",
        f"{PREFIX}/hook-delete-policy": "BeforeHookCreation,HookSucceeded,HookFailed",
    }
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "300"]}
    watch = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "watch", "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    made("watched", config("watched"), watch, hook("judge", "PostSync", "true"))

    assert argocd.sync("watched").phase == "Succeeded"
    # the sync continued beside a Pod that does not end, and deletes it at its own end
    argocd.until("watched", lambda _: "pod/watch" not in present(lab, "pod"), timeout=60)


def test_a_dead_validator_is_an_error_of_the_server_side_diff(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    policy = {"retry": {}, "syncOptions": ["ServerSideApply=true"]}
    made("validated", config("validated"), policy=policy)
    assert argocd.sync("validated").done
    lab.apply(dead_validator())
    try:
        made("validated", config("validated", labels={"new": "label"}), policy=policy)
        argocd.refresh("validated")
        compared = argocd.application("validated")
        said = shown(argocd, "validated")
        off = {f"{PREFIX}/compare-options": "ServerSideDiff=false"}
        made(
            "validated",
            config("validated", labels={"new": "label"}),
            policy=policy,
            annotations=off,
        )
        argocd.refresh("validated")
        without = argocd.until("validated", lambda app: app.synced == "OutOfSync", timeout=60)
    finally:
        lab.kubectl("delete", "validatingwebhookconfiguration/dead-validator")

    if argocd.release >= (3, 6):  # the default of 3.6 for Applications with ServerSideApply=true
        assert compared.synced == "Unknown"
        assert said[0] == "Unknown"
        assert "comparison failed" in said[1]
    else:
        assert compared.synced == "OutOfSync"
    assert without.synced == "OutOfSync"


def dead_validator() -> Object:
    """Return a webhook for the namespace's ConfigMaps whose Service does not exist."""
    service = {"namespace": NAMESPACE, "name": "nobody", "path": "/"}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["configmaps"],
    }
    webhook = {
        "name": "dead.example.com",
        "clientConfig": {"service": service},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "dead-validator"},
        "webhooks": [webhook],
    }


def test_what_waits_to_be_pruned_is_healthy_and_goes_when_it_is_confirmed(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    made("soak", config("new"), config("old"))
    assert argocd.sync("soak").done

    made("soak", config("new"))
    argocd.refresh("soak")
    waiting = argocd.sync("soak")
    assert (waiting.phase, waiting.synced) == ("Succeeded", "OutOfSync")
    status, words = shown(argocd, "soak")
    assert (status, words) == ("Healthy", f"waiting to be pruned: ConfigMap {NAMESPACE}/old")

    # Argo CD reads the option of the live object, and waits in a sync without pruning too
    option = f"{PREFIX}/sync-options=Prune=confirm"
    lab.kubectl("-n", NAMESPACE, "annotate", "configmap/old", option)
    argocd.begin("soak", prune=True)
    argocd.until("soak", lambda app: "confirmation" in app.message)
    assert "configmap/old" in present(lab, "configmap")
    lab.kubectl("-n", "argocd", "annotate", "application/soak", f"{APPROVED}={argocd.now()}")
    assert argocd.until("soak", lambda app: app.over).done
    assert "configmap/old" not in present(lab, "configmap")


def test_an_application_is_not_deleted_while_its_pre_delete_hook_fails(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    check = hook("unused", "PreDelete", "test ! -e /used/version")
    spec = check["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "used", "configMap": {"name": "used", "optional": True}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "used", "mountPath": "/used"}]
    lab.apply(config("used"))
    cascade = {"finalizers": [f"resources-finalizer.{PREFIX}"]}
    made("removed", config("revision"), check, **cascade)
    assert argocd.sync("removed").done
    assert "job/unused" not in present(lab, "job")

    lab.kubectl("-n", "argocd", "delete", "application/removed", "--wait=false")
    argocd.until(
        "removed", lambda app: "PreDelete hook(s) failed" in str(app.conditions), timeout=120
    )
    assert "configmap/revision" in present(lab, "configmap")

    lab.kubectl("-n", NAMESPACE, "delete", "configmap/used")
    argocd.until_gone("removed")
    assert "configmap/revision" not in present(lab, "configmap")


def test_a_stage_is_verified_again_from_the_menu(lab: Lab, argocd: Argo, made: Made) -> None:
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "again", "namespace": NAMESPACE},
        "spec": {
            "suspend": True,
            "schedule": "0 0 1 1 *",
            "jobTemplate": {"spec": hook("again", "", "true")["spec"]},
        },
    }
    # as in the chart: Argo CD's action drops empty maps, and Kubernetes restores this one
    spec = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]  # type: ignore[index]
    spec["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    made("again", cron)
    assert argocd.sync("again").done  # a suspended CronJob is Healthy

    words = ("--kind=CronJob", "--resource-name=again")
    done = argocd.cli("app", "actions", "run", "again", "create-job", *words)

    assert done.returncode == 0, done.stderr
    (started,) = [each for each in present(lab, "job") if each.startswith("job/again-")]
    lab.kubectl("-n", NAMESPACE, "wait", started, "--for=condition=Complete", "--timeout=120s")
    assert shown(argocd, "again")[0] == "Healthy"


def test_a_gate_has_deep_links_to_its_report_and_to_the_documentation(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    url = "https://reports.example.com/run-1/index.html"
    gate, other = hook("linked", "PostSync", "true"), hook("other", "PostSync", "true")
    gate["metadata"]["labels"] = {"meshgate/stage": "ingress"}
    made("linked", config("linked"), gate, other)
    assert argocd.sync("linked").done
    # as a gate with the chart value report.link does
    lab.kubectl("-n", NAMESPACE, "annotate", "job/linked", f"link.argocd.argoproj.io/report={url}")

    assert argocd.links("linked", gate) == {
        "Report of this gate": url,
        "How to read the verdict": "https://meshgate.readthedocs.io/en/latest/first-verdict.html",
    }
    assert argocd.links("linked", other) == {}
    assert argocd.links("linked", config("linked")) == {}


def test_an_application_with_a_hydrated_source_is_healthy_after_its_sync(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    def version(value: str) -> None:
        made("hydrated", config("hydrated") | {"data": {"version": value}}, hydrated=True)
        argocd.refresh("hydrated")

    version("1")
    argocd.until("hydrated", lambda app: app.hydration.get("phase") == "Hydrated", timeout=120)
    assert argocd.sync("hydrated").done
    assert shown(argocd, "hydrated")[0] == "Healthy"

    version("2")
    argocd.until("hydrated", lambda app: app.synced == "OutOfSync", timeout=120)
    assert shown(argocd, "hydrated")[0] == "Progressing"
    assert argocd.sync("hydrated").done
    assert shown(argocd, "hydrated")[0] == "Healthy"
    assert lab.get("-n", NAMESPACE, "configmap/hydrated")["data"]["version"] == "2"


RECEIVER = "127.0.0.1:18095"
# Appends the body of each POST to a file, as a line
RECEIVE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "ab") as file:
            file.write(body.replace(b"\\n", b" ") + b"\\n")
        self.do_GET()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", 18095), Receiver).serve_forever()
"""


def test_a_closed_gate_is_reported_once_for_each_sync(
    lab: Lab, argocd: Argo, made: Made, tmp_path: Path
) -> None:
    """The notifications controller, with our trigger and template and a webhook."""
    received = tmp_path / "received"
    settings = ROOT / "hooks/argocd/notifications-cm.yaml"
    own = {"data": {"service.webhook.meshgate": f"url: http://{RECEIVER}/\n"}}
    patch = ("-n", "argocd", "patch", "configmap/argocd-notifications-cm")
    lab.kubectl(*patch, f"--patch-file={settings}")
    lab.kubectl(*patch, "-p", json.dumps(own))
    subscribe = "notifications.argoproj.io/subscribe.on-gate-closed.meshgate"

    def sync(count: int) -> str:
        ended = argocd.sync("reported")
        assert ended.phase == "Failed", ended
        until(lambda: len(lines(received)) == count, timeout=120)
        # later looks at the same sync send nothing
        argocd.refresh("reported")
        return str(ended.operation["startedAt"])

    server = lab.start(sys.executable, "-c", RECEIVE, str(received))
    try:
        until(lambda: lab.run("labapp", "get", f"http://{RECEIVER}/").returncode == 0)
        jobs = (hook("open", "PreSync", "true"), hook("closed", "PostSync", "false"))
        made("reported", config("reported"), *jobs, annotations={subscribe: ""})
        started = [sync(1), sync(2)]
        found = lines(received)
    finally:
        server.terminate()
        server.wait()

    assert [each["startedAt"] for each in found] == started
    for each in found:
        assert each["application"] == "reported"
        (gate,) = each["gates"]
        assert gate["gate"] == "closed"
        assert gate["verdict"]


def lines(file: Path) -> list[Any]:
    """Return each line of a file of JSON."""
    return list(map(json.loads, file.read_text().splitlines())) if file.exists() else []


def test_a_wave_of_clusters_starts_only_after_healthy_parents(
    lab: Lab, argocd: Argo, made: Made
) -> None:
    """The example's ApplicationSet with its waves, for two names of this cluster."""
    _, body = yaml.safe_load_all((ROOT / "hooks/examples/fleet.yaml").read_text())
    spec = body["spec"]
    waves = [{"wave": "canary"}, {"wave": "early"}]
    spec["generators"] = [{"list": {"elements": waves}}]
    template = spec["template"]
    template["metadata"] = {"name": "fleet-{{ .wave }}", "labels": {"istio-wave": "{{ .wave }}"}}
    template["spec"]["project"] = "default"
    template["spec"]["source"] = {
        "repoURL": f"file://{argocd.repository}",
        "path": "fleet-{{ .wave }}",
        "targetRevision": "main",
    }
    policy: Object = {"automated": {}, "retry": {}}
    for each in waves:
        wave = each["wave"]
        gate = hook(f"gate-{wave}", "PostSync", "false" if wave == "canary" else "true")
        argocd.commit_objects(f"child-{wave}", (config(f"child-{wave}"), gate))
        argocd.commit_objects(f"fleet-{wave}", (app(argocd, f"child-{wave}", policy),))
    lab.apply(body)
    try:
        closed = argocd.until("fleet-canary", lambda app: app.health == "Degraded", timeout=240)
        later = argocd.application("fleet-early")
        assert not later.operation, later
        assert closed.phase == "Succeeded"  # only the health check stops the next wave

        gate = hook("gate-canary", "PostSync", "true")
        argocd.commit_objects("child-canary", (config("child-canary"), gate))
        assert argocd.sync("child-canary").done
        argocd.until("fleet-early", lambda app: app.done, timeout=240)
    finally:
        lab.kubectl("-n", "argocd", "delete", "applicationset/istio-upgrade", "--wait=false")
        for each in waves:
            lab.run("kubectl", "-n", "argocd", "delete", f"application/child-{each['wave']}")


def present(lab: Lab, kind: str) -> set[str]:
    """Return the objects of a kind in the namespace, as kind/name."""
    items = lab.get("-n", NAMESPACE, kind)["items"]
    return {f"{kind}/{each['metadata']['name']}" for each in items}
