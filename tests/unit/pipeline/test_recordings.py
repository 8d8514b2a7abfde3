"""Recordings of many clusters: the newest of each, whole, and no more than are kept."""

from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.pipeline.recordings import (
    Recordings,
    cluster_name,
    head_of,
    keep,
    newest,
    open_place,
    read,
)
from meshgate.snapshot.model import Gap, Snapshot
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.store import UnusableSnapshot, pack
from tests.conftest import Estate, Gate, Serve
from tests.support import fakes
from tests.support.builders import AT, VERSION, istiod, sidecar, snapshot
from tests.support.config_maps import ConfigMaps
from tests.support.fakes import ANY

CONFIG_MAP = "configmap://istio-system/recordings"


def taken(day: int, cluster: str = "eu-1", **changes: object) -> Snapshot:
    """A capture of a cluster on this day."""
    at = AT + timedelta(days=day)
    return snapshot(taken=at, source=f"context {cluster}", **changes)


@pytest.fixture
def maps(serve: Serve, tmp_path: Path) -> tuple[ConfigMaps, Cluster]:
    """The ConfigMaps of a cluster."""
    found = ConfigMaps()
    api = serve({ANY: found.answer})
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    return found, Cluster(config=str(config), patience=0.0)


@pytest.fixture(params=["folder", "object storage", "ConfigMaps"])
def place(
    request: pytest.FixtureRequest, maps: tuple[ConfigMaps, Cluster], tmp_path: Path
) -> Recordings:
    """A place without recordings."""
    where = {
        "folder": f"{tmp_path}/all",
        "object storage": f"memory:/{tmp_path}",
        "ConfigMaps": CONFIG_MAP,
    }
    return open_place(where[request.param], lambda context: maps[1])


def test_nothing_is_recorded_yet(place: Recordings) -> None:
    assert place.heads() == []


def test_a_recording_is_read_as_it_was_taken(place: Recordings) -> None:
    recorded = taken(1)

    head = keep(place, recorded, last=3)

    assert place.heads() == [head]
    assert read(place, head) == recorded


def test_only_the_last_recordings_of_a_cluster_are_kept(place: Recordings) -> None:
    heads = [keep(place, taken(day), last=2) for day in (3, 1, 2, 4)]

    assert sorted(place.heads(), key=lambda each: each.taken) == [heads[0], heads[3]]
    with pytest.raises(UnusableSnapshot):
        read(place, heads[2])


def test_other_clusters_keep_their_recordings(tmp_path: Path) -> None:
    place = open_place(str(tmp_path), pytest.fail)
    # the name of a cluster may be a path
    names = ["eu-1", "arn:aws:eks:eu:1:cluster/a", "..", "eu 2"]
    for name in names:
        for day in (1, 2):
            keep(place, taken(day, name), last=1)

    found = newest(place.heads())

    assert [each.cluster for each in found] == sorted(names)
    assert {each.taken for each in found} == {AT + timedelta(days=2)}
    assert [cluster_name(read(place, each)) for each in found] == sorted(names)
    assert {each.parent.parent for each in tmp_path.glob("**/*.json")} == {tmp_path}


def test_a_head_says_what_the_recording_contains() -> None:
    gap = Gap(item="workloads", why="no right")
    recorded = taken(1, gaps=(gap,), offline_bundle=OfflineBundle(connected=("a.b", "c.b")))

    head = head_of(recorded, pack(recorded))

    assert (head.cluster, head.versions, head.proxies) == ("eu-1", VERSION, 2)
    assert head.gaps == ("workloads: no right",)
    assert head.age(AT + timedelta(days=2)) == timedelta(days=1)


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    place = open_place(str(tmp_path), pytest.fail)
    head = keep(place, taken(1), last=1)
    (file,) = tmp_path.glob("*/*.json.gz")
    file.write_bytes(pack(taken(1, kubernetes_version="v1.0.0")))

    with pytest.raises(UnusableSnapshot, match="was changed after it was taken"):
        read(place, head)


def test_a_recording_does_not_pass_for_one_of_another_cluster(tmp_path: Path) -> None:
    place = open_place(str(tmp_path), pytest.fail)
    recorded = taken(1)
    packed = pack(recorded)
    head = msgspec.structs.replace(head_of(recorded, packed), cluster="us-1")
    place.put(head, packed)

    with pytest.raises(UnusableSnapshot, match="is not of this cluster"):
        read(place, head)


def test_a_head_in_the_folder_of_another_cluster_is_an_error(tmp_path: Path) -> None:
    place = open_place(str(tmp_path), pytest.fail)
    keep(place, taken(1), last=1)
    (tmp_path / "eu-1").rename(tmp_path / "us-1")

    with pytest.raises(ValueError, match="is the head of another recording"):
        place.heads()


def test_what_is_not_a_head_is_named(tmp_path: Path) -> None:
    (tmp_path / "eu-1").mkdir()
    (tmp_path / "eu-1/x.json").write_text("[]")

    with pytest.raises(ReadError, match=r"eu-1/x\.json is not the head of a recording"):
        open_place(str(tmp_path), pytest.fail).heads()


def test_a_place_may_name_a_context(maps: tuple[ConfigMaps, Cluster]) -> None:
    asked: list[str] = []

    def connect(context: str) -> Cluster:
        asked.append(context)
        return maps[1]

    open_place(f"{CONFIG_MAP}@eu-1", connect)

    assert asked == ["eu-1"]


def test_a_storage_without_its_package_says_which() -> None:
    with pytest.raises(ReadError, match=r"gs://bucket/recordings needs a package .* gcsfs"):
        open_place("gs://bucket/recordings", pytest.fail)


def test_a_cluster_is_recorded_and_listed(
    started: Gate, estate: object, tmp_path: Path, root: Path
) -> None:
    there: Estate = estate(  # type: ignore[operator]
        snapshot(pods=(istiod(ip=fakes.address()), sidecar()))
    )
    meshgate = ("-c", "from meshgate.cli import app; app()")

    run = started(
        *meshgate, "record", tmp_path / "all", *there.options, "--cluster-name=eu-1", cwd=root
    )
    listed = started(*meshgate, "recordings", tmp_path / "all", cwd=root)

    assert listed.code == 0, run.out + listed.out
    (head,) = open_place(str(tmp_path / "all"), pytest.fail).heads()
    assert run.last.startswith(f"stored the recording eu-1/{head.name} ({head.size} bytes")
    assert run.code == (10 if head.gaps else 0)
    assert head.sha256[:12] in listed.out
    assert f"istiod {VERSION}" in listed.out
    assert f"{len(head.gaps)} gaps" in listed.out
    assert isinstance(head.taken, datetime)


def test_where_nothing_was_recorded_the_list_fails(
    started: Gate, tmp_path: Path, root: Path
) -> None:
    run = started("-m", "meshgate", "recordings", tmp_path / "none", cwd=root)

    assert run.code == 10
    assert "there are no recordings" in run.out
