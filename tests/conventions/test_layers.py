"""The three rules: who may touch the world, who may know pytest, who may assert."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src/meshgate"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
# everything below the package, as a contract names it
MODULES = {
    f"meshgate.{entry.stem}"
    for entry in PACKAGE.iterdir()
    if (entry / "__init__.py").exists() or (entry.suffix == ".py" and entry.stem != "__init__")
}
WORLDLY = {
    *("meshgate.collect", "meshgate.probe", "meshgate.pipeline"),
    *("meshgate.plugin", "meshgate.cli", "meshgate.__main__"),
    "meshgate.deadline",  # reads the clock: the contract forbids it to every other module
}

Lint = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, in another place."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "src/meshgate")
    return tmp_path


@pytest.fixture
def lint(copy: Path) -> Lint:
    """Holds the copy against the contracts."""

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
            cwd=copy,
            env={"PYTHONPATH": str(copy / "src"), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_contracts_hold(lint: Lint) -> None:
    run = lint()

    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in run.stdout


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        ("facts/proxy.py", "import socket", "only collect, probe"),
        ("verdict.py", "import time", "only collect, probe"),
        ("report/text.py", "import subprocess", "only collect, probe"),
        ("collect/plan.py", "import pytest", "only the plugin imports pytest"),
        ("facts/evidence.py", "import meshgate.collect.plan", "the flow"),
        ("snapshot/store.py", "import meshgate.verdict", "the flow"),
    ],
)
def test_what_breaks_a_contract_is_found(
    copy: Path, lint: Lint, module: str, planted: str, broken: str
) -> None:
    with (copy / "src/meshgate" / module).open("a") as file:
        file.write(f"\n{planted}\n")

    run = lint()

    assert run.returncode == 1, run.stdout + run.stderr
    verdicts = [line for line in run.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(broken) for line in verdicts), run.stdout


def contract(name: str) -> Any:
    """The contract whose name begins so."""
    (found,) = [each for each in CONTRACTS if each["name"].startswith(name)]
    return found


def test_no_module_escapes_the_contracts() -> None:
    layers = {name.strip() for line in contract("the flow")["layers"] for name in line.split("|")}

    assert layers == MODULES
    assert set(contract("only the plugin")["source_modules"]) == MODULES - {"meshgate.plugin"}
    assert set(contract("only collect,")["source_modules"]) == MODULES - WORLDLY
    assert "meshgate.deadline" in contract("only collect,")["forbidden_modules"]


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_only_claims_assert(file: Path) -> None:
    tree = ast.parse(file.read_text())

    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []
