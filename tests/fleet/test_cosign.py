"""cosign verifies what meshgate signs, and meshgate proves what cosign signs."""

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from meshgate.report.attestation import PREDICATE
from tests.conftest import ROOT, Gate, Run
from tests.support.go_programs import built
from tests.unit.pipeline.test_signing import Keys, pair

BROKEN, HEALTHY = ROOT / "demo/broken.json.gz", ROOT / "demo/healthy.json.gz"
# Keys of a team are in no public log.
NO_LOG = ("--insecure-ignore-tlog", f"--type={PREDICATE}")


def cosign(*words: str | Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run it with a separate home folder, and without a password for keys."""
    return subprocess.run(
        [built("cosign", "ci/go/cosign"), *words],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "COSIGN_PASSWORD": ""},
        capture_output=True,
        text=True,
        check=False,
    )


class Evidence(NamedTuple):
    """A verdict on the healthy demo, the keys, and a folder for more."""

    verdict: Path
    keys: Keys
    folder: Path


@pytest.fixture
def evidence(started: Gate, tmp_path: Path) -> Evidence:
    """A verdict that can be signed."""
    verdict = tmp_path / "verdict.json"
    words = ("-m", "meshgate", "replay", HEALTHY, "--check=CP001,PC002", f"--json={verdict}")
    assert started(*words, cwd=ROOT).code == 0
    return Evidence(verdict, pair(tmp_path / "keys"), tmp_path)


def attest(started: Gate, evidence: Evidence, output: Path, *words: str) -> None:
    """Write the attestation of the verdict."""
    about = (evidence.verdict, f"--snapshot={HEALTHY}", f"--output={output}")
    done = started("-m", "meshgate", "attest", *about, *words, cwd=ROOT)
    assert done.code == 0, done.out


def test_cosign_verifies_what_meshgate_signed(started: Gate, evidence: Evidence) -> None:
    folder, keys = evidence.folder, evidence.keys
    attest(started, evidence, folder / "signed.json", f"--key={keys.private}")

    def verify(key: Path, snapshot: Path) -> "subprocess.CompletedProcess[str]":
        signed = (f"--key={key}", f"--signature={folder / 'signed.json'}")
        words = ("verify-blob-attestation", *signed, *NO_LOG, snapshot)
        return cosign(*words, folder=folder)

    done = verify(keys.public, HEALTHY)
    assert done.returncode == 0, done.stderr
    assert "Verified OK" in done.stderr
    assert verify(keys.public, BROKEN).returncode != 0
    assert verify(pair(folder / "others").public, HEALTHY).returncode != 0


def test_meshgate_proves_what_cosign_signed(started: Gate, evidence: Evidence) -> None:
    folder, keys = evidence.folder, evidence.keys
    attest(started, evidence, folder / "statement.json")
    imported = cosign(
        *("import-key-pair", f"--key={keys.private}", "--output-key-prefix=team"), folder=folder
    )
    assert imported.returncode == 0, imported.stderr
    signed = cosign(
        *("attest-blob", "--statement=statement.json", "--key=team.key", "--yes"),
        *("--bundle=bundle.json", "--tlog-upload=false", "--use-signing-config=false"),
        folder=folder,
    )
    assert signed.returncode == 0, signed.stderr
    assert "dsseEnvelope" in json.loads((folder / "bundle.json").read_text())

    def prove(snapshot: Path) -> Run:
        words = (f"--verify={folder / 'bundle.json'}", f"--key={folder / 'team.pub'}")
        return started("-m", "meshgate", "replay", snapshot, *words, cwd=ROOT)

    proved = prove(HEALTHY)
    assert proved.code == 0, proved.out
    assert "the same verdict" in proved.out
    assert prove(BROKEN).code == 4
