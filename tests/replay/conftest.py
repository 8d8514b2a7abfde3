"""What the replays share: the healthy recording after one change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load

Recording = dict[str, Any]
Break = Callable[[Recording], None]
Broken = Callable[[Break], Path]


def named(objects: list[Recording], prefix: str) -> Recording:
    """The first object whose name begins so."""
    return next(each for each in objects if each["metadata"]["name"].startswith(prefix))


@pytest.fixture
def broken(root: Path, recorded: Callable[[Snapshot], Path]) -> Broken:
    """The healthy recording after one change, as a file."""

    def write(change: Break) -> Path:
        healthy = load(root / "tests/fixtures/schema-1/healthy.json.gz")
        recording = msgspec.json.decode(msgspec.json.encode(healthy))
        change(recording)
        return recorded(msgspec.convert(recording, Snapshot))

    return write


def tunnel_probes(recording: Recording, account: str, authority: str, mesh: Recording) -> Recording:
    """Return what connections to one pod of library showed, as ambient or waypoint probes.

    Args:
        recording: whose time the certificates have.
        account: the pod's ServiceAccount; the pod is ACCOUNT-1.
        authority: the address and port that were connected to.
        mesh: what a caller of the mesh got.
    """
    refused = {"end": "refused", "error": "certificate required"}
    name, taken = f"spiffe://cluster.local/ns/library/sa/{account}", recording["taken"]
    chain = [{"subject": "", "notBefore": taken, "notAfter": taken, "sans": [name]}]
    probe = {
        "chain": chain,
        "pod": f"library/{account}-1",
        "authority": authority,
        "port": int(authority.rpartition(":")[2]),
    }
    return {
        "identity": "spiffe://cluster.local/ns/istio-system/sa/verifier",
        "probes": [{**probe, "anonymous": refused, "foreign": refused, "mesh": mesh}],
    }
