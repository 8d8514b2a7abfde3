"""JSON patches (RFC 6902), as webhooks answer them: add, replace, remove."""

import copy
from collections.abc import Iterable
from typing import Any


def patched(document: Any, patch: Iterable[dict[str, Any]]) -> Any:
    """Return the document after a patch; raise ValueError for one that does not fit it."""
    result = copy.deepcopy(document)
    for row in patch:
        operation, path = row.get("op"), str(row.get("path", ""))
        if operation not in ("add", "replace", "remove") or not path.startswith("/"):
            raise ValueError(f"cannot apply {operation} {path}")
        *parents, last = (
            part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")
        )
        try:
            target = result
            for part in parents:
                target = target[int(part)] if isinstance(target, list) else target[part]
            _apply(operation, target, last, row.get("value"))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"cannot apply {operation} {path}") from error
    return result


def _apply(operation: str, target: Any, last: str, value: Any) -> None:
    if isinstance(target, list):
        if operation == "add":
            target.insert(len(target) if last == "-" else int(last), value)
        elif operation == "replace":
            target[int(last)] = value
        else:
            del target[int(last)]
    elif operation == "remove":
        del target[last]
    else:
        target[last] = value
