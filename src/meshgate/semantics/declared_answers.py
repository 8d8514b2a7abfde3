"""Declared answers (`--expect`): read from a YAML file, and planned as requests."""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from meshgate.semantics.hosts import covers
from meshgate.semantics.listeners import Listener
from meshgate.semantics.planned import PlannedRequest
from meshgate.snapshot.ingress import PROBER, VANTAGES, Answer
from meshgate.snapshot.redact import text

VARIABLE = re.compile(r"\$\{(\w+)\}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# the values of these headers are credentials, whatever they look like
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class _File(msgspec.Struct, forbid_unknown_fields=True):
    answers: tuple[Answer, ...]


def read_answers(yaml: str) -> tuple[Answer, ...]:
    """Return the answers of a YAML file; raise ValueError if one is invalid, and say which."""
    answers = msgspec.yaml.decode(yaml, type=_File).answers
    for number, answer in enumerate(answers, 1):
        if error := next(_errors(answer), ""):
            raise ValueError(f"answer {number} ({answer.words}): {error}")
    return tuple(_grpc_call(each) if each.grpc else each for each in answers)


def _grpc_call(answer: Answer) -> Answer:
    """Return a gRPC call: a POST that expects `grpc-status: 0` unless another is declared."""
    headers = {"grpc-status": "0", **answer.expect.headers}
    expect = msgspec.structs.replace(answer.expect, headers=headers)
    return msgspec.structs.replace(answer, method="POST", expect=expect)


def _errors(answer: Answer) -> Iterator[str]:
    if not answer.host or not re.fullmatch(r"[\w.-]+", answer.host):
        yield f"host {answer.host!r} must be a name without wildcard and port"
    if not answer.path.startswith("/") or re.search(r"\s", answer.path):
        yield "path must begin with / and contain no spaces"
    if not 0 <= answer.port <= 65535:
        yield f"port {answer.port} must be between 0 and 65535"
    if not 100 <= answer.expect.status <= 599:
        yield f"expect.status {answer.expect.status} must be between 100 and 599"
    if not _TOKEN.fullmatch(answer.method) or answer.method != answer.method.upper():
        yield f"method {answer.method!r} must be an HTTP method in upper case"
    if answer.grpc and (answer.send or answer.method not in ("GET", "POST")):
        yield "a gRPC method is called by POST, with an empty message"
    if answer.grpc and not re.fullmatch(r"/[\w.]+/\w+", answer.path):
        yield "the path of a gRPC method is /package.Service/Method"
    if not answer.vantages:
        yield f"`from` must name {' or '.join(VANTAGES)}"
    if unknown := set(answer.vantages) - set(VANTAGES):
        yield f"`from` must name {' or '.join(VANTAGES)}, not {', '.join(sorted(unknown))}"
    if text(answer.path) != answer.path or text(answer.send) != answer.send:
        yield "it contains what looks like a credential: write ${NAME} in a header, or in `send`"
    if PROBER in answer.vantages and not _prober_can_send(answer):
        yield "a prober sends GET without headers and body, and reports the status only"
    for name, value in answer.headers.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n]", value):
            yield f"header {name!r} is invalid"
        secret = name.lower() in _CREDENTIALS or text(f"{name}: {value}") != f"{name}: {value}"
        if secret and not VARIABLE.search(value):
            yield f"header {name} is a credential: write ${{NAME}}, and set the variable"


def _prober_can_send(answer: Answer) -> bool:
    expect = answer.expect
    return answer.method == "GET" and not (
        answer.headers or answer.send or answer.grpc or expect.headers or expect.body
    )


def missing(answers: tuple[Answer, ...], environment: Mapping[str, str]) -> list[str]:
    """Return the variables that the answers use and the environment does not set."""
    texts = [each for answer in answers for each in (answer.send, *answer.headers.values())]
    named = {name for each in texts for name in VARIABLE.findall(each)}
    return sorted(named - environment.keys())


def listeners_of(answer: Answer, listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Return the listeners that serve a declared answer: those with the narrowest host.

    Clients of a host do not connect to another gateway that merely accepts every host, as the
    listener of a Kubernetes Ingress does.
    """
    degrees = [
        (degree, each) for each in listeners if (degree := _narrowness(answer, each)) is not None
    ]
    narrowest = max((degree for degree, _ in degrees), default=0)
    return tuple(each for degree, each in degrees if degree == narrowest)


def _narrowness(answer: Answer, listener: Listener) -> int | None:
    """Return how narrow the listener's host for this answer is; None if it does not serve it."""
    if (
        listener.port != answer.number
        or bool(listener.tls) != (answer.scheme == "https")
        or listener.tls in ("PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL")
    ):
        return None
    degrees = [
        len(host) if host.startswith("*") else len(host) + 1  # an exact host is narrower
        for host in listener.hosts
        if covers(host, answer.host)
    ]
    return max(degrees, default=None)


def planned_request(answer: Answer) -> PlannedRequest:
    """Return the declared request."""
    return PlannedRequest(
        answer.host,
        "request",
        answer.method,
        answer.path,
        tuple(sorted(answer.headers.items())),
        declared=True,
        send=answer.send,
        http2=answer.grpc,
        grpc=answer.grpc,
    )
