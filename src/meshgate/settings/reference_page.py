"""The reference page of the options, docs/reference/options.md."""

from collections.abc import Iterator

from meshgate.settings.definition import Setting, definitions
from meshgate.settings.naming import with_flags
from meshgate.settings.sources import FILE_OPTION
from meshgate.settings.topics import TOPICS


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Options"
    yield ""
    yield "This page is generated from `src/meshgate/settings/topics.py` by `make generate`."
    yield ""
    yield "pytest accepts all of these options; `meshgate COMMAND --help` lists those of a command."
    yield "The same settings can be in a file, `meshgate.toml` beside `pytest.ini` or"
    yield f"`{FILE_OPTION}=FILE`: a table for each heading of this page, with the option's name"
    yield "without the dashes as the key. The command line takes precedence."
    yield ""
    yield "    [access]"
    yield '    context = "prod"'
    yield ""
    yield "    [probes]"
    yield '    exclude-port = ["legacy/*:*"]'
    for name, topic in TOPICS.items():
        yield ""
        yield f"## {name}"
        yield ""
        yield (topic.__doc__ or "").partition("\n")[0]
        yield ""
        yield "| option | value | default | meaning |"
        yield "|---|---|---|---|"
        for each in definitions(topic):
            yield _row(each)


def _row(setting: Setting) -> str:
    value = setting.metavar or ", ".join(setting.choices)
    meaning = with_flags(setting.help) + ("; may be repeated" if setting.repeated else "")
    former = ", ".join(f"`{each}`" for each in setting.aliases)
    meaning += f". Former name: {former}" if former else ""
    cells = (f"`{setting.flag}`", value, setting.shown_default, meaning)
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"
