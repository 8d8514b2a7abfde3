"""What is printed at the end: problems first, in 100 columns, and what to do first."""

import pytest

from meshgate.catalogue import check, checks
from meshgate.report.layout import BLOCKS, OBJECTS, Layout
from meshgate.report.run import Run
from meshgate.report.text import WIDTH
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.support.builders import snapshot
from tests.unit.report.test_causes import FILTER, PUSH, STAGES, old

FAIL, PASS = Verdict.FAIL, Verdict.PASS


def lines(*outcomes: Outcome, verbose: bool = False, **more: object) -> list[str]:
    """The lines of a run."""
    run = Run(ruling(outcomes, STAGES, **more), snapshot())  # type: ignore[arg-type]
    return list(Layout(verbose=verbose).lines(run))


def test_the_first_line_names_cluster_versions_and_time() -> None:
    header = lines(Outcome("CP001", PASS))[1]

    assert header.startswith("meshgate ")
    assert header.endswith(" · Istio 1.29.1 · 2026-01-02 12:00 UTC")


def test_passes_are_counts_unless_they_are_requested() -> None:
    passed = Outcome("CP001", PASS, basis="14 pods")

    short, long = lines(passed), lines(passed, verbose=True)

    assert "B controlplane  ✓  1 passed" in short
    assert not any("CP001" in line for line in short)
    assert any(line.endswith(f"{check('CP001').title} (based on 14 pods)") for line in long)


def test_a_block_says_what_is_wrong_where_and_what_to_do() -> None:
    found = lines(Outcome("PC101", FAIL, findings=(FILTER,)), Outcome("CP004", FAIL, (PUSH,)))

    start = next(n for n, line in enumerate(found) if line.startswith("✗ CP004"))
    block = found[start : start + 6]
    assert block[0].startswith("✗ CP004 a proxy rejects its configuration ")
    assert block[0].endswith("(same cause: PC101)")
    assert block[1] == "    Pod shop/web-5d4-abcde"
    assert block[2].startswith("    seen  rejected its Listener configuration")
    assert block[3].startswith("    PC101 EnvoyFilter shop/broken: ")
    assert block[-1] == "    fix   kubectl -n shop get envoyfilter broken -o yaml"
    assert found[-1] == "Start with:  1 EnvoyFilter shop/broken"


def test_equal_findings_share_a_block() -> None:
    pods = (old("web"), old("api"), old("cache", kind="StatefulSet"))

    found = lines(Outcome("DP002", FAIL, findings=pods))

    assert "✗ DP002 3 sidecars run 1.30.4 (expected 1.31.0)" in found
    assert "    shop/web  shop/api  shop/cache (StatefulSet)" in found
    assert sum(line.startswith("    seen") for line in found) == 1


def test_equal_findings_say_how_many_objects_were_verified() -> None:
    pods = (old("web"), old("api"))

    found = lines(Outcome("DP002", FAIL, findings=pods, basis="14 sidecars, 1 Job pod"))

    assert "✗ DP002 2 of 14 sidecars run 1.30.4 (expected 1.31.0)" in found


def test_many_objects_are_cut_and_counted_unless_all_are_requested() -> None:
    pods = tuple(old(f"app-{n}") for n in range(OBJECTS + 5))
    outcome = Outcome("DP002", FAIL, findings=pods)

    short, long = "\n".join(lines(outcome)), "\n".join(lines(outcome, verbose=True))

    assert "and 5 more" in short
    assert f"shop/app-{OBJECTS + 4}" not in short
    assert f"kubectl -n shop rollout restart deployment/app-{OBJECTS + 4}" in long


def test_many_causes_of_one_check_are_cut_and_counted() -> None:
    found = tuple(
        Finding(f"Pod shop/web-{n}", f"answers {n}", problem=f"p{n}") for n in range(BLOCKS + 3)
    )

    printed = lines(Outcome("DP003", FAIL, findings=found))

    assert sum(line.startswith("✗ DP003") for line in printed) == BLOCKS
    assert "    and 3 more causes of DP003: see the report" in printed


def test_checks_that_were_not_requested_take_one_line() -> None:
    found = lines(
        Outcome("CP001", PASS),
        Outcome("IG009", Verdict.NOT_APPLICABLE, why="no answers are declared (--expect)"),
        Outcome("RA003", Verdict.NOT_APPLICABLE, why="no target (--retry-after-target)"),
        Outcome("CP016", Verdict.NOT_APPLICABLE, why="there is no DaemonSet"),
    )

    assert [line for line in found if "IG009" in line] == ["not requested  IG009 RA003"]
    assert "nothing to check  CP016" in found


def test_missing_permissions_are_printed_once() -> None:
    why = "no right to list pods: pods is forbidden"

    found = lines(*(Outcome(f"CP00{n}", Verdict.UNKNOWN, why=why) for n in range(1, 6)))

    assert sum("no right to" in line for line in found) == 1
    assert "    fix   meshgate rbac | kubectl apply -f -" in found
    assert any(line.startswith("? CP001 could not verify 5 checks") for line in found)


LONG = "word " * 400


@pytest.mark.parametrize("verbose", [False, True])
def test_no_line_is_wider_than_the_terminal(verbose: bool) -> None:
    long = Finding("Pod shop/web-1", LONG, LONG, LONG)
    outcomes = (
        Outcome("CP001", FAIL, findings=(long,), warnings=(long, long)),
        Outcome("CP002", FAIL, why=LONG),
        Outcome("CP003", Verdict.UNKNOWN, why=LONG, remedy=LONG),
        Outcome("CP004", Verdict.NOT_APPLICABLE, why=LONG),
        Outcome("CP005", PASS, basis=LONG),
    )

    found = lines(*outcomes, verbose=verbose, notes=(LONG,))

    assert max(map(len, found)) <= WIDTH


@pytest.mark.parametrize("hidden", ["\x1b[2K", "\r\n", "\u202e", "\x00", "\n"])
def test_nothing_of_the_mesh_can_forge_a_line(hidden: str) -> None:
    evil = f"x{hidden}GATE OPEN  1 passed"
    finding = Finding(f"Pod {evil}", evil, evil, evil, about=(("port", evil),))
    outcomes = (
        Outcome("CP001", FAIL, findings=(finding,), warnings=(finding,)),
        Outcome("CP002", Verdict.UNKNOWN, why=evil, remedy=evil),
        Outcome("CP004", Verdict.NOT_APPLICABLE, why=evil),
    )

    for line in lines(*outcomes, notes=(evil,)):
        assert line.isprintable() or not line
        assert not line.startswith("GATE OPEN")


def test_color_changes_no_word() -> None:
    outcomes = [Outcome(id, FAIL, findings=(PUSH,)) for id in list(checks())[:20]]
    run = Run(ruling(outcomes, STAGES), snapshot())

    painted = list(Layout(paint=lambda text, style: f"<{style}>{text}</>").lines(run))

    assert any("<bad>✗" in line for line in painted)
    plain = [line.replace("</>", "") for line in painted]
    for style in ("good", "bad", "warn", "dim", "bold"):
        plain = [line.replace(f"<{style}>", "") for line in plain]
    assert plain == list(Layout().lines(run))
