"""What a setting is: a field of a topic, with all that is known about its option."""

import dataclasses
from collections.abc import Callable
from typing import Any

_KEY = "meshgate-setting"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Attributes:
        flag: its option, such as `--dry-run`; the key in meshgate.toml is the same without the
            dashes in front.
        help: one sentence or phrase about it, without the default; another setting in it is
            `{topic.field}`.
        metavar: what stands for its value, such as `SECONDS`; empty for a switch.
        parse: text to value; raises ValueError with a message for people.
        choices: all values that are allowed; empty for any.
        repeated: whether it may be given several times, which makes a tuple.
        aliases: former names, still accepted and not documented, of both programs.
        command_aliases: the same, of the `meshgate` commands alone.
        name: the field's name; set when the definition is read from a topic.
        default: the field's default, likewise.
    """

    flag: str
    help: str
    metavar: str = ""
    parse: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    repeated: bool = False
    aliases: tuple[str, ...] = ()
    command_aliases: tuple[str, ...] = ()
    name: str = ""
    default: Any = None

    @property
    def key(self) -> str:
        """Return its key in meshgate.toml."""
        return self.flag.removeprefix("--")

    @property
    def switch(self) -> bool:
        """Return whether it takes no value."""
        return not self.metavar and not self.choices

    @property
    def shown_default(self) -> str:
        """Return the default as people read it; empty for none."""
        if self.default in (None, "", (), False):
            return ""
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return str(self.default)

    @property
    def text(self) -> str:
        """Return the help with what follows from the definition: repetition and default."""
        more = "; may be repeated" if self.repeated else ""
        return f"{self.help}{more}" + (f" ({self.shown_default})" if self.shown_default else "")

    def value(self, text: str) -> Any:
        """Return the value of one text; raise ValueError for one that is not allowed."""
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(self.choices)}")
        return self.parse(text)


def setting(default: Any, flag: str, help: str, **more: Any) -> Any:
    """Return the field of a topic that is a setting.

    Args:
        default: its value if it is not set.
        flag: its option.
        help: what it does, without the default.
        more: the other attributes of Setting.

    Returns:
        A dataclass field with that default.
    """
    found = Setting(flag=flag, help=help, **more)
    return dataclasses.field(default=default, metadata={_KEY: found})


def definitions(topic: type) -> tuple[Setting, ...]:
    """Return the settings of a topic in their order."""
    return tuple(
        dataclasses.replace(field.metadata[_KEY], name=field.name, default=field.default)
        for field in dataclasses.fields(topic)
        if _KEY in field.metadata
    )
