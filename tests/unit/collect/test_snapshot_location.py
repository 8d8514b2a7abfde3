"""Where snapshots are kept: what is read is what was kept last, whole, or a clear no."""

import base64
import random
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.snapshot.store import UnusableSnapshot, load
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import sidecar, snapshot
from tests.support.config_maps import MAPS, ConfigMaps
from tests.support.fakes import ANY, Request, refusal

ADDRESS = "configmap://istio-system/baseline"


@pytest.fixture
def maps() -> ConfigMaps:
    """None yet."""
    return ConfigMaps()


@pytest.fixture
def cluster(serve: Serve, maps: ConfigMaps, tmp_path: Path) -> Cluster:
    """The cluster that holds them."""
    api = serve({ANY: maps.answer})
    return Cluster(config=str(fakes.kubeconfig(tmp_path / "kubeconfig", api.url)), patience=0.0)


# noise, which no compression makes smaller than what one ConfigMap holds
BIG = snapshot(pods=(sidecar(labels={"noise": random.Random(1).randbytes(900_000).hex()}),))
SMALL = snapshot()


@pytest.mark.parametrize(("kept", "parts"), [(SMALL, 1), (BIG, 2)], ids=["small", "big"])
def test_what_is_kept_in_config_maps_comes_back(
    cluster: Cluster, maps: ConfigMaps, kept: Any, parts: int
) -> None:
    SnapshotLocation(ADDRESS).save(kept, cluster)

    assert SnapshotLocation(ADDRESS).load(cluster) == kept
    assert len(maps.parts) == parts
    labels = [each["metadata"]["labels"] for each in maps.held.values()]
    assert labels == [{"app.kubernetes.io/managed-by": "meshgate"}] * (parts + 1)


def test_what_was_kept_before_is_replaced_and_cleared_away(
    cluster: Cluster, maps: ConfigMaps
) -> None:
    SnapshotLocation(ADDRESS).save(BIG, cluster)
    before = maps.parts

    SnapshotLocation(ADDRESS).save(SMALL, cluster)

    assert SnapshotLocation(ADDRESS).load(cluster) == SMALL
    assert not set(before) & set(maps.parts)


def test_what_is_kept_twice_is_still_there(cluster: Cluster) -> None:
    SnapshotLocation(ADDRESS).save(SMALL, cluster)

    SnapshotLocation(ADDRESS).save(SMALL, cluster)

    assert SnapshotLocation(ADDRESS).load(cluster) == SMALL


@pytest.mark.parametrize(
    ("verb", "what"), [("POST", b'-1"'), ("PUT", b'"parts"')], ids=["last part", "head"]
)
def test_a_save_that_breaks_off_leaves_what_was_there(
    cluster: Cluster, maps: ConfigMaps, verb: str, what: bytes
) -> None:
    SnapshotLocation(ADDRESS).save(SMALL, cluster)
    gone = refusal(500, "etcd is gone")
    maps.no = lambda request: gone if request.verb == verb and what in request.body else None

    with pytest.raises(ReadError, match="etcd is gone"):
        SnapshotLocation(ADDRESS).save(BIG, cluster)

    assert SnapshotLocation(ADDRESS).load(cluster) == SMALL


@pytest.mark.parametrize(("verb", "right"), [("GET", "get"), ("PUT", "create and update")])
def test_a_right_that_is_missing_is_named(
    cluster: Cluster, maps: ConfigMaps, verb: str, right: str
) -> None:
    maps.no = lambda request: refusal(403, "forbidden") if request.verb == verb else None

    with pytest.raises(ReadError, match=f"no right to {right} configmaps in istio-system"):
        SnapshotLocation(ADDRESS).save(SMALL, cluster)


def test_where_nothing_was_kept_there_is_no_snapshot(cluster: Cluster) -> None:
    with pytest.raises(UnusableSnapshot, match="no snapshot in configmap://istio-system/baseline"):
        SnapshotLocation(ADDRESS).load(cluster)


def test_what_is_kept_anew_while_it_is_read_comes_whole(cluster: Cluster, maps: ConfigMaps) -> None:
    old, new = snapshot(kubernetes_version="old"), snapshot(kubernetes_version="new")
    SnapshotLocation(ADDRESS).save(old, cluster)
    (part,) = maps.parts

    def meanwhile(request: Request) -> None:
        if str(request) == f"GET {MAPS}/{part}":
            maps.no = lambda request: None
            SnapshotLocation(ADDRESS).save(new, cluster)

    maps.no = meanwhile

    assert SnapshotLocation(ADDRESS).load(cluster) == new


def test_a_part_that_was_changed_is_refused(cluster: Cluster, maps: ConfigMaps) -> None:
    SnapshotLocation(ADDRESS).save(SMALL, cluster)
    (part,) = maps.parts
    packed = bytearray(base64.b64decode(maps.held[part]["binaryData"]["part"]))
    packed[len(packed) // 2] ^= 1
    maps.held[part]["binaryData"]["part"] = base64.b64encode(packed).decode()

    with pytest.raises(UnusableSnapshot, match="was changed"):
        SnapshotLocation(ADDRESS).load(cluster)


def test_a_part_that_is_missing_is_refused(cluster: Cluster, maps: ConfigMaps) -> None:
    SnapshotLocation(ADDRESS).save(BIG, cluster)
    del maps.held[maps.parts[0]]

    with pytest.raises(UnusableSnapshot):
        SnapshotLocation(ADDRESS).load(cluster)


@pytest.mark.parametrize(
    "foreign",
    [{}, {"data": {}}, {"data": {"parts": "x", "sha256": ""}}],
    ids=["empty", "no head", "a part that is none"],
)
def test_a_config_map_of_somebody_else_is_no_snapshot(
    cluster: Cluster, maps: ConfigMaps, foreign: Any
) -> None:
    maps.held |= {"baseline": foreign, "x": {"binaryData": {"part": "%%%"}}}

    with pytest.raises(UnusableSnapshot):
        SnapshotLocation(ADDRESS).load(cluster)


def test_a_file_is_a_place_too(tmp_path: Path) -> None:
    place = SnapshotLocation(str(tmp_path / "baseline.json.gz"))

    place.save(SMALL, None)

    assert place.load(None) == SMALL == load(tmp_path / "baseline.json.gz")
    assert not place.in_cluster


@pytest.mark.parametrize(
    "address",
    ["configmap://", "configmap://a", "configmap://a/", "configmap:///b", "configmap://a/b/c"],
)
def test_an_address_that_names_no_config_map_is_a_mistake(address: str) -> None:
    with pytest.raises(ValueError, match="is not configmap://NAMESPACE/NAME"):
        SnapshotLocation(address)


def test_config_maps_need_a_cluster() -> None:
    with pytest.raises(ReadError, match="needs a cluster"):
        SnapshotLocation(ADDRESS).load(None)
