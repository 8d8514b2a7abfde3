"""The chart's objects, the published verdict and the restart, with the generated roles."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshgate.collect.rights import REPORTS
from tests.lab.harness import NEW, OLD, ROOT, Lab, until, watching

MANIFESTS = ROOT / "hooks/manifests"
NAMESPACE = "istio-system"
VERIFIER, RESTARTER = f"{NAMESPACE}/istio-verification-sa", f"{NAMESPACE}/istio-restart-sa"
GATE = "control-plane-verification"
PLACE = f"configmap://{REPORTS}/{GATE}-reports"
MESHGATE = str(ROOT / ".venv/bin/meshgate")


def objects(situation: str) -> list[dict[str, Any]]:
    """What the chart renders."""
    return [
        each for each in yaml.safe_load_all((MANIFESTS / f"{situation}.yaml").read_text()) if each
    ]


@pytest.fixture
def job(lab: Lab) -> Iterator[str]:
    """The gate's Job as the chart has it, suspended: no pod of it runs; NAMESPACE/NAME@UID."""
    lab.apply(*objects("rights"))
    (gate,) = [each for each in objects("in-place-istiod") if each["metadata"]["name"] == GATE]
    gate["spec"]["suspend"] = True
    lab.apply(gate)
    uid = lab.get("job", GATE, "-n", NAMESPACE)["metadata"]["uid"]
    yield f"{NAMESPACE}/{GATE}@{uid}"
    lab.kubectl("delete", "job", GATE, "-n", NAMESPACE)


@pytest.mark.parametrize("situation", sorted(path.stem for path in MANIFESTS.glob("*.yaml")))
def test_the_api_server_takes_every_object(lab: Lab, situation: str) -> None:
    everything = "\n".join(map(json.dumps, objects(situation)))
    # a Pod is not taken without its account, not even on trial
    lab.apply(*(each for each in objects("rights") if each["kind"] == "ServiceAccount"))

    lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=everything)


def test_the_generated_roles_publish_a_verdict(lab: Lab, job: str, tmp_path: Path) -> None:
    lab.kubectl("delete", "events", "--all", "-n", NAMESPACE)
    stage = lab.pytest(
        *("-m", "controlplane", "--settle=20", "--target-version=9.9.9"),
        *(f"--job={job}", f"--report-to={PLACE}"),
        identity=VERIFIER,
    )
    assert stage.exit == 1, stage.output
    assert "could not publish" not in stage.output

    annotations = lab.get("job", GATE, "-n", NAMESPACE)["metadata"]["annotations"]
    assert annotations["meshgate/gate"] == "closed"
    assert stage.first[:40] in annotations["meshgate/verdict"]
    events = lab.get("events", "-n", NAMESPACE)["items"]
    assert [each["reason"] for each in events if each["source"].get("component") == "meshgate"] == [
        "GateClosed"
    ]

    last = lab.run(MESHGATE, "last", PLACE, "--target-version=9.9.9")
    other = lab.run(MESHGATE, "last", PLACE, f"--target-version={NEW}")
    assert (last.returncode, other.returncode) == (1, 10), last.stdout + other.stdout
    assert f"NO VERDICT for {NEW}" in other.stdout
    run = annotations["meshgate/report"].removeprefix(f"{PLACE}-")
    fetched = lab.run(MESHGATE, "fetch", PLACE, run, str(tmp_path))
    assert fetched.returncode == 0, fetched.stderr
    snapshot = lab.pytest("-m", "controlplane", f"--snapshot={tmp_path}/snapshot.json.gz")
    assert snapshot.exit == 1, snapshot.output


def test_a_job_of_shards_is_open_only_when_every_shard_is(lab: Lab, job: str) -> None:
    def shard(index: int, *words: str) -> dict[str, str]:
        lab.pytest(
            *("verification/check_mtls.py", "--settle=30", f"--job={job}", f"--shard={index}/2"),
            *words,
            identity=VERIFIER,
        )
        found: dict[str, str] = lab.get("job", GATE, "-n", NAMESPACE)["metadata"]["annotations"]
        return found

    assert "1 of 2 shards have no verdict" in shard(0)["meshgate/verdict"]
    assert shard(1)["meshgate/gate"] == "open"
    assert shard(0, "--target-version=9.9.9")["meshgate/gate"] == "closed"
    assert shard(1)["meshgate/gate"] == "closed"


def test_a_verdict_does_not_land_on_a_later_job(lab: Lab, job: str) -> None:
    stage = lab.pytest(
        *("-m", "controlplane", "--settle=20", f"--job={job[:-4]}dead"),
        identity=VERIFIER,
    )

    assert stage.exit == 0, stage.output
    assert f"could not publish the verdict to Job {NAMESPACE}/{GATE}" in stage.output
    assert "meshgate/gate" not in lab.get("job", GATE, "-n", NAMESPACE)["metadata"]["annotations"]


def test_a_missing_permission_is_reported_and_the_verdict_stands(lab: Lab, job: str) -> None:
    lab.kubectl("delete", "role", "istio-verification", "-n", NAMESPACE)
    lab.kubectl("delete", "role", "istio-verification-reports", "-n", REPORTS)

    stage = lab.pytest(
        *("-m", "controlplane", "--settle=20", f"--job={job}", f"--report-to={PLACE}"),
        identity=VERIFIER,
    )

    assert stage.exit == 0, stage.output
    assert stage.output.count("note could not publish") == 3


def test_a_watch_that_cannot_start_publishes_an_event(lab: Lab) -> None:
    lab.apply(*objects("rights"))
    lab.kubectl("delete", "events", "--all", "-n", NAMESPACE)
    kinds = "gateways.networking.istio.io,gateways.gateway.networking.k8s.io,ingresses"
    lab.kubectl("delete", kinds, "--all", "-A")
    place, about = f"configmap://{REPORTS}/nothing-watched", f"{NAMESPACE}/watch@uid"
    done = lab.run(MESHGATE, "watch", place, f"--pod={about}", "--lasting=60", identity=VERIFIER)

    (event,) = [
        each
        for each in lab.get("events", "-n", NAMESPACE)["items"]
        if each["source"].get("component") == "meshgate"
    ]
    assert done.returncode == 10, done.stderr
    assert "no safe request can be derived" in done.stderr
    assert event["involvedObject"].items() >= {"kind": "Pod", "name": "watch", "uid": "uid"}.items()
    assert (event["type"], event["reason"]) == ("Warning", "WatchFailed")
    assert "no safe request can be derived" in event["message"]


def test_a_watch_continues_while_its_state_cannot_be_saved(lab: Lab, tmp_path: Path) -> None:
    lab.apply(*objects("rights"))
    place, begun = f"configmap://{REPORTS}/watched", tmp_path / "begun"

    def refusals() -> int:
        log = lab.verb("node", "cat", "/var/log/audit/audit.log").splitlines()
        return sum('"resource":"configmaps"' in line and '"code":403' in line for line in log)

    with watching(lab, VERIFIER, place, begun):
        before = refusals()
        lab.kubectl("delete", "role", "istio-verification-reports", "-n", REPORTS)
        until(lambda: refusals() > before)
        lab.apply(*objects("rights"))
    stage = lab.pytest(
        "-m", "ingress", "--settle=30", "-k", "was_lost", f"--watch={place}", identity=VERIFIER
    )

    assert stage.exit == 0, stage.output
    assert "n/a  IG011" not in stage.output


def test_a_restart_stops_at_the_first_workload_that_fails(lab: Lab) -> None:
    lab.apply(*(each for each in objects("restart") if each["kind"] != "Job"))
    before = {each["metadata"]["name"]: each for each in lab.get("pods", "-A")["items"]}

    done = lab.run(
        MESHGATE, "restart", f"--target-version={OLD}", "--timeout=90", identity=RESTARTER
    )

    # this istiod injects proxies of its own version, whatever the target is
    assert done.returncode == 1, done.stderr
    assert f"still runs another proxy version than {OLD}" in done.stderr
    new = [
        each["metadata"]["name"]
        for each in lab.get("pods", "-A")["items"]
        if each["metadata"]["name"] not in before and "deletionTimestamp" not in each["metadata"]
    ]
    started = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert len(started) == 1
    assert len({name.rsplit("-", 2)[0] for name in new}) == 1


def test_a_restart_has_nothing_to_do_twice(lab: Lab) -> None:
    lab.apply(*(each for each in objects("restart") if each["kind"] != "Job"))

    done = lab.run(MESHGATE, "restart", f"--target-version={NEW}", identity=RESTARTER)

    assert done.returncode == 0, done.stderr
    assert f"0 workloads run another proxy version than {NEW}" in done.stderr
