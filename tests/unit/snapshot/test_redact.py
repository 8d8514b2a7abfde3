"""Free text: credentials go, and what Envoy and istiod say stays as they said it."""

import msgspec
import pytest

from meshgate.snapshot import redact
from meshgate.snapshot.gateway_api import RouteMatch, ValueMatch
from meshgate.snapshot.ingress import Request
from meshgate.snapshot.istio import HttpMatch, StringMatch
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.model import Gap
from tests.support.builders import message, pushed, reading, sidecar, snapshot, sync, waiting
from tests.support.filled import filled

SECRET = "s3cr3tS3cr3t"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiJzeXN0ZW06c2EifQ.c2lnbmF0dXJl_-X"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n"


CREDENTIALS = {
    "a private key": (f"key: {KEY}-----END RSA PRIVATE KEY----- end", SECRET),
    "a private key of no kind": (f"{KEY.replace('RSA ', '')}-----END PRIVATE KEY-----", SECRET),
    "a private key that is cut off": (f"a key that is cut off {KEY}", SECRET),
    "a token": (f"token {JWT} is expired", "c2lnbmF0dXJl"),
    "a token that is cut off": (f"cut off {JWT[:60]}", JWT[45:60]),
    "a bearer": (f"Authorization: Bearer {SECRET}", SECRET),
    "a bearer in lower case": (f"authorization: bearer {SECRET}.x/y+z==", SECRET),
    "basic": ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    "user and password of an address": (
        f"dial https://user:{SECRET}@db.example.test/x failed",
        SECRET,
    ),
    "password of an address": (f"dial redis://:{SECRET}@cache.example.test failed", SECRET),
    "a password": (f"password={SECRET}", SECRET),
    "a password in JSON": (f'{{"password": "{SECRET} and more"}}', f"{SECRET} and more"),
    "a password in quotes": (f"passwd: '{SECRET} and more'", f"{SECRET} and more"),
    "a parameter": (f"?api_key={SECRET}&page=2", SECRET),
    "a private key by name": (f"private_key: {SECRET}", SECRET),
    "a key with spaces": (f"access-key = {SECRET}, region=eu", SECRET),
    "a client secret": (f"client_secret={SECRET}", SECRET),
    "a word within a word": (f"clientSecret: {SECRET}", SECRET),
    "upper case": (f"TOKEN={SECRET};", SECRET),
}


@pytest.mark.parametrize(("text", "secret"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_a_credential_goes(text: str, secret: str) -> None:
    redacted = redact.text(text)

    assert secret not in redacted
    assert redact.REDACTED in redacted


AROUND = {
    "parameter": (f"?api_key={SECRET}&page=2", "&page=2"),
    "address": (
        f"dial https://user:{SECRET}@db.example.test/x failed",
        "@db.example.test/x failed",
    ),
    "token": (f"token {JWT} is expired", " is expired"),
    "key": (f"key: {KEY}-----END RSA PRIVATE KEY----- end", " end"),
}


@pytest.mark.parametrize(("text", "stays"), AROUND.values(), ids=AROUND)
def test_the_words_around_it_stay(text: str, stays: str) -> None:
    assert redact.text(text).endswith(stays)


@pytest.mark.parametrize(
    "text",
    [
        "Error adding/updating listener(s) virtualInbound: Didn't find a registered implementation "
        "for 'not.a.filter' with type URL: 'no.such.Type'\n",
        "Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value is "
        'required): name: "outbound|80||web.shop.svc.cluster.local"',
        "gRPC config for type.googleapis.com/envoy.config.route.v3.RouteConfiguration rejected: "
        "Only unique values for domains are permitted. Duplicate entry of domain *:15021",
        'Referenced gateway not found: "shop/missing"',
        'Referenced credentialName not found: "web-tls"',
        'Back-off pulling image "registry.example.test:5000/istio/pilot:1.29.1@sha256:0123abcd"',
        'pods is forbidden: User "system:serviceaccount:istio-system:istio-verification-sa" cannot '
        'list resource "pods" in API group "" at the cluster scope',
        "istiod does not accept our token (401 unauthenticated: no valid credentials)",
        "no answer: [Errno 111] Connection refused",
        "cannot reach the API server https://10.0.0.1:6443/api/v1/pods?limit=500",
        "failed to fetch secrets of the ServiceAccount; mTLS is off for port 8080",
    ],
)
def test_ordinary_errors_are_left_as_they_are(text: str) -> None:
    assert redact.text(text) == text


def test_every_free_text_of_a_snapshot_is_redacted_and_nothing_else_changes() -> None:
    def mesh(words: str) -> object:
        return snapshot(
            pods=(sidecar(proxy=waiting("istio-proxy", "CrashLoopBackOff", words)),),
            istiod=(
                reading(proxies=[sync(listener=pushed(error=words))]),
                reading("istiod-2", error=words),
                reading("istiod-3", denied=words),
            ),
            gaps=(Gap(item="pods", why=words),),
            analysis=Analysis(istioctl_version="1", messages=(message("IST0101", text=words),)),
        )

    redacted = redact.redacted(mesh(f"password={SECRET} was wrong"))

    assert redacted == mesh(f"{redact.REDACTED} was wrong")
    assert SECRET.encode() not in msgspec.json.encode(redacted)


def test_a_mesh_that_has_nothing_to_hide_is_not_built_anew() -> None:
    plain = snapshot(
        pods=(sidecar(proxy=waiting("istio-proxy", "CrashLoopBackOff", "exit code 1")),),
        istiod=(reading(proxies=[sync(listener=pushed(error="not.a.filter is unknown"))]),),
    )

    assert redact.redacted(plain) is plain


# --- everywhere ---------------------------------------------------------------------------------

CANARIES = (
    f"Bearer {SECRET}",
    JWT,
    f"https://user:{SECRET}@example.test/",
    f"{KEY}-----END RSA PRIVATE KEY-----",
)


@pytest.mark.parametrize("canary", CANARIES, ids=["bearer", "token", "url", "key"])
@pytest.mark.parametrize("item", sorted(KINDS))
def test_no_string_of_any_kind_carries_a_credential(item: str, canary: str) -> None:
    kind = KINDS[item].type
    planted = filled(kind, canary)

    packed = msgspec.json.encode(redact.redacted((planted,)))

    assert canary.splitlines()[0] in str(planted)
    assert SECRET.encode() not in packed
    assert b"c2lnbmF0dXJl" not in packed


MATCH = HttpMatch(
    uri=StringMatch(prefix="/pay"),
    headers={
        "authorization": StringMatch(exact=SECRET),
        "x-cdn-secret": StringMatch(prefix=SECRET),
        "cookie": StringMatch(regex=f".*id={SECRET}.*"),
        "x-version": StringMatch(exact="v2"),
        "x-api-key": StringMatch(),
    },
    query_params={"api_key": StringMatch(exact=SECRET), "page": StringMatch(exact="2")},
)


def test_matches_of_credentials_lose_their_value_and_keep_their_name() -> None:
    found = redact.redacted(MATCH)

    assert SECRET.encode() not in msgspec.json.encode(found)
    assert found.headers.keys() == MATCH.headers.keys()
    assert found.headers["authorization"] == StringMatch(exact=redact.REDACTED)
    assert found.headers["x-cdn-secret"] == StringMatch(prefix=redact.REDACTED)
    assert found.headers["x-version"].exact == "v2"
    assert found.headers["x-api-key"] == StringMatch()
    assert found.query_params["page"].exact == "2"


@pytest.mark.parametrize(
    ("name", "kept"), [("x-auth-token", False), ("Cookie", False), ("x-version", True)]
)
def test_matches_of_the_gateway_api_too(name: str, kept: bool) -> None:
    found = redact.redacted(RouteMatch(headers=(ValueMatch(name=name, value=SECRET),)))

    assert (found.headers[0].value == SECRET) is kept
    assert found.headers[0].name == name


def test_a_planned_request_loses_the_same_values() -> None:
    request = Request(
        vantage="inside",
        service="s",
        gateway="g",
        port=80,
        host="example.test",
        path=f"/pay?api_key={SECRET}&page=2",
        headers={"authorization": SECRET, "x-version": "v2"},
    )

    found = redact.redacted(request)

    assert found.path == f"/pay?api_key={redact.REDACTED}&page=2"
    assert found.headers == {"authorization": redact.REDACTED, "x-version": "v2"}
