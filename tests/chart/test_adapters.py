"""Gates in other tools: each example conforms to the schema of the release that its module pins."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from meshgate.pipeline import metrics
from meshgate.report.short import Short
from tests.chart import schemas
from tests.chart.conftest import Conform, conforming
from tests.conftest import ROOT

HOOKS = ROOT / "hooks"
ACTION = ROOT / ".github/actions/gate"
FLEET = ROOT / ".github/actions/fleet/action.yml"
SITE = "https://meshgate.readthedocs.io/en/latest/"
EXAMPLES = [
    HOOKS / "adapters/analysis-templates.yaml",
    HOOKS / "adapters/flux.yaml",
    HOOKS / "monitoring/prometheus-rule.yaml",
]


@pytest.fixture(scope="session")
def conform(kubeconform: Path, tmp_path_factory: pytest.TempPathFactory) -> Conform:
    """Run kubeconform on objects, with the schemas of the other tools."""
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write_adapters(folder)

    return conforming(kubeconform, folder)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_adapter_conforms(conform: Conform, file: Path) -> None:
    text = file.read_text()

    done = conform(text)

    assert done.returncode == 0, done.stdout
    assert conform(text.replace("spec:\n", "spec:\n  unknownField: 1\n", 1)).returncode == 1


def test_an_analysis_runs_the_pod_of_a_gate() -> None:
    template, verdict = yaml.safe_load_all(EXAMPLES[0].read_text())
    job = template["spec"]["metrics"][0]["provider"]["job"]["spec"]
    gates = yaml.safe_load_all((HOOKS / "manifests/in-place-istiod.yaml").read_text())
    gate = next(each for each in gates if each and each["kind"] == "Job")

    (own,) = job["template"]["spec"]["containers"]
    (other,) = gate["spec"]["template"]["spec"]["containers"]
    for field in ("command", "securityContext", "resources", "volumeMounts"):
        assert own[field] == other[field]
    assert job["template"]["spec"]["volumes"] == gate["spec"]["template"]["spec"]["volumes"]
    assert job["backoffLimit"] == 0
    # 10 is neither a success nor a failure: Argo Rollouts pauses as Inconclusive
    metric = verdict["spec"]["metrics"][0]
    assert "!= 10" in metric["failureCondition"]
    assert metric["inconclusiveLimit"] == 0


def exported() -> set[str]:
    """Return the names of the metrics that a gate exports."""
    verdict = Short(0, "", "", {"ingress": True})
    found: CollectorRegistry = metrics.registry(verdict, schemas.NOW, ["ingress"], "prod")
    return {each.name for each in found.collect()}


@pytest.mark.parametrize(
    "file",
    [*EXAMPLES, HOOKS / "monitoring/grafana-dashboard.json"],
    ids=lambda file: file.stem,
)
def test_only_exported_metrics_are_used(file: Path) -> None:
    used = set(re.findall(r"\bmeshgate_\w+", file.read_text()))

    assert used <= exported()
    assert used or file.stem == "flux"


def test_every_alert_names_a_runbook() -> None:
    rule = yaml.safe_load(EXAMPLES[2].read_text())

    for group in rule["spec"]["groups"]:
        for alert in group["rules"]:
            url = alert["annotations"]["runbook_url"]
            assert url.startswith(SITE), alert
            assert (ROOT / "docs" / url.removeprefix(SITE)).with_suffix(".md").exists(), alert
            assert alert["annotations"]["summary"]


def test_the_dashboard_shows_every_metric() -> None:
    board = json.loads((HOOKS / "monitoring/grafana-dashboard.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]

    assert len(ids) == len(set(ids))
    expressions = [each["expr"] for panel in board["panels"] for each in panel["targets"]]
    assert set(re.findall(r"\bmeshgate_\w+", " ".join(expressions))) == exported()
    assert all('cluster=~"$cluster"' in each for each in expressions)


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-actions", ACTION / "action.yml"),
        ("vendor.gitlab-ci", HOOKS / "gitlab/gate.yml"),
        ("vendor.github-actions", FLEET),
        ("vendor.gitlab-ci", HOOKS / "gitlab/fleet.yml"),
    ],
)
def test_a_component_conforms(tmp_path: Path, schema: str, file: Path) -> None:
    *_, body = yaml.safe_load_all(file.read_text())
    if schema.endswith("gitlab-ci"):  # the part that GitLab reads after the inputs
        body = json.loads(json.dumps(body).replace("$[[ inputs.stage ]]", "ingress"))
    plain = tmp_path / "component.json"
    plain.write_text(json.dumps(body))

    def check() -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(plain)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert check().returncode == 0, check().stdout
    plain.write_text(json.dumps({**body, "runs": 1, "verify-ingress": 1}))
    assert check().returncode == 1


@pytest.mark.parametrize(
    ("fleet", "comment", "expected"),
    [(0, 0, 0), (1, 0, 1), (10, 0, 10), (0, 1, 10), (1, 1, 1)],
)
def test_the_action_for_a_fleet_ends_as_the_fleet_and_needs_its_comment(
    tmp_path: Path, fleet: int, comment: int, expected: int
) -> None:
    (step,) = yaml.safe_load(FLEET.read_text())["runs"]["steps"]
    log, programs = tmp_path / "log", tmp_path / "temp/meshgate/bin"
    programs.mkdir(parents=True)
    for program, script in {
        programs / "pip": "true",
        programs / "meshgate": (
            f'echo "$@" >> {log}\n'
            'for word; do case $word in --markdown=*) echo text > "${word#*=}";; esac; done\n'
            f"if [ $1 = fleet ]; then exit {fleet}; else exit {comment}; fi"
        ),
        tmp_path / "path/python3": "true",
    }.items():
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
    environment = {
        **dict.fromkeys(step["env"], ""),
        "RECORDINGS": "s3://a /b",
        "TARGET": "1.31.0",
        "MANIFESTS": "x y",
        "COMMENT": "true",
        "REPORTS": str(tmp_path / "reports"),
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "PATH": f"{tmp_path / 'path'}:/usr/bin:/bin",
        **{name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")},
    }

    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]], env=environment, check=False
    )

    assert done.returncode == expected
    first, second = log.read_text().splitlines()
    options = "--target-version=1.31.0 --shadow-manifests=x y"
    assert first.startswith(f"fleet s3://a /b {options} --json=")
    assert second == f"comment {tmp_path}/reports/comment.md"
    gate = "open" if expected == 0 else "closed"
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == f"gate={gate}\nexit={expected}\n"


def summary() -> ModuleType:
    """Return the action's program."""
    spec = importlib.util.spec_from_file_location("summary", ACTION / "summary.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_summary_of_a_closed_gate_shows_object_problem_and_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = {"subject": "Pod a/b", "seen": "x | <b>", "remedy": "kubectl get pod b"}
    failed = {"id": "CP004", "verdict": "fail", "why": "", "findings": [finding]}
    unknown = {"id": "CP006", "verdict": "could not verify", "why": "no right", "findings": []}
    passed = {"id": "CP001", "verdict": "pass", "why": "", "findings": []}
    verdict: dict[str, Any] = {
        "gate": "closed",
        "sentence": "GATE CLOSED: 1 of 3 checks failed",
        "checks": [failed, unknown, passed],
    }
    file = tmp_path / "verdict.json"
    file.write_text(json.dumps(verdict))

    summary().main(file)
    summary().main(tmp_path / "missing.json")

    out = capsys.readouterr().out
    assert "### ⛔ GATE CLOSED: 1 of 3 checks failed" in out
    assert "| CP004 | Pod a/b | x \\| &lt;b> | kubectl get pod b |" in out
    assert "| CP006 | could not verify | no right |  |" in out
    assert "CP001" not in out
    assert "GATE CLOSED: meshgate wrote no verdict" in out
