"""The model: of a pod as an API server sends it, only what claims use is ever decoded."""

from pathlib import Path

import msgspec
import pytest

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Pod
from tests.support.builders import expecting, mesh, sidecar, snapshot

# in the fixture's environment, arguments, command, foreign annotation and last-applied object
PLANTED = b"planted-secret"


class Pods(Base, frozen=True):
    """A list as the API server sends it."""

    items: tuple[Pod, ...]


@pytest.fixture
def recorded(root: Path) -> bytes:
    """A real pod with a native sidecar, into which a secret was planted."""
    return (root / "tests/fixtures/pods.json").read_bytes()


def test_environment_arguments_and_foreign_annotations_are_dropped(recorded: bytes) -> None:
    (pod,) = msgspec.json.decode(recorded, type=Pods).items

    assert recorded.count(PLANTED) == 5
    assert PLANTED not in msgspec.json.encode(pod)


def test_what_claims_use_is_kept(recorded: bytes) -> None:
    (pod,) = msgspec.json.decode(recorded, type=Pods).items

    assert (pod.metadata.namespace, pod.metadata.name) == ("demo", "client-648c6fc698-x4vkk")
    assert pod.metadata.labels["app"] == "client"
    assert pod.metadata.annotations.revision == "default"
    assert [each.name for each in pod.spec.containers] == ["app"]
    assert [each.name for each in pod.spec.init_containers] == ["istio-init", "istio-proxy"]
    assert pod.status.phase == "Running"
    assert pod.status.pod_ip
    assert {each.type: each.status for each in pod.status.conditions}["Ready"] == "True"
    running = {each.name: each.state.running for each in pod.status.init_container_statuses}
    assert running["istio-init"] is None
    assert running["istio-proxy"] is not None


def test_a_snapshot_is_shown_in_one_short_line() -> None:
    big = snapshot(pods=tuple(sidecar(f"web-{n}") for n in range(100)), **expecting())

    assert repr(big) == "<Snapshot of context test at 2026-01-02T12:00:00Z>"
    assert repr(mesh()) == "<Mesh context test>"
