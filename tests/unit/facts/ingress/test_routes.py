"""Whether routes are answered by their backends."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.routes import RouteAnswers
from meshgate.snapshot.ingress import Exchange, Ingress, Vantage
from meshgate.snapshot.istio import VirtualService
from meshgate.snapshot.kubernetes import Annotations
from meshgate.verdict import Finding, NotApplicable
from tests.support import builders
from tests.support import ingress_builders as build


def routes(**changes: Any) -> RouteAnswers:
    return build.mesh(**changes).route_answers


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def having(which: str = "", **seen: Any) -> Ingress:
    """The traffic of a gateway that is well, with what came back changed where the URL says so."""
    return build.traffic(
        *(
            build.answered(each, **(seen if which in f"{each.kind} {each.url}" else {}))
            for each in build.requests()
        )
    )


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"status": 404, "upstream": False, "reason": "NR"}, "no route matched (404 NR) for web."),
        (
            {"status": 503, "upstream": False, "reason": "UH"},
            "no healthy endpoint (503 UH) for web",
        ),
        (
            {"status": 503, "upstream": False, "reason": "UF (refused)"},
            "(503 UF (refused)) for web",
        ),
        (
            {"status": 503, "upstream": False, "reason": "NC"},
            "a cluster that does not exist (503 NC)",
        ),
        ({"status": 503, "upstream": False}, "got 503 from the gateway itself"),
        ({"status": 500}, "got 500 from its backend"),
        ({"status": 0, "stage": "request", "error": "reset"}, "got no answer: reset"),
    ],
)
def test_a_route_that_is_not_answered_by_its_backend(seen: dict[str, Any], words: str) -> None:
    found = routes(ingress=having("request http:", **seen)).unanswered

    assert words in told(found)
    assert {each.subject for each in found} == {"VirtualService shop/shop"}
    assert found[0].transient


@pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 429])
def test_what_a_backend_says_below_500_is_an_answer(status: int) -> None:
    assert routes(ingress=having("request", status=status)).unanswered == []


def test_a_subset_that_nobody_defines_does_not_heal() -> None:
    lists = {"virtual_services": (build.virtual_service(build.rule(subset="v9")),)}
    sent = build.traffic(
        *(
            build.answered(each, status=503, upstream=False, reason="NC")
            for each in build.requests(**lists)
            if each.kind == "request"
        )
    )

    (finding, *_) = routes(**lists, ingress=sent).unanswered

    assert "define the subset v9 in a DestinationRule for web.shop.svc" in finding.remedy
    assert not finding.transient


def test_a_redirect_that_leads_nowhere() -> None:
    lists = {"gateways": (build.gateway(build.server(redirects=True)),)}
    (asked,) = build.requests(**lists)
    right = build.answered(asked, location="https://shop.example.com/")
    wrong = build.answered(asked, status=200)

    assert routes(**lists, ingress=build.traffic(right)).unanswered == []
    assert "got 200 (expected a redirect to HTTPS)" in told(
        routes(**lists, ingress=build.traffic(wrong)).unanswered
    )


def test_exchanges_of_nowhere_are_not_ours() -> None:
    stray = Exchange(request=msgspec.structs.replace(build.requests()[0], gateway="Gateway a/b"))
    sent = Ingress(vantages=(Vantage(name="inside"),), exchanges=(stray,))

    with pytest.raises(NotApplicable):
        _ = routes(ingress=sent).unanswered


@pytest.mark.parametrize(
    ("exported", "seen"),
    [
        ((), False),
        (("*",), False),
        ((build.NAMESPACE,), False),
        ((".", build.NAMESPACE), False),
        ((".",), True),
        (("payments",), True),
    ],
)
def test_a_service_that_is_not_exported_to_its_gateway(
    exported: tuple[str, ...], seen: bool
) -> None:
    service = build.virtual_service()
    named = msgspec.structs.replace(
        service, spec=msgspec.structs.replace(service.spec, export_to=exported)
    )
    lists = {"virtual_services": (named,)}
    sent = build.traffic(*(build.answered(each) for each in build.requests(**lists)))

    found = routes(**lists, ingress=sent).unanswered

    assert [each.problem for each in found] == ["not-exported-to-its-gateway"] * seen
    for each in found:
        assert each.subject == "VirtualService shop/shop"
        assert f"Gateway {build.NAMESPACE}/front does not use it" in each.seen
        assert not each.transient


def test_a_service_of_other_hosts_needs_no_export_to_the_gateway() -> None:
    other = build.virtual_service(hosts=("other.example.org",))
    named = msgspec.structs.replace(
        other,
        metadata=msgspec.structs.replace(other.metadata, name="other"),
        spec=msgspec.structs.replace(other.spec, export_to=(".",)),
    )
    lists = {"virtual_services": (build.virtual_service(), named)}
    sent = build.traffic(*(build.answered(each) for each in build.requests(**lists)))

    assert routes(**lists, ingress=sent).unanswered == []


# --- revisions ----------------------------------------------------------------------------------


def of_revision(service: VirtualService, revision: str) -> VirtualService:
    name = f"shop-{revision}"
    metadata = msgspec.structs.replace(
        service.metadata, name=name, labels={"istio.io/rev": revision}
    )
    return msgspec.structs.replace(service, metadata=metadata)


def test_a_virtual_service_of_another_revision_takes_no_requests() -> None:
    """During a canary upgrade each istiod may have its own VirtualService for a host."""
    both = tuple(of_revision(build.virtual_service(), each) for each in ("1-29", "1-30"))
    pods = (builders.istiod(), build.gateway_pod(annotations=Annotations(revision="1-30")))

    sent = build.requests(pods=pods, virtual_services=both)
    assert {each.route for each in sent if each.route} == {
        "VirtualService shop/shop-1-30 route web"
    }
    assert routes(pods=pods, virtual_services=both).unanswered == []
    # nothing says which istiod this gateway's pod follows: both may count
    (finding,) = routes(virtual_services=both).unanswered
    assert finding.problem == "hidden-route"
