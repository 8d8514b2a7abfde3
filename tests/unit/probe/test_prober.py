"""A prober elsewhere: what it is asked, and what is made of its answer."""

import pytest

from meshgate.probe import prober
from meshgate.probe.client import Planned
from meshgate.probe.ingress import send
from meshgate.probe.traffic import Traffic
from meshgate.snapshot.ingress import PROBER, Request, Vantage
from tests.conftest import Serve
from tests.support.fakes import Answer

REQUEST = Request(
    vantage=PROBER,
    service="Service ways/front",
    gateway="Gateway ways/front",
    port=8443,
    host="a.example.com",
    tls="SIMPLE",
    path="/a?b=1",
)
# as blackbox exporter 0.25 writes it
METRICS = """# TYPE probe_duration_seconds gauge
probe_duration_seconds 0.042
# TYPE probe_http_status_code gauge
probe_http_status_code {status}
# TYPE probe_http_version gauge
probe_http_version 2
# TYPE probe_success gauge
probe_success 1
# TYPE probe_tls_version_info gauge
probe_tls_version_info{{version="TLS 1.3"}} 1
"""


def test_what_it_saw(serve: Serve) -> None:
    server = serve({"/probe": Answer(200, METRICS.format(status=204).encode())})

    seen = prober.ask(f"{server.url}/probe?module=http_2xx", REQUEST, 5, "us")

    (asked,) = server.requests
    assert asked.query == {
        "module": ["http_2xx"],
        "target": ["https://a.example.com:8443/a?b=1"],
    }
    assert (seen.status, seen.milliseconds, seen.tls_version) == (204, 42, "TLSv1.3")
    assert (seen.alpn, seen.error) == ("h2", "")


def test_that_it_got_no_answer(serve: Serve) -> None:
    server = serve({"/probe": Answer(200, METRICS.format(status=0).encode())})

    seen = prober.ask(f"{server.url}/probe", REQUEST, 5, "us")

    assert (seen.stage, seen.error) == ("request", "the prober got no answer")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(400, b"Unknown module"), "answered 400: Unknown module"),
        (Answer(200, b"hello"), "cannot use|probe_success"),
    ],
)
def test_a_prober_that_is_none_is_a_place_that_was_not_used(
    serve: Serve, answer: Answer, why: str
) -> None:
    server = serve({"/probe": answer})
    traffic = Traffic(prober=f"{server.url}/probe")

    def never() -> None:
        raise AssertionError("it was connected to")

    sent = send([Planned(REQUEST, "it", never)], [Vantage(name=PROBER)], traffic)  # type: ignore[arg-type]

    assert sent.exchanges == ()
    assert any(each in sent.vantages[0].unused for each in why.split("|"))
