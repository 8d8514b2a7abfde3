"""The webhook probe against a TLS server on loopback: what is trusted, asked, and understood."""

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.probe.admission import ask
from meshgate.semantics.webhooks import Backend, Webhooks
from meshgate.snapshot.kubernetes import Container, LabelSelector
from meshgate.snapshot.wire import Admission
from tests.support import webhook_builders as build
from tests.support.webhook_server import Istiod

PATCH = [
    {"op": "add", "path": "/spec/initContainers", "value": [{"name": "istio-init", "image": "i"}]},
    {"op": "add", "path": "/spec/containers/1", "value": {"name": "istio-proxy", "image": "p"}},
    {"op": "add", "path": "/metadata/labels", "value": {"name": "not a container"}},
]


def well(path: str, request: dict[str, Any]) -> tuple[int, bytes]:
    """What istiod answers."""
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    if path == "/inject":
        response["patch"] = b64encode(json.dumps(PATCH).encode()).decode()
    elif not request["object"]["spec"]["servers"][0]["hosts"]:
        response |= {"allowed": False, "status": {"message": "no host"}}
    return 200, json.dumps({"response": response}).encode()


def webhooks(**webhook: Any) -> Webhooks:
    return Webhooks(
        [build.injector(**webhook)],
        [build.validator(**webhook)],
        [build.service()],
        [build.slice_of()],
    )


SHOP = [build.namespace(injection="enabled"), build.namespace("legacy")]


@pytest.fixture
def istiod(tmp_path: Path) -> Iterator[Istiod]:
    with Istiod(tmp_path, well).serving() as server:
        yield server


def test_a_webhook_that_is_well(istiod: Istiod) -> None:
    seen = ask(webhooks(), SHOP, istiod.dial)

    # the injector and the validator are one endpoint under one name: one handshake
    (restarted,) = seen.handshakes
    assert (restarted.error, restarted.distrust) == ("", "")
    assert restarted.served is not None
    assert build.NAME in restarted.served.sans
    injected, valid, invalid = sorted(seen.reviews, key=lambda each: (each.path, not each.allowed))
    assert injected.namespace == "shop"
    assert injected.containers == (
        Container(name="istio-init", image="i"),
        Container(name="istio-proxy", image="p"),
    )
    assert (valid.sample, valid.allowed) == ("valid", True)
    assert (invalid.sample, invalid.allowed, invalid.message) == ("invalid", False, "no host")
    for _, body in istiod.asked:
        assert body["request"]["dryRun"] is True


def test_nothing_is_asked_of_whom_the_bundle_does_not_trust(istiod: Istiod) -> None:
    seen = ask(webhooks(bundle=build.issued("another").pem), SHOP, istiod.dial)

    (restarted,) = seen.handshakes
    assert "certificate" in restarted.distrust
    assert restarted.served is not None
    assert seen.reviews == ()
    assert istiod.asked == []


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    with Istiod(tmp_path, well, name="other.istio-system.svc").serving() as server:
        (restarted,) = ask(webhooks(), SHOP, server.dial).handshakes

    assert "istiod.istio-system.svc" in restarted.distrust
    assert server.asked == []


def test_a_bundle_that_holds_no_certificate(istiod: Istiod) -> None:
    (restarted,) = ask(webhooks(bundle="nothing"), SHOP, istiod.dial).handshakes

    assert "the caBundle holds no certificate" in restarted.distrust


def test_a_webhook_without_a_bundle_is_not_called(istiod: Istiod) -> None:
    assert ask(webhooks(bundle=""), SHOP, istiod.dial) == Admission()


def test_an_endpoint_that_does_not_answer() -> None:
    def dial(backend: Backend) -> socket.socket:
        raise ConnectionRefusedError("refused")

    (restarted,) = ask(webhooks(), SHOP, dial).handshakes

    assert restarted.error == "refused"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(500, b"broken", "answered 500 broken"), (200, b"not JSON", "malformed")],
)
def test_an_answer_that_is_none(tmp_path: Path, status: int, body: bytes, words: str) -> None:
    with Istiod(tmp_path, lambda path, request: (status, body)).serving() as server:
        reviews = ask(webhooks(), SHOP, server.dial).reviews

    assert reviews
    assert all(words in each.error for each in reviews)


def test_namespaces_are_spread_over_the_endpoints(istiod: Istiod) -> None:
    many = [build.namespace(f"shop-{number}", injection="enabled") for number in range(3)]
    two = build.slice_of(build.endpoint(), build.endpoint("istiod-2", "10.0.0.2"))
    hooks = Webhooks([build.injector()], [], [build.service()], [two])

    seen = ask(hooks, many, istiod.dial)
    single = ask(hooks, many[:1], istiod.dial)

    assert {each.namespace for each in seen.reviews} == {"shop-0", "shop-1", "shop-2"}
    assert len(seen.reviews) == 3
    assert {each.pod for each in seen.reviews} == {"istiod-1", "istiod-2"}
    # fewer namespaces than endpoints: each endpoint is asked all the same
    assert {each.pod for each in single.reviews} == {"istiod-1", "istiod-2"}


def test_a_pod_that_opts_in_is_asked_about_with_its_own_labels(istiod: Istiod) -> None:
    labels = {"app": "meshgate-sample", "sidecar.istio.io/inject": "true"}
    by_pod = LabelSelector(match_labels={"sidecar.istio.io/inject": "true"})
    injector = build.injector()
    hook = msgspec.structs.replace(
        injector.webhooks[0], namespace_selector=LabelSelector(), object_selector=by_pod
    )
    hooks = Webhooks(
        (msgspec.structs.replace(injector, webhooks=(hook,)),),
        (),
        (build.service(),),
        (build.slice_of(),),
    )

    (review,) = ask(hooks, (), istiod.dial, ((build.namespace(), labels),)).reviews

    (_, body) = istiod.asked[-1]
    assert body["request"]["object"]["metadata"]["labels"] == labels
    assert review.labels == labels
    assert review.namespace == "shop"
