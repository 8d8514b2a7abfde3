"""Answers that somebody declared: what a file may say, and what is said of what came back."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.semantics.declared_answers import listeners_of, missing, planned_request, read_answers
from meshgate.snapshot.ingress import Answer, Exchange, Expected, Request, Vantage
from meshgate.snapshot.model import Expectations
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support import ingress_builders as build

ANSWER = Answer(host=build.HOST, path="/a", expect=Expected(headers={"X-A": "1"}, body="yes"))


def request(answer: Answer = ANSWER, vantage: str = "inside") -> Request:
    listeners = build.topology().listeners
    (listener,) = listeners_of(answer, listeners)
    return planned_request(answer).request(listener, vantage, "Service ways/front")


def others(
    *exchanges: Exchange, answers: tuple[Answer, ...] = (ANSWER,), **changes: Any
) -> list[Finding]:
    asked = Expectations(answers=answers)
    seen = build.snapshot(ingress=build.traffic(*exchanges), expectations=asked, **changes)
    return Mesh(seen).declared.mismatched


def right(**seen: Any) -> Exchange:
    given = {"status": 200, "headers": {"x-a": "1"}}
    return Exchange(request=request(), **{**given, **seen})


def test_a_file_says_what_is_asked_and_expected() -> None:
    (read,) = read_answers("answers: [{host: a.b, method: POST, from: [outside], send: x}]")

    assert (read.words, read.vantages, read.send) == ("POST https://a.b:443/", ("outside",), "x")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("{path: /a}", "missing required field `host`"),
        ("{host: a.b, methd: GET}", "unknown field `methd`"),
        ("{host: '*.b'}", "must be a name without"),
        ("{host: a.b, path: a}", "must begin with /"),
        ("{host: a.b, method: get}", "'get' must be an HTTP method"),
        ("{host: a.b, from: [moon]}", "not moon"),
        ("{host: a.b, from: []}", "`from` must name"),
        ("{host: a.b, expect: {status: 99}}", "must be between 100 and 599"),
        ("{host: a.b, headers: {Authorization: abc}}", "write ${NAME}"),
        ("{host: a.b, headers: {x-auth-token: abc}}", "write ${NAME}"),
        ("{host: a.b, path: '/?token=abc'}", "looks like a credential"),
        ("{host: a.b, grpc: true}", "is /package.Service/Method"),
        ("{host: a.b, path: /a.B/C, grpc: true, method: PUT}", "is called by POST"),
        ("{host: a.b, path: /a.B/C, grpc: true, from: [prober]}", "a prober sends GET"),
        ('{host: a.b, headers: {x: "a\\r\\nb: c"}}', "is invalid"),
    ],
)
def test_a_file_that_says_something_else_is_refused(answer: str, why: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)) as raised:
        read_answers(f"answers: [{answer}]")

    assert why in str(raised.value)


def test_a_call_is_well_unless_another_status_is_declared() -> None:
    well, ill = read_answers(
        "answers: [{host: a.b, path: /a.B/C, grpc: true}, "
        '{host: a.b, path: /a.B/C, grpc: true, expect: {headers: {grpc-status: "5"}}}]'
    )

    assert (well.words, well.expect.headers) == (
        "POST https://a.b:443/a.B/C",
        {"grpc-status": "0"},
    )
    assert ill.expect.headers == {"grpc-status": "5"}
    asked = request(msgspec.structs.replace(well, host=build.HOST))
    assert (asked.http2, asked.grpc, asked.declared) == (True, True, True)


def test_a_call_through_a_listener_that_does_not_speak_http_2() -> None:
    (call,) = read_answers(f"answers: [{{host: {build.HOST}, path: /a.B/C, grpc: true}}]")
    seen = Exchange(request=request(call), alpn="http/1.1")

    (finding,) = others(seen, answers=(call,))

    assert "the listener does not speak HTTP/2 (ALPN http/1.1)" in str(finding)


def test_variables_that_are_not_set_are_named() -> None:
    answer = Answer(host="a.b", headers={"authorization": "Bearer ${A}"}, send="${B}${C}")

    assert missing((answer,), {"B": ""}) == ["A", "C"]


def test_an_answer_that_is_as_declared() -> None:
    assert others(right()) == []
    with pytest.raises(NotApplicable):
        others(answers=())


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"status": 404, "reason": "NR"}, "got 404 (NR) (expected 200)"),
        ({"stage": "connect", "error": "refused"}, "got no answer (connect): refused"),
        ({"headers": {}}, "got no header X-A (expected X-A: 1)"),
        ({"headers": {"x-a": "2"}}, "got X-A: 2 (expected X-A: 1)"),
        ({"body_holds": False}, "got a body without the declared text (expected 'yes' in it)"),
    ],
)
def test_an_answer_that_is_another(seen: dict[str, Any], words: str) -> None:
    (finding,) = others(right(**seen))

    assert str(finding).startswith(f"GET https://shop.example.com:443/a from inside: {words}")


def test_a_host_that_no_listener_has() -> None:
    (finding,) = others(answers=(Answer(host="other.example.com"),))

    assert "no listener of any gateway serves it" in str(finding)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (msgspec.structs.replace(ANSWER, vantages=("outside",)), "not sent from outside: there is"),
        (
            msgspec.structs.replace(ANSWER, send="more"),
            "was not sent when this snapshot was",
        ),
    ],
)
def test_what_was_not_asked_is_never_right(answer: Answer, why: str) -> None:
    with pytest.raises(CouldNotVerify, match=why):
        others(right(), answers=(answer,))


@pytest.mark.parametrize(
    ("hosts", "serving"),
    [
        ((("*",), (build.HOST,)), [1]),  # a Kubernetes Ingress accepts every host
        ((("*.example.com",), ("*",)), [0]),
        (((build.HOST,), ("*", build.HOST)), [0, 1]),
        ((("other.example.com",),), []),
    ],
)
def test_the_narrowest_host_serves_a_declared_answer(
    hosts: tuple[tuple[str, ...], ...], serving: list[int]
) -> None:
    (usual,) = listeners_of(ANSWER, build.topology().listeners)
    listeners = [usual._replace(hosts=each) for each in hosts]

    assert [listeners.index(each) for each in listeners_of(ANSWER, listeners)] == serving


def test_every_place_that_is_declared_is_judged() -> None:
    answer = msgspec.structs.replace(ANSWER, vantages=("inside", "outside"))
    from_outside = Exchange(request=request(answer, "outside"), status=500)
    used = (Vantage(name="inside"), Vantage(name="outside"))
    seen = build.snapshot(
        ingress=build.traffic(right(), from_outside, vantages=used),
        expectations=Expectations(answers=(answer,)),
    )

    (finding,) = Mesh(seen).declared.mismatched

    assert "from outside: got 500" in str(finding)
