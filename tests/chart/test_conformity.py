"""All that the chart makes and the examples show, held against the schemas of Kubernetes 1.34 and
Argo CD, strictly: a field that is misspelt would be dropped without a word."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml

from meshgate.catalogue import STAGES
from tests.chart import schemas
from tests.chart.conftest import Conform, Helm, Render, conforming
from tests.chart.test_chart import MANIFESTS, SITUATIONS
from tests.conftest import ROOT

SHOWN = sorted(
    file for folder in (MANIFESTS, ROOT / "hooks/examples") for file in folder.glob("*.yaml")
)


@pytest.fixture(scope="session")
def conform(kubeconform: Path, tmp_path_factory: pytest.TempPathFactory) -> Conform:
    """Asks kubeconform of some objects."""
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write(folder)

    return conforming(kubeconform, folder)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_the_chart_makes_conforms(conform: Conform, render: Render, situation: str) -> None:
    done = conform(yaml.safe_dump_all(render(situation)))

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", SHOWN, ids=lambda file: file.stem)
def test_what_is_shown_conforms(conform: Conform, file: Path) -> None:
    done = conform(file.read_text())

    assert done.returncode == 0, done.stdout


def built(kustomize: Path, folder: Path) -> str:
    """Return what kustomize builds of a folder."""
    done = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("stage", ["rights", *STAGES])
def test_a_base_for_kustomize_is_what_the_chart_renders(
    conform: Conform, kustomize: Path, render: Render, stage: str
) -> None:
    text = built(kustomize, ROOT / "hooks/kustomize" / stage)
    objects = [each for each in yaml.safe_load_all(text) if each]

    assert conform(text).returncode == 0
    if stage == "rights":
        words: tuple[str, ...] = ("rights",)
    else:
        less = "verifyNow=false,syncFail=false,rbac=none,shadow.enabled=false,restart.enabled=false"
        words = ("in-place-istiod", "--set", f"stages={{{stage}}},{less}")
    key = partial(json.dumps, sort_keys=True)
    assert sorted(map(key, objects)) == sorted(map(key, render(*words)))


def test_an_overlay_changes_the_version_in_one_place(conform: Conform, kustomize: Path) -> None:
    text = built(kustomize, ROOT / "hooks/kustomize/example")
    (job,) = yaml.safe_load_all(text)
    (container,) = job["spec"]["template"]["spec"]["containers"]

    assert conform(text).returncode == 0
    assert container["image"] == "registry.example.com/mirror/meshgate:0.2.0-istio1.31.1"
    assert "--target-version=1.31.1" in container["args"]
    assert job["metadata"]["annotations"]["meshgate/target-version"] == "1.31.1"
    assert "1.31.0" not in text


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--set-json", 'revisions=[{"revision":"1-31-0","version":"1.31.0"}]'),
        ("--set-json", 'cluster={"server":null,"name":"eu-1"}', "--set", "prefix=eu-1-"),
        ("--set-json", 'ingress.others=[{"name":"istio-egressgateway"}]'),
    ],
)
def test_the_applications_of_the_example_conform(
    conform: Conform, helm: Helm, words: tuple[str, ...]
) -> None:
    rendered = helm("template", "istio-upgrade", ROOT / "hooks/examples/upgrade", *words)

    done = conform(rendered.stdout)

    assert done.returncode == 0, done.stdout
    wrong = conform(rendered.stdout.replace("retry: {}", "retries: {}"))
    assert wrong.returncode == 1


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("manifests/ingress", "activeDeadlineSeconds: 600", "activeDeadlineSecond: 600"),
        ("manifests/ingress", "backoffLimit: 0", "backoffLimit: none"),
        ("manifests/rights", "roleRef:", "roleReference:"),
        ("examples/app-of-apps", "retry: {}", "retries: {}"),
        ("examples/fleet", "missingkey=error]", "missingkey=error, 1]"),
    ],
)
def test_what_is_misspelt_does_not(conform: Conform, file: str, right: str, wrong: str) -> None:
    text = (ROOT / f"hooks/{file}.yaml").read_text()
    assert right in text

    done = conform(text.replace(right, wrong))

    assert done.returncode == 1
    assert "is invalid" in done.stdout
