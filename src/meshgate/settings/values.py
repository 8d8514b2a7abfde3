"""From the text of an option to its value; each raises ValueError with a message for people."""

import re
from urllib.parse import urlsplit

from meshgate.settings.reference import ObjectReference
from meshgate.settings.target import Target

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_VERSION = re.compile(r"v?\d+\.\d+(\.\d+)?(-[\w.-]+)?")


def seconds(text: str) -> float:
    """Return a finite number of seconds, 0 or more; `30` and `30s` are the same."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r} is not a number of seconds")
    return value


def rate(text: str) -> float:
    """Return a finite number per second, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r} is not a number per second")
    return value


def share(text: str) -> float:
    """Return a number between 0 and 1, without both."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ValueError(f"{text!r} is not a share: use a number between 0 and 1")
    return value


def http_url(text: str) -> str:
    """Return an http or https URL without a user."""
    if Target.parse(text).address:
        raise ValueError("the value is not a URL: use http(s)://HOST[:PORT][/PATH]")
    return text


def count(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def version(text: str) -> str:
    """Return a version, `X.Y.Z`, or `X.Y` for any patch release."""
    if not _VERSION.fullmatch(text):
        raise ValueError(f"{text!r} is not a version: use X.Y.Z, or X.Y for any patch release")
    return text


def port_pattern(text: str) -> str:
    """Return a glob over `namespace/workload:port`; without a namespace it is for all of them."""
    if ":" not in text:
        raise ValueError(f"{text!r} has no port: use NAMESPACE/WORKLOAD:PORT")
    return text if "/" in text else f"*/{text}"


def shard(text: str) -> str:
    """Return a share of the ports, `0/N` to `(N-1)/N`."""
    index, _, total = text.partition("/")
    if not (index.isdigit() and total.isdigit() and int(index) < int(total)):
        raise ValueError(f"{text!r} is not a shard: use 0/N to (N-1)/N")
    return text


def target(text: str) -> str:
    """Return the text of a target of a burst, `URL[ via HOST:PORT]`."""
    Target.parse(text)
    return text


def service_url(text: str) -> str:
    """Return the URL of a Service in the mesh, `http://SERVICE.NAMESPACE[:PORT]/PATH`."""
    if Target.parse(text).address or urlsplit(text).scheme != "http":
        raise ValueError("the value is not a Service URL: use http://SERVICE.NAMESPACE/PATH")
    return text


def label(text: str) -> str:
    """Return a label and its value, `NAME=VALUE`."""
    name, _, value = text.partition("=")
    if not (_LABEL.fullmatch(name) and value):
        raise ValueError(f"{text!r} is not a label: use NAME=VALUE")
    return text


def loss_budget(text: str) -> str:
    """Return a glob over `namespace/name` and a number, `payments/api=5`."""
    pattern, _, number = text.rpartition("=")
    if "/" not in pattern or not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r} is not a loss budget: use NAMESPACE/NAME=N")
    return text


def job(text: str) -> str:
    """Return the text of a reference to a Job, `NAMESPACE/NAME[@UID]`."""
    ObjectReference.parse(text)
    return text
