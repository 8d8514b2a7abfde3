"""Every file of claims is a program: it runs by itself, from anywhere, and exits as the gate."""

from collections.abc import Callable
from pathlib import Path

import pytest

from meshgate.snapshot.ambient import ZtunnelReading
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.retry_after import RetryFilters
from tests.conftest import ROOT, Gate
from tests.support import ambient_builders, ingress_builders
from tests.support.builders import expecting, pushed, reading, retry_filter, snapshot, sync
from tests.support.mtls_builders import PERMISSIVE, port_probe, port_probes

SERVES_NONE = ZtunnelReading(pod="istio-system/ztunnel-1", active=0)
FILES = sorted((ROOT / "verification").glob("*.py"))

# for each file, a mesh of which one of its claims does not hold
BROKEN = {
    "check_mtls.py": snapshot(port_probes=port_probes(port_probe(**PERMISSIVE))),
    "check_retry_after.py": snapshot(
        retry_filters=RetryFilters(seen=1, filters=(retry_filter(selector={"app": "no"}),))
    ),
    "check_ingress_gateway.py": ingress_builders.snapshot(
        endpoint_slices=(ingress_builders.endpoints(80),)
    ),
    "verify_controlplane.py": snapshot(
        istiod=(reading(proxies=[sync(listener=pushed(answered=False, error="no filter"))]),)
    ),
    "verify_precheck.py": snapshot(**expecting(target_version="1.29.0")),
    "verify_ambient.py": snapshot(**{**ambient_builders.HEALTHY, "ztunnels": (SERVES_NONE,)}),
}


# and one of which all hold, where that is more than every mesh has
HEALTHY = {
    "check_ingress_gateway.py": ingress_builders.snapshot(),
    "verify_ambient.py": snapshot(**ambient_builders.HEALTHY),
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that has nothing to do with the project."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
@pytest.mark.parametrize("code", [0, 1, 10])
def test_it_exits_as_its_claims_deserve(
    started: Gate,
    recorded: Callable[[Snapshot], Path],
    elsewhere: Path,
    file: Path,
    code: int,
) -> None:
    seen = {0: HEALTHY.get(file.name, snapshot()), 1: BROKEN[file.name], 10: snapshot(read=())}[
        code
    ]

    run = started(file, f"--snapshot={recorded(seen)}", cwd=elsewhere)

    assert run.code == code, run.out
    assert run.last.startswith("GATE OPEN" if code == 0 else "GATE CLOSED")
    assert {each.name for each in elsewhere.iterdir()} == {"reports"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_without_a_cluster_it_says_so(started: Gate, elsewhere: Path, file: Path) -> None:
    run = started(file, cwd=elsewhere)

    assert run.code == 4, run.out
    assert "no cluster to look at" in run.out
