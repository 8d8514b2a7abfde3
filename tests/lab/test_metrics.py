"""Traffic and alerts before and after, by a real Prometheus and by the proxies' own counters."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.snapshot.traffic_metrics import Window
from tests.lab.harness import CLASSIC, NODE, Lab, Stage, until
from tests.lab.rights import VERIFIER, grant

PROMETHEUS, ALERTMANAGER = f"http://{NODE}:19090", f"http://{NODE}:19093"
WINDOW = 20  # seconds
LIMITS = ("--traffic-requests=50", "--traffic-errors=0.1", "--traffic-slower=100")
ERRORS = 'sum(increase(istio_requests_total{reporter="destination",response_code="500"}[10s]))'
RULES = f"""
groups:
  - name: lab
    rules:
      - {{alert: Known, expr: vector(1)}}
      - {{alert: Errors, expr: '{ERRORS} > 0'}}
"""

Run = Callable[..., Stage]


@pytest.fixture
def verify(lab: Lab) -> Run:
    """Runs DP018 and DP019 from inside the cluster, or as a person at a laptop."""

    def run(*words: str, identity: str | None = VERIFIER) -> Stage:
        grant(lab)
        only = ("-m", "dataplane", "--check=DP018,DP019", "--settle=0")
        return lab.pytest(*only, *LIMITS, *words, identity=identity)

    return run


def before_the_upgrade(lab: Lab, saved: Path, *words: str) -> Window:
    """Save a baseline with the gate of stage A; return its window."""
    grant(lab)
    only = ("-m", "precheck", "--check=PC002", "--settle=0")
    stage = lab.pytest(*only, f"--save-baseline={saved}", *words, identity=VERIFIER)
    assert saved.exists(), stage.output
    return window(saved)


def window(snapshot: Path) -> Window:
    """The newest window of a snapshot."""
    found = SnapshotLocation(str(snapshot)).load(None).traffic_metrics.now
    assert found is not None
    return found


def of_check(stage: Stage, id: str) -> str:
    """The verdict's line of a check, or its first one."""
    return next(line for line in stage.verdict if line.split()[1:2] == [id])


def annotated(lab: Lab, namespace: str, deployment: str, prefix: str) -> None:
    """Let the proxies of a workload count the requests of these clusters, as a restart."""
    annotations = {"sidecar.istio.io/statsInclusionPrefixes": prefix}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    lab.kubectl("patch", "deployment", deployment, "-n", namespace, "-p", json.dumps(patch))
    rolled_out(lab, namespace, deployment)


def rolled_out(lab: Lab, namespace: str, deployment: str) -> None:
    where = ("-n", namespace, "--timeout=180s")
    lab.kubectl("rollout", "status", f"deployment/{deployment}", *where)


def deployment(name: str, namespace: str, *containers: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"imagePullPolicy": "Never", **each} for each in containers],
                },
            },
        },
    }


# --- Prometheus ---------------------------------------------------------------------------------


def load(lab: Lab, path: str) -> None:
    """Let shop/load request a path of payments/api, 20 times a second."""
    client = {
        "name": "app",
        "image": "docker.io/lab/app:1",
        "args": ["client", *[f"http://api.payments{path}"] * 20],
        "env": [{"name": "APP", "value": "load"}],
    }
    lab.apply(deployment("load", "shop", client))
    rolled_out(lab, "shop", "load")


def get(lab: Lab, url: str) -> str:
    """The body of an answer."""
    return lab.run("labapp", "get", url).stdout


def recorded(lab: Lab, query: str) -> float:
    """The value of a query that has one; 0 without any."""
    answer = get(lab, f"{PROMETHEUS}/api/v1/query?query={quote(query)}").partition("\n{")
    result = json.loads("{" + answer[2])["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def test_traffic_and_alerts_before_and_after(lab: Lab, verify: Run, tmp_path: Path) -> None:
    rules, saved = tmp_path / "rules.yaml", tmp_path / "before.json.gz"
    rules.write_text(RULES)
    lab.verb("prometheus", f"--rules={rules}")
    annotated(lab, "payments", "api", "cluster.inbound")
    annotated(lab, "istio-ingress", "istio-ingressgateway", "cluster.outbound")
    load(lab, "/healthz")
    options = (f"--prometheus={PROMETHEUS}", f"--traffic-window={WINDOW}")

    def enough() -> bool:
        request(lab)
        return recorded(lab, f"sum(increase(istio_requests_total[{WINDOW}s]))") > 100

    until(enough, 120)
    gateway = 'sum(istio_requests_total{source_workload="istio-ingressgateway"})'
    assert recorded(lab, gateway) > 0
    before = before_the_upgrade(lab, saved, *options)
    assert "payments/api" in {each.workload for each in before.workloads}
    assert [each.name for each in before.alerts] == ["Known"]

    lab.kubectl("rollout", "restart", "deployment/api", "-n", "payments")
    rolled_out(lab, "payments", "api")
    ended = before.end.timestamp()
    until(lambda: recorded(lab, "vector(time())") > ended + WINDOW + 2, 120)

    same = verify(*options, f"--baseline={saved}")
    assert same.exit == 0, same.output
    assert of_check(same, "DP018").startswith("pass "), same.output
    assert "WARN DP019 Alert Known: fires, and fired before the upgrade too" in same.output

    few = verify(*options, f"--baseline={saved}", "--traffic-requests=1000000")
    assert few.exit == 10, few.output
    assert of_check(few, "DP018").startswith("UNKNOWN "), few.output

    load(lab, "/status/500")
    until(lambda: recorded(lab, ERRORS) > 50, 120)
    worse = verify(*options, f"--baseline={saved}")
    assert worse.exit == 1, worse.output
    assert worse.first.startswith("FAIL DP018 Workload payments/api: answers "), worse.output
    assert any(line.startswith("FAIL DP019 Alert Errors") for line in worse.failures)
    assert "WARN DP019 Alert Known" in worse.output
    # what Prometheus reports is what Alertmanager got from it
    until(lambda: '"alertname":"Errors"' in get(lab, f"{ALERTMANAGER}/api/v2/alerts"))


def request(lab: Lab) -> None:
    """Send one request through the classic gateway."""
    lab.run("labapp", "get", "-s", CLASSIC["http"], "http://shop.example.com/")


# --- the proxies' own counters ------------------------------------------------------------------

# the lab's Envoy has no istio_*: this stands for a sidecar that counts 100 requests per second
COUNTER = """
import os, time
from http.server import BaseHTTPRequestHandler, HTTPServer

BEGUN = time.time()

class Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        while os.path.exists("/tmp/silent"):
            time.sleep(0.1)
        count = int((time.time() - BEGUN) * 100)
        failed = int(count * float(os.environ["FAILING"]))
        labels = 'reporter="destination",source_workload="client"'
        lines = [
            f'istio_requests_total{{{labels},response_code="200"}} {count - failed}',
            f'istio_requests_total{{{labels},response_code="503"}} {failed}',
        ]
        for le in ("10", "+Inf"):
            name = "istio_request_duration_milliseconds_bucket"
            lines.append(f'{name}{{{labels},le="{le}"}} {count}')
        body = "\\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("", 15090), Proxy).serve_forever()
"""


def counting(lab: Lab, failing: float) -> None:
    """Deploy legacy/counted, of which this share of the requests fails."""
    app = {"name": "app", "image": "docker.io/lab/app:1", "args": ["http"]}
    proxy = {
        "name": "istio-proxy",
        "image": "docker.io/lab/python:1",
        "command": ["python3", "-c", COUNTER],
        "env": [{"name": "FAILING", "value": str(failing)}],
        "readinessProbe": {"tcpSocket": {"port": 15090}, "periodSeconds": 1},
    }
    lab.apply(deployment("counted", "legacy", app, proxy))
    rolled_out(lab, "legacy", "counted")


@pytest.mark.parametrize("identity", [VERIFIER, None], ids=["inside", "laptop"])
def test_the_proxies_of_the_mesh_are_read(lab: Lab, verify: Run, identity: str | None) -> None:
    stage = verify("--proxy-metrics=2", identity=identity)

    found = window(stage.reports / "snapshot.json.gz")
    assert found.unread == (), stage.output
    assert found.workloads == ()  # stock Envoy has no istio_requests_total


def test_the_proxies_counters_before_and_after(lab: Lab, verify: Run, tmp_path: Path) -> None:
    saved, option = tmp_path / "before.json.gz", "--proxy-metrics=5"
    counting(lab, 0.0)
    before = before_the_upgrade(lab, saved, option)
    (counted,) = before.workloads
    assert counted.workload == "legacy/counted"
    assert 400 < counted.requests < 3000

    lab.kubectl("rollout", "restart", "deployment/counted", "-n", "legacy")
    rolled_out(lab, "legacy", "counted")
    same = verify(option, f"--baseline={saved}")
    assert same.exit == 0, same.output
    assert of_check(same, "DP018").startswith("pass "), same.output
    assert of_check(same, "DP019").startswith("n/a "), same.output

    few = verify(option, f"--baseline={saved}", "--traffic-requests=1000000")
    assert of_check(few, "DP018").startswith("UNKNOWN "), few.output

    pod = lab.pod("legacy", "counted")
    as_proxy = ("exec", "-n", "legacy", pod, "-c", "istio-proxy", "--", "python3", "-c")
    lab.kubectl(*as_proxy, "open('/tmp/silent', 'w')")
    silent = verify(option, f"--baseline={saved}")
    lab.kubectl(*as_proxy, "import os; os.remove('/tmp/silent')")
    assert silent.exit == 10, silent.output
    assert f"the proxies of legacy/counted (pod {pod}: port 15090: " in silent.output

    counting(lab, 0.5)
    worse = verify(option, f"--baseline={saved}")
    assert worse.exit == 1, worse.output
    assert worse.first.startswith("FAIL DP018 Workload legacy/counted: answers 5"), worse.output
