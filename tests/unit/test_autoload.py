"""The plugin is loaded in every environment: runs that are not meshgate's must not notice it."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.conftest import ROOT, Gate

WITHOUT = ("-p", "no:meshgate")  # the entry point in pyproject.toml
QUIET = ("-m", "pytest", "-p", "no:cacheprovider")

SUITE = {
    "test_shop.py": """
        import pytest
        @pytest.fixture
        def mesh():
            return "my own"
        def test_passes(mesh):
            assert mesh == "my own"
        @pytest.mark.check("something else")
        def test_fails():
            assert 1 + 1 == 3
        @pytest.mark.ingress
        def test_is_skipped():
            pytest.skip("not today")
    """,
    "conftest.py": """
        def pytest_addoption(parser):
            parser.addoption("--context", default="mine")
            parser.addoption("--json", action="store_true")
        def pytest_report_header(config):
            return f"context {config.getoption('--context')}, {config.getoption('--json')}"
    """,
    "pytest.ini": """
        [pytest]
        markers =
            check(name): of the suite
            ingress: of the suite
        addopts = --strict-markers --junitxml=out/junit.xml
    """,
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """An unrelated project, with options, markers and fixtures of the same name."""
    folder = tmp_path / "suite"
    folder.mkdir()
    for name, text in SUITE.items():
        (folder / name).write_text(dedent(text))
    return folder


def comparable(out: str) -> list[str]:
    """Return the lines of a run without its duration and its list of plugins."""
    return [
        line.strip("= ").partition(" in ")[0]
        for line in out.splitlines()
        if not line.startswith("plugins:")
    ]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--context=other", "--json"), ("-k", "passes"), ("-k", "nothing"), ("--collect-only",)],
    ids=["all", "options of the same name", "selection", "nothing", "collection"],
)
def test_an_unrelated_suite_does_not_notice_it(
    started: Gate, suite: Path, arguments: tuple[str, ...]
) -> None:
    without = started(*QUIET, *WITHOUT, *arguments, cwd=suite)
    files = sorted(each.relative_to(suite) for each in suite.rglob("*") if each.suffix != ".pyc")

    loaded = started(*QUIET, *arguments, cwd=suite)

    assert loaded.code == without.code
    assert comparable(loaded.out) == comparable(without.out)
    assert "GATE" not in loaded.out
    assert files == sorted(
        each.relative_to(suite) for each in suite.rglob("*") if each.suffix != ".pyc"
    )
    assert not (suite / "reports").exists()


def test_it_imports_nothing_that_an_unrelated_suite_has_to_wait_for(
    started: Gate, suite: Path
) -> None:
    heavy = ("meshgate.facts", "meshgate.collect", "kubernetes", "grpc", "cryptography", "jinja2")
    (suite / "test_shop.py").write_text(
        f"import sys\ndef test_it():\n    assert not set({heavy}) & set(sys.modules)\n"
    )

    run = started(*QUIET, "-p", "no:metadata", "-p", "no:html", cwd=suite)

    assert run.code == 0, run.out


def test_the_options_exist_everywhere(started: Gate, tmp_path: Path) -> None:
    run = started(*QUIET, "--help", cwd=tmp_path)

    assert "--target-version=X.Y[.Z]" in run.out


def test_with_one_of_its_options_a_run_is_a_gate(started: Gate, tmp_path: Path) -> None:
    run = started(*QUIET, "--target-version=banana", cwd=tmp_path)

    assert run.code == 4, run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"


def test_in_a_checkout_it_is_loaded_once(started: Gate, tmp_path: Path) -> None:
    run = started(*QUIET, "--snapshot=demo/healthy.json.gz", "-m", "ingress",
                  f"--reports={tmp_path}/reports", cwd=ROOT)  # fmt: skip

    assert run.code == 0, run.out
    assert run.out.count("GATE OPEN") == 1
