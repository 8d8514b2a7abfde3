"""Texts use the field's terms and ordinary sentences; CONTRIBUTING lists the rules."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.conventions.test_tree import FILES

# the idiom, and what to write instead
BANNED = {
    r"whom|whoever": "who; the pods that; everyone who",
    r"tells?|told|telling": "reported, printed, displayed, shown",
    r"mend(?:s|ed|ing)?": "fix, correct, resolve",
    r"anew": "again",
    r"astray": "mismatched, wrong",
    r"of its own": "separate, its",
    r"(?<!there )is no": "is not a, there is no",
    r"asked for": "requested, selected, required",
    r"(?:any|some|no)body(?:'s)?": "name the person or the thing",
    r"heals?": "transient, recovers",
    r"(?:claims? (?:is|are|was|were) )?proven|nothing was proven": "passed, no check has evidence",
}
# it lists names that were replaced
FORMER_NAMES = ("src/meshgate/snapshot/migrate.py",)
PATTERN = re.compile(
    "|".join(rf"(?P<_{n}>(?<![\w-])(?:{idiom})(?![\w-]))" for n, idiom in enumerate(BANNED)), re.I
)
INSTEAD = list(BANNED.values())

TEXTS = [
    file
    for file in FILES
    if (name := str(file.relative_to(ROOT))) not in FORMER_NAMES
    and (
        name.startswith(("src/", "verification/", "hooks/", "docs/", ".github/", "changelog.d/"))
        or file.parent == ROOT
    )
    and file.suffix in (".py", ".toml", ".md", ".yaml", ".yml", ".lua", ".sh", ".jinja", ".tpl")
]


def idioms(text: str) -> Iterator[str]:
    """Yield every banned idiom with its line and a better word."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in PATTERN.finditer(line):
            index = int((match.lastgroup or "_0")[1:])
            yield f"line {number}: {match.group()!r}; write: {INSTEAD[index]}"


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_text_contains_no_banned_idiom(file: Path) -> None:
    found = list(idioms(file.read_text()))

    assert found == []


@pytest.mark.parametrize("idiom", ["whom", "told", "Anew", "is no", "asked for", "was mended"])
def test_an_idiom_is_found(idiom: str) -> None:
    assert len(list(idioms(f"one\nwhat {idiom} here"))) == 1


@pytest.mark.parametrize("word", ["retold-by", "recommended", "there is none", "is not"])
def test_an_ordinary_word_is_not_an_idiom(word: str) -> None:
    assert list(idioms(word)) == []
