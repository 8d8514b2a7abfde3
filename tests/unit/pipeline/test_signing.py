"""Signed evidence: what is signed is what was evaluated, and cosign's format."""

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from meshgate.pipeline.signing import Unverified, sign, verified
from meshgate.report.attestation import PREDICATE, Results, Subject, of_run, statement
from meshgate.report.json import read
from tests.conftest import Gate


class Keys(NamedTuple):
    """A pair of keys, in files."""

    private: Path
    public: Path


def pair(folder: Path) -> Keys:
    """A new pair, as `cosign` uses them: ECDSA with P-256."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "private.pem").write_bytes(private)
    (folder / "public.pem").write_bytes(public)
    return Keys(folder / "private.pem", folder / "public.pem")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """The keys of the signer."""
    return pair(tmp_path / "keys")


CLAIM = statement([Subject("mesh", "ab" * 32)], Results(("PC002",), (), ()), "cd" * 32, ["PC002"])


def test_what_was_signed_is_verified(keys: Keys) -> None:
    assert verified(sign(CLAIM, keys.private), keys.public) == CLAIM


def test_another_key_or_a_changed_payload_is_not(keys: Keys, tmp_path: Path) -> None:
    envelope = sign(CLAIM, keys.private)
    changed = json.loads(envelope)
    payload = base64.b64decode(changed["payload"]).replace(b"PASSED", b"FAILED")
    changed["payload"] = base64.b64encode(payload).decode()

    with pytest.raises(Unverified, match="no signature of this key"):
        verified(envelope, pair(tmp_path / "other").public)
    with pytest.raises(Unverified, match="no signature of this key"):
        verified(json.dumps(changed).encode(), keys.public)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"payload": 1}', b'{"signatures": [1]}', b'{"signatures": 1}']
)
def test_what_is_no_envelope_is_not_verified(keys: Keys, content: bytes) -> None:
    with pytest.raises(Unverified):
        verified(content, keys.public)


def test_a_signature_without_a_key_id_counts(keys: Keys) -> None:
    # as cosign writes it
    envelope = json.loads(sign(CLAIM, keys.private))
    envelope["signatures"][0]["keyid"] = ""

    assert verified(json.dumps(envelope).encode(), keys.public) == CLAIM


def test_a_bundle_of_cosign_counts(keys: Keys, tmp_path: Path) -> None:
    envelope = json.loads(sign(CLAIM, keys.private))
    del envelope["signatures"][0]["keyid"]
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "a hint"}},
        "dsseEnvelope": envelope,
    }
    content = json.dumps(bundle).encode()

    assert verified(content, keys.public) == CLAIM
    with pytest.raises(Unverified, match="no signature of this key"):
        verified(content, pair(tmp_path / "other").public)
    with pytest.raises(Unverified):
        verified(json.dumps({**bundle, "dsseEnvelope": []}).encode(), keys.public)


def test_openssl_verifies_the_envelope(keys: Keys, tmp_path: Path) -> None:
    # cosign verifies the same: an ECDSA signature over DSSE's pre-authentication encoding
    envelope = json.loads(sign(CLAIM, keys.private))
    type, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 %d %s %d %s" % (len(type), type, len(payload), payload)
    (tmp_path / "signed").write_bytes(signed)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    (tmp_path / "signature").write_bytes(signature)

    done = subprocess.run(
        [
            *("openssl", "dgst", "-sha256", "-verify", keys.public),
            *("-signature", tmp_path / "signature", tmp_path / "signed"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "Verified OK\n", done.stderr


@pytest.mark.parametrize(
    ("found", "result"),
    [
        (Results(("a",), (), ()), "PASSED"),
        (Results(("a",), ("b",), ()), "WARNED"),
        (Results(("a",), (), ("c",)), "FAILED"),
        (Results((), (), ()), "FAILED"),
    ],
)
def test_the_result_is_that_of_the_worst_test(found: Results, result: str) -> None:
    assert found.result == result


def test_a_verdict_is_attested_and_proved_again(
    started: Gate, keys: Keys, tmp_path: Path, root: Path
) -> None:
    snapshot, verdict = root / "demo/healthy.json.gz", tmp_path / "verdict.json"
    meshgate = ("-m", "meshgate")
    only = "--check=CP001,PC002"
    started(*meshgate, "replay", snapshot, only, f"--json={verdict}", cwd=root)

    signed = started(
        *(*meshgate, "attest", verdict, f"--snapshot={snapshot}"),
        *(f"--key={keys.private}", f"--output={tmp_path / 'signed.json'}"),
        cwd=root,
    )

    assert signed.code == 0, signed.out
    claim = verified((tmp_path / "signed.json").read_bytes(), keys.public)
    digest = hashlib.sha256(snapshot.read_bytes()).hexdigest()
    assert claim == of_run(read(verdict), Subject(snapshot.name, digest))
    assert claim["predicateType"] == PREDICATE
    proved = started(
        *(*meshgate, "replay", snapshot, f"--verify={tmp_path / 'signed.json'}"),
        f"--key={keys.public}",
        cwd=root,
    )
    assert proved.code == 0, proved.out
    assert "the same verdict" in proved.out
    # of other bytes it proves nothing
    other = started(
        *(*meshgate, "replay", root / "demo/broken.json.gz"),
        *(f"--verify={tmp_path / 'signed.json'}", f"--key={keys.public}"),
        cwd=root,
    )
    assert other.code == 4, other.out
    assert "is not about" in other.out
    # another verdict on the same bytes
    verdict.write_text(verdict.read_text().replace('"verdict": "pass"', '"verdict": "warn"'))
    differs = started(*meshgate, "replay", snapshot, f"--verify={verdict}", cwd=root)
    assert differs.code == 1, differs.out
    assert "CP001: warn before, pass now" in differs.out
