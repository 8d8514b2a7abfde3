"""Messages name objects and options that exist.

A remedy is pasted into a terminal by someone under pressure: a command that changes something must
name the object that it changes.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from meshgate import cli
from meshgate.facts.mesh import Mesh
from meshgate.settings import TOPICS, definitions
from meshgate.verdict import Basis, CouldNotVerify, NotApplicable
from tests.conftest import ROOT
from tests.conventions.test_checks import CLAIMS, MESHES, arguments

SOURCES = sorted(
    [
        *(ROOT / "src/meshgate").rglob("*.py"),
        *(ROOT / "src/meshgate").rglob("*.toml"),
        *(ROOT / "verification").glob("*.py"),
        *(ROOT / "docs/checks").glob("*.md"),
    ]
)
each_source = pytest.mark.parametrize(
    "source", SOURCES, ids=lambda file: str(file.relative_to(ROOT))
)

FLAG = r"(?:\s+-{1,2}[\w-]+(?:[= ](?!-)[^\s`]+)?)*"
NAME = r"[^\s`;,.)(-][^\s`;,)(]*"
KIND = r"(?:[A-Za-z{][\w.{}-]*)"
# a verb of kubectl that changes something, and what has to follow: KIND/NAME, KIND NAME
CHANGES = re.compile(
    rf"kubectl{FLAG}\s+(?P<verb>rollout (?:restart|undo|pause|resume)|delete|annotate|label|patch"
    rf"|scale|edit|taint|drain|cordon|uncordon)(?P<rest>[^`;\n]*)"
)
NODES = ("drain", "cordon", "uncordon")
ALL = re.compile(r"(?<![\w-])(?:--all\b(?!-)|-l\b|--selector\b|--all-namespaces\b|-A\b)")
UNINSTALL = re.compile(r"istioctl uninstall(?P<rest>[^`;\n]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w*-])")
# of other programs: kubectl, istioctl, helm, pytest, pip, curl, openssl, pilot-discovery, Envoy
FOREIGN = {
    *("--all-namespaces", "--context", "--kubeconfig", "--namespace", "--output", "--selector"),
    "--patch-file",
    *("--field-selector", "--for", "--timeout", "--type", "--watch", "--raw", "--overwrite"),
    *("--revision", "--set", "--values", "--version", "--install", "--reuse-values", "--tail"),
    *("--since", "--previous", "--help", "--mode", "--config-path", "--proxy-config"),
    *("--resolve", "--cacert", "--cert", "--key", "--header", "--insecure", "--http2"),
    *("--server-side", "--force-conflicts", "--audience", "--duration", "--subresource"),
    *("--show-managed-fields", "--containers", "--skip-confirmation", "--file", "--dry-run"),
    *("--allow-unknown-static-fields", "--concurrency", "--disable-hot-restart", "--domain"),
    *("--from-version", "--image", "--junitxml", "--log", "--port", "--remote", "--replicas"),
    *("--skip-deprecated-logs",),
    *("--request", "--head", "--data", "--connect-to", "--max-time", "--tls-max", "--tlsv1"),
}  # fmt: skip


def texts(source: Path) -> Iterator[str]:
    """Yield the texts of a file: a Python file's literals without docstrings, else the file.

    A placeholder of an f-string becomes `{}`; adjacent literals are one text.
    """
    if source.suffix != ".py":
        yield source.read_text()
        return
    tree = ast.parse(source.read_text())
    parts = {
        id(each)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for each in node.values
    }
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in parts | docstrings
        ):
            yield node.value


def unnamed(text: str) -> list[str]:
    """Return the commands in a text that change something without naming one object."""
    found = []
    for match in CHANGES.finditer(text):
        words = [each for each in match["rest"].split() if not each.startswith("-")]
        named = words and (
            "/" in words[0] or words[0] == "{}" or match["verb"] in NODES or len(words) > 1
        )
        if not named or ALL.search(match["rest"]):
            found.append(match.group())
    found.extend(
        match.group()
        for match in UNINSTALL.finditer(text)
        if "--revision" not in match["rest"] or "--purge" in match["rest"]
    )
    return found


@each_source
def test_a_command_that_changes_something_names_its_object(source: Path) -> None:
    found = [command for text in texts(source) for command in unnamed(text)]

    assert found == []


@pytest.mark.parametrize("mesh", MESHES)
def test_a_finding_names_the_object_that_its_remedy_changes(mesh: str) -> None:
    messages: list[object] = []
    for claim in CLAIMS.values():
        given: dict[str, Any] = {
            "mesh": Mesh(MESHES[mesh]),
            "warn": messages.extend,
            "basis": Basis(),
        }
        try:
            with suppress(NotApplicable):
                claim(**{name: given[name] for name in arguments(claim)})
        except (AssertionError, CouldNotVerify) as error:
            messages.append(str(error))

    assert [command for each in messages for command in unnamed(str(each))] == []


@pytest.mark.parametrize(
    "text",
    [
        "kubectl -n shop rollout restart deployment",
        "run `kubectl delete pod -l app=web`",
        "kubectl -n shop delete pods --all",
        "kubectl -n {} rollout restart deployment; then wait",
        "kubectl label namespace",
        "istioctl uninstall --purge",
    ],
)
def test_a_command_without_an_object_is_found(text: str) -> None:
    assert len(unnamed(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "kubectl -n shop rollout restart deployment/web",
        "kubectl -n {} rollout restart {}",
        "kubectl label namespace shop istio.io/rev=1-31-0 --overwrite",
        "kubectl -n shop delete pod web-1",
        "kubectl drain node-1 --ignore-daemonsets",
        "kubectl -n shop get pods",
        "istioctl uninstall --revision=1-30-0",
    ],
)
def test_a_command_with_its_object_is_accepted(text: str) -> None:
    assert unnamed(text) == []


@cache
def pytest_options() -> frozenset[str]:
    """Return the options in `pytest --help`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(OPTION.findall(done.stdout))


@cache
def command_options() -> dict[str, frozenset[str]]:
    """Return the options of each meshgate command that its help shows."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, TyperGroup)
    context = typer.Context(group)
    return {
        name: frozenset(
            option
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for option in (*parameter.opts, *parameter.secondary_opts)
        )
        for name in group.list_commands(context)
        if (command := group.get_command(context, name))
    }


def unknown_options(text: str) -> set[str]:
    """Return the options in a text that no program of this project has."""
    former = {
        name
        for topic in TOPICS.values()
        for each in definitions(topic)
        for name in (*each.aliases, *each.command_aliases)
    }
    known = FOREIGN | pytest_options() | former | set().union(*command_options().values())
    return set(OPTION.findall(text)) - known


@each_source
def test_every_option_in_a_message_exists(source: Path) -> None:
    found = sorted({each for text in texts(source) for each in unknown_options(text)})

    assert found == []


@each_source
def test_a_command_of_meshgate_in_a_message_has_its_options(source: Path) -> None:
    wrong = []
    for text in texts(source):
        for match in re.finditer(r"meshgate (?P<command>[a-z]+)(?P<rest>[^`\n;]*)", text):
            options = command_options().get(match["command"])
            if options is None:
                continue
            wrong += [
                f"meshgate {match['command']} {option}"
                for option in OPTION.findall(match["rest"])
                if option not in options
            ]

    assert wrong == []


def test_an_unknown_option_is_found() -> None:
    assert unknown_options("pass --no-such-option=1 or --snapshot") == {"--no-such-option"}
