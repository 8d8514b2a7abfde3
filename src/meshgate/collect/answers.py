"""Answers of the API server, and the errors for those that are failures."""

from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import urllib3

from meshgate.collect.errors import NotServed, ReadError
from meshgate.settings import flag

# 410: the position of a list expired
_TRANSIENT = (410, 429, 500, 502, 503, 504)


class Answer(NamedTuple):
    """The whole answer to one request."""

    status: int
    data: bytes


def address(url: str) -> str:
    """Return `HOST:PORT` of a URL, without user info, path and query: these may be credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"


def is_permanent(error: Exception) -> bool:
    """Return whether a failed connection would fail again: TLS and name resolution."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, urllib3.exceptions.SSLError | urllib3.exceptions.NameResolutionError):
            return True
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
        if not isinstance(cause, BaseException):
            return False
    return False


def unreachable(url: str, error: Exception) -> ReadError:
    """Return the error for an API server that cannot be reached."""
    reason = getattr(error, "reason", None) or error
    words = str(reason).split(": ", 1)[-1] if ">: " in str(reason) else str(reason)
    return ReadError(
        f"cannot reach the API server {address(url)}: {words}",
        f"check {flag('access.kubeconfig')}, {flag('access.context')} and the network between "
        "here and the API server",
    )


def refusal(url: str, answer: Answer, path: str, right: str) -> ReadError:
    """Return the error for an answer that is a failure.

    Args:
        url: the API server.
        answer: its answer.
        path: the path of the request.
        right: the permission that it needs, such as `list pods`; derived from the path if empty.

    Returns:
        NotServed for 404, ReadError otherwise.
    """
    words = _message(answer)
    if answer.status == 401:
        return ReadError(
            f"the API server {address(url)} does not accept our credentials (401 {words})",
            "log in again, or renew the token: it is expired, or of another cluster",
        )
    if answer.status == 403:
        needed = right or f"get {path}"
        return ReadError(
            f"no right to {needed}: {words}",
            f"grant `{needed}` (`meshgate rbac` prints all that is needed)",
        )
    if answer.status == 404:
        return NotServed(f"the API server does not serve {path}", "install its CRD")
    return ReadError(
        f"the API server answered {answer.status} to {path}: {words}",
        "look at the API server's health, then run again",
        transient=answer.status in _TRANSIENT,
    )


def _message(answer: Answer) -> str:
    try:
        return str(msgspec.json.decode(answer.data, type=dict[str, Any]).get("message", ""))
    except ValueError:
        return answer.data[:200].decode(errors="replace").strip()
