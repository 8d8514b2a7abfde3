"""The fleet: what the ApplicationSet would make for a cluster, built as Argo CD builds it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

EXAMPLES = ROOT / "hooks/examples"
WAVE = "istio-wave"


def documents(file: str) -> list[dict[str, Any]]:
    """The objects of an example."""
    return list(yaml.safe_load_all((EXAMPLES / file).read_text()))


PROJECT, SET = documents("fleet.yaml")


def made(template: Any, cluster: str, wave: str) -> Any:
    """What the controller makes of the template for one cluster."""
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


@pytest.fixture
def children(kustomize: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The Applications of the cluster eu-1, by name."""
    source = made(SET["spec"]["template"], "eu-1", "canary")["spec"]["source"]
    assert source["path"] == str(EXAMPLES.relative_to(ROOT))
    base = tmp_path / "base"
    base.mkdir()
    for name in ("kustomization.yaml", "applications.yaml"):
        (base / name).write_bytes((EXAMPLES / name).read_bytes())
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["base"], **source["kustomize"]})
    )
    done = subprocess.run(
        [kustomize, "build", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    assert {each["kind"] for each in objects} == {"Application"}
    return {each["metadata"]["name"]: each for each in objects}


def test_a_cluster_gets_the_four_applications_with_their_order_and_gates(
    children: dict[str, dict[str, Any]],
) -> None:
    single = [each for each in documents("applications.yaml") if each["kind"] == "Application"]

    assert set(children) == {f"eu-1-{each['metadata']['name']}" for each in single}
    for each in single:
        child = children[f"eu-1-{each['metadata']['name']}"]
        assert child["metadata"]["annotations"] == each["metadata"]["annotations"]
        rest = {name: value for name, value in each["spec"].items() if name != "destination"}
        assert {n: v for n, v in child["spec"].items() if n != "destination"} == rest
        namespace = each["spec"]["destination"]["namespace"]
        assert child["spec"]["destination"] == {"name": "eu-1", "namespace": namespace}


def test_the_project_permits_what_is_made(children: dict[str, dict[str, Any]]) -> None:
    permitted = {each["namespace"] for each in PROJECT["spec"]["destinations"] if "name" in each}

    for child in children.values():
        assert child["spec"]["project"] == PROJECT["metadata"]["name"]
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

    # a parent that is in no step would be synced by nobody
    assert steps == chosen["values"]
    assert made(SET["spec"]["template"], "a", "all")["metadata"]["labels"] == {WAVE: "all"}


def test_a_gate_that_closed_is_not_tried_again_by_itself() -> None:
    assert SET["spec"]["template"]["spec"]["syncPolicy"] == {"retry": {}}
