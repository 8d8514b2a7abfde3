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

from meshgate import catalogue, cli
from meshgate.facts.mesh import Mesh
from meshgate.settings import flag, named, with_flags
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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "hooks/README.md"]
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
    *("--skip-deprecated-logs", "--cache-show"),
    *("--request", "--head", "--data", "--connect-to", "--max-time", "--tls-max", "--tlsv1"),
    # on the pages: Argo CD, cosign, Docker, gh, helm, pip and typer
    *("--certificate-identity-regexp", "--certificate-oidc-issuer", "--find-links", "--from-file"),
    *("--install-completion", "--no-cache-dir", "--no-index", "--owner", "--python", "--read-only"),
    *("--rm", "--set-file", "--timestamp", "--wait"),
    *("--statement", "--bundle", "--insecure-ignore-tlog", "--tlog-upload", "--use-signing-config"),
    "--signature",
}  # fmt: skip


def texts(source: Path, *, docstrings: bool = False, flags: bool = False) -> Iterator[str]:
    """Yield the texts of a file: a Python file's literals, else the file.

    A placeholder of an f-string becomes `{}`, or with `flags` the option of the setting that it
    names; adjacent literals are one text.
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
    left_out = (
        set()
        if docstrings
        else {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(shown(each, flags=flags) for each in node.values)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in parts | left_out
        ):
            yield node.value


def shown(part: ast.expr, *, flags: bool) -> str:
    """Return a part of an f-string: its text, the option that it names, or `{}`."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    setting = named_setting(part.value) if isinstance(part, ast.FormattedValue) else ""
    return flag(setting) if flags and setting else "{}"


def named_setting(node: ast.AST) -> str:
    """Return the setting that a call of `flag` names; empty for other code."""
    match node:
        case ast.Call(func=ast.Name(id="flag"), args=[ast.Constant(value=str(name)), *_]):
            return name
    return ""


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


# where settings are defined: a literal that is an option is its definition, or a former name
DEFINITIONS = ("probing.py", "topics.py")


def named_options(source: Path, *, docstrings: bool) -> set[str]:
    """Return the options in the texts of a file that do not define them."""
    defines = source.name in DEFINITIONS and source.parent.name == "settings"
    return {
        option
        for text in texts(source, docstrings=docstrings)
        if not (defines and OPTION.fullmatch(text))
        for option in OPTION.findall(text)
    }


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
def commands() -> dict[str, Any]:
    """Return each meshgate command by name."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, TyperGroup)
    context = typer.Context(group)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


@cache
def command_options() -> dict[str, frozenset[str]]:
    """Return the options of each meshgate command that its help shows."""
    return {
        name: frozenset(
            option
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for option in (*parameter.opts, *parameter.secondary_opts)
        )
        for name, command in commands().items()
    }


@cache
def known_options() -> frozenset[str]:
    """Return the options of all programs, without former names."""
    return frozenset(FOREIGN).union(pytest_options(), *command_options().values())


@pytest.mark.parametrize("source", [*SOURCES, *PAGES], ids=lambda file: str(file.relative_to(ROOT)))
def test_every_option_in_a_text_exists(source: Path) -> None:
    assert sorted(named_options(source, docstrings=True) - known_options()) == []


# options of other programs that have the name of a setting's
OTHERS = {
    "src/meshgate/collect/shadow/target.py": {"--kubeconfig"},  # pilot-discovery's
    "src/meshgate/plugin/options.py": {"--html"},  # pytest-html's
    "src/meshgate/cli/reports.py": {"--json"},  # of `meshgate fleet`
}


@pytest.mark.parametrize(
    "source",
    [each for each in SOURCES if each.suffix != ".md"],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_a_message_names_an_option_by_its_setting(source: Path) -> None:
    options = {each.flag for each in named().values()}
    options -= OTHERS.get(str(source.relative_to(ROOT)), set())
    # the docstring of a command is its help
    found = named_options(source, docstrings=source.parent.name == "cli")

    assert sorted(found & options) == []


@each_source
def test_a_message_names_a_setting_that_exists(source: Path) -> None:
    tree = ast.parse(source.read_text() if source.suffix == ".py" else "")
    names = {name for each in ast.walk(tree) if (name := named_setting(each))}

    assert sorted(names - named().keys()) == []


def test_a_text_with_placeholders_names_settings_that_exist() -> None:
    hints = [each.hint for each in catalogue.checks().values()]
    settings = [with_flags(each.help) for each in named().values()]
    helps = [each.help for each in commands().values()]
    left = [each for each in (*hints, *settings, *helps) if re.search(r"\{\w+\.", each)]

    assert left == []


@each_source
def test_a_command_of_meshgate_in_a_message_has_its_options(source: Path) -> None:
    wrong = []
    for text in texts(source, flags=True):
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


def test_an_unknown_option_and_a_former_name_are_found(tmp_path: Path) -> None:
    source = tmp_path / "messages.py"
    source.write_text('remedy = f"pass --no-such-option={1}, --accept-loss or --snapshot"\n')

    found = named_options(source, docstrings=False) - known_options()

    assert found == {"--no-such-option", "--accept-loss"}
