"""The probe pair on a real mesh: it sees from inside what is broken, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.rights import PROBES
from tests.lab.harness import LAB, NEW, ROOT, UNRELEASED, Lab, Stage, until
from tests.lab.rights import VERIFIER, grant
from tests.lab.test_mtls import FILE, authorization, found, peer, rule
from tests.lab.test_retry_after import announcing, patch

Run = Callable[..., Stage]

IMAGE = "docker.io/lab/python:1"
RETRY_AFTER = "verification/check_retry_after.py"
PROBE = f"Probe {PROBES}/a"


@pytest.fixture
def inside(lab: Lab) -> Run:
    """Runs the files that the pair is for, as the verifier in the cluster."""

    def run(*words: str, files: tuple[str, ...] = (FILE, RETRY_AFTER)) -> Stage:
        # a reset takes the account away again
        grant(lab)
        options = ("--settle=0", f"--probe-pair={IMAGE}")
        return lab.pytest(*files, *options, *words, identity=VERIFIER)

    return run


@pytest.fixture
def recovers(lab: Lab, inside: Run) -> Iterator[None]:
    """After the test: remove the faults; the same files pass."""
    yield
    lab.verb("reset")
    stage = inside("--settle=120")
    assert stage.exit == 0, stage.output


def in_probes(object: dict[str, Any]) -> dict[str, Any]:
    """The same object, in the namespace of the probes."""
    object["metadata"]["namespace"] = PROBES
    return object


def back_off(longest: str, version: str = "") -> dict[str, Any]:
    """Has every proxy wait for Retry-After, if that is no longer than `longest`."""
    proxy = {"proxy": {"proxyVersion": version}} if version else {}
    policy = {
        "retry_on": "retriable-status-codes",
        "retriable_status_codes": [429, 503],
        "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "Retry-After", "format": "SECONDS"}],
            "max_interval": longest,
        },
    }
    patch = {
        "applyTo": "HTTP_ROUTE",
        "match": {"context": "SIDECAR_OUTBOUND", **proxy},
        "patch": {"operation": "MERGE", "value": {"route": {"retry_policy": policy}}},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "patient", "namespace": "istio-system"},
        "spec": {"priority": 40, "configPatches": [patch]},
    }


def loud(value: str) -> dict[str, Any]:
    """Has every sidecar of app=web send that Retry-After with 429 and 503.

    The caller's sidecar waits that long itself if `back_off` allows it.
    """
    made = announcing("loud", patch(value=value), app="web")
    made["metadata"]["namespace"] = "istio-system"
    return made


def jobs(lab: Lab) -> list[str]:
    """What there is of the pair."""
    return [each["metadata"]["name"] for each in lab.get("jobs", "-n", PROBES)["items"]]


def test_the_pair_verifies_a_healthy_mesh_and_leaves_nothing(lab: Lab, inside: Run) -> None:
    grant(lab)
    lab.apply(back_off("30s"), _stale(), loud("60"))

    stage = inside("--settle=30", f"--target-version={NEW}", "--probe-call=http://web.shop/")

    assert stage.exit == 0, stage.output
    assert {f"pass {check}" for check in ("DP008", "DP009", "RA004", "RA005")} <= {
        line[:10] for line in stage.output.splitlines()
    }, stage.output
    # the run has waited for its pods; what it had not deleted would be here for a minute more
    until(lambda: not lab.get("jobs,pods,services", "-n", PROBES)["items"], timeout=30)

    laptop = lab.pytest(FILE, "-k", "new_pod", f"--probe-pair={IMAGE}", "--settle=30")
    assert laptop.exit == 0, laptop.output


def _stale() -> dict[str, Any]:
    """What a run left that was killed, if Kubernetes had not removed it: it does not run."""
    container = {"name": "call", "image": IMAGE, "command": ["true"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "probe-of-a-killed-run",
            "namespace": PROBES,
            "labels": {"app.kubernetes.io/managed-by": "meshgate"},
        },
        "spec": {
            "suspend": True,
            "activeDeadlineSeconds": 1,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def test_a_run_that_is_killed_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    grant(lab)
    words = (FILE, f"--probe-pair={IMAGE}", "--probe-deadline=20", "--settle=0")
    reports = (f"--save-snapshot={tmp_path}/snapshot.json.gz", f"--json={tmp_path}/verdict.json")
    tell = ("sh", "-c", 'echo $$ >"$0"; exec "$@"', tmp_path / "pid")
    command = (*tell, sys.executable, "-m", "pytest", *words, *reports)
    with subprocess.Popen(
        [LAB, "exec", "--name", lab.name, "--as", VERIFIER, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as run:
        while len(jobs(lab)) < 2:
            assert run.poll() is None, "it ended before it made anything"
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    left = jobs(lab)
    until(lambda: not lab.get("jobs,pods,services", "-n", PROBES)["items"], timeout=180)

    assert len(left) == 2


@pytest.mark.usefixtures("recovers")
def test_new_pods_outside_the_mesh(lab: Lab, inside: Run) -> None:
    lab.kubectl("label", "namespace", PROBES, "istio-injection-")

    stage = inside()

    assert stage.exit == 1, stage.output
    assert stage.first.startswith(f"FAIL DP008 {PROBE}: has no sidecar"), stage.output
    found(stage, "DP009", PROBE, "arrives without mTLS")


@pytest.mark.usefixtures("recovers")
def test_rules_that_break_calls(lab: Lab, inside: Run) -> None:
    hosts = f"*.{PROBES}.svc.cluster.local"
    lab.apply(
        in_probes(rule("plain", hosts, tls={"mode": "DISABLE"})),
        rule("plain", "orders", tls={"mode": "DISABLE"}),
    )
    calls = ("--probe-call=http://orders.shop/", "--probe-call=http://nobody.shop/")

    stage = inside("--probe-sample=0", *calls)

    assert stage.exit == 1, stage.output
    found(stage, "DP009", PROBE, "its call to b is answered 503 by its own sidecar: upstream")
    found(stage, "DP009", PROBE, "its call to http://orders.shop/ is answered 503 by its own")
    found(stage, "DP009", PROBE, "its call to http://nobody.shop/ gets no answer")


@pytest.mark.usefixtures("recovers")
def test_calls_without_mtls_and_retries_that_are_too_early(lab: Lab, inside: Run) -> None:
    lab.apply(in_probes(peer("default", "DISABLE")), back_off("1s"))

    stage = inside(f"--target-version={UNRELEASED}")

    assert stage.exit == 1, stage.output
    found(stage, "DP008", PROBE, f"has a sidecar of version {NEW} (expected {UNRELEASED})")
    found(stage, "DP009", PROBE, "its call to b arrives without mTLS")
    found(stage, "RA004", "EnvoyFilter istio-system/patient", "with Retry-After: 2 (expected at")


@pytest.mark.usefixtures("recovers")
def test_a_filter_that_is_not_for_the_new_version(lab: Lab, inside: Run) -> None:
    # put together only when it is sent, so that it cannot be read beforehand
    lab.apply(back_off("30s", version=r"^1\.28.*"), loud('so" .. "on'))

    stage = inside(files=(RETRY_AFTER,))

    assert stage.exit == 1, stage.output
    found(stage, "RA004", "EnvoyFilter istio-system/patient", "never retries")
    found(stage, "RA001", "EnvoyFilter istio-system/patient", "is for proxies of version")
    found(stage, "RA005", "EnvoyFilter istio-system/loud", "with Retry-After 'soon', which is")


@pytest.mark.usefixtures("recovers")
def test_a_pair_without_evidence_opens_no_gate(lab: Lab, inside: Run) -> None:
    lab.apply(in_probes(authorization("nobody", "")))
    lab.kubectl(
        *("patch", "authorizationpolicy", "nobody", "-n", PROBES, "--type=json"),
        '-p=[{"op": "remove", "path": "/spec/selector"}]',
    )
    denied = inside()
    assert denied.exit == 10, denied.output
    assert "an AuthorizationPolicy denies the call" in _unknown(denied, "DP009")

    unknown_image = inside("--probe-pair=localhost:5000/none:1")
    assert unknown_image.exit == 10, unknown_image.output
    assert "did not run: container" in _unknown(unknown_image, "DP008")

    lab.kubectl("delete", "role", "istio-verification-probes", "-n", PROBES)
    stage = lab.pytest(FILE, "--settle=0", f"--probe-pair={IMAGE}", identity=VERIFIER)
    assert stage.exit == 10, stage.output
    assert f"no right to create jobs.batch in {PROBES}" in _unknown(stage, "DP008")


def _unknown(stage: Stage, check: str) -> str:
    (line,) = [line for line in stage.failures if line.startswith(f"UNKNOWN {check}")]
    return line
