"""Settings as options of the commands, and errors as messages and exit codes."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from meshgate.collect.config_map_store import Damaged, Missing
from meshgate.collect.errors import NoCluster, ReadError
from meshgate.report.visible import visible
from meshgate.settings import TOPICS, SettingsError, definitions, resolve
from meshgate.settings.definition import Setting
from meshgate.snapshot.store import UnusableSnapshot
from meshgate.verdict import Gate

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Stage = Annotated[
    Literal["precheck", "controlplane", "ingress", "dataplane"] | None,
    typer.Option(help="only this stage"),
]

# ends the name of the parameter with the former names of an option
_FORMER = "_former"

CLUSTER = ("access.kubeconfig", "access.context")
ISTIOD = (*CLUSTER, "criteria.istio_namespace", "access.istiod_access", "access.istiod_token_file")


@app.callback()
def main() -> None:
    """Gates for Istio upgrades: capture a mesh, replay a recording, explain a check."""


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add settings to a command as options; it gets them as its argument `settings`.

    Args:
        names: the settings, each as `topic.field`.
    """
    chosen = [_find(name) for name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            each
            for each in inspect.signature(command, eval_str=True).parameters.values()
            if each.name != "settings"
        ]

        @wraps(command)
        def run(**values: Any) -> None:
            given: dict[str, dict[str, Any]] = {}
            for topic, setting in chosen:
                former = values.pop(f"{_argument(topic, setting)}{_FORMER}", None)
                value = values.pop(_argument(topic, setting)) or former
                if value not in (None, []):
                    several = tuple(value) if setting.repeated else value
                    given.setdefault(topic, {})[setting.name] = several
            try:
                settings = resolve(given)
            except SettingsError as error:
                raise typer.BadParameter(str(error)) from error
            command(**values, settings=settings)

        options = (each for topic, setting in chosen for each in _parameters(topic, setting))
        parameters = [*own, *options]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _find(name: str) -> tuple[str, Setting]:
    topic, _, field = name.partition(".")
    return topic, {each.name: each for each in definitions(TOPICS[topic])}[field]


def _argument(topic: str, setting: Setting) -> str:
    return f"{topic}_{setting.name}"


def _parameters(topic: str, setting: Setting) -> Iterator[inspect.Parameter]:
    """Return the option, and a hidden one with its former names."""
    yield _parameter(_argument(topic, setting), setting, [setting.flag])
    if former := [*setting.aliases, *setting.command_aliases]:
        name = f"{_argument(topic, setting)}{_FORMER}"
        yield _parameter(name, setting, former, hidden=True)


def _parameter(
    name: str, setting: Setting, flags: list[str], *, hidden: bool = False
) -> inspect.Parameter:
    """Return the parameter from which typer makes an option.

    Args:
        name: the parameter's name.
        setting: what the option sets.
        flags: the option's names.
        hidden: whether the help leaves it out.
    """
    if setting.switch:
        found = typer.Option(*flags, help=setting.text, hidden=hidden, show_default=False)
        annotation: Any = Annotated[bool | None, found]
    else:
        found = typer.Option(
            *flags,
            help=setting.text,
            metavar=setting.metavar or "|".join(setting.choices),
            parser=_parser(setting),
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
        say(f"no cluster to {what} ({error}): name one with --kubeconfig and --context")
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
