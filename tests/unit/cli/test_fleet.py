"""`meshgate fleet`: the recordings of many clusters, evaluated one by one and reported as one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.cli.fleet_evaluation import AcceptedFolder, Task, evaluate, evaluate_all
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow import simulation
from meshgate.collect.shadow.programs import Programs
from meshgate.pipeline.recordings import keep, open_place
from meshgate.report.fleet import Evaluation, FleetReport, fleet_report
from meshgate.settings import Settings
from meshgate.settings.topics import Criteria
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.offline_bundle import Listed, OfflineBundle
from meshgate.snapshot.shadow import ProxyClass, Refusal, Shadow
from tests.conftest import Gate
from tests.support import upgrade_builders
from tests.support.builders import snapshot
from tests.support.waiting import marked, until
from tests.unit.collect.shadow.test_target import ISTIOD, MESH, TEMPLATE

TARGET = "1.29.1"
NOW = datetime.now(UTC).replace(microsecond=0)
SCRIPT = "EnvoyFilter payments/script"

Simulate = Callable[..., Shadow]


def recorded(cluster: str, age: timedelta = timedelta(hours=1), **changes: Any) -> Snapshot:
    """A recording of a healthy cluster."""
    script = {
        "metadata": {
            "name": "script",
            "namespace": "payments",
            "annotations": {"meshgate/source": "apps/payments/script.yaml"},
        }
    }
    bundle = OfflineBundle(
        connected=("a.shop",),
        listed={"envoyfilters": Listed(kind="EnvoyFilter", objects=(script,))},
    )
    return snapshot(
        source=f"context {cluster}",
        taken=NOW - age,
        offline_bundle=bundle,
        **{**upgrade_builders.HEALTHY, **changes},
    )


def simulated(*refusals: Refusal) -> Shadow:
    """What a simulation returns of a mesh with one class of proxies."""
    return Shadow(
        version=TARGET, classes=(ProxyClass(proxies=("a.shop",), refusals=refusals),), templates=()
    )


BROKEN = simulated(Refusal(part="listener x", words="no such filter", culprits=(SCRIPT,)))


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with programs of a target; they cannot simulate anything."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("pilot-discovery", "envoy"):
        (folder / name).write_text("#!/bin/sh\nexit 3\n")
        (folder / name).chmod(0o755)
    (folder / "istiod.yaml").write_text("")
    return folder


@pytest.fixture
def task(tmp_path: Path, programs: Path) -> Callable[[Snapshot], Task]:
    """The task of a recording, which is stored."""

    def made(snapshot: Snapshot) -> Task:
        place = str(tmp_path / "recordings")
        return Task(
            place=place,
            head=keep(open_place(place, pytest.fail), snapshot, last=3),
            programs=Programs(manifests=str(programs / "istiod.yaml"), version=TARGET),
            settings=Settings(criteria=Criteria(target_version=TARGET)),
            cache=tmp_path / "cache",
            digest="0123",
        )

    return made


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Shadow | ReadError], list[str]]:
    """Replace the simulation by its result; the list has the cluster of each."""
    asked: list[str] = []

    def use(result: Shadow | ReadError) -> list[str]:
        def run(snapshot: Snapshot, *_: Any, **__: Any) -> Shadow:
            asked.append(snapshot.source)
            if isinstance(result, ReadError):
                raise result
            return result

        monkeypatch.setattr(simulation, "simulate_recorded", run)
        return asked

    return use


def test_a_rejected_configuration_fails_the_check_of_its_cluster(
    task: Callable[[Snapshot], Task], simulate: Callable[..., list[str]]
) -> None:
    asked = simulate(BROKEN)

    found = evaluate(task(recorded("eu-1")))

    assert found.report is not None
    verdicts = {row.id: row.verdict for row in found.report.checks}
    assert (verdicts["PC101"], verdicts["PC102"], found.report.exit) == ("fail", "pass", 1)
    assert verdicts["PC001"] == "pass"
    assert found.sources == {SCRIPT: "apps/payments/script.yaml"}
    assert (found.proxies, found.classes, asked) == (1, 1, ["context eu-1"])


def test_what_istioctl_of_another_release_has_checked_is_left_out(
    task: Callable[[Snapshot], Task], simulate: Callable[..., list[str]]
) -> None:
    simulate(simulated())

    found = evaluate(task(recorded("eu-1", istioctl="1.28.2")))

    assert found.report is not None
    assert "PC001" not in {row.id for row in found.report.checks}
    assert found.report.exit == 0


def test_a_result_is_remembered_until_something_that_it_depends_on_changes(
    task: Callable[[Snapshot], Task], simulate: Callable[..., list[str]]
) -> None:
    given = task(recorded("eu-1"))
    first = evaluate_in_place(given, simulate(simulated()))
    asked = simulate(ReadError("not again", ""))

    assert evaluate_all([given], 1) == [first]
    assert asked == ["context eu-1"]

    criteria = Criteria(target_version=TARGET, allow_rollback=True)
    others = [
        replace(given, digest="4567"),
        replace(given, settings=Settings(criteria=criteria)),
        task(recorded("eu-1", timedelta(hours=2))),
    ]
    Path(given.programs.manifests).write_text("# other values")
    assert [each.file.exists() for each in (*others, given)] == [False] * 4


def evaluate_in_place(task: Task, asked: list[str]) -> Any:
    """Evaluate in this process."""
    found = evaluate(task)
    assert found.report is not None
    assert asked
    return found


def test_a_simulation_that_failed_is_unknown_and_is_repeated(
    task: Callable[[Snapshot], Task], simulate: Callable[..., list[str]]
) -> None:
    simulate(ReadError("the simulation did not finish", "raise --shadow-deadline"))
    given = task(recorded("eu-1"))

    found = evaluate(given)

    assert found.report is not None
    unknown = {row.id: row.why for row in found.report.checks if row.verdict == "could not verify"}
    assert unknown["PC101"] == "the simulation did not finish"
    assert found.report.exit == 10
    assert not given.file.exists()


def test_a_recording_that_was_changed_has_no_verdict(task: Callable[[Snapshot], Task]) -> None:
    given = task(recorded("eu-1"))
    (file,) = Path(given.place).glob("*/*.json.gz")
    file.write_bytes(b"")

    found = evaluate(given)

    assert found.report is None
    assert "was changed after it was taken" in found.why


def test_a_process_that_ends_early_leaves_its_cluster_unknown(
    task: Callable[[Snapshot], Task],
) -> None:
    given = replace(task(recorded("eu-1")), programs=_Unusable())  # type: ignore[arg-type]

    (found,) = evaluate_all([given], 1)

    assert found.report is None
    assert "ended early" in found.why


def test_a_process_that_is_killed_leaves_no_other_cluster_unknown(
    task: Callable[[Snapshot], Task],
) -> None:
    names = [f"eu-{number}" for number in range(4)]
    given = [task(recorded(name)) for name in names]
    for file in Path(given[0].place).glob("*/*.json.gz"):
        file.write_bytes(b"")
    given[0] = replace(given[0], programs=_Deadly())  # type: ignore[arg-type]

    found = {each.cluster: each for each in evaluate_all(given, 2)}

    assert sorted(found) == names
    assert "ended early: EOFError: exit code 9" in found.pop("eu-0").why
    assert all("was changed after it was taken" in each.why for each in found.values())


class _Deadly:
    """Programs that end the process that they are passed to."""

    manifests = "/dev/null"

    def __reduce__(self) -> Any:
        return os._exit, (9,)


class _Unusable:
    """Programs that cannot be passed to another process."""

    manifests = "/dev/null"

    def __reduce__(self) -> Any:
        raise OSError("no")


def test_accepted_configurations_are_known_to_other_processes(tmp_path: Path) -> None:
    AcceptedFolder(tmp_path / "accepted").add("abc")

    assert "abc" in AcceptedFolder(tmp_path / "accepted")
    assert "abe" not in AcceptedFolder(tmp_path / "accepted")


def test_the_command_reports_each_cluster_and_never_passes_what_it_could_not_simulate(
    started: Gate, tmp_path: Path, programs: Path, root: Path
) -> None:
    place = open_place(str(tmp_path / "all"), pytest.fail)
    keep(place, recorded("eu-1", timedelta(hours=50)), last=3)
    keep(place, recorded("eu-1"), last=3)
    files = {kind: tmp_path / f"fleet.{kind}" for kind in ("json", "html", "markdown")}

    run = started(
        *("-m", "meshgate", "fleet", tmp_path / "all", f"--target-version={TARGET}"),
        *(f"--programs={programs}", f"--cache={tmp_path / 'cache'}", "--parallel=1"),
        *("--cluster=eu-1", "--cluster=us-1"),
        *(f"--{kind}={file}" for kind, file in files.items()),
        cwd=root,
    )

    assert run.code == 10, run.out
    assert run.last.startswith(f"GATE CLOSED  Istio {TARGET}: 2 clusters could not be verified")
    found = msgspec.json.decode(files["json"].read_bytes(), type=FleetReport)
    assert {each.name: each.state for each in found.clusters} == {
        "eu-1": "unknown",
        "us-1": "unknown",
    }
    (only,) = [each for each in found.clusters if each.name == "eu-1"]
    assert only.taken == NOW - timedelta(hours=1)
    assert any("PC101" in why for why in only.unknown)
    assert "[1/1] eu-1" in run.out
    assert "eu-1" in files["html"].read_text()
    assert "eu-1" in files["markdown"].read_text()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_no_process_and_no_folder_outlives_a_killed_run(
    tmp_path: Path, programs: Path, root: Path, sent: signal.Signals
) -> None:
    place, temporary = open_place(str(tmp_path / "all"), pytest.fail), tmp_path / "tmp"
    temporary.mkdir()
    keep(place, recorded("eu-1"), last=1)
    keep(place, recorded("us-1"), last=1)
    objects = map(json.dumps, (MESH, TEMPLATE, ISTIOD))
    (programs / "istiod.yaml").write_text("\n---\n".join(objects))
    # an istiod that is never ready
    waiting = f"#!/bin/sh\nexec /usr/bin/tail -f {programs}/istiod.yaml\n"
    (programs / "pilot-discovery").write_text(waiting)
    words = ("-m", "meshgate", "fleet", str(tmp_path / "all"), f"--target-version={TARGET}")
    more = (f"--programs={programs}", f"--cache={tmp_path / 'cache'}", "--parallel=2")

    run = subprocess.Popen(
        [sys.executable, *words, *more],
        cwd=root,
        env={**os.environ, "TMPDIR": str(temporary), "HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    istiods = f"/usr/bin/tail -f {programs}"
    # istiod has its home there
    marker = str(temporary)
    until(lambda: sum(istiods in each for each in marked(marker).values()) == 2)
    run.send_signal(sent)
    run.wait()

    until(lambda: not marked(marker))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "phase"), [(TARGET, "pending"), ("1.30.0", "pending")], ids=["unknown", "another"]
)
def test_the_report_is_a_commit_status_of_the_proposed_commit(
    started: Gate, tmp_path: Path, target: str, phase: str
) -> None:
    report = fleet_report(
        [Evaluation(cluster="eu-1", why="it has no recording")],
        target=TARGET,
        made=NOW,
        max_age=timedelta(days=1),
        meshgate_version="0.2.0",
    )
    (tmp_path / "fleet.json").write_bytes(msgspec.json.encode(report))

    run = started(
        *("-m", "meshgate", "commit-status", "fleet.json", f"--target-version={target}"),
        *(f"--sha={'a' * 40}", "--repository=mesh", "--key=meshgate-fleet"),
        cwd=tmp_path,
    )

    assert run.code == 0, run.out
    found = json.loads(run.out)
    assert (found["kind"], found["spec"]["phase"]) == ("CommitStatus", phase)
    described = report.sentence if target == TARGET else "no verdict in fleet.json"
    assert found["spec"]["description"] == described


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("none",), 4, "--target-version is required"),
        (("none", f"--target-version={TARGET}"), 10, "there is no recording in none"),
        (("none", f"--target={TARGET}"), 10, "there is no recording in none"),  # its former name
        (("none", f"--target-version={TARGET}", "--max-age=soon"), 4, "is not an age"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    started: Gate, tmp_path: Path, words: tuple[str, ...], code: int, why: str
) -> None:
    run = started("-m", "meshgate", "fleet", *words, cwd=tmp_path)

    assert run.code == code
    assert why in run.out


def test_a_folder_without_the_programs_is_named(started: Gate, tmp_path: Path, root: Path) -> None:
    keep(open_place(str(tmp_path / "all"), pytest.fail), recorded("eu-1"), last=1)

    run = started(
        *("-m", "meshgate", "fleet", tmp_path / "all", f"--target-version={TARGET}"),
        f"--programs={tmp_path}",
        cwd=root,
    )

    assert run.code == 10
    assert "does not contain the target's pilot-discovery" in run.out
