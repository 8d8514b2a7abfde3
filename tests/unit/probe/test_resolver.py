"""Names, as a given resolver has them: a real one, on loopback."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import dns.message
import dns.rcode
import dns.rrset
import pytest

from meshgate.probe.resolver import addresses, literal, parse_resolver

RECORDS = {("a.example.com.", "A"): "192.0.2.1", ("a.example.com.", "AAAA"): "2001:db8::1"}
EMPTY = "empty.example.com."


@contextmanager
def resolver() -> Iterator[str]:
    """Answers what RECORDS says, and that there is no other name."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                data, client = listener.recvfrom(4096)
            except OSError:
                return
            asked = dns.message.from_wire(data)
            (question,) = asked.question
            answer = dns.message.make_response(asked)
            kind = dns.rdatatype.to_text(question.rdtype)
            if found := RECORDS.get((str(question.name), kind)):
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, found))
            elif str(question.name) != EMPTY:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            listener.sendto(answer.to_wire(), client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_name_of_both_families() -> None:
    with resolver() as given:
        assert addresses("a.example.com", given, 5) == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("other.example.com", "does not exist"), ("empty.example.com", "has no address")],
)
def test_a_name_that_is_not_there(name: str, why: str) -> None:
    with resolver() as given, pytest.raises(OSError, match=why):
        addresses(name, given, 5)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_where_a_resolver_is(given: str, read: tuple[str, int]) -> None:
    assert parse_resolver(given) == read


def test_what_is_no_resolver() -> None:
    with pytest.raises(ValueError, match="not-an-address"):
        parse_resolver("not-an-address")


def test_what_is_an_address_already() -> None:
    assert literal("2001:db8::1")
    assert not literal("a.example.com")
