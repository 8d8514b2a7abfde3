"""Snapshots of earlier schemas: what they hold is what they held."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from meshgate.snapshot.items import expand
from meshgate.snapshot.model import Gap
from meshgate.snapshot.sources import GROUPS
from meshgate.snapshot.store import FORMAT, UnusableSnapshot, load

FIRST = {
    "meshgateVersion": "0.1.0",
    "taken": "2026-01-02T12:00:00Z",
    "started": "2026-01-02T12:00:00Z",
    "source": "context old",
    "read": ["contacts", "istiod_numbers", "pods", "shadow", "tls_routes"],
    "gaps": [{"item": "rehearsal", "why": "no answer", "heals": True}],
    "istiodNumbers": [{"pod": "istiod-1", "before": {"a": 1.0}}],
    "contacts": {"identity": "spiffe://x/y", "contacts": [{"pod": "shop/web", "port": 80}]},
    "pair": {"notAsked": "no image"},
    "signing": {"notAsked": "no token"},
    "shadow": {"notTried": "no programs"},
}


def written(file: Path, body: Any, schema: int = 1) -> Path:
    """A file of a schema, with the right digest."""
    packed = json.dumps(body).encode()
    header = {"format": FORMAT, "schema": schema, "sha256": hashlib.sha256(packed).hexdigest()}
    file.write_bytes(gzip.compress(json.dumps(header).encode() + b"\n" + packed + b"\n"))
    return file


def test_a_snapshot_of_the_first_schema_keeps_what_it_holds(tmp_path: Path) -> None:
    found = load(written(tmp_path / "first.json.gz", FIRST))

    assert found.istiod_metrics[0].before == {"a": 1.0}
    assert found.port_probes.identity == "spiffe://x/y"
    assert [(each.pod, each.port) for each in found.port_probes.probes] == [("shop/web", 80)]
    assert found.pair.skipped_reason == "no image"
    assert found.signing.skipped_reason == "no token"
    assert found.shadow.skipped_reason == "no programs"
    assert found.gaps == (Gap(item="offline_bundle", why="no answer", transient=True),)
    assert {"istiod_metrics", "port_probes", "pods", "shadow"} <= set(found.read)


def test_kinds_that_the_first_schema_did_not_know_are_read_where_routing_was(
    tmp_path: Path,
) -> None:
    with_routing = load(written(tmp_path / "a.json.gz", FIRST))
    without = load(written(tmp_path / "b.json.gz", {**FIRST, "read": ["pods"]}))

    assert {"tcp_routes", "udp_routes", "listener_sets"} <= set(with_routing.read)
    assert without.read == ("injector_configs", "pods")
    assert set(expand(GROUPS["routing"])) <= set(with_routing.read)


@pytest.mark.parametrize(
    ("item", "others"),
    [
        ("ingress", {"mesh_configs", "definitions"}),
        ("ambient_index", {"service_entries"}),
        ("settings", {"gateway_classes", "listener_sets"}),
        (
            "analysis",
            {
                *("telemetries", "mesh_configs", "authorization_policies", "workload_entries"),
                *("request_authentications", "service_imports"),
            },
        ),
    ],
)
def test_what_checks_read_since_then_does_not_make_a_recording_unknown(
    tmp_path: Path, item: str, others: set[str]
) -> None:
    second = {**FIRST, "shadow": {}, "gaps": [], "contacts": {}, "read": [item]}
    found = load(written(tmp_path / "second.json.gz", second, schema=2))

    assert set(found.read) == {item, *others}


@pytest.mark.parametrize("body", [[], 7, {"gaps": [{}]}, {"gaps": 3}, {"pair": 5}, {}, None])
def test_a_body_that_is_no_snapshot_is_refused(tmp_path: Path, body: Any) -> None:
    with pytest.raises(UnusableSnapshot, match="cannot be decoded"):
        load(written(tmp_path / "odd.json.gz", body))
