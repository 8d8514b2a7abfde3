"""One upgrade's life in a real Argo CD: each gate closes once, and what comes after it stays as it
was. The tests are one story, in this order: each goes on where the one before it has stopped."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from meshgate.collect.rights import REPORTS
from tests.argocd import pipeline
from tests.argocd.argo import Application, Argo, Object
from tests.argocd.pipeline import BASE, INGRESS, ISTIOD, PARENT, RESTART
from tests.argocd.upgrade import (
    CONTROL_PLANE_STEPS,
    SYSTEM,
    WORKLOADS,
    all_went_through,
    log,
)
from tests.lab.harness import NEW, OLD, ROOT, Lab, until
from tests.lab.rights import VERIFIER

MESHGATE = str(ROOT / ".venv/bin/meshgate")
GATE = "control-plane-verification"
SETTLE = 30  # seconds that a gate waits before it closes
MADE_BY_ISTIOD = "gateway.networking.k8s.io/gateway-name"
OLD_ONLY = "^" + OLD.rpartition(".")[0].replace(".", r"\.") + ".*"


def pods(lab: Lab, *namespaces: str) -> set[str]:
    """Every pod there, as no other pod is called: its UID. A gateway of the Gateway API is left
    out: istiod itself replaces it, as soon as its version changes. So is one that terminates."""
    return {
        each["metadata"]["uid"]
        for namespace in namespaces
        for each in lab.get("pods", "-n", namespace)["items"]
        if MADE_BY_ISTIOD not in each["metadata"]["labels"]
        and "deletionTimestamp" not in each["metadata"]
    }


def made_by_istiod(lab: Lab) -> set[str]:
    """Return the versions of the proxies in the gateways that istiod created."""
    found = lab.get("pods", "--all-namespaces", "-l", MADE_BY_ISTIOD)["items"]
    images = [each["image"] for pod in found for each in pod["spec"]["containers"]]
    return {image.rpartition(":")[2] for image in images}


def versions(lab: Lab, argo: Argo, name: str) -> dict[str, str]:
    """The resourceVersion of every resource of an Application that exists."""
    found = {}
    for each in argo.application(name).resources:
        if each.get("hook"):
            continue
        kind = f"{each['kind']}.{each['version']}.{each.get('group', '')}"
        where = ("-n", each["namespace"]) if each.get("namespace") else ()
        of = f"{kind}/{each['name']}"
        only = "-o=jsonpath={.metadata.resourceVersion}"
        if version := lab.kubectl("get", of, *where, "--ignore-not-found", only):
            found[of] = version
    return found


def commit(argo: Argo, version: str, image: str, **gates: Any) -> None:
    """Commit an upgrade to that version, with more values of meshgate's chart."""
    argo.commit(f"Istio {version}", pipeline.values(argo, version, image, **gates))


# --- faults, each seen by one stage alone ---------------------------------------------------------


def resource(kind: str, name: str, spec: Object) -> Object:
    """An object of Istio's in shop."""
    return {
        "apiVersion": f"networking.istio.io/{'v1alpha3' if kind == 'EnvoyFilter' else 'v1'}",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


PRECHECK = resource(
    "EnvoyFilter",
    "only-old",
    {
        "workloadSelector": {"labels": {"app": "client"}},
        "priority": 30,
        "configPatches": [
            {
                "applyTo": "CLUSTER",
                "match": {"context": "SIDECAR_INBOUND", "proxy": {"proxyVersion": OLD_ONLY}},
                "patch": {"operation": "MERGE", "value": {"connect_timeout": "1s"}},
            }
        ],
    },
)
CONTROL_PLANE = resource(
    "VirtualService",
    "lost",
    {
        "hosts": ["lost.example.com"],
        "gateways": ["istio-ingress/no-such-gateway"],
        "http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}],
    },
)
INGRESS_FAULT = resource(
    "Gateway",
    "portless",
    {
        "selector": {"istio": "ingressgateway"},
        "servers": [
            {
                "port": {"number": 8888, "protocol": "HTTP", "name": "portless"},
                "hosts": ["portless.example.com"],
            }
        ],
    },
)
EXTERNAL = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "external", "namespace": "shop"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "action": "CUSTOM",
        "provider": {"name": pipeline.PROVIDER},
        "rules": [{"to": [{"operation": {"paths": ["/no-such-path"]}}]}],
    },
}
DATA_PLANE = resource(
    "DestinationRule",
    "plain",
    {
        "host": "ledger.shop.svc.cluster.local",
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
    },
)


@contextmanager
def fault(lab: Lab, body: Object) -> Iterator[None]:
    """It is there while the block runs."""
    lab.apply(body)
    try:
        yield
    finally:
        lab.kubectl("delete", "-f", "-", input=json.dumps(body))


# --- the story ------------------------------------------------------------------------------------


def test_a_precheck_that_closes_changes_nothing(
    lab: Lab, argo: Argo, images: dict[str, str]
) -> None:
    before = versions(lab, argo, ISTIOD)
    everything = pods(lab, "istio-system", "istio-ingress", *WORKLOADS)
    _, parent = pipeline.example("app-of-apps", argo)

    with fault(lab, PRECHECK):
        commit(argo, NEW, images[NEW], settle=SETTLE)
        lab.apply(parent)
        upgrade = argo.until(PARENT, lambda app: app.over)

    istiod = argo.application(ISTIOD)
    assert (upgrade.phase, istiod.phase) == ("Failed", "Failed"), istiod
    assert istiod.gates["control-plane-precheck"] == "Failed"
    assert "control-plane-verification" not in istiod.gates
    assert "PC006 EnvoyFilter shop/only-old" in istiod.messages["control-plane-precheck"]
    # there is no verdict of the control plane for this version, and the SyncFail Job says so
    assert istiod.gates["control-plane-last-verdict"] == "Succeeded"
    assert f"NO VERDICT for {NEW}" in log(lab, "control-plane-last-verdict")
    assert before.items() <= versions(lab, argo, ISTIOD).items()
    # the CRDs are of an Application that is synced before
    assert NEW in argo.application(BASE).operation["syncResult"]["revisions"]
    assert everything <= pods(lab, "istio-system", "istio-ingress", *WORKLOADS)


def test_a_control_plane_gate_that_closes_restarts_nothing(
    lab: Lab, argo: Argo, images: dict[str, str]
) -> None:
    everything = pods(lab, "istio-ingress", *WORKLOADS)
    untouched = argo.application(INGRESS).operation

    with fault(lab, CONTROL_PLANE):
        chain = argo.chain()
        istiod = argo.application(ISTIOD)
        assert chain.returncode != 0
        assert istiod.phase == "Failed", istiod
        assert istiod.gates["control-plane-precheck"] == "Succeeded"
        assert istiod.gates["control-plane-verification"] == "Failed"
        closed_for(lab, istiod, "control-plane-verification", "CP006 VirtualService shop/lost")
        # what Argo CD says of it without the strict health check, and what its parent sees with it
        assert (istiod.synced, istiod.health) == ("Synced", "Healthy")
        argo.health_becomes(PARENT, ISTIOD, "Degraded control-plane-verification: ")

        assert argo.sync(PARENT).phase == "Failed"
        assert argo.application(INGRESS).operation == untouched

        # istiod itself replaces the gateways of the Gateway API, whatever its gate says
        until(lambda: made_by_istiod(lab) == {NEW}, timeout=120)

        # somebody goes on all the same: it syncs by itself, as its spec has changed, and by hand
        lab.apply(*one(argo, INGRESS, images[NEW]))
        by_itself = argo.until(INGRESS, lambda app: app.over and app.gates != {})
        assert argo.cli("app", "sync", INGRESS).returncode != 0
        by_hand = argo.application(INGRESS)
        assert (by_itself.automated, by_hand.automated) == (True, False)
        for ingress in (by_itself, by_hand):
            assert ingress.phase == "Failed"
            assert ingress.gates["control-plane-before-ingress"] == "Failed"
            assert "ingress-gateway-verification" not in ingress.gates

        # and the restart, too
        lab.apply(*one(argo, RESTART, images[NEW]))
        argo.until(RESTART, lambda app: app.over)
        assert argo.cli("app", "sync", RESTART).returncode != 0
        restart = argo.application(RESTART)
        assert not restart.automated
        assert restart.gates["control-plane-before-restart"] == "Failed"
        assert RESTART not in restart.gates
        assert everything <= pods(lab, "istio-ingress", *WORKLOADS)


def test_an_ingress_gate_that_closes_restarts_no_workload(
    lab: Lab, argo: Argo, images: dict[str, str]
) -> None:
    workloads = pods(lab, *WORKLOADS)
    assert argo.sync(ISTIOD).done

    with fault(lab, INGRESS_FAULT):
        chain = argo.cli("app", "sync", INGRESS)
        ingress = argo.application(INGRESS)
        assert chain.returncode != 0
        assert ingress.gates["control-plane-before-ingress"] == "Succeeded"
        assert ingress.gates["ingress-gateway-verification"] == "Failed"
        closed_for(lab, ingress, "ingress-gateway-verification", "IG002 Gateway shop/portless")
        untouched = argo.application(RESTART).operation
        assert argo.sync(PARENT).phase == "Failed"
        assert argo.application(RESTART).operation == untouched

        assert argo.cli("app", "sync", RESTART).returncode != 0
        restart = argo.application(RESTART)
        assert restart.phase == "Failed"
        assert restart.gates["control-plane-before-restart"] == "Succeeded"
        assert restart.gates["ingress-gateway-before-restart"] == "Failed"
        assert RESTART not in restart.gates
        assert workloads <= pods(lab, *WORKLOADS)


def test_a_closed_data_plane_gate_shows_only_in_the_api(lab: Lab, argo: Argo) -> None:
    workloads = pods(lab, *WORKLOADS)
    assert argo.sync(INGRESS).done

    with fault(lab, DATA_PLANE):
        restart = argo.sync(RESTART)
        seen = argo.cli("app", "get", RESTART)

    assert restart.phase == "Failed", restart
    assert restart.gates[RESTART] == "Succeeded"
    assert restart.gates["data-plane-verification"] == "Failed"
    # beside the CronJob that runs the same gate when it is asked to
    rows = map(str.split, seen.stdout.splitlines())
    (row,) = [" ".join(words) for words in rows if "data-plane-verification" in words]
    assert "Failed" in row
    assert "GATE CLOSED" in row
    closed_for(lab, restart, "data-plane-verification", "DP006 DestinationRule shop/plain")
    argo.health_becomes(PARENT, RESTART, "Degraded data-plane-verification: ")
    assert not workloads & pods(lab, *WORKLOADS)


def test_a_rollback_is_one_commit_and_goes_through_the_same_gates(
    lab: Lab, argo: Argo, images: dict[str, str]
) -> None:
    commit(argo, OLD, images[OLD], stageArguments={"precheck": ["--allow-rollback"]})

    all_went_through(lab, argo, OLD)


def test_the_verdict_of_an_upgrade_that_broke_something_leads_to_a_rollback(
    lab: Lab, argo: Argo, images: dict[str, str], tmp_path: Path
) -> None:
    """The commit of the upgrade loses an extension provider, which a policy names."""
    before = f"configmap://{REPORTS}/before"
    good = pipeline.values(argo, OLD, images[OLD])
    previous = {"version": OLD, "manifests": pipeline.istiod_manifests(argo, OLD, good)}
    # the filter that denies everything for the lack of the provider, which a rollback restores
    denial = (
        "listener virtualInbound /filterChains[virtualInbound]/filters[envoy.filters.network.rbac]"
    )
    arguments = {"controlplane": [f"--baseline={before}", f"--allow-removal={denial}"]}
    lost = pipeline.values(
        argo,
        NEW,
        images[NEW],
        rollback=previous,
        deadline=900,
        settle=SETTLE,
        stageArguments=arguments,
    )
    del lost["istiod"]["values"]["meshConfig"]["extensionProviders"]

    with fault(lab, EXTERNAL):
        words = ("--stage=controlplane", f"--target-version={OLD}", f"--save-baseline={before}")
        saved = lab.run(MESHGATE, "verify", *words, identity=VERIFIER)
        assert saved.returncode == 0, saved.stdout + saved.stderr
        argo.commit("an upgrade that loses a provider", lost)
        argo.refresh(PARENT)
        upgrade = argo.until(PARENT, lambda app: app.over and argo.fresh(app))

        assert upgrade.phase == "Failed", upgrade
        istiod = argo.application(ISTIOD)
        closed_for(lab, istiod, GATE, "CP021 AuthorizationPolicy shop/external")
        verdict = published(lab, tmp_path / "closed")
        assert verdict["decision"] == "roll back", verdict["reasons"]
        simulated = {each["id"]: each for each in verdict["checks"]}["CP030"]
        assert simulated["verdict"] in ("pass", "warn"), simulated

        commit(argo, OLD, images[OLD], stageArguments={"precheck": ["--allow-rollback"]})
        all_went_through(lab, argo, OLD, steps=CONTROL_PLANE_STEPS)
        verdict = published(lab, tmp_path / "open")
        assert verdict["decision"] == "proceed", verdict["reasons"]


def test_an_upgrade_right_after_it_is_one_commit(
    lab: Lab, argo: Argo, images: dict[str, str]
) -> None:
    """With the example's values, in which only names are edited, and with the watch."""
    name, _, _ = images[NEW].partition("@")
    commit(argo, NEW, name, watched=True)

    all_went_through(lab, argo, NEW)
    assert argo.application(INGRESS).gates["upgrade-watch"] == "Succeeded"
    assert "n/a  IG011" not in log(lab, "ingress-gateway-verification")


def test_a_control_plane_that_does_not_start_is_reported_without_a_verdict(
    lab: Lab, argo: Argo, images: dict[str, str]
) -> None:
    (app,) = one(argo, ISTIOD, images[NEW])
    official, _ = app["spec"]["sources"]
    official["helm"]["valuesObject"]["resources"] = {"requests": {"memory": "1Ti"}}

    progress_within(lab, 10)
    lab.apply(app)
    istiod = argo.until(ISTIOD, lambda app: app.over and app.phase == "Failed")
    assert istiod.gates["control-plane-precheck"] == "Succeeded"
    assert "control-plane-verification" not in istiod.gates
    argo.health_becomes(PARENT, ISTIOD, "Degraded ")

    progress_within(lab, 600)
    lab.apply(*one(argo, ISTIOD, images[NEW]))
    argo.until(ISTIOD, lambda app: app.done)


def test_a_selective_sync_runs_no_gate_and_is_reported(argo: Argo) -> None:
    istiod = argo.sync(ISTIOD, only=[{"group": "apps", "kind": "Deployment", "name": "istiod"}])

    assert istiod.phase == "Succeeded"
    assert istiod.gates == {}
    argo.health_becomes(PARENT, ISTIOD, "Degraded no verdict: ")


def test_a_gate_whose_image_cannot_be_pulled_never_opens(lab: Lab, argo: Argo) -> None:
    (app,) = one(argo, ISTIOD, "localhost:5000/meshgate@sha256:" + 64 * "0")
    lab.apply(app)

    argo.begin(ISTIOD)
    for job in ("control-plane-precheck", "control-plane-last-verdict"):
        waiting = argo.until(ISTIOD, partial(unpulled, lab, job))
        assert waiting.phase == "Running"
        # minutes are not waited for: each Job has a deadline, which is brought forward here
        soon = '{"spec": {"activeDeadlineSeconds": 5}}'
        lab.kubectl("patch", f"job/{job}", "-n", SYSTEM, "--type=merge", "-p", soon)
    istiod = argo.until(ISTIOD, lambda app: app.over)

    assert istiod.phase == "Failed"
    assert istiod.gates["control-plane-precheck"] == "Failed"
    assert "the gate published no verdict" in istiod.messages["control-plane-precheck"]


def test_an_interrupted_gate_never_opens(lab: Lab, argo: Argo, images: dict[str, str]) -> None:
    lab.apply(*one(argo, ISTIOD, images[NEW]))
    pods = ("pod", "-n", SYSTEM, "-l", "job-name=control-plane-precheck")

    with cut_off(lab, argo, "control-plane-precheck"):
        lab.kubectl("delete", *pods, "--grace-period=0", "--force")
    with cut_off(lab, argo, "control-plane-verification"):
        lab.verb("node", "sh", "-c", "kill -9 $(pidof kube-apiserver)")

    assert argo.sync(ISTIOD).done


def test_a_gate_whose_node_is_lost_never_opens(lab: Lab, argo: Argo) -> None:
    with cut_off(lab, argo, "control-plane-verification"):
        lab.verb("crash")

    everything = ("deployment", "--all", "--all-namespaces")
    lab.kubectl("wait", "--for=condition=Available", *everything, "--timeout=300s")
    assert argo.sync(ISTIOD).done


# --- what the tests see -------------------------------------------------------------------------


def one(argo: Argo, name: str, image: str) -> list[Object]:
    """That Application of the new version, as somebody applies it who does not wait."""
    return [
        each
        for each in pipeline.applications(argo, NEW, image, settle=SETTLE)
        if each["metadata"]["name"] == name
    ]


@contextmanager
def cut_off(lab: Lab, argo: Argo, job: str) -> Iterator[None]:
    """The block strikes while this gate of istiod's runs; the sync ends as the gate itself says."""
    argo.begin(ISTIOD)
    argo.until(ISTIOD, lambda _: "running" in pods_of(lab, job))
    yield
    until(lambda: lab.run("kubectl", "get", "--raw=/readyz").returncode == 0, timeout=180)
    istiod = argo.until(ISTIOD, lambda app: app.over)
    # it may have been through before it was struck: but it is open only by its own verdict
    assert (istiod.gates[job] == "Succeeded") == opened(lab, job), istiod


def opened(lab: Lab, job: str) -> bool:
    """Whether a gate has published that it is open."""
    annotations = lab.get("job", job, "-n", SYSTEM)["metadata"]["annotations"]
    return bool(annotations.get("meshgate/gate") == "open")


def closed_for(lab: Lab, app: Application, job: str, finding: str) -> None:
    """The sync's result says that the gate is closed, and its log that this was among the reasons:
    right after a rollout there may be others, which a closed gate does not wait for."""
    assert app.messages[job].startswith("GATE CLOSED"), app
    check, subject = finding.split(" ", 1)
    printed = log(lab, job)
    assert check in printed, printed
    assert subject in printed, printed


def published(lab: Lab, folder: Path) -> Any:
    """Return the verdict.json that the gate after istiod stored last."""
    annotations = lab.get("job", GATE, "-n", SYSTEM)["metadata"]["annotations"]
    place = f"configmap://{REPORTS}/{GATE}-reports"
    run = annotations["meshgate/report"].removeprefix(f"{place}-")
    done = lab.run(MESHGATE, "fetch", place, run, str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "verdict.json").read_text())


def progress_within(lab: Lab, seconds: int) -> None:
    """When Kubernetes calls a rollout of istiod stuck."""
    patch = json.dumps({"spec": {"progressDeadlineSeconds": seconds}})
    lab.kubectl("patch", "deployment/istiod", "-n", SYSTEM, "--patch", patch)


def unpulled(lab: Lab, job: str, _: Application) -> bool:
    """Whether a hook's Job waits for an image that is not there."""
    return "ErrImagePull" in pods_of(lab, job)


def pods_of(lab: Lab, job: str) -> str:
    """How the containers of a hook's Job are, in the API's words."""
    found = lab.get("pods", "-n", SYSTEM, "-l", f"job-name={job}")["items"]
    return str([each["status"].get("containerStatuses") for each in found])
