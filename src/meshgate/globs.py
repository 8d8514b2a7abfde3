"""Globs of waivers and options: only `*` and `?` are wildcards.

Brackets are literal, because the texts that globs are compared with contain them: paths have
positions such as `[0]`, and IPv6 addresses are in brackets.
"""

import re
from fnmatch import fnmatchcase

_SPECIAL = re.compile(r"\\[*?\\]|\[")


def matches(text: str, glob: str) -> bool:
    r"""Return whether the whole text matches, with upper and lower case distinguished.

    A text always matches itself.  `\*` and `\?` are the characters, `\\` is a backslash.
    """
    return text == glob or fnmatchcase(text, _SPECIAL.sub(_set, glob))


def _set(found: re.Match[str]) -> str:
    """Return a special character as a set of one, which is how fnmatch takes it literally."""
    return f"[{found[0][-1]}]"
