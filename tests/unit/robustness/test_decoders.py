"""Mutated answers and files: a decoder returns a value or raises the error of its interface."""

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from meshgate.collect import decode, istiod, istiod_metrics
from meshgate.collect.istiod import Answer
from meshgate.collect.retry_after import given_places
from meshgate.probe import admission, signing
from meshgate.report import json as report_json
from meshgate.report.visible import visible
from meshgate.semantics import certificates
from meshgate.semantics.declared_answers import read_answers
from meshgate.semantics.patterns import searches
from meshgate.semantics.releases import read_support
from meshgate.semantics.versions import Version
from meshgate.settings import TOPICS, SettingsError, definitions, read_file
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.store import UnusableSnapshot, unpack
from meshgate.suppressions import UnusableWaivers, read_waivers
from tests.support import fakes
from tests.support.builders import istiod as istiod_pod
from tests.support.fuzzing import ROOT, camel, corpus, examples, mutated, mutated_bytes

AT = datetime(2026, 1, 2, tzinfo=UTC)
randoms = st.randoms(use_true_random=False)
SYNCZ = (ROOT / "tests/fixtures/syncz.json").read_bytes()
DEMO = (ROOT / "demo/healthy.json.gz").read_bytes()


class Answering:
    """A way to one replica of istiod that gives these answers."""

    sees_the_wire = True

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers

    def session(self, pod: object) -> "Answering":
        return self

    def get(self, path: str) -> Answer:
        return Answer(200, self._answers.get(path, b""), AT)

    def close(self) -> None:
        """Nothing is open."""


def either(body: Any, random: Random) -> bytes:
    """Return a JSON value with mutations of its parts, or of its bytes."""
    if random.random() < 0.5:
        return json.dumps(mutated(body, random)).encode()
    return mutated_bytes(json.dumps(body).encode(), random)


@examples(300)
@given(random=randoms, item=st.sampled_from(sorted(KINDS)))
def test_a_page_of_a_list(random: Random, item: str) -> None:
    body = either({"metadata": {"continue": "x"}, "items": corpus()[camel(item)][:3]}, random)
    try:
        page = decode.page(body, KINDS[item].type, item)
    except (ValueError, RecursionError):
        return  # lists.py reports these as an answer that is none of Kubernetes

    assert isinstance(page.position, str)
    assert all(each.kind == item and str(each) for each in page.undecodable)


@examples(200)
@given(random=randoms)
def test_the_proxies_of_istiod(random: Random) -> None:
    answers = {
        "/debug/syncz": either(json.loads(SYNCZ), random),
        "/version": mutated_bytes(b"1.29.1-abc-Clean", random),
    }

    (seen,) = istiod.read([istiod_pod()], Answering(answers))  # type: ignore[arg-type]

    assert seen.error or seen.denied or seen.read


@examples(200)
@given(random=randoms)
def test_the_metrics_of_istiod(random: Random) -> None:
    answers = {
        "/metrics": mutated_bytes(fakes.METRICS, random),
        "/debug/push_status": either({"Start": "2026-01-01T00:00:00Z", "x": {"a": {}}}, random),
    }

    (seen,) = istiod_metrics.read([istiod_pod()], Answering(answers), 0.0)  # type: ignore[arg-type]

    assert seen.error or seen.denied or seen.after is not None


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "istiod")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://a/ns/b/sa/c")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 2, 1, tzinfo=UTC))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


DER = _certificate()
ROOTS = [x509.load_der_x509_certificate(DER)]


@examples(600)
@given(random=randoms)
def test_a_certificate(random: Random) -> None:
    try:
        found = x509.load_der_x509_certificate(mutated_bytes(DER, random))
    except certificates.UNREADABLE:
        return

    described = certificates.described(found)
    certificates.remaining(described, AT)

    assert isinstance(certificates.distrust([found], ROOTS, AT), str)
    assert isinstance(certificates.distrust([found], [found], AT), str)


def test_a_certificate_with_a_name_of_an_unknown_type() -> None:
    # the type of the subject's and the issuer's text: 212 is none of ASN.1
    odd = x509.load_der_x509_certificate(DER.replace(b"\x0c\x06istiod", b"\xd4\x06istiod"))

    described = certificates.described(odd)

    assert described.problem
    assert "cannot be read" in certificates.distrust([odd], ROOTS, AT)


@examples(200)
@given(random=randoms)
def test_a_bundle_and_an_answer_of_the_certificate_authority(random: Random) -> None:
    pem = ROOTS[0].public_bytes(serialization.Encoding.PEM)
    certificates.parse(mutated_bytes(pem, random).decode(errors="replace"))
    with suppress(ValueError):  # gRPC turns this into an error of the call
        list(signing.strings(mutated_bytes(b"\x0a\x03abc\x0a\x02de", random)))


@examples(200)
@given(random=randoms)
def test_a_patch_of_the_injector_and_a_config_dump(random: Random) -> None:
    patch = either([{"op": "add", "path": "/spec/containers/-", "value": {"name": "x"}}], random)
    answer = {"response": {"allowed": True, "patch": patch.decode(errors="replace")}}
    dump: dict[str, Any] = {"activeState": {"listener": {"a": [{}]}}}
    dump = {"configs": [{"dynamicListeners": [dump]}]}
    with suppress(ValueError, RecursionError):
        admission.patch_of(either(answer, random))
    with suppress(ValueError, RecursionError):
        given_places(either(dump, random))


@examples(150)
@given(random=randoms)
def test_a_snapshot(random: Random) -> None:
    with_digest = random.random() < 0.5
    packed = DEMO
    if with_digest:
        packed = gzip.compress(mutated_bytes(gzip.decompress(DEMO), random), 1)
    else:
        packed = mutated_bytes(DEMO, random)
    with suppress(UnusableSnapshot):
        unpack(packed, "x")


@examples(200)
@given(random=randoms)
def test_a_verdict(random: Random) -> None:
    verdict = {"version": 2, "gate": "open", "sentence": "", "exit": 0, "taken": None}
    verdict |= {"source": "", "checks": [], "notes": []}
    with suppress(ValueError, RecursionError):
        report_json.decode(either(verdict, random))


FILES = {
    "waivers": '[[waiver]]\ncheck = "CP001"\nsubject = "*"\nreason = "x"\nuntil = 2099-01-01\n',
    "settings": '[access]\ncontext = "prod"\n[probes]\nexclude-port = ["legacy/*:*"]\nsample = 3\n',
    "answers": "answers:\n- host: a.example.com\n  headers: {x: y}\n  expect: {status: 200}\n",
    "support": '[release."1.30"]\nkubernetes = ["1.28", "1.32"]\nend_of_life = 2026-01-01\n',
}


@pytest.mark.parametrize("kind", FILES)
@examples(150)
@given(random=randoms)
def test_a_file_of_a_person(kind: str, tmp_path: Path, random: Random) -> None:
    file = tmp_path / kind
    file.write_bytes(mutated_bytes(FILES[kind].encode(), random))
    readers: dict[str, Any] = {
        "waivers": lambda: read_waivers(file),
        "settings": lambda: read_file(file),
        "answers": lambda: read_answers(file.read_text()),
        "support": lambda: read_support(file.read_text()),
    }
    with suppress(UnusableWaivers, SettingsError, ValueError):
        readers[kind]()


@examples(600)
@given(text=st.text(max_size=60), pattern=st.text(max_size=30))
def test_text_of_any_form(text: str, pattern: str) -> None:
    Version.parse(text)
    searches(pattern, text)
    assert visible(visible(text)) == visible(text)


@examples(300)
@given(
    setting=st.sampled_from([each for topic in TOPICS.values() for each in definitions(topic)]),
    text=st.one_of(st.text(max_size=40), st.from_regex(r"[a-z]{1,5}://[\[\]:@a-z0-9/ ]{0,20}")),
)
def test_a_value_of_an_option(setting: Any, text: str) -> None:
    with suppress(ValueError):
        setting.value(text)
