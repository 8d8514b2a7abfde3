"""A verdict that outlives its pod: on its Job, in an Event, as reports, as metrics."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.collect.config_map_store import Missing
from meshgate.collect.kubernetes import Cluster
from meshgate.pipeline.publish import Targets, publish
from meshgate.pipeline.reports import Run, fetch, keep, runs
from meshgate.report.short import LINE, broken, short
from meshgate.settings.reference import ObjectReference
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.conftest import Gate, Serve
from tests.support import fakes
from tests.support.builders import AT, pushed, reading, snapshot, sync
from tests.support.fakes import ANY, Answer, Request, Server, answer, refusal

JOB = "/apis/batch/v1/namespaces/istio-system/jobs/control-plane-verification"
EVENTS = "/api/v1/namespaces/istio-system/events"
MAPS = "/api/v1/namespaces/istio-system/configmaps"
PLACE = "configmap://istio-system/reports"
TARGET = ObjectReference("istio-system", "control-plane-verification", "uid-1")

STAGES = {"CP001": "controlplane", "CP004": "controlplane"}
LOST = Finding("Pod shop/web", "rejected its Listener configuration")
FAILED = ruling([Outcome("CP001", Verdict.PASS), Outcome("CP004", Verdict.FAIL, (LOST,))], STAGES)
CLOSED = short(FAILED, 1, FAILED.sentence)
GOOD = ruling([Outcome("CP001", Verdict.PASS), Outcome("CP004", Verdict.PASS)], STAGES)
OPEN = short(GOOD, 0, GOOD.sentence)


class Held(msgspec.Struct):
    """What an API server holds: ConfigMaps, and what was patched and created."""

    maps: dict[str, Any] = {}
    no: Callable[[Request], Answer | None] = lambda request: None

    def answer(self, request: Request) -> Answer:
        """As an API server does."""
        if refused := self.no(request):
            return refused
        if request.verb == "PATCH" or request.path == EVENTS:
            return answer({}, 200 if request.verb == "PATCH" else 201)
        name = request.path.removeprefix(f"{MAPS}/")
        if request.verb == "POST":
            created = json.loads(request.body)
            self.maps[created["metadata"]["name"]] = created
            return answer(created, 201)
        if name not in self.maps:
            return refusal(404, "not found")
        if request.verb == "PUT":
            self.maps[name] = json.loads(request.body)
        if request.verb == "DELETE":
            return answer(self.maps.pop(name))
        return answer(self.maps[name])


@pytest.fixture
def held() -> Held:
    """Nothing yet."""
    return Held()


@pytest.fixture
def api(serve: Serve, held: Held) -> Server:
    """The API server that holds it."""
    return serve({ANY: held.answer})


@pytest.fixture
def connect(api: Server, tmp_path: Path) -> Callable[[], Cluster]:
    """A way to it."""
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    return lambda: Cluster(config=str(config), patience=0.0)


def sent(api: Server, path: str) -> Any:
    """The body of the one request to a path."""
    (body,) = [request.body for request in api.requests if request.path == path]
    return json.loads(body)


def test_the_job_has_the_verdict(api: Server, connect: Any) -> None:
    told = publish(CLOSED, "1.29.1", Targets(job=TARGET), {}, connect)

    assert told == []
    metadata = sent(api, JOB)["metadata"]
    assert metadata["uid"] == "uid-1"  # the API server refuses it for a later Job of this name
    annotations = metadata["annotations"]
    assert annotations["meshgate/gate"] == "closed"
    assert annotations["meshgate/exit"] == "1"
    assert annotations["meshgate/target-version"] == "1.29.1"
    assert annotations["meshgate/verdict"].startswith(
        "GATE CLOSED  1 failed · 1 passed FAIL CP004 Pod shop/web: rejected"
    )
    assert "\n" not in annotations["meshgate/verdict"]
    event = sent(api, EVENTS)
    assert (event["type"], event["reason"]) == ("Warning", "GateClosed")
    assert event["involvedObject"]["uid"] == "uid-1"
    assert event["message"] == annotations["meshgate/verdict"]


class Shared(msgspec.Struct):
    """A Job that several pods annotate; `between` comes first at the second write."""

    annotations: dict[str, str] = {}
    between: dict[str, str] = {}
    writes: int = 0

    def answer(self, request: Request) -> Answer:
        """As an API server merges."""
        if request.path != JOB:
            return answer({}, 201)
        self.writes += 1
        if self.writes == 2:
            self.annotations |= self.between
        self.annotations |= json.loads(request.body)["metadata"]["annotations"]
        return answer({"metadata": {"annotations": self.annotations}})


@pytest.fixture
def shared() -> Shared:
    """Nobody has told anything yet."""
    return Shared()


@pytest.fixture
def publish_event(serve: Serve, shared: Shared, tmp_path: Path) -> Callable[[Any, str], None]:
    """Tells the verdict of one shard."""
    config = fakes.kubeconfig(tmp_path / "kubeconfig", serve({ANY: shared.answer}).url)

    def told(verdict: Any, shard: str) -> None:
        targets = Targets(job=TARGET, shard=shard)
        connect = lambda: Cluster(config=str(config), patience=0.0)  # noqa: E731
        assert publish(verdict, "1.29.1", targets, {}, connect) == []

    return told


def test_a_job_of_shards_is_open_only_when_all_are(
    shared: Shared, publish_event: Callable[[Any, str], None]
) -> None:
    publish_event(OPEN, "1/2")
    assert shared.annotations["meshgate/gate"] == "closed"
    assert "1 of 2 shards have no verdict" in shared.annotations["meshgate/verdict"]
    assert shared.annotations["meshgate/exit"] == "10"
    assert "OPEN" not in shared.annotations["meshgate/summary"]

    publish_event(OPEN, "0/2")
    assert shared.annotations["meshgate/gate"] == "open"
    assert shared.annotations["meshgate/exit"] == "0"


def test_a_closed_shard_keeps_the_gate_closed(
    shared: Shared, publish_event: Callable[[Any, str], None]
) -> None:
    publish_event(CLOSED, "0/2")
    publish_event(OPEN, "1/2")

    assert shared.annotations["meshgate/gate"] == "closed"
    assert shared.annotations["meshgate/exit"] == "1"
    assert "FAIL CP004 Pod shop/web" in shared.annotations["meshgate/verdict"]


@pytest.mark.parametrize(
    ("other", "gate", "code"),
    [
        ("open: well", "open", "0"),
        ("closed: bad (exit 1) FAIL", "closed", "1"),
        ("closed: bad (exit 2: the run was interrupted)", "closed", "2"),
        ("closed: bad", "closed", "1"),
    ],
)
def test_shards_that_end_at_the_same_time(
    shared: Shared,
    publish_event: Callable[[Any, str], None],
    other: str,
    gate: str,
    code: str,
) -> None:
    shared.between = {"meshgate/shard-1": other}

    publish_event(OPEN, "0/2")

    annotations = shared.annotations
    assert (annotations["meshgate/gate"], annotations["meshgate/exit"]) == (gate, code)
    assert ("OPEN" in annotations["meshgate/summary"]) is (gate == "open")


def test_a_link_leads_to_the_report_of_this_run(api: Server, connect: Any) -> None:
    targets = Targets(job=TARGET, report=PLACE, url="https://example.com/{job}/{run}")

    publish(OPEN, "", targets, {}, connect)

    annotations = sent(api, JOB)["metadata"]["annotations"]
    (run,) = runs(PLACE, connect())
    assert annotations["link.argocd.argoproj.io/report"] == (
        f"https://example.com/control-plane-verification/{run.name}"
    )
    assert annotations["meshgate/report"] == f"{PLACE}-{run.name}"
    assert sent(api, EVENTS)["type"] == "Normal"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    many = Finding("Pod shop/web", "x" * 5000, remedy="y" * 5000)
    verdict = ruling([Outcome("CP004", Verdict.FAIL, (many,))], STAGES)

    found = short(verdict, 1, verdict.sentence)

    assert len(found.line) == LINE
    assert found.line.endswith("…")


def test_failures_come_before_warnings() -> None:
    outcome = Outcome("CP004", Verdict.FAIL, (LOST,), warnings=(Finding("Pod shop/web", "slow"),))
    verdict = ruling([outcome], STAGES)

    found = short(verdict, 1, verdict.sentence)

    assert found.line.startswith(f"{verdict.sentence} FAIL CP004 Pod shop/web")
    assert found.page.index("FAIL CP004") < found.page.index("WARN CP004")


def test_an_interrupted_run_opens_no_stage() -> None:
    assert broken("GATE CLOSED: no cluster", 4, ["ingress"]).stages == {"ingress": False}
    assert not broken("GATE CLOSED", 4, []).open


def test_no_stage_is_open_if_another_test_failed() -> None:
    assert CLOSED.stages == {"controlplane": False}
    assert OPEN.stages == {"controlplane": True}
    assert short(GOOD, 1, "a test that is in no catalogue failed").stages == {"controlplane": False}


def test_a_stage_that_has_no_object_in_the_mesh_is_neither_open_nor_closed_among_others() -> None:
    nothing = Outcome("AM001", Verdict.NOT_APPLICABLE)
    stages = {**STAGES, "AM001": "ambient"}
    among = ruling([Outcome("CP001", Verdict.PASS), nothing], stages, optional=("ambient",))
    alone = ruling([nothing], stages, optional=("ambient",))

    assert short(among, 0, among.sentence).stages == {"controlplane": True}
    assert short(alone, 10, alone.sentence).stages == {"ambient": False}


def test_the_reports_of_the_last_runs_can_be_fetched(
    held: Held, connect: Any, tmp_path: Path
) -> None:
    page = tmp_path / "index.html"
    for number in range(3):
        page.write_text(f"<p>{number}</p>")
        run = Run(f"run-{number}", AT, "1.29.1", 1, "closed", {})
        keep(PLACE, run, {"index.html": page}, connect(), 2)

    assert [run.name for run in runs(PLACE, connect())] == ["run-2", "run-1"]
    fetch(PLACE, "run-1", tmp_path / "out", connect())
    assert (tmp_path / "out/index.html").read_text() == "<p>1</p>"
    with pytest.raises(Missing):
        fetch(PLACE, "run-0", tmp_path / "out", connect())
    assert not [name for name in held.maps if "run-0" in name]


def test_a_folder_is_storage_too(tmp_path: Path, connect: Any) -> None:
    page = tmp_path / "index.html"
    page.write_text("<p>me</p>")
    files = {"index.html": page, "snapshot.json.gz": tmp_path / "none"}

    told = publish(OPEN, "", Targets(report=f"file://{tmp_path}/store"), files, connect)

    assert told == []
    (kept,) = (tmp_path / "store").rglob("*.*")
    assert kept.read_text() == "<p>me</p>"


def test_metrics_are_written(tmp_path: Path, connect: Any) -> None:
    file = tmp_path / "gate.prom"

    assert publish(CLOSED, "", Targets(metrics=str(file)), {}, connect) == []

    lines = file.read_text().splitlines()
    assert 'meshgate_gate_open{stage="controlplane"} 0.0' in lines
    assert 'meshgate_exit_code{stage="controlplane"} 1.0' in lines


def test_metrics_are_pushed(serve: Serve, connect: Any) -> None:
    gateway = serve({ANY: Answer(202)})

    assert publish(OPEN, "", Targets(metrics=gateway.url), {}, connect) == []

    assert gateway.asked == ["POST /metrics/job/meshgate/stage/controlplane"]
    assert b'meshgate_gate_open{stage="controlplane"} 1.0' in gateway.requests[0].body


def test_the_name_of_the_cluster_is_in_the_annotations_and_metrics(
    serve: Serve, api: Server, connect: Any
) -> None:
    gateway = serve({ANY: Answer(202)})
    targets = Targets(job=TARGET, metrics=gateway.url, cluster="prod-eu")

    assert publish(OPEN, "", targets, {}, connect) == []

    assert sent(api, JOB)["metadata"]["annotations"]["meshgate/cluster"] == "prod-eu"
    # a group of its own: another cluster's metrics stay
    (pushed,) = gateway.asked
    assert set(pushed.removeprefix("POST /metrics/job/meshgate/").split("/")) == {
        *("cluster", "prod-eu"),
        *("stage", "controlplane"),
    }
    line = b'meshgate_gate_open{cluster="prod-eu",stage="controlplane"} 1.0'
    assert line in gateway.requests[0].body


@pytest.mark.parametrize(
    ("verb", "what"),
    [("PATCH", "no right to patch jobs.batch control-plane"), ("POST", "no right to create")],
)
def test_a_failed_publication_is_reported(held: Held, connect: Any, verb: str, what: str) -> None:
    held.no = lambda request: refusal(403, "forbidden") if request.verb == verb else None

    told = publish(CLOSED, "", Targets(job=TARGET), {}, connect)

    (line,) = told
    assert line.startswith("could not publish ")
    assert what in line


def test_an_invalid_location_is_reported(connect: Any) -> None:
    (line,) = publish(CLOSED, "", Targets(report="configmap://x"), {}, connect)

    assert "is not configmap://NAMESPACE/NAME" in line


@pytest.mark.parametrize("text", ["name", "a/b/c", "/x", "a/@uid"])
def test_a_job_is_named_with_its_namespace(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAMESPACE/NAME"):
        ObjectReference.parse(text)


HEALTHY = snapshot()
REJECTING = snapshot(
    istiod=(reading(proxies=[sync(listener=pushed(answered=False, error="no such filter"))]),)
)


@pytest.mark.parametrize(("mesh", "code"), [(HEALTHY, 0), (REJECTING, 1)])
def test_a_run_publishes_what_it_exits_with(
    gate: Gate,
    recorded: Callable[[Snapshot], Path],
    api: Server,
    connect: Any,
    tmp_path: Path,
    mesh: Snapshot,
    code: int,
) -> None:
    run = gate(
        *("-m", "controlplane", f"--snapshot={recorded(mesh)}"),
        *(f"--kubeconfig={tmp_path / 'kubeconfig'}", f"--report-to={PLACE}"),
        "--job=istio-system/control-plane-verification@uid-1",
    )

    assert run.code == code, run.out
    annotations = sent(api, JOB)["metadata"]["annotations"]
    assert annotations["meshgate/exit"] == str(code)
    assert annotations["meshgate/verdict"].startswith(run.last.rpartition("   ")[0])
    (kept,) = runs(PLACE, connect())
    fetch(PLACE, kept.name, tmp_path / "out", connect())
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {
        *("junit.xml", "index.html", "verdict.json")
    }


def test_a_run_that_cannot_publish_keeps_its_verdict(
    gate: Gate, recorded: Callable[[Snapshot], Path], held: Held, api: Server, connect: Any
) -> None:
    held.no = lambda request: refusal(403, "forbidden")
    config = f"--kubeconfig={recorded(HEALTHY).with_name('kubeconfig')}"

    closed = gate(
        *("-m", "controlplane", f"--snapshot={recorded(REJECTING)}", config),
        *(f"--report-to={PLACE}", f"--job={TARGET.namespace}/{TARGET.name}"),
    )

    assert closed.code == 1, closed.out
    assert "   (exit 1)   " in closed.last
    assert closed.out.count("note could not publish") == 3


def test_a_run_without_a_cluster_says_so_on_its_job(
    gate: Gate, api: Server, connect: Any, tmp_path: Path
) -> None:
    run = gate(
        *("-m", "controlplane", "--snapshot=/does/not/exist"),
        *(f"--kubeconfig={tmp_path / 'kubeconfig'}", f"--job={TARGET.namespace}/{TARGET.name}"),
    )

    assert run.code == 4, run.out
    annotations = sent(api, JOB)["metadata"]["annotations"]
    assert annotations["meshgate/gate"] == "closed"
    assert "cannot read the snapshot /does/not/exist" in annotations["meshgate/verdict"]
