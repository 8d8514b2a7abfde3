"""Redaction: every form in which a text can contain a credential, and what is kept."""

import time

import msgspec
import pytest

from meshgate.snapshot.kubernetes import Condition, Container, Pod
from meshgate.snapshot.redact import REDACTED, redacted, shaped, shown, text
from tests.support.builders import sidecar

CANARY = "c4n4ry"
# in texts of others, and in our own
FORMS = {
    "quoted words": f"client-secret 'a {CANARY}'",
    "password and quoted words": f"--password 'x {CANARY}'",
    "escaped quote": f'password="a\\"{CANARY}"',
    "doubled quote": f"password='it''s {CANARY}'",
    "quote that is cut off": f'password="cut {CANARY}',
    "json": f'{{"apiKey" : "a {CANARY}"}}',
    "json within a string": f'{{\\"token\\": \\"a {CANARY}\\"}}',
    "json within a string twice": f'{{\\\\\\"token\\\\\\":\\\\\\"a {CANARY}\\\\\\"}}',
    "python": f"{{'access_key': 'a {CANARY}'}}",
    "pair of json": f'{{"name": "DB_PASSWORD", "value": "a {CANARY}"}}',
    "pair of yaml": f"- name: DB_PASSWORD\n  value: {CANARY}",
    "flag": f"--client-secret {CANARY}",
    "flag with =": f"--api-key={CANARY}",
    "digest": f'Authorization: Digest username="x", response="{CANARY}"',
    "short basic": f"authorization: Basic {CANARY}",
    "proxy": f"Proxy-Authorization: x {CANARY}",
    "cookie": f"Cookie: a=b; c={CANARY}",
    "set-cookie": f"set-cookie: session={CANARY}; Path=/",
    "header in quotes": f"-H 'Cookie: a=b; c={CANARY}' https://example.test",
    "headers of json": f'{{"Authorization": "a {CANARY}"}}',
    "user info with @": f"http://u:p@{CANARY}@example.test/",
    "user info with /": f"postgres://u:a/{CANARY}@example.test/db",
    "query": f"/path?a=b&token={CANARY}",
    "fragment": f"https://example.test/#access_token={CANARY}",
    "path parameter": f"/path;session={CANARY}?x=y",
}
# in texts of others: in our own, `NAME: words` is an object and what is wrong with it
SPOKEN = {
    "words": f"password=a {CANARY} b",
    "words of yaml": f"password: a {CANARY}",
    "block of yaml": f"token: |\n  a\n  {CANARY}\n",
    "spaces": f"signing-key = {CANARY}",
    "passphrase": f"passphrase : {CANARY}",
}


@pytest.mark.parametrize("form", [*FORMS.values(), *SPOKEN.values()], ids=[*FORMS, *SPOKEN])
def test_a_text_of_others_is_kept_without_a_credential(form: str) -> None:
    for said in (form, f"before {form} after", f"before\n{form}\nafter"):
        assert CANARY not in text(said)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_output_shows_no_credential(form: str) -> None:
    for said in (form, f"before {form} after", f"before\n{form}\nafter"):
        assert CANARY not in shown(said)
        assert shown(shown(said)) == shown(said)


@pytest.mark.parametrize(
    "kept",
    [
        'secret "default/edge-cert" not found',
        'unexpected token "<" in line 3',
        "AuthorizationPolicy shop/web: denied",
        "pass --istiod-token-file FILE",
        "oci://registry:5000/istio/pilot@sha256:0123",
        "https://istio.io/latest/docs?version=1.31&language=en",
        'pilot_total_xds_rejects{type="listener"} 3',
        "kubectl -n shop get secrets, and compare",
    ],
)
def test_what_is_no_credential_is_kept(kept: str) -> None:
    assert text(kept) == kept
    assert shown(kept) == kept


def test_what_follows_a_credential_is_kept() -> None:
    assert text("password=hunter2 user=bob") == "[redacted] user=bob"
    assert text("password: hunter2, user: bob") == "[redacted], user: bob"
    assert text("token: |\n  a\n  b\nuser: bob") == "[redacted]user: bob"
    assert shaped("/x;session=a;b=c?d=e") == "/x;session=[redacted];b=c?d=e"


@pytest.mark.parametrize(
    "unit", ["a-", "password 'a", "name: token, ", '\\"', "://a:b", "?a=b;", "--", "password: x "]
)
def test_the_time_is_proportional_to_the_length(unit: str) -> None:
    def seconds(size: int) -> float:
        began = time.process_time()
        text(unit * (size // len(unit)))
        return time.process_time() - began

    # quadratic, it would be a hundredfold
    assert seconds(100_000) < 40 * max(seconds(10_000), 0.002)


def test_equal_objects_are_all_redacted() -> None:
    def condition(words: str) -> Condition:
        return Condition(type="Ready", status="False", message=words)

    given = tuple(condition(f"password={CANARY}") for _ in range(3))

    assert redacted(given) == (condition(REDACTED),) * 3
    assert redacted(given) == (condition(REDACTED),) * 3
    assert redacted((condition("is ready"), given[0])) == (
        condition("is ready"),
        condition(REDACTED),
    )


def test_an_object_without_credentials_stays_the_same_object() -> None:
    first, second = sidecar(), sidecar()

    pods = redacted((first, second))

    assert first == second
    assert pods[0] is first
    assert pods[1] is second


def test_a_credential_deep_in_a_pod_is_redacted_there_alone() -> None:
    def pod(image: str) -> Pod:
        spec = msgspec.structs.replace(
            sidecar().spec, containers=(Container(name="app", image=image),)
        )
        return msgspec.structs.replace(sidecar(), spec=spec)

    clean, dirty = pod("registry/app:1"), pod(f"https://u:{CANARY}@registry/app:1")

    assert redacted((clean, dirty, clean)) == (
        clean,
        pod(f"https://{REDACTED}@registry/app:1"),
        clean,
    )
