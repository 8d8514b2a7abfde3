"""The gates for Argo Rollouts, run by its own analysis controller in a lab."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.argocd.argo import Object
from tests.lab.harness import ROOT, Lab, until
from tests.lab.rights import NAMESPACE, grant

VERIFY, VERDICT = yaml.safe_load_all((ROOT / "hooks/adapters/analysis-templates.yaml").read_text())
ANSWERS = "127.0.0.1:18093"
# Prometheus' API with one answer: what is in a file
PROMETHEUS = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open(sys.argv[1], "rb").read())

    do_GET = do_POST

HTTPServer(("127.0.0.1", 18093), Answer).serve_forever()
"""


@pytest.fixture(scope="module")
def rollouts(lab: Lab) -> Lab:
    """The lab with Argo Rollouts and the verifier's permissions."""
    lab.verb("rollouts")
    grant(lab)
    return lab


def phase(lab: Lab, name: str, template: Object, **args: str) -> str:
    """Run a template as an AnalysisRun; return how it ended."""
    metrics = json.loads(json.dumps(template["spec"]["metrics"]))
    run = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "metrics": metrics,
            "args": [{"name": key.replace("_", "-"), "value": args[key]} for key in args],
        },
    }
    lab.apply(run)
    resource = f"analysisrun/{name}"

    def ended() -> bool:
        found = lab.get("-n", NAMESPACE, resource).get("status", {}).get("phase", "")
        return found in ("Successful", "Failed", "Inconclusive", "Error")

    until(ended, timeout=240)
    found = lab.get("-n", NAMESPACE, resource)["status"]["phase"]
    lab.kubectl("-n", NAMESPACE, "delete", resource)
    return str(found)


def test_a_stage_runs_as_a_job_of_an_analysis(rollouts: Lab, images: dict[str, str]) -> None:
    istiod = rollouts.get("deployment/istiod", "-n", "istio-system")["spec"]["template"]["spec"]
    # the tests of the pipeline leave the new version in the lab
    version = istiod["containers"][0]["image"].rpartition(":")[2]
    args = {"stage": "controlplane", "image": images[version]}

    assert phase(rollouts, "open", VERIFY, target_version=version, **args) == "Successful"
    # 9.9.9 is a target that no istiod has, and that the image has no istioctl of
    assert phase(rollouts, "closed", VERIFY, target_version="9.9.9", **args) == "Failed"


@contextmanager
def prometheus(lab: Lab, answer: Path) -> Iterator[None]:
    """Serve what a file contains as the answer of Prometheus, in the lab's network."""
    server = lab.start(sys.executable, "-c", PROMETHEUS, str(answer))
    try:
        until(lambda: lab.run("labapp", "get", f"http://{ANSWERS}/").returncode == 0)
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(
    ("code", "expected"),
    [("0", "Successful"), ("1", "Failed"), ("10", "Inconclusive"), (None, "Inconclusive")],
)
def test_a_pushed_verdict_that_is_unknown_or_missing_is_inconclusive(
    rollouts: Lab, tmp_path: Path, code: str | None, expected: str
) -> None:
    result = [] if code is None else [{"metric": {}, "value": [1767225600, code]}]
    answer = tmp_path / "answer.json"
    data = {"status": "success", "data": {"resultType": "vector", "result": result}}
    answer.write_text(json.dumps(data))

    with prometheus(rollouts, answer):
        args = {"stage": "controlplane", "prometheus": f"http://{ANSWERS}"}
        assert phase(rollouts, f"verdict-{code}".lower(), VERDICT, **args) == expected
