"""The gate as a person meets it: real runs of pytest, their exit codes and their last words."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshgate.catalogue import checks
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load, save
from tests.conftest import Claims, Estate, Gate
from tests.support import fakes
from tests.support.builders import (
    as_api,
    deployment,
    expecting,
    istiod,
    message,
    pod,
    pushed,
    reading,
    running,
    sidecar,
    snapshot,
    sync,
    waiting,
    without,
)
from tests.support.fakes import Answer, Request, refusal

Recorded = Callable[[Snapshot], Path]
Lives = Callable[[Snapshot], Estate]

# the claims that a cluster of fakes has everything for: it serves no webhook and no CA
FAKED = (
    "-m",
    "controlplane",
    "-k",
    "rolled_out or every_replica or connected or rejects or stale or analyze",
)

# the snapshot has no CNI plugin, no configuration of istiod, no new pods, WasmPlugin and baseline
NOT_THERE = {f"CP{number:03}" for number in (*range(16, 22), 23, *range(25, 31))}
STAGE_B = [row.id for row in checks().values() if row.stage == "controlplane"]

# a label of a pod: what it is about must never be part of what is printed
NEEDLE = "needle-in-the-mesh"

HEALTHY = snapshot(pods=(istiod(ip=fakes.address()), sidecar(labels={"x": NEEDLE})))
REJECTING = snapshot(
    pods=HEALTHY.pods,
    istiod=(reading(proxies=[sync(listener=pushed(answered=False, error="no such filter"))]),),
)
NO_PROXY = snapshot(pods=(istiod(), pod("old", containers=[running("app")])), istiod=(reading(),))


@pytest.fixture
def replay(gate: Gate, recorded: Recorded) -> Gate:
    """Runs the gate on a recording, of stage B: the meshes here are healthy for that one."""

    def run(held: Snapshot, *arguments: str, **more: Path) -> object:
        stage = () if "cwd" in more else ("-m", "controlplane")
        return gate(*stage, f"--snapshot={recorded(held)}", *arguments, **more)

    return run  # type: ignore[return-value]


# --- verdicts -----------------------------------------------------------------------------------


def test_a_healthy_mesh_opens_the_gate(replay: Gate, tmp_path: Path) -> None:
    run = replay(HEALTHY)

    assert run.code == 0, run.out
    passed = len(STAGE_B) - len(NOT_THERE)
    not_run = f"{len(NOT_THERE)} not run"
    assert run.last.startswith(f"GATE OPEN  {passed} passed · {not_run}   (exit 0)   ")
    assert "no cluster is contacted" in run.out
    page = (tmp_path / "reports/index.html").read_text()
    assert "GATE OPEN" in page
    properties = list(run.junit.values())
    assert {each["check"]: each["stage"] for each in properties} == dict.fromkeys(
        STAGE_B, "controlplane"
    )
    assert {each["check"] for each in properties if each["verdict"] != "pass"} == NOT_THERE


def test_one_failure_closes_it(replay: Gate, tmp_path: Path) -> None:
    run = replay(REJECTING)

    assert run.code == 1, run.out
    assert run.last.startswith("GATE CLOSED  1 failed · ")
    assert "   (exit 1)   " in run.last
    (line,) = run.of("CP004")
    assert line.startswith("FAIL CP004 Pod shop/web-1: rejected its Listener configuration")
    assert run.junit["test_no_proxy_rejects_its_configuration"]["verdict"] == "fail"
    junit = (tmp_path / "reports/junit.xml").read_text()
    assert line.split(" fix: ")[0] in junit
    assert '"subject":"Pod shop/web-1"' in (tmp_path / "reports/index.html").read_text()


def test_what_could_not_be_read_closes_it_with_another_code(replay: Gate) -> None:
    run = replay(without("analysis", why="there is no istioctl"))

    assert run.code == 10, run.out
    assert run.last.startswith("GATE CLOSED  1 unknown · ")
    assert "(exit 10: could not verify)" in run.last
    (line,) = run.of("CP006")
    assert line.startswith("UNKNOWN CP006 ")
    assert "could not verify: there is no istioctl fix: grant it" in line
    assert run.junit["test_analyze_reports_no_error"]["verdict"] == "could not verify"


def test_claims_that_have_nothing_to_speak_about_open_nothing(replay: Gate) -> None:
    run = replay(NO_PROXY, "-k", "proxy")

    assert run.code == 10, run.out
    assert run.last.startswith(
        "GATE CLOSED: no check produced evidence (exit 10: could not verify)"
    )
    assert [each["verdict"] for each in run.junit.values()] == ["not applicable"] * 3
    assert run.of("CP004") == [
        "n/a  CP004 no proxy rejects its configuration: no pod contains a proxy"
    ]


def test_a_warning_is_told_and_closes_nothing(replay: Gate) -> None:
    assert HEALTHY.analysis is not None
    warned = message("IST0107", "Warning", "Misplaced annotation", "Pod shop/web-1")
    run = replay(
        snapshot(analysis=type(HEALTHY.analysis)(istioctl_version="1", messages=(warned,)))
    )

    assert run.code == 0, run.out
    (line,) = run.of("CP006")
    assert line.startswith("WARN CP006 Pod shop/web-1: IST0107 Misplaced annotation")
    assert "  1 warning · " in run.last


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_what_is_asked_for_now_counts_before_what_the_recording_asked_for(
    replay: Gate, workers: tuple[str, ...]
) -> None:
    recorded = snapshot(**expecting(target_version="1.29.1"))

    run = replay(recorded, "--target-version=1.30.0", *workers)

    assert run.code == 1, run.out
    assert run.of("CP001")[0].startswith(
        "FAIL CP001 Pod istio-system/istiod-1: runs istiod 1.29.1 (expected 1.30.0)"
    )


def test_two_workers_say_what_one_says(replay: Gate) -> None:
    alone, shared = replay(REJECTING), replay(REJECTING, "-n", "2")

    assert shared.verdict == alone.verdict
    assert [line for line in shared.lines if line in alone.lines] == alone.lines
    assert (shared.code, shared.last) == (alone.code, alone.last)


def test_only_what_is_selected_is_asked(replay: Gate) -> None:
    run = replay(without("analysis"), "-k", "not analyze")

    assert run.code == 0, run.out
    assert f"  {len(STAGE_B) - len(NOT_THERE) - 1} passed · {len(NOT_THERE)} not run" in run.last


# --- nothing to rule on -------------------------------------------------------------------------


def test_a_stage_that_does_not_exist_is_a_mistake(replay: Gate) -> None:
    run = replay(HEALTHY, "-m", "controlplan")

    assert run.code == 4, run.out
    assert "controlplan" in run.out


def test_nothing_selected_opens_nothing(replay: Gate) -> None:
    run = replay(HEALTHY, "-k", "nothing_is_called_so")

    assert run.code == 5, run.out
    assert run.last == ("GATE CLOSED: no check was selected (exit 5: nothing was verified)")


def test_without_a_cluster_and_without_a_recording_it_is_a_mistake(
    gate: Gate, tmp_path: Path
) -> None:
    older = tmp_path / "reports/snapshot.json.gz"
    save(HEALTHY, older)

    run = gate()

    assert run.code == 4, run.out
    assert "no cluster to look at" in run.out
    assert "--snapshot=FILE" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"
    assert "Traceback" not in run.out
    assert not older.exists(), "it would pass for this run's evidence"


def test_half_a_recording_is_a_mistake(gate: Gate, recorded: Recorded) -> None:
    file = recorded(HEALTHY)
    file.write_bytes(file.read_bytes()[:-20])

    run = gate(f"--snapshot={file}")

    assert run.code == 4, run.out
    assert "truncated or damaged" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"


def test_a_recording_that_is_not_there_is_a_mistake(gate: Gate, tmp_path: Path) -> None:
    run = gate(f"--snapshot={tmp_path / 'missing'}", "-n", "2")

    assert run.code == 4, run.out
    assert "cannot read the snapshot" in run.out


@pytest.mark.parametrize(
    "option", ["--settle=soon", "--settle=-1", "--settle=nan", "--istiod-access=magic"]
)
def test_an_option_that_says_nothing_sensible_is_a_mistake(replay: Gate, option: str) -> None:
    assert replay(HEALTHY, option).code == 4


# --- claims that do not behave ------------------------------------------------------------------


def test_whatever_a_claim_does_but_hold_is_no_proof(
    replay: Gate, claims: Claims, tmp_path: Path
) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_crashes(mesh):
            held = mesh.evidence.snapshot
            1 / 0

        @pytest.mark.check("CP002")
        def test_skips_itself(mesh):
            pytest.skip("not today")

        @pytest.mark.check("CP003")
        @pytest.mark.skip(reason="not today")
        def test_is_skipped(mesh): ...

        @pytest.mark.check("CP004")
        @pytest.mark.xfail(run=False, reason="known")
        def test_is_not_run(mesh): ...

        @pytest.fixture
        def broken():
            yield
            raise OSError("no space")

        @pytest.mark.check("CP005")
        def test_cannot_clean_up(broken): ...

        @pytest.mark.check("CP006")
        def test_leaves(mesh):
            raise SystemExit(0)
    """)

    run = replay(HEALTHY, "--tb=long", "--showlocals", "-vv", cwd=folder)

    assert run.code == 10, run.out
    assert "  6 unknown   " in run.last
    assert {each["verdict"] for each in run.junit.values()} == {"could not verify"}
    whys = [run.of(f"CP00{n}")[-1] for n in range(1, 7)]
    assert "the check crashed: ZeroDivisionError: division by zero" in whys[0]
    assert "OSError: no space" in whys[4]
    assert "report this defect of meshgate" in whys[0]
    assert NEEDLE not in run.out
    assert NEEDLE not in (tmp_path / "reports/junit.xml").read_text()
    assert NEEDLE not in (tmp_path / "reports/index.html").read_text()


def test_a_claim_that_looks_at_nothing_proves_nothing_without_what_its_row_reads(
    replay: Gate, claims: Claims
) -> None:
    folder = claims("""
        @pytest.mark.check("CP006")
        def test_looks_at_nothing(mesh): ...
    """)

    run = replay(without("analysis", why="there is no istioctl"), cwd=folder)

    assert run.code == 10, run.out
    assert "there is no istioctl" in run.of("CP006")[-1]


def test_a_failure_that_was_expected_is_a_failure(replay: Gate, claims: Claims) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        @pytest.mark.xfail(reason="known")
        def test_fails_as_expected(mesh):
            assert False, listed([Finding("Pod a/b", "is red", "green")])

        @pytest.mark.check("CP002")
        def test_holds(mesh): ...
    """)

    run = replay(HEALTHY, cwd=folder)

    assert run.code == 1, run.out
    assert run.of("CP001")[-1].startswith("FAIL CP001 Pod a/b: is red (expected green)")


def test_a_failing_claim_shows_its_findings_and_not_the_mesh(
    replay: Gate, claims: Claims, tmp_path: Path
) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_fails(mesh):
            held = mesh.evidence.snapshot
            assert not held.pods, listed([Finding("Pod a/b", "is red", "green")])

        @pytest.mark.check("CP002")
        def test_fails_in_words(mesh):
            held = mesh.evidence.snapshot
            assert held.pods == (), f"something is wrong with {mesh}"
    """)

    run = replay(HEALTHY, "--tb=long", "--showlocals", "-vv", cwd=folder)

    assert run.code == 1, run.out
    assert "FAIL CP001 Pod a/b: is red (expected green)" in run.out
    assert "something is wrong with <Mesh context test>" in run.out
    assert NEEDLE not in run.out
    assert NEEDLE not in (tmp_path / "reports/junit.xml").read_text()


def test_a_claim_that_does_not_apply_says_why_and_another_one_opens_the_gate(
    replay: Gate, claims: Claims
) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_does_not_apply(mesh):
            raise NotApplicable("no Gateway exists")

        @pytest.mark.check("CP002")
        def test_holds(mesh, warn):
            warn([Finding("Pod a/b", "is old", "new")])
    """)

    run = replay(HEALTHY, cwd=folder)

    assert run.code == 0, run.out
    assert run.of("CP001")[-1].endswith(": no Gateway exists")
    assert run.of("CP002")[-1].startswith("WARN CP002 Pod a/b: is old (expected new)")
    assert "1 not run" in run.last


def test_a_test_that_is_no_claim_closes_the_gate_when_it_fails(
    replay: Gate, claims: Claims
) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_holds(mesh): ...

        def test_is_in_no_catalogue():
            assert False
    """)

    run = replay(HEALTHY, cwd=folder)

    assert run.code == 1, run.out
    assert run.last.startswith(
        "GATE CLOSED: a test that is not in the catalogue failed: "
        "verification/verify_these.py::test_is_in_no_catalogue (exit 1)"
    )


def test_tests_that_are_no_claims_open_nothing(replay: Gate, claims: Claims) -> None:
    run = replay(HEALTHY, cwd=claims("def test_is_in_no_catalogue(): ..."))

    assert run.code == 10, run.out
    assert "no check produced evidence" in run.last


def test_the_worst_of_two_tests_of_one_check_counts(replay: Gate, claims: Claims) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_fails(mesh):
            assert False, "no"

        @pytest.mark.check("CP001")
        def test_holds(mesh): ...
    """)

    run = replay(HEALTHY, cwd=folder)

    assert run.code == 1, run.out
    assert "  1 failed   " in run.last


def test_a_run_that_ends_early_leaves_the_rest_unverified(replay: Gate, claims: Claims) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_ends_the_run(mesh):
            pytest.exit("enough", returncode=0)

        @pytest.mark.check("CP002")
        def test_holds(mesh): ...
    """)

    run = replay(HEALTHY, cwd=folder)

    assert run.code == 10, run.out
    assert "  2 unknown   " in run.out
    assert "it did not run" in run.of("CP002")[-1]


def test_a_worker_that_dies_leaves_its_claim_unverified(replay: Gate, claims: Claims) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_kills_its_process(mesh):
            import os
            os._exit(0)

        @pytest.mark.check("CP002")
        def test_holds(mesh): ...
    """)

    run = replay(HEALTHY, "-n", "1", cwd=folder)

    assert run.code == 10, run.out
    assert run.of("CP001")[-1].startswith("UNKNOWN CP001")


@pytest.mark.parametrize("marked", ['check("XX999")', "check()", 'check("CP001", "CP002")'])
def test_a_claim_of_no_row_is_a_mistake(replay: Gate, claims: Claims, marked: str) -> None:
    run = replay(HEALTHY, cwd=claims(f"@pytest.mark.{marked}\ndef test_x(mesh): ..."))

    assert run.code == 4, run.out
    assert "verify_these.py::test_x" in run.out


def test_a_file_that_cannot_be_imported_breaks_the_run_off(replay: Gate, claims: Claims) -> None:
    run = replay(HEALTHY, cwd=claims("import no_such_module"))

    assert run.code == 4, run.out
    assert "verify_these.py: ModuleNotFoundError" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"


# --- a cluster ----------------------------------------------------------------------------------


def test_a_live_run_and_the_replay_of_its_snapshot_say_the_same(
    gate: Gate, estate: Lives, tmp_path: Path
) -> None:
    there = estate(REJECTING)
    live = gate(*there.options, *FAKED)
    requests = len(there.api.requests)
    kept = tmp_path / "reports/snapshot.json.gz"

    again = gate(f"--snapshot={kept}", *FAKED)

    assert live.code == again.code == 1, live.out
    assert again.verdict == live.verdict
    assert again.last == live.last
    assert len(there.api.requests) == requests
    assert load(kept).source == "context fake"


def test_two_workers_judge_one_capture_of_now_and_never_an_older_one(
    gate: Gate, estate: Lives, claims: Claims, tmp_path: Path
) -> None:
    folder = claims("""
        @pytest.mark.check("CP004")
        def test_no_proxy_rejects_its_configuration(mesh):
            rejections = mesh.proxies.rejections
            assert not rejections, listed(rejections)
    """)
    with (folder / "conftest.py").open("a") as conftest:
        conftest.write(
            "def pytest_collection_finish(session):\n"
            "    if hasattr(session.config, 'workerinput'):\n"
            f"        open(r'{tmp_path}/' + session.config.workerinput['workerid'], 'w').close()\n"
        )
    there = estate(REJECTING)

    def when_the_workers_wait(request: Request) -> Answer:
        deadline = time.monotonic() + 20
        while not all((tmp_path / worker).exists() for worker in ("gw0", "gw1")):
            assert time.monotonic() < deadline, "the workers did not collect"
            time.sleep(0.05)
        return fakes.answer(fakes.GIT_VERSION)

    there.api.answers["/version"] = when_the_workers_wait
    older = tmp_path / "reports/snapshot.json.gz"
    older.parent.mkdir()
    save(HEALTHY, older)

    run = gate(*there.options, "-n", "2", cwd=folder)

    assert run.code == 1, run.out
    assert run.of("CP004")[-1].startswith("FAIL CP004")
    assert there.api.asked.count("GET /version") == 1
    assert there.istiod.asked.count("GET /debug/syncz") == 1


def test_collecting_touches_nothing(gate: Gate, estate: Lives, tmp_path: Path) -> None:
    there = estate(HEALTHY)

    run = gate(*there.options, "--collect-only")

    assert run.code == 0, run.out
    assert (there.api.requests, there.istiod.requests) == ([], [])
    assert not (tmp_path / "reports/snapshot.json.gz").exists()


def test_only_what_the_selected_claims_rest_on_is_read(gate: Gate, estate: Lives) -> None:
    there = estate(HEALTHY)

    run = gate(*there.options, "-k", "analyze")

    assert run.code == 0, run.out
    assert "GET /apis/discovery.k8s.io/v1/endpointslices" not in there.api.asked
    assert {each.path for each in there.istiod.requests} == {"/debug/mesh"}


def test_a_rollout_under_way_is_waited_for(gate: Gate, estate: Lives) -> None:
    there = estate(HEALTHY)
    path = "/apis/apps/v1/deployments"
    whole = there.api.answers[path]

    def at_first_not(request: Request) -> Answer:
        there.api.answers[path] = whole
        return fakes.answer(as_api([deployment(1, updated=0)]))

    there.api.answers[path] = at_first_not

    run = gate(*there.options, "--settle=60", *FAKED)

    assert run.code == 0, run.out
    assert re.search(
        r"waiting, at most \d+ s, for Deployment istio-system/istiod: .*0 of 1",
        run.out,
    )


def test_what_no_waiting_mends_is_told_at_once(gate: Gate, estate: Lives) -> None:
    stuck = istiod(discovery=waiting("discovery", "ImagePullBackOff", "no such image"), ready=False)
    there = estate(snapshot(pods=(stuck, sidecar()), deployments=(deployment(1, available=0),)))
    began = time.monotonic()

    run = gate(*there.options, "--settle=300", *FAKED)

    assert run.code == 1, run.out
    assert time.monotonic() - began < 30
    assert "container discovery is in ImagePullBackOff (no such image)" in run.of("CP001")[0]


def test_what_does_not_settle_is_told_after_the_deadline(gate: Gate, estate: Lives) -> None:
    there = estate(HEALTHY)
    there.api.answers["/apis/apps/v1/deployments"] = fakes.answer(
        as_api([deployment(1, updated=0)])
    )

    run = gate(*there.options, "--settle=0.2", *FAKED)

    assert run.code == 1, run.out
    assert run.of("CP001")[0].startswith(
        "FAIL CP001 Deployment istio-system/istiod: is not rolled out: 0 of 1"
    )


def test_a_right_that_is_missing_is_named_and_closes_the_gate(gate: Gate, estate: Lives) -> None:
    there = estate(HEALTHY)
    there.api.answers["/api/v1/pods"] = refusal(403, "pods is forbidden")

    run = gate(*there.options, "--settle=60", *FAKED)

    assert run.code == 10, run.out
    assert "no right to list pods: pods is forbidden fix: grant `list pods`" in run.of("CP003")[0]
    assert "waiting" not in run.out


def test_a_claim_that_skips_itself_does_not_break_the_settling(
    gate: Gate, estate: Lives, claims: Claims
) -> None:
    folder = claims("""
        @pytest.mark.check("CP001")
        def test_skips_itself(mesh):
            pytest.skip("not today")
    """)

    run = gate(*estate(HEALTHY).options, cwd=folder)

    assert run.code == 10, run.out
    assert "not today" in run.of("CP001")[-1]


def test_evidence_that_cannot_be_kept_is_a_mistake(
    gate: Gate, estate: Lives, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()

    run = gate(
        *estate(HEALTHY).options, *FAKED, f"--save-snapshot={tmp_path}/a-file/snapshot.json.gz"
    )

    assert run.code == 4, run.out
    assert "cannot save the evidence" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"
