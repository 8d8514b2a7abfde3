"""The commands beside the gates: capture, replay, list, explain, rbac."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from meshgate.catalogue import checks
from meshgate.cli.revisions import READS
from meshgate.collect.rights import (
    cluster_role,
    probes_namespace,
    probes_role,
    reports_namespace,
    reports_role,
    role,
)
from meshgate.snapshot.istio import AuthorizationFrom, AuthorizationRule, AuthorizationSource
from meshgate.snapshot.items import ITEMS
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load
from tests.conftest import Estate, Gate, Run, Serve
from tests.support import fakes
from tests.support.builders import (
    HTTP,
    deployment,
    istiod,
    reading,
    sidecar,
    snapshot,
    sync,
    without,
)
from tests.support.fakes import refusal
from tests.support.mtls_builders import authorization, service

MESHGATE = ("-c", "from meshgate.cli import app; app()")

Meshgate = Callable[..., Run]


@pytest.fixture
def meshgate(started: Gate, root: Path) -> Meshgate:
    """Runs the program in the project's folder."""

    def run(*arguments: object) -> Run:
        return started(*MESHGATE, *arguments, cwd=root)

    return run


def test_the_list_names_every_check_in_order(meshgate: Meshgate) -> None:
    run = meshgate("list")

    assert run.code == 0, run.out
    assert [line.split()[:2] for line in run.lines] == [
        [row.id, row.stage] for row in checks().values()
    ]


@pytest.mark.parametrize("stage", ["controlplane", "dataplane"])
def test_the_list_of_one_stage_holds_its_checks_alone(meshgate: Meshgate, stage: str) -> None:
    run = meshgate("list", f"--stage={stage}")

    assert run.code == 0, run.out
    assert [line.split()[0] for line in run.lines] == [
        row.id for row in checks().values() if row.stage == stage
    ]


def test_a_check_is_explained(meshgate: Meshgate) -> None:
    run = meshgate("explain", "cp001")

    row = checks()["CP001"]
    assert run.code == 0, run.out
    for words in (f"CP001: {row.title}", row.stage, row.hint, row.page, *row.reads):
        assert words in run.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "XX999"),
        ("list", "--stage=controlplan"),
        ("capture", "x", "--stage=controlplan"),
        ("capture", "x", "--istiod-access=magic"),
    ],
)
def test_a_word_that_means_nothing_is_a_mistake(
    meshgate: Meshgate, arguments: tuple[str, ...]
) -> None:
    run = meshgate(*arguments)

    assert run.code == 4, run.out
    assert "Traceback" not in run.out


def test_the_rights_are_printed_as_kubectl_takes_them(meshgate: Meshgate) -> None:
    run = meshgate("rbac", "--name=mine", "--namespace=there")

    assert run.code == 0, run.out
    printed = json.loads(run.out)
    assert (printed["apiVersion"], printed["kind"]) == ("v1", "List")
    assert printed["items"] == [
        cluster_role("mine"),
        role("mine", "there"),
        reports_namespace(),
        reports_role("mine-reports"),
        probes_namespace(),
        probes_role("mine-probes"),
    ]


HELD = snapshot(pods=(istiod(ip=fakes.address()), sidecar()))


@pytest.fixture
def there(estate: Callable[[Snapshot], Estate]) -> Estate:
    """A healthy cluster."""
    return estate(HELD)


def test_a_capture_is_kept_whole(meshgate: Meshgate, there: Estate, tmp_path: Path) -> None:
    file = tmp_path / "deeper/kept.json.gz"

    run = meshgate("capture", file, *there.options)

    assert run.code == 0, run.out
    kept = load(file)
    assert kept.pods == HELD.pods
    assert set(kept.read) >= {item for row in checks().values() for item in row.reads}
    assert f"saved {len(kept.read)} items of context fake" in run.last


def test_a_capture_that_could_not_read_all_is_kept_and_says_so(
    meshgate: Meshgate, there: Estate, tmp_path: Path
) -> None:
    there.api.answers["/apis/apps/v1/deployments"] = refusal(403, "deployments is forbidden")
    file = tmp_path / "kept.json.gz"

    run = meshgate("capture", file, *there.options)

    assert run.code == 10, run.out
    assert "deployments" in {gap.item for gap in load(file).gaps}
    assert "could not read deployments: no right to list deployments.apps" in run.out


def test_without_a_cluster_there_is_nothing_to_capture(meshgate: Meshgate, tmp_path: Path) -> None:
    run = meshgate("capture", tmp_path / "kept.json.gz")

    assert run.code == 4, run.out
    assert "no cluster to capture" in run.out
    assert not (tmp_path / "kept.json.gz").exists()


@pytest.mark.parametrize(("replicas", "code"), [(1, 0), (0, 1)])
def test_a_replay_is_the_gates_own_verdict(
    meshgate: Meshgate,
    recorded: Callable[[Snapshot], Path],
    tmp_path: Path,
    replicas: int,
    code: int,
) -> None:
    file = recorded(snapshot(deployments=(deployment(replicas),)))
    aside = [f"--{name}={tmp_path}/{name}" for name in ("junitxml", "html", "json")]

    run = meshgate("replay", file, *aside, "-m", "controlplane")

    assert run.code == code, run.out
    assert run.last.startswith("GATE ")


def test_what_is_captured_are_items_of_the_plan() -> None:
    assert {item for row in checks().values() for item in row.reads} <= ITEMS


def test_revisions_says_who_uses_them(
    meshgate: Meshgate, recorded: Callable[[Snapshot], Path]
) -> None:
    file = recorded(snapshot())

    unknown = meshgate("revisions", file, "--unused=1-28")
    unreadable = meshgate("revisions", "/does/not/exist")

    assert unknown.code == 4, unknown.out
    assert "revision 1-28 does not exist (known: default)" in unknown.out
    assert unreadable.code == 10, unreadable.out


def test_pairs_proposes_what_the_policies_of_a_baseline_decide(
    meshgate: Meshgate, recorded: Callable[[Snapshot], Path]
) -> None:
    rule = AuthorizationRule(
        from_=(AuthorizationFrom(source=AuthorizationSource(namespaces=("payments",))),)
    )
    web = sidecar(labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.1")
    baseline = snapshot(
        pods=(istiod(), web),
        services=(service(),),
        authorization_policies=(authorization(rule),),
    )

    run = meshgate("pairs", recorded(baseline))
    unread = meshgate("pairs", recorded(without("authorization_policies")))

    assert run.code == 0, run.out
    assert '{ from: shop/default, to: "shop/web:80 GET /", expect: denied }' in run.out
    assert "pairs: 1; callers (pairs.accounts of the chart): shop/default" in run.out
    assert unread.code == 10, unread.out


def test_revisions_reads_all_that_it_needs(
    meshgate: Meshgate, recorded: Callable[[Snapshot], Path]
) -> None:
    captured = msgspec.structs.replace(snapshot(), read=tuple(sorted(READS)))

    run = meshgate("revisions", recorded(captured), "--unused=default")

    assert run.code == 1, run.out


def test_a_revision_is_unused_only_if_every_reader_agrees(
    meshgate: Meshgate, recorded: Callable[[Snapshot], Path]
) -> None:
    remote = msgspec.structs.replace(sync("api-1.shop"), cluster_id="west")
    machine = sync("vm-1.shop")  # no pod has this name
    answers = (reading(proxies=[sync()]), reading("istiod-old-1", proxies=[remote, machine]))
    old = (deployment(revision="old"), istiod("istiod-old-1", revision="old"))
    mesh = {"deployments": (deployment(), old[0]), "pods": (istiod(), old[1], sidecar())}

    used = meshgate("revisions", recorded(snapshot(**mesh, istiod=answers)), "--unused=old")
    idle = (answers[0], reading("istiod-old-1", proxies=[]))
    unused = meshgate("revisions", recorded(snapshot(**mesh, istiod=idle)), "--unused=old")
    unread = meshgate("revisions", recorded(without("mutating_webhooks")), "--unused=default")
    silent = (answers[0], reading("istiod-old-1", error="timed out"))
    unanswered = meshgate("revisions", recorded(snapshot(**mesh, istiod=silent)), "--unused=old")

    assert used.code == 1, used.out
    assert "2 objects use revision old: do not remove it" in used.out
    assert "Proxy api-1.shop (cluster west)" in used.out
    assert "Proxy vm-1.shop (cluster Kubernetes)" in used.out
    assert unused.code == 0, unused.out
    assert "nothing uses revision old" in unused.out
    assert unread.code == 10, unread.out
    assert unanswered.code == 10, unanswered.out


def test_silence_is_no_verdict(meshgate: Meshgate, serve: Serve, tmp_path: Path) -> None:
    run = {"name": "1", "at": "2026-01-02T12:00:00Z", "version": "1.29.1", "stages": {}}
    runs = [{**run, "exit": 1, "line": "GATE CLOSED"}]
    maps = "/api/v1/namespaces/istio-system/configmaps"
    api = serve({f"{maps}/b": fakes.answer({"data": {"runs": json.dumps(runs)}})})
    config = f"--kubeconfig={fakes.kubeconfig(tmp_path / 'kubeconfig', api.url)}"
    a, b = "configmap://istio-system/a", "configmap://istio-system/b"

    none = meshgate("last", a, config)
    closed = meshgate("last", b, config, "--target-version=1.29.1")
    other = meshgate("last", b, config, "--target-version=1.30.0")

    assert (none.code, closed.code, other.code) == (10, 1, 10)
    assert f"{a}: NO VERDICT" in none.out
    assert "GATE CLOSED" in closed.out
    assert f"{b}: NO VERDICT for 1.30.0" in other.out


def test_a_run_that_ended_before_its_target_was_known_is_the_last_one(
    meshgate: Meshgate, serve: Serve, tmp_path: Path
) -> None:
    run = {"at": "2026-01-02T12:00:00Z", "stages": {}}
    runs = [
        {**run, "name": "2", "version": "", "exit": 4, "line": "GATE CLOSED: nothing was verified"},
        {**run, "name": "1", "version": "1.29.1", "exit": 0, "line": "GATE OPEN"},
    ]
    maps = "/api/v1/namespaces/istio-system/configmaps"
    api = serve({f"{maps}/b": fakes.answer({"data": {"runs": json.dumps(runs)}})})
    config = f"--kubeconfig={fakes.kubeconfig(tmp_path / 'kubeconfig', api.url)}"

    last = meshgate("last", "configmap://istio-system/b", config, "--target-version=1.29.1")

    assert last.code == 1, last.out
    assert "GATE OPEN" not in last.out


def test_a_commit_status_has_the_last_verdict_of_the_target(
    meshgate: Meshgate, serve: Serve, tmp_path: Path
) -> None:
    run = {"name": "1", "at": "2026-01-02T12:00:00Z", "version": "1.31.0", "stages": {}}
    runs = [{**run, "exit": 0, "line": "GATE OPEN"}]
    map = "/api/v1/namespaces/reports/configmaps/a"
    api = serve({map: fakes.answer({"data": {"runs": json.dumps(runs)}})})
    config = f"--kubeconfig={fakes.kubeconfig(tmp_path / 'kubeconfig', api.url)}"
    words = ("configmap://reports/a", config, "--repository=mesh", f"--sha={40 * 'a'}")

    found = meshgate("commit-status", *words, "--target-version=1.31.0")
    other = meshgate("commit-status", *words, "--target-version=1.30.4")
    unversioned = meshgate("commit-status", *words)

    assert (found.code, other.code, unversioned.code) == (0, 0, 4), found.out
    assert json.loads(found.out)["spec"]["phase"] == "success"
    # a verdict of another version never counts
    assert json.loads(other.out)["spec"]["phase"] == "pending"
    assert "--target-version=X.Y.Z is required" in unversioned.out


@pytest.mark.parametrize(
    ("exits", "code", "words"),
    [
        # hours ago, and the exit code of the run; the latest first
        ([(1, 0), (25, 0)], 0, "GATE"),
        ([(1, 0), (23, 0)], 1, "1 h 0 min left"),
        ([(1, 0), (12, 1), (30, 0)], 1, "23 h 0 min left"),
        ([(1, 1), (30, 0)], 1, "GATE"),
        ([(30, 0)], 0, "GATE"),
        ([], 10, "NO VERDICT"),
    ],
)
def test_a_soak_period_ends_after_the_gate_was_open_for_so_long(
    meshgate: Meshgate,
    serve: Serve,
    tmp_path: Path,
    exits: list[tuple[int, int]],
    code: int,
    words: str,
) -> None:
    now = datetime.now(UTC)
    runs = [
        {
            "name": f"{hours}",
            "at": (now - timedelta(hours=hours)).isoformat(),
            "version": "1.31.0",
            "stages": {},
            "exit": exit,
            "line": "GATE",
        }
        for hours, exit in exits
    ]
    maps = "/api/v1/namespaces/istio-system/configmaps"
    api = serve({f"{maps}/b": fakes.answer({"data": {"runs": json.dumps(runs)}})})
    config = f"--kubeconfig={fakes.kubeconfig(tmp_path / 'kubeconfig', api.url)}"

    run = meshgate("last", "configmap://istio-system/b", config, "--at-least=24h")

    assert run.code == code, run.out
    assert words in run.out


def test_a_duration_that_is_none_is_wrong_usage(meshgate: Meshgate) -> None:
    run = meshgate("last", "configmap://istio-system/b", "--at-least=soon")

    assert run.code == 4, run.out
    assert "'soon' is not a duration: use 30m, 24h or 7d" in run.out


def test_a_restart_that_stops_exits_with_1(
    meshgate: Meshgate, serve: Serve, tmp_path: Path
) -> None:
    api = serve({fakes.ANY: fakes.answer({"items": []})})
    config = f"--kubeconfig={fakes.kubeconfig(tmp_path / 'kubeconfig', api.url)}"

    done = meshgate("restart", "--target-version=1.29.1", config)
    stopped = meshgate("restart", "--target-version=newest", config)

    assert done.code == 0, done.out
    assert "0 workloads were restarted" in done.out
    assert stopped.code == 4, stopped.out
    assert "'newest' is not a version" in stopped.out
