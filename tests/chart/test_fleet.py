"""The examples: the Applications that their chart renders, for one cluster and for a fleet."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, run_helm
from tests.conftest import ROOT

EXAMPLES = ROOT / "hooks/examples"
WAVE = "istio-wave"

Object = dict[str, Any]


def documents(file: str) -> list[Object]:
    """Return the objects of an example."""
    return list(yaml.safe_load_all((EXAMPLES / file).read_text()))


PROJECT, SET = documents("fleet.yaml")
ALONE, PARENT = documents("app-of-apps.yaml")


def helm(given: Object) -> "subprocess.CompletedProcess[str]":
    """Run helm on the example's chart, as the repo-server does."""
    words = ("template", "istio-upgrade", EXAMPLES / "upgrade", "--namespace=argocd", "--values=-")
    return run_helm(*words, stdin=yaml.safe_dump(given))


def applications(**given: Any) -> dict[str, Object]:
    """Return the Applications of the example's chart with these values, by name."""
    done = helm(given)
    assert done.returncode == 0, done.stderr
    return {each["metadata"]["name"]: each for each in yaml.safe_load_all(done.stdout) if each}


def made(template: Any, cluster: str, wave: str) -> Any:
    """Return what the controller makes of the template for one cluster."""
    values = {
        ".nameNormalized": cluster,
        ".name": cluster,
        f'index .metadata.labels "{WAVE}"': wave,
    }
    if isinstance(template, str):
        return re.sub(r"\{\{ (.+?) \}\}", lambda found: values[found[1]], template)
    if isinstance(template, list):
        return [made(each, cluster, wave) for each in template]
    if isinstance(template, dict):
        return {name: made(each, cluster, wave) for name, each in template.items()}
    return template


def gates_of(app: Object) -> Object:
    """Return the values of meshgate's chart in an Application."""
    values: Object = app["spec"]["sources"][-1]["helm"]["valuesObject"]
    return values


def jobs(app: Object) -> set[str]:
    """Return the gates that meshgate's chart renders for an Application."""
    words = ("template", "meshgate", CHART, "--values=-")
    done = run_helm(*words, stdin=yaml.safe_dump(gates_of(app)))
    assert done.returncode == 0, done.stderr
    return {
        each["metadata"]["name"]
        for each in yaml.safe_load_all(done.stdout)
        if each and "meshgate/stage" in each["metadata"].get("labels", {})
    }


@pytest.fixture
def fleet() -> dict[str, Object]:
    """The Applications of the cluster eu-1, by name."""
    source = made(SET["spec"]["template"], "eu-1", "canary")["spec"]["source"]
    assert source["path"] == str((EXAMPLES / "upgrade").relative_to(ROOT))
    return applications(**source["helm"]["valuesObject"])


def test_the_version_is_in_one_place() -> None:
    assert PARENT["spec"]["source"]["path"] == str((EXAMPLES / "upgrade").relative_to(ROOT))
    text = (EXAMPLES / "upgrade/values.yaml").read_text()
    settings = [line for line in text.splitlines() if "1.31.0" in line and line[0] != "#"]
    assert settings == ["version: 1.31.0"]

    for app in applications(version="1.30.4").values():
        *official, ours = app["spec"]["sources"]
        assert {each["targetRevision"] for each in official} <= {"1.30.4"}
        assert ours["helm"]["valuesObject"]["targetVersion"] == "1.30.4"


def test_the_chart_is_that_of_this_release() -> None:
    values = yaml.safe_load((EXAMPLES / "upgrade/values.yaml").read_text())["meshgate"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (values["chart"], values["targetRevision"]) == (chart["name"], chart["version"])
    release = (ROOT / ".github/workflows/release.yaml").read_text() + (
        ROOT / "Makefile"
    ).read_text()
    assert values["repoURL"].startswith("ghcr.io/")
    assert values["repoURL"].endswith("/charts")
    assert "oci://$(REGISTRY)/charts" in release


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ["istio-base", "istiod", "istio-ingress"]),
        ({"ambient": True}, ["istio-base", "istiod", "istio-cni", "ztunnel", "istio-ingress"]),
    ],
    ids=["sidecars", "ambient"],
)
def test_every_gate_is_required_by_the_health_check(given: Object, names: list[str]) -> None:
    rendered = applications(**given)

    assert list(rendered) == [*names, "sequential-restart-all-istio-enabled-services"]
    assert [
        each["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
        for each in rendered.values()
    ] == [str(number) for number in range(len(rendered))]
    for app in rendered.values():
        annotations = app["metadata"]["annotations"]
        required = {
            name.partition("/")[2]
            for name, value in annotations.items()
            if name.startswith("gate.meshgate/") and value == "required"
        }
        assert required == jobs(app)
        # nothing of it has a sync to wait for, if a new spec changes nothing in the cluster
        assert (annotations.get("meshgate/gates") == "none") == (required == set())


def test_ambient_mode_sets_the_profile_of_its_charts() -> None:
    rendered = applications(ambient=True)

    for name in ("istiod", "istio-cni"):
        official, _ = rendered[name]["spec"]["sources"]
        assert official["helm"]["valuesObject"] == {"profile": "ambient"}
    assert jobs(rendered["istio-cni"]) == {"istio-cni-verification"}
    assert jobs(rendered["ztunnel"]) == {"ztunnel-verification"}


def test_values_reach_the_charts() -> None:
    rendered = applications(
        gates={"clusterName": "prod", "settle": 60},
        istiod={"values": {"autoscaleEnabled": False}, "gates": {"settle": 90}},
    )

    official, _ = rendered["istiod"]["spec"]["sources"]
    assert official["helm"]["valuesObject"] == {"autoscaleEnabled": False}
    assert (
        gates_of(rendered["istiod"])["settle"],
        gates_of(rendered["istio-ingress"])["settle"],
    ) == (
        90,
        60,
    )
    assert all(gates_of(each)["clusterName"] == "prod" for each in rendered.values())


def test_a_notice_links_to_the_reports_of_the_gates() -> None:
    prefix = "notice.argocd.argoproj.io/"
    plain, linked = applications(), applications(reports="https://reports.example.com/")

    assert prefix not in str(plain)
    assert prefix not in str(linked.pop("istio-base"))  # it has no gate
    for app in linked.values():
        annotations = app["metadata"]["annotations"]
        assert annotations[f"{prefix}content"] == "Reports of the gates for Istio 1.31.0"
        assert annotations[f"{prefix}url"] == "https://reports.example.com/"


def test_each_revision_is_an_application_that_is_deleted_only_if_unused() -> None:
    old, new = (
        {"revision": "1-30-4", "version": "1.30.4"},
        {"revision": "1-31-0", "version": "1.31.0", "tags": ["default"]},
    )
    rendered = applications(revisions=[old, new])

    assert "istiod" not in rendered
    for each in (old, new):
        app = rendered[f"istiod-{each['revision']}"]
        official, _ = app["spec"]["sources"]
        assert official["targetRevision"] == each["version"]
        assert official["helm"]["valuesObject"]["revision"] == each["revision"]
        assert official["helm"]["valuesObject"]["revisionTags"] == each.get("tags", [])
        assert gates_of(app)["removal"] == {"revision": each["revision"]}
        assert app["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=confirm"
        # with those that Argo CD adds, or the parent remains OutOfSync
        hook = "pre-delete-finalizer.argocd.argoproj.io"
        own = ["resources-finalizer.argocd.argoproj.io", hook, f"{hook}/cleanup"]
        assert app["metadata"]["finalizers"] == own
    # the webhook of istio-base is synced before the new revision: the old one serves it
    base, _ = rendered["istio-base"]["spec"]["sources"]
    assert base["helm"]["valuesObject"] == {"defaultRevision": "1-30-4"}
    assert jobs(rendered["istiod-1-30-4"]) == set()
    assert rendered["istiod-1-30-4"]["metadata"]["annotations"]["meshgate/gates"] == "none"
    assert jobs(rendered["istiod-1-31-0"]) == {
        "control-plane-precheck",
        "control-plane-verification",
    }


def test_a_cluster_gets_the_same_applications(fleet: dict[str, Object]) -> None:
    single = applications()

    assert set(fleet) == {f"eu-1-{name}" for name in single}
    for name, alone in single.items():
        child = fleet[f"eu-1-{name}"]
        assert child["metadata"]["annotations"] == alone["metadata"]["annotations"]
        namespace = alone["spec"]["destination"]["namespace"]
        assert child["spec"]["destination"] == {"name": "eu-1", "namespace": namespace}
        assert gates_of(child) == gates_of(alone) | {"clusterName": "eu-1"}


@pytest.mark.parametrize(("project", "key"), [(PROJECT, "name"), (ALONE, "server")])
def test_the_project_permits_what_is_made(
    fleet: dict[str, Object], project: Object, key: str
) -> None:
    permitted = {each["namespace"] for each in project["spec"]["destinations"] if key in each}

    for child in (fleet if key == "name" else applications()).values():
        assert child["spec"]["project"] == project["metadata"]["name"]
        assert child["spec"]["destination"]["namespace"] in permitted


def test_every_cluster_that_is_chosen_is_in_one_wave() -> None:
    (chosen,) = SET["spec"]["generators"][0]["clusters"]["selector"]["matchExpressions"]
    steps = [
        value
        for step in SET["spec"]["strategy"]["rollingSync"]["steps"]
        for expression in step["matchExpressions"]
        for value in expression["values"]
        if expression["key"] == WAVE
    ]

    # nothing syncs a parent that is in no step
    assert steps == chosen["values"]
    assert made(SET["spec"]["template"], "a", "all")["metadata"]["labels"] == {WAVE: "all"}


def test_a_closed_gate_is_not_run_again_automatically(fleet: dict[str, Object]) -> None:
    assert SET["spec"]["template"]["spec"]["syncPolicy"] == {"retry": {}}
    for app in (*fleet.values(), *applications().values(), PARENT):
        assert app["spec"]["syncPolicy"]["retry"] == {}
