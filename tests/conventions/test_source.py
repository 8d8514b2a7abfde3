"""Source files are short, and functions with several parameters describe them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src/meshgate"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_LINES_OF_CLASS, MANY = 400, 300, 3

each_module = pytest.mark.parametrize(
    "module", MODULES, ids=lambda file: str(file.relative_to(PACKAGE))
)


def named(module: Path) -> str:
    """Return the module's path below the package."""
    return str(module.relative_to(PACKAGE))


@each_module
def test_a_module_has_at_most_400_lines(module: Path) -> None:
    lines = len(module.read_text().splitlines())

    assert lines <= MOST_LINES, f"split it: {lines} lines"


@each_module
def test_a_class_has_at_most_300_lines(module: Path) -> None:
    tree = ast.parse(module.read_text())
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES_OF_CLASS
    ]

    assert long == []


def undescribed(source: str) -> Iterator[str]:
    """Yield every public function with three or more parameters that its docstring omits.

    Functions of pytest's hooks and commands of typer are left out: pytest documents the former,
    and the docstrings of the latter are printed as help texts.
    """
    for node in _functions(ast.parse(source)):
        if node.name.startswith(("_", "pytest_")) or _is_command(node):
            continue
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [each.arg for each in every if each.arg not in ("self", "cls")]
        if len(parameters) < MANY:
            continue
        described = ast.get_docstring(node) or ""
        missing = [each for each in parameters if f"\n    {each}: " not in described]
        if "Args:" not in described or missing:
            yield f"{node.name} (line {node.lineno}): Args: {', '.join(missing)}"
        elif _returns(node) and not {"Returns:", "Yields:"} & set(described.split()):
            yield f"{node.name} (line {node.lineno}): Returns"


def _functions(tree: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef]:
    # functions inside functions are private; a protocol's `...` may repeat a documented method
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node)
        elif isinstance(node, ast.FunctionDef) and ast.unparse(node.body[0]) != "...":
            yield node


def _is_command(node: ast.FunctionDef) -> bool:
    names = [ast.unparse(each) for each in node.decorator_list]
    return any(".command(" in name or ".callback(" in name or "fixture" in name for name in names)


def _returns(node: ast.FunctionDef) -> bool:
    return node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn")


@each_module
def test_a_function_with_three_parameters_describes_them(module: Path) -> None:
    found = list(undescribed(module.read_text()))

    assert found == []


def test_an_undescribed_parameter_is_found() -> None:
    args = 'def ask(host, port, limit) -> str:\n    """Ask.\n\n    Args:\n        host: Name.\n'

    assert list(undescribed(f'{args}    """\n')) == ["ask (line 1): Args: port, limit"]
    full = f"{args}        port: Number.\n        limit: Seconds.\n"
    assert list(undescribed(f'{full}    """\n')) == ["ask (line 1): Returns"]
    assert list(undescribed(f'{full}\n    Returns:\n        The answer.\n    """\n')) == []
