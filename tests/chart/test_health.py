"""The health checks for Argo CD, in a Lua without `string`, `os` and `io`, as Argo CD runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

from tests.conftest import ROOT

FOLDER = ROOT / "hooks/argocd"
SOURCE = {"repoURL": "https://example.com/charts", "targetRevision": "1.31.0"}

Health = Callable[[Any], tuple[str, str]]


def check(name: str) -> Health:
    """One of the shipped checks."""
    body = (FOLDER / f"{name}.lua").read_text()

    def health(object: Any) -> tuple[str, str]:
        lua = LuaRuntime(register_eval=False)
        lua.execute("string, os, io, package, require, debug = nil")
        lua.globals()["obj"] = lua.table_from(json.loads(json.dumps(object)), recursive=True)
        found = lua.execute(body)
        return found["status"], found["message"] or ""

    return health


job, application = check("job"), check("application")


def the_job(*conditions: tuple[str, str], verdict: str = "", gate: bool = True) -> Any:
    """A Job with these conditions."""
    return {
        "metadata": {
            "labels": {"meshgate/stage": "ingress"} if gate else {},
            "annotations": {"meshgate/verdict": verdict} if verdict else {},
        },
        "status": {
            "conditions": [
                {"type": type, "status": "True", "message": message} for type, message in conditions
            ]
        },
    }


@pytest.mark.parametrize(
    ("object", "status", "words"),
    [
        (the_job(), "Progressing", "running"),
        (the_job(("Complete", "")), "Healthy", "published no verdict"),
        (the_job(("Complete", ""), verdict="GATE OPEN"), "Healthy", "GATE OPEN"),
        (the_job(("Failed", "exit code 1"), verdict="CLOSED: 1"), "Degraded", "CLOSED: 1"),
        (the_job(("Failed", "exit code 137")), "Degraded", "see the Job's log: exit code 137"),
        (the_job(("Failed", "x"), ("Complete", "")), "Degraded", "x"),
        (the_job(("Suspended", "held")), "Suspended", "held"),
        (the_job(("Failed", "boom"), gate=False), "Degraded", "boom"),
        ({"metadata": {}}, "Progressing", "running"),
    ],
)
def test_a_job_says_its_verdict(object: Any, status: str, words: str) -> None:
    found, message = job(object)

    assert found == status
    assert words in message
    if not object.get("metadata", {}).get("labels"):
        assert "verdict" not in message


def hook(name: str, phase: str, message: str = "") -> Any:
    """A row of a sync's result."""
    return {"name": name, "hookType": "PostSync", "hookPhase": phase, "message": message}


def the_application(
    phase: str = "Succeeded",
    *,
    hooks: tuple[Any, ...] = (),
    resources: tuple[Any, ...] = (),
    automated: bool = False,
    result: Any = SOURCE,
    compared: Any = SOURCE,
    history: Any = SOURCE,
    sync: str = "Synced",
    **more: Any,
) -> Any:
    """One whose last sync of its present spec succeeded, unless told otherwise."""
    operation = {
        "phase": phase,
        "message": "one or more synchronization tasks completed unsuccessfully",
        "operation": {
            "sync": {"resources": list(resources)},
            "initiatedBy": {"automated": automated},
        },
        "syncResult": {"source": result, "resources": list(hooks)},
    }
    return {
        "metadata": {"annotations": more.pop("annotations", {})},
        "spec": {"source": SOURCE},
        "status": {
            "health": {"status": "Healthy"},
            "sync": {"status": sync, "comparedTo": {"source": compared}},
            "operationState": operation,
            "history": [{"source": history}] if history else [],
        },
        **more,
    }


OLD = {**SOURCE, "targetRevision": "1.28.2"}


def of_several(compared: Any = (SOURCE, SOURCE), history: Any = (SOURCE, SOURCE)) -> Any:
    """One of several sources, beside which Argo CD writes a single one of its own."""
    none = {"repoURL": ""}
    found = the_application(result=none, compared=none, history=none)
    found["spec"] = {"sources": [SOURCE, SOURCE]}
    status = found["status"]
    status["sync"]["comparedTo"]["sources"] = list(compared)
    status["operationState"]["syncResult"]["sources"] = [SOURCE, SOURCE]
    status["history"][0]["sources"] = list(history)
    return found


def waiting(*resources: tuple[str, str, bool]) -> Any:
    """Return one that is OutOfSync by these resources: kind, name, whether it is to be pruned."""
    found = the_application(sync="OutOfSync")
    found["status"]["resources"] = [
        {"kind": "Service", "name": "istiod", "namespace": "istio-system", "status": "Synced"},
        *(
            {"kind": kind, "name": name, "namespace": "istio-system", "status": "OutOfSync"}
            | ({"requiresPruning": True} if pruning else {})
            for kind, name, pruning in resources
        ),
    ]
    return found


def with_condition(type: str, message: str) -> Any:
    """Return one that Argo CD could not compare."""
    found = the_application(sync="Unknown")
    found["status"]["conditions"] = [{"type": type, "message": message}]
    return found


HYDRATED = {
    "repoURL": "https://git.example.com/mesh",
    "targetRevision": "env/prod",
    "path": "istiod",
}


def hydrated(source: Any = HYDRATED, phase: str = "Hydrated", tag: str = "1.31.0") -> Any:
    """Return one whose source the hydrator writes; `tag` is that of the last hydration."""
    found = the_application(result=source, compared=source, history=source)
    found["spec"] = {"sourceHydrator": hydrator("1.31.0")}
    found["status"]["reconciledAt"] = "2026-11-29T08:00:02Z"
    found["status"]["sourceHydrator"] = {
        "currentOperation": {
            "phase": phase,
            "message": "no such path",
            "finishedAt": "2026-11-29T08:00:01Z",
            "sourceHydrator": hydrator(tag),
        }
    }
    return found


def hydrator(tag: str) -> Any:
    """Return a sourceHydrator whose dry source has that tag."""
    return {
        "drySource": {
            "repoURL": HYDRATED["repoURL"],
            "targetRevision": tag,
            "path": "charts/istiod",
        },
        "syncSource": {"targetBranch": "env/prod", "path": "istiod"},
    }


def hydrated_and_not_compared() -> Any:
    """Return one that Argo CD has not looked at since its source was hydrated."""
    found = hydrated()
    found["status"]["reconciledAt"] = "2026-11-29T08:00:00Z"
    return found


OLD_REVISION = ("Deployment", "istiod-1-30-4", True)
FAILED = hook("control-plane-verification", "Failed", "GATE CLOSED: 1 of 12 checks failed")
GATELESS = {"meshgate/gates": "none"}
NEEDS = {"gate.meshgate/control-plane-verification": "required"}


@pytest.mark.parametrize(
    ("object", "status", "words"),
    [
        (the_application(), "Healthy", ""),
        (the_application("Running"), "Progressing", ""),
        (the_application("Terminating"), "Progressing", ""),
        (the_application(operation={"sync": {}}), "Progressing", "about to start"),
        (
            the_application("Failed", hooks=(FAILED,)),
            "Degraded",
            "control-plane-verification: GATE CLOSED",
        ),
        (the_application("Error"), "Degraded", "completed unsuccessfully"),
        # a commit that was refused and taken back; and one that left something behind
        (the_application("Failed", result=OLD, annotations=NEEDS), "Healthy", ""),
        (the_application("Failed", result=OLD, sync="OutOfSync"), "Progressing", "OutOfSync"),
        (the_application("Failed", result=OLD, history=OLD), "Progressing", "gates did not run"),
        (the_application(compared=OLD), "Progressing", "not compared"),
        (the_application(sync="OutOfSync"), "Progressing", "OutOfSync"),
        (the_application(history=OLD), "Progressing", "gates did not run"),
        (the_application(history=None), "Progressing", "gates did not run"),
        (the_application(history=OLD, annotations=GATELESS), "Healthy", ""),
        (the_application(compared=OLD, annotations=GATELESS), "Progressing", "not compared"),
        (the_application("Failed", annotations=GATELESS), "Degraded", "completed"),
        (the_application(sync="OutOfSync", annotations=GATELESS), "Progressing", "OutOfSync"),
        (the_application(resources=({"kind": "Service"},)), "Degraded", "was selective"),
        (the_application(resources=({"kind": "Service"},), automated=True), "Healthy", ""),
        (the_application(annotations=NEEDS), "Degraded", "control-plane-verification did not run"),
        (
            the_application(
                annotations=NEEDS, hooks=(hook("control-plane-verification", "Succeeded"),)
            ),
            "Healthy",
            "",
        ),
        (the_application(compared={**SOURCE, "chart": ""}), "Healthy", ""),
        (of_several(), "Healthy", ""),
        (of_several(compared=[SOURCE, OLD]), "Progressing", "not compared"),
        (of_several(history=[OLD, SOURCE]), "Progressing", "gates did not run"),
        ({"metadata": {}, "spec": {"source": SOURCE}}, "Progressing", "not compared"),
        # the soak: only the old revision is out of sync
        (waiting(OLD_REVISION), "Healthy", "pruned: Deployment istio-system/istiod-1-30-4"),
        (waiting(OLD_REVISION, ("Service", "x", True)), "Healthy", ", Service istio-system/x"),
        (waiting(OLD_REVISION, ("Service", "x", False)), "Progressing", "OutOfSync"),
        (waiting(("Service", "x", False), OLD_REVISION), "Progressing", "OutOfSync"),
        (waiting(), "Progressing", "OutOfSync"),
        # a diff that a webhook refuses, a repository that does not answer; and a spec that is wrong
        (
            with_condition("ComparisonError", "admission webhook denied the request"),
            "Unknown",
            "comparison failed: admission webhook denied the request",
        ),
        (with_condition("InvalidSpecError", "no project"), "Degraded", "invalid spec: no project"),
        (with_condition("OrphanedResourceWarning", "1"), "Progressing", "not synced: Unknown"),
        (hydrated(), "Healthy", ""),
        (hydrated(phase="Failed"), "Degraded", "hydration failed: no such path"),
        (hydrated(phase="Hydrating"), "Progressing", "hydration is running"),
        (hydrated(tag="1.30.4"), "Progressing", "not hydrated yet"),
        (hydrated(phase="Failed", tag="1.30.4"), "Progressing", "not hydrated yet"),
        (hydrated_and_not_compared(), "Progressing", "not compared"),
        (hydrated(source={**HYDRATED, "targetRevision": "env/old"}), "Progressing", "not compared"),
    ],
)
def test_an_application_is_healthy_only_after_its_gates(
    object: Any, status: str, words: str
) -> None:
    found, message = application(object)

    assert found == status, message
    assert words in message


# What tests/argocd/test_behavior.py recorded: the Application of each test, and its health.
SERVER_SIDE_DIFF = {"3.5": ("Progressing", "OutOfSync"), "3.6": ("Unknown", "comparison failed")}
RECORDED = {
    "healed": ("Healthy", ""),
    "terminated": ("Degraded", "slow: Terminated"),
    "vanished": ("Degraded", ""),
    "soak": ("Healthy", "waiting to be pruned: ConfigMap argo-behavior/old"),
    "again": ("Healthy", ""),
    "hydrated": ("Healthy", ""),
    "hydrated-1": ("Progressing", "OutOfSync"),
}


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tests/chart/recorded").glob("*.json")), ids=lambda file: file.stem
)
def test_the_status_of_a_real_application_is_understood(file: Path) -> None:
    release, name, number = file.stem.split("-")
    expected = RECORDED.get(f"{name}-{number}") or RECORDED.get(name)
    status, words = expected or SERVER_SIDE_DIFF[release]

    found, message = application(json.loads(file.read_text()))

    assert found == status, message
    assert words in message


@pytest.mark.parametrize(
    ("file", "key"), [("job", "batch_Job"), ("application", "argoproj.io_Application")]
)
def test_the_settings_hold_the_same_checks(file: str, key: str) -> None:
    data = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text())["data"]

    assert data[f"resource.customizations.health.{key}"] == (FOLDER / f"{file}.lua").read_text()
