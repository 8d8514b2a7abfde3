"""The upgrade in the shadow, 1.28.2 to 1.29.1: what would break is known with nothing applied."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.harness import Lab
from tests.lab.rights import VERIFIER, grant

OLD, NEW = "1.28.2", "1.29.1"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A mesh that runs the old version."""
    given = os.environ.get("MESHGATE_LAB_OLD")
    lab = Lab(given or f"shadow-{os.getpid()}", tmp_path_factory.mktemp("shadow"))
    if given:
        lab.verb("reset")
        yield lab
        return
    try:
        lab.verb("up", "--istio", OLD)
        yield lab
    finally:
        lab.verb("down")


def target(lab: Lab, version: str, folder: Path) -> list[str]:
    """A version's programs and manifests, as options."""
    if not folder.joinpath(version).exists():
        lab.verb("target", version, str(folder / version))
    return [
        f"--istiod={folder}/{version}/pilot-discovery",
        f"--envoy={folder}/{version}/envoy",
        f"--manifests={folder}/{version}/istiod.yaml",
    ]


def shadow(
    lab: Lab, version: str, folder: Path, *words: str, identity: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`meshgate shadow` with a version's programs, as an engineer would call it."""
    program = str(Path(sys.executable).with_name("meshgate"))
    return lab.run(program, "shadow", *target(lab, version, folder), *words, identity=identity)


def versions(lab: Lab) -> dict[str, str]:
    """What a writer would change: the objects that Istio's controllers write, by version."""
    kinds = (
        "envoyfilters,virtualservices,gateways.networking.istio.io,configmaps,services,deployments"
        ",gateways.gateway.networking.k8s.io,httproutes,mutatingwebhookconfigurations"
        ",validatingwebhookconfigurations,serviceentries"
    )
    elected = ("istio-leader", "election", "autoallocate")
    return {
        f"{each['kind']} {each['metadata'].get('namespace')}/{name}": each["metadata"][
            "resourceVersion"
        ]
        for each in lab.get(kinds, "-A")["items"]
        # the running istiod renews these itself
        if not any(word in (name := each["metadata"]["name"]) for word in elected)
    }


def changed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that say what would be other than it is."""
    return [line for line in done.stdout.splitlines() if line.startswith(("all ", "some "))]


def test_the_same_version_changes_nothing(old: Lab, tmp_path: Path) -> None:
    # so a proxy that is derived from its pod is given what that pod's proxy is given
    done = shadow(old, OLD, tmp_path)

    assert (done.returncode, changed(done)) == (0, []), done.stdout + done.stderr


def test_on_a_healthy_mesh_nothing_breaks_and_nothing_is_written(old: Lab, tmp_path: Path) -> None:
    grant(old, "--shadow")
    before = versions(old)

    done = shadow(old, NEW, tmp_path, f"--save={tmp_path}/shadow.json", identity=VERIFIER)

    assert done.returncode == 0, done.stdout + done.stderr
    assert versions(old) == before
    # what the release changes everywhere is one line, and it is the one of its release notes
    (told,) = changed(done)
    assert told.startswith("all ")
    assert "trackRemaining" in told
    assert json.loads((tmp_path / "shadow.json").read_text())["version"] == NEW
