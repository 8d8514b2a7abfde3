"""Declared answers (`--expect`), compared with what came back."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.declared_answers import listeners_of
from meshgate.settings import flag
from meshgate.snapshot.ingress import Answer, Exchange, Request
from meshgate.snapshot.redact import redacted
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

REMEDY = "correct the route or its backend, or the declared answer"


class DeclaredAnswers:
    """What was declared, and what came back."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._evidence = ingress.evidence
        self._ingress = ingress

    @property
    def mismatched(self) -> list[Finding]:
        """Declared requests that got another answer, or none."""
        return [
            finding
            for answer in self.answers
            for vantage in answer.vantages
            for finding in self._judged(answer, vantage)
        ]

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """The declared answers; raises NotApplicable without any."""
        # what was sent is in the snapshot without credentials
        answers = redacted(self._evidence.expectations.answers)
        if not answers:
            raise NotApplicable(f"no answers are declared ({flag('ingress.expect')})")
        return answers

    def _judged(self, answer: Answer, vantage: str) -> Iterator[Finding]:
        traffic = self._ingress.traffic
        unused = {each.name: each.unused for each in traffic.vantages}.get(vantage, "not captured")
        if unused:
            raise CouldNotVerify(
                f"{answer.words} was not sent from {vantage}: {unused}",
                f"name an address with {flag('ingress.urls')}, or declare another `from`",
            )
        where = f"{answer.words} from {vantage}"
        seen = [each for each in traffic.exchanges if _is(each.request, answer, vantage)]
        if not seen and listeners_of(answer, self._ingress.topology.listeners):
            raise CouldNotVerify(
                f"{where} is declared, and was not sent when this snapshot was captured",
                f"capture it again with the same {flag('ingress.expect')}",
            )
        if not seen:
            yield Finding(
                where,
                "no listener of any gateway serves it",
                "a Gateway with this port and host",
                "correct the Gateway, or the declared answer",
                problem="no-listener",
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
    def _finding(problem: str, words: str, expected: str, header: str = "") -> Finding:
        about: tuple[tuple[str, str], ...] = (("service", seen.request.service),)
        if header:
            about = (("header", header.lower()), *about)
        return Finding(where, words, expected, REMEDY, transient=True, problem=problem, about=about)

    expect = answer.expect
    if seen.error:
        words = f"got no answer ({seen.stage}): {seen.error}"
        yield _finding("no-answer", words, f"{expect.status}")
    elif not seen.status:
        words = f"the listener does not speak HTTP/2 (ALPN {seen.alpn or 'none'})"
        yield _finding("no-http2", words, "HTTP/2, which gRPC needs")
    elif seen.status != expect.status:
        why = f" ({seen.reason})" if seen.reason else ""
        yield _finding("other-status", f"got {seen.status}{why}", f"{expect.status}")
    else:
        for name, value in sorted(expect.headers.items()):
            got = seen.headers.get(name.lower())
            if got != value:
                words = f"got {f'{name}: {got}' if got is not None else f'no header {name}'}"
                yield _finding("other-header", words, f"{name}: {value}", name)
        if not seen.body_holds:
            words = "got a body without the declared text"
            yield _finding("other-body", words, f"{expect.body!r} in it")
