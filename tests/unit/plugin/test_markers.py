"""pytest's markers of expected failures change no verdict, and JUnit agrees with verdict.json."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meshgate.snapshot.model import Snapshot
from tests.conftest import Gate
from tests.support.builders import snapshot

ROW = """
[TEST-{n}]
title = "the pods of case {n} are there"
failure = "the pods of case {n} are missing"
reads = ["pods"]
hint = "look at the pods"
"""
CHECK = """
{marker}
@pytest.mark.check("TEST-{n}")
def test_{n}(mesh, basis):
    basis(1, "pod")
    {body}
"""
# what a check does, its verdict, and what JUnit has of it
BODIES = (
    ("pass", "pass", None),
    ("assert False, 'gone'", "fail", "failure"),
    ("raise CouldNotVerify('unseen')", "could not verify", "failure"),
    ("pytest.xfail('known')", "could not verify", "failure"),
    ("pytest.skip('later')", "could not verify", "failure"),
)
MARKERS = (
    "@pytest.mark.xfail",
    "@pytest.mark.xfail(strict=True, reason='known')",
    "@pytest.mark.xfail(raises=AssertionError, strict=False)",
)
# pytest itself does not call what has one of these
NEVER = (
    "@pytest.mark.xfail(run=False)",
    "@pytest.mark.skip(reason='later')",
    "@pytest.mark.skipif(True, reason='later')",
)
CASES = [
    *((marker, *each) for marker in MARKERS for each in BODIES),
    *((marker, "pass", "could not verify", "error") for marker in NEVER),
]


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["one process", "workers"])
def test_the_verdict_and_junit_agree(
    gate: Gate,
    recorded: Callable[[Snapshot], Path],
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    numbers = range(100, 100 + len(CASES))
    (folder / "controlplane.toml").write_text("".join(ROW.format(n=n) for n in numbers))
    (folder / "verify_rules.py").write_text(
        "import pytest\nfrom meshgate.api import CouldNotVerify\n"
        + "".join(
            CHECK.format(n=n, marker=marker, body=body)
            for n, (marker, body, *_) in zip(numbers, CASES, strict=True)
        )
    )

    run = gate(
        f"--snapshot={recorded(snapshot())}", f"--checks={folder}", "--check=TEST-*", *options
    )

    document = json.loads((tmp_path / "reports/verdict.json").read_text())
    verdicts = {each["id"]: each["verdict"] for each in document["checks"]}
    kinds = {
        case.attrib["name"].replace("test_", "TEST-"): [
            each.tag for each in case if each.tag in ("failure", "error", "skipped")
        ]
        for case in ElementTree.parse(tmp_path / "reports/junit.xml").iter("testcase")
    }
    assert run.last.startswith("GATE CLOSED")
    for n, (marker, body, verdict, kind) in zip(numbers, CASES, strict=True):
        seen = (verdicts[f"TEST-{n}"], kinds[f"TEST-{n}"])
        assert seen == (verdict, [kind] if kind else []), (marker, body)
