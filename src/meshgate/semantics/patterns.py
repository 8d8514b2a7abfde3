"""Regular expressions that others wrote, evaluated in linear time (RE2, as Istio and Envoy do)."""

from functools import lru_cache
from typing import Any

import re2

_MAX_BYTES = 1 << 20  # for one compiled pattern; RE2's own limit is eight times that


def searches(pattern: str, text: str) -> bool:
    """Return whether a pattern matches anywhere in the text; False for an invalid pattern."""
    compiled = _compiled(pattern)
    return compiled is not None and compiled.search(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None
