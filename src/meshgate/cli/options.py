"""Settings as options of the commands, and errors as messages and exit codes."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from meshgate import __version__
from meshgate.cli.commands import Commands
from meshgate.collect.config_map_store import Damaged, Missing
from meshgate.collect.errors import NoCluster, ReadError
from meshgate.report.visible import visible
from meshgate.settings import (
    CLUSTER_OPTIONS,
    Settings,
    SettingsError,
    named,
    read_file,
    resolve,
    with_flags,
)
from meshgate.settings.definition import Setting
from meshgate.settings.sources import FILE, FILE_OPTION, Values
from meshgate.snapshot.store import UnusableSnapshot
from meshgate.verdict import Gate

app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)

Stage = Annotated[
    Literal["precheck", "controlplane", "ambient", "ingress", "dataplane"] | None,
    typer.Option(help="only this stage"),
]

# ends the name of the parameter with the former names of an option
_FORMER = "_former"
_FILE = "settings_file"

CLUSTER = ("access.kubeconfig", "access.context")
ISTIOD = (*CLUSTER, "criteria.istio_namespace", "access.istiod_access", "access.istiod_token_file")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"meshgate {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Gates for Istio upgrades: verify a mesh, replay a recording, explain a check."""


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add settings to a command as options; it gets them as its argument `settings`.

    What the command line does not have comes from `meshgate.toml` or --settings.

    Args:
        names: the settings, each as `topic.field`.
    """
    chosen = [_find(name) for name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            file = values.pop(_FILE)
            given: dict[str, dict[str, Any]] = {}
            for topic, setting, value in _pop(values, chosen):
                several = tuple(value) if setting.repeated else value
                given.setdefault(topic, {})[setting.name] = several
            try:
                settings = resolve(given, _read(file))
            except SettingsError as error:
                raise typer.BadParameter(str(error)) from error
            command(**values, settings=settings)

        return _as_options(run, command, "settings", chosen, parsed=True)

    return decorate


def with_words(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add settings to a command as options; it gets them as words for pytest, in `words`.

    pytest checks them: a wrong value then ends the gate as it does in pytest.

    Args:
        names: the settings, each as `topic.field`; without any, all settings.
    """
    chosen = [_find(name) for name in names or named()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            file = values.pop(_FILE)
            words = [f"{FILE_OPTION}={file}"] if file else []
            for _, setting, value in _pop(values, chosen):
                if setting.switch:
                    words.append(setting.flag)
                else:
                    several = value if setting.repeated else [value]
                    words += [f"{setting.flag}={each}" for each in several]
            command(**values, words=words)

        return _as_options(run, command, "words", chosen, parsed=False)

    return decorate


def words_of(settings: Settings, names: Iterable[str]) -> list[str]:
    """Return those of these settings that differ from their defaults as words for pytest."""
    words: list[str] = []
    for topic, setting in map(_find, names):
        value = getattr(getattr(settings, topic), setting.name)
        if value == setting.default:
            continue
        if setting.switch:
            words.append(setting.flag)
        else:
            several = value if setting.repeated else [value]
            words += [f"{setting.flag}={each}" for each in several]
    return words


def _pop(
    values: dict[str, Any], chosen: list[tuple[str, Setting]]
) -> Iterator[tuple[str, Setting, Any]]:
    """Remove the settings from the values of a command, and yield those that are given."""
    for topic, setting in chosen:
        former = values.pop(f"{_argument(topic, setting)}{_FORMER}", None)
        value = values.pop(_argument(topic, setting)) or former
        if value not in (None, []):
            yield topic, setting, value


def _as_options(
    run: Callable[..., None],
    command: Callable[..., None],
    argument: str,
    chosen: list[tuple[str, Setting]],
    *,
    parsed: bool,
) -> Callable[..., None]:
    """Return `run` with the signature from which typer makes the options of a command.

    Args:
        run: the function that typer calls.
        command: the command's own function, with its own options.
        argument: the parameter of that function which `run` provides.
        chosen: the settings that become options.
        parsed: whether their values are parsed here.
    """
    own = [
        each
        for each in inspect.signature(command, eval_str=True).parameters.values()
        if each.name != argument
    ]
    options = [each for topic, setting in chosen for each in _parameters(topic, setting, parsed)]
    found = typer.Option(FILE_OPTION, metavar="FILE", help=f"file with settings ({FILE})")
    file = inspect.Parameter(
        _FILE,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, found],
    )
    parameters = [*own, *options, file]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _read(file: str | None) -> Values | None:
    """Return the values of the settings file, or of meshgate.toml in the current directory."""
    named = Path(file or FILE)
    return read_file(named) if file or named.is_file() else None


def _find(name: str) -> tuple[str, Setting]:
    return name.partition(".")[0], named()[name]


def _argument(topic: str, setting: Setting) -> str:
    return f"{topic}_{setting.name}"


def _parameters(topic: str, setting: Setting, parsed: bool) -> Iterator[inspect.Parameter]:
    """Return the option, and a hidden one with its former names."""
    yield _parameter(_argument(topic, setting), setting, [setting.flag], parsed=parsed)
    if former := [*setting.aliases, *setting.command_aliases]:
        name = f"{_argument(topic, setting)}{_FORMER}"
        yield _parameter(name, setting, former, parsed=parsed, hidden=True)


def _parameter(
    name: str, setting: Setting, flags: list[str], *, parsed: bool, hidden: bool = False
) -> inspect.Parameter:
    """Return the parameter from which typer makes an option.

    Args:
        name: the parameter's name.
        setting: what the option sets.
        flags: the option's names.
        parsed: whether its value is parsed here.
        hidden: whether the help leaves it out.
    """
    if setting.switch:
        found = typer.Option(
            *flags, help=with_flags(setting.text), hidden=hidden, show_default=False
        )
        annotation: Any = Annotated[bool | None, found]
    else:
        found = typer.Option(
            *flags,
            help=with_flags(setting.text),
            metavar=setting.metavar or "|".join(setting.choices),
            parser=_parser(setting) if parsed else None,
            show_default=False,
            hidden=hidden,
        )
        annotation = Annotated[list[str] | None if setting.repeated else str | None, found]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _parser(setting: Setting) -> Callable[[str], Any]:
    def parse(given: str) -> Any:
        try:
            return setting.value(given)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    parse.__name__ = setting.metavar or setting.name
    return parse


def show(line: str) -> None:
    """Print a line of the command's result."""
    typer.echo(visible(line))


def say(words: str) -> None:
    """Print a line about the command itself, which is not its result."""
    typer.echo(visible(words), err=True)


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn errors that a user can resolve into a message and an exit code.

    Args:
        what: the verb for the message, such as `capture`.
    """
    try:
        yield
    except NoCluster as error:
        say(f"no cluster to {what} ({error}): name one with {CLUSTER_OPTIONS}")
        raise typer.Exit(4) from error
    except ReadError as error:
        say(f"could not {what}: {error.why} (fix: {error.remedy})")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    except UnusableSnapshot as error:
        say(f"could not {what}: {error}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    except (Missing, Damaged, OSError, ValueError) as error:
        say(f"could not {what}: {error}")
        raise typer.Exit(4) from error
