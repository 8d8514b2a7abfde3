"""The workflows for a public forge, and what they call: as far as that can be held without one."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, Helm
from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
E2E = (ROOT / "ci/kind/e2e").read_text()
ESTATE = ROOT / "ci/lab/manifests/estate"


PUBLISHES = {
    "contents": "read",
    "packages": "write",
    "id-token": "write",
    "attestations": "write",
}


def steps(workflow: Path) -> list[dict[str, Any]]:
    """Every step of every job."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def verbs() -> set[str]:
    """Return make's documented targets."""
    return set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_linter_finds_nothing(actionlint: Path) -> None:
    assert {each.stem for each in WORKFLOWS} == {"check", "e2e", "release"}

    done = subprocess.run(
        [actionlint, "-no-color", *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_calls_verbs_of_make_alone(workflow: Path) -> None:
    calls = [step["run"] for step in steps(workflow) if "run" in step]
    matrix = re.search(r"verb: \[(.+)\]", workflow.read_text())
    named = matrix[1].split(", ") if matrix else []

    assert calls
    for call in calls:
        program, words = call.split(maxsplit=1)
        assert program == "make"
        given = words.removesuffix("TAG=ci").strip()
        assert set(named if given == "${{ matrix.verb }}" else [given]) <= verbs()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_do_only_what_it_needs(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text())

    assert content["permissions"] == {"contents": "read"}
    assert {job: each.get("permissions") for job, each in content["jobs"].items()} == (
        {
            "package": {"contents": "read", "id-token": "write"},
            "image": PUBLISHES,
            "chart": PUBLISHES,
            "krew": {"contents": "write", "id-token": "write", "attestations": "write"},
        }
        if workflow.stem == "release"
        else dict.fromkeys(content["jobs"])
    )


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_checkout_keeps_no_credentials(workflow: Path) -> None:
    checkouts = [each for each in steps(workflow) if "checkout@" in each.get("uses", "")]

    assert checkouts
    assert all(each["with"]["persist-credentials"] is False for each in checkouts)


def test_the_script_is_one_and_names_files_that_are_there() -> None:
    done = subprocess.run(
        ["bash", "-n", ROOT / "ci/kind/e2e"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    named = re.findall(r"(?:ci|hooks)/[\w./-]+\.(?:yaml|Dockerfile)", E2E)
    assert [each for each in named if not (ROOT / each).is_file()] == []


def test_its_gates_are_the_charts_own_jobs(helm: Helm) -> None:
    gates = re.findall(r"^\s*(?:if )?gate (\w+) ([\w-]+)", E2E, re.MULTILINE)
    assert {stage for stage, _ in gates} == {"precheck", "controlplane", "ingress", "dataplane"}
    words = re.search(r"helm template (meshgate hooks/meshgate .+?) \| kubectl", E2E, re.DOTALL)
    assert words
    given = words[1].replace("\\\n", " ").replace('"', "").replace("hooks/meshgate", str(CHART))

    for stage, job in set(gates):
        filled = given.replace("$stage", stage).replace("$NEW", "1.31.0")
        done = helm(
            "template", *filled.replace("${IMAGE%:*}", "m").replace("${IMAGE##*:}", "v1").split()
        )
        assert done.returncode == 0, done.stderr
        kinds = {
            (each["kind"], each["metadata"]["name"])
            for each in yaml.safe_load_all(done.stdout)
            if each
        }
        assert ("Job", job) in kinds
        assert ("ServiceAccount", "istio-verification-sa") in kinds


def test_the_estate_needs_no_image_that_it_does_not_bring() -> None:
    images = {
        image
        for file in ESTATE.glob("*.yaml")
        for image in re.findall(r"image: (\S+)", file.read_text())
    }

    assert images <= {"docker.io/lab/app:1", "auto"}


def test_every_supported_release_has_an_image() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())["jobs"]
    minors = {file.stem for file in (ROOT / "src/meshgate/releases").glob("*.toml")}

    versions = jobs["image"]["strategy"]["matrix"]["istio"]

    assert {each.rpartition(".")[0] for each in versions} == minors
    assert len(versions) == len(minors)


@pytest.mark.parametrize("job", ["image", "chart", "krew"])
def test_what_is_published_has_a_provenance_attestation(job: str) -> None:
    content = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())["jobs"]

    *_, last = content[job]["steps"]

    assert last["uses"].startswith("actions/attest-build-provenance@")


def test_the_chart_describes_the_published_image_for_artifact_hub() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    published = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())["jobs"]
    istio = published["image"]["strategy"]["matrix"]["istio"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    (image,) = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])

    name, _, tag = image["image"].rpartition(":")
    assert name == values["image"]["repository"]
    assert tag == f"{chart['appVersion']}-istio{istio[-1]}"
    assert yaml.safe_load(chart["annotations"]["artifacthub.io/links"])
