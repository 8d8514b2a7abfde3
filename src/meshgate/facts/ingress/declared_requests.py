"""Answers that somebody declared: read from a file, planned, and held against what came back."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from meshgate.facts.evidence import Evidence
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.requests import PlannedRequest
from meshgate.semantics.topology import Listener, covers
from meshgate.snapshot.ingress import PROBER, VANTAGES, Answer, Exchange, Request
from meshgate.snapshot.redact import text
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

VARIABLE = re.compile(r"\$\{(\w+)\}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# their values are credentials, whatever they look like
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class _File(msgspec.Struct, forbid_unknown_fields=True):
    answers: tuple[Answer, ...]


def read_answers(yaml: str) -> tuple[Answer, ...]:
    """The answers of a YAML file; raises ValueError that says which one is wrong, and how."""
    answers = msgspec.yaml.decode(yaml, type=_File).answers
    for number, answer in enumerate(answers, 1):
        if wrong := next(_wrong(answer), ""):
            raise ValueError(f"answer {number} ({answer.words}): {wrong}")
    return tuple(_called(each) if each.grpc else each for each in answers)


def _called(answer: Answer) -> Answer:
    """A call: by POST, as gRPC has it, and well unless another status of gRPC's is declared."""
    headers = {"grpc-status": "0", **answer.expect.headers}
    expect = msgspec.structs.replace(answer.expect, headers=headers)
    return msgspec.structs.replace(answer, method="POST", expect=expect)


def _wrong(answer: Answer) -> Iterator[str]:
    if not answer.host or not re.fullmatch(r"[\w.-]+", answer.host):
        yield f"the host {answer.host!r} is no name: no wildcard, no port"
    if not answer.path.startswith("/") or re.search(r"\s", answer.path):
        yield "the path must begin with / and hold no blanks"
    if not 0 <= answer.port <= 65535 or not 100 <= answer.expect.status <= 599:
        yield "no such port, or no such status"
    if not _TOKEN.fullmatch(answer.method) or answer.method != answer.method.upper():
        yield f"{answer.method!r} is no method"
    if answer.grpc and (answer.send or answer.method not in ("GET", "POST")):
        yield "a gRPC method is called by POST, with an empty message"
    if answer.grpc and not re.fullmatch(r"/[\w.]+/\w+", answer.path):
        yield "the path of a gRPC method is /package.Service/Method"
    if not answer.vantages or (others := set(answer.vantages) - set(VANTAGES)):
        unknown = f"not {', '.join(sorted(others))}" if answer.vantages else "and not from nowhere"
        yield f"it can be sent from {' or '.join(VANTAGES)}, {unknown}"
    if text(answer.path) != answer.path or text(answer.send) != answer.send:
        yield "it holds what looks like a credential: write ${NAME} in a header, or in `send`"
    if PROBER in answer.vantages and not _askable(answer):
        yield "a prober elsewhere sends GET, without headers and body, and tells the status alone"
    for name, value in answer.headers.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n]", value):
            yield f"{name!r} is no header"
        secret = name.lower() in _CREDENTIALS or text(f"{name}: {value}") != f"{name}: {value}"
        if secret and not VARIABLE.search(value):
            yield f"its header {name} is a credential: write ${{NAME}}, and set it where this runs"


def _askable(answer: Answer) -> bool:
    expect = answer.expect
    return answer.method == "GET" and not (
        answer.headers or answer.send or answer.grpc or expect.headers or expect.body
    )


def missing(answers: tuple[Answer, ...], environment: Mapping[str, str]) -> list[str]:
    """The variables that are named and not set."""
    texts = [each for answer in answers for each in (answer.send, *answer.headers.values())]
    named = {name for each in texts for name in VARIABLE.findall(each)}
    return sorted(named - environment.keys())


def planned_request(answer: Answer, listener: Listener) -> PlannedRequest | None:
    """A declared request, where this listener is for it."""
    if (
        listener.port != answer.number
        or bool(listener.tls) != (answer.scheme == "https")
        or listener.tls in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
        or not any(covers(host, answer.host) for host in listener.hosts)
    ):
        return None
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


class DeclaredAnswers:
    """What was declared, and what came back."""

    def __init__(self, evidence: Evidence, ingress: IngressGateways) -> None:
        self._evidence = evidence
        self._ingress = ingress

    @property
    def others(self) -> list[Finding]:
        """Declared requests that got another answer, or none."""
        answers = self._evidence.expectations.answers
        if not answers:
            raise NotApplicable("no answers are declared (--expect)")
        return [
            finding
            for answer in answers
            for vantage in answer.vantages
            for finding in self._judged(answer, vantage)
        ]

    def _judged(self, answer: Answer, vantage: str) -> Iterator[Finding]:
        traffic = self._ingress.traffic
        unused = {each.name: each.unused for each in traffic.vantages}.get(vantage, "not captured")
        if unused:
            raise CouldNotVerify(
                f"{answer.words} was not sent from {vantage}: {unused}",
                "name an address with --ingress-url, or declare another place to send it from",
            )
        where = f"{answer.words} from {vantage}"
        seen = [each for each in traffic.exchanges if _is(each.request, answer, vantage)]
        if not seen and any(
            planned_request(answer, each) for each in self._ingress.topology.listeners
        ):
            raise CouldNotVerify(
                f"{where} is declared, and was not sent when this was captured",
                "capture it again with the same --expect",
            )
        if not seen:
            yield Finding(
                where,
                "no listener of any gateway is for it",
                "a Gateway that has this port and host",
                "correct the Gateway, or what is declared",
            )
        for each in seen:
            yield from _differences(where, answer, each)


def _is(request: Request, answer: Answer, vantage: str) -> bool:
    return (
        request.declared
        and request.vantage == vantage
        and (request.host, request.port, bool(request.tls))
        == (answer.host, answer.number, answer.scheme == "https")
        and (request.method, request.path, request.headers, request.send, request.grpc)
        == (answer.method, answer.path, answer.headers, answer.send, answer.grpc)
    )


def _differences(where: str, answer: Answer, seen: Exchange) -> Iterator[Finding]:
    remedy = "correct the route or its backend, or what is declared"
    if seen.error:
        words = f"got no answer ({seen.stage}): {seen.error}"
        yield Finding(where, words, f"{answer.expect.status}", remedy, transient=True)
        return
    if not seen.status:
        words = f"the listener does not speak HTTP/2 (ALPN {seen.alpn or 'none'})"
        yield Finding(where, words, "HTTP/2, which gRPC needs", remedy, transient=True)
        return
    if seen.status != answer.expect.status:
        why = f" ({seen.reason})" if seen.reason else ""
        words = f"got {seen.status}{why}"
        yield Finding(where, words, f"{answer.expect.status}", remedy, transient=True)
        return
    for name, value in sorted(answer.expect.headers.items()):
        got = seen.headers.get(name.lower())
        if got != value:
            words = f"got {f'{name}: {got}' if got is not None else f'no header {name}'}"
            yield Finding(where, words, f"{name}: {value}", remedy, transient=True)
    if not seen.body_holds:
        words = "got a body without the declared text"
        yield Finding(where, words, f"{answer.expect.body!r} in it", remedy, transient=True)
