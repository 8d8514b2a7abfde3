"""The page of a run: one file without external resources, under a strict policy.

The template has the verdict and what to do first; a script draws the findings from JSON, a part
at a time.  The policy allows only this script and this style sheet, by their hashes.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from meshgate.catalogue import checks
from meshgate.report.layout import heading
from meshgate.report.page_data import WORDS, Event, page_data
from meshgate.report.run import Run
from meshgate.report.text import COMMANDS
from meshgate.report.visible import visible
from meshgate.verdict import Gate, Outcome

TEMPLATES = Environment(
    finalize=lambda value: visible(value) if type(value) is str else value,
    loader=PackageLoader("meshgate", "report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    run: Run, events: Sequence[Event] = (), sentence: str = "", exit: int | None = None
) -> str:
    """Return the page.

    Args:
        run: the outcomes and the evidence.
        events: the steps of the run, for its timeline.
        sentence: why a run ended early; empty for one that is complete.
        exit: the exit code, where it is not the verdict's.

    Returns:
        The complete document.
    """
    style, script = (_source(f"page.{kind}") for kind in ("css", "js"))
    return TEMPLATES.get_template("page.html.jinja").render(
        run=run,
        decision=None if sentence else run.decision,
        heading=heading,
        commands=COMMANDS,
        gate="open" if not sentence and run.ruling.gate is Gate.OPEN else "closed",
        words=sentence.removeprefix("GATE CLOSED: ") or run.ruling.reason or run.ruling.counts,
        exit=int(run.ruling.gate) if exit is None else exit,
        stages=[(stage, _worst(each), run.counts(each)) for stage, each in run.stages.items()],
        others=sorted({row.stage for row in checks().values()} - run.stages.keys()),
        verdicts=("failed", "unknown", "warning", "suppressed", "passed", "not run"),
        style=Markup(style),  # noqa: S704  # our own files
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=_json(page_data(run, events)),
    )


def write(
    file: Path,
    run: Run,
    events: Sequence[Event] = (),
    *,
    sentence: str = "",
    exit: int | None = None,
) -> None:
    """Write the page.

    Args:
        file: where.
        run: the outcomes and the evidence.
        events: the steps of the run, for its timeline.
        sentence: why a run ended early; empty for one that is complete.
        exit: the exit code, where it is not the verdict's.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(run, events, sentence, exit), encoding="utf-8")


def _worst(outcomes: Sequence[Outcome]) -> str:
    return WORDS[max(each.verdict for each in outcomes)]


def _source(name: str) -> str:
    return files("meshgate.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _json(data: object) -> Markup:
    """Return JSON that ends no script element, whatever the strings in it are."""
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  # it has no markup now
