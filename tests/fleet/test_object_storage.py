"""Recordings and reports in a real object storage, through the commands."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from meshgate.pipeline.recordings import keep, open_place, read
from meshgate.snapshot.model import Snapshot
from tests.conftest import Estate, Gate
from tests.fleet.conftest import ACCESS, SECRET, ObjectStorage
from tests.support import fakes
from tests.support.builders import AT, VERSION, istiod, sidecar, snapshot

Estates = Callable[[Snapshot], Estate]


@pytest.fixture
def here(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """The bucket, for this process."""
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    yield storage
    from s3fs import S3FileSystem  # noqa: PLC0415 - its clients are shared

    S3FileSystem.clear_instance_cache()


@pytest.fixture
def meshgate(started: Gate, storage: ObjectStorage, root: Path) -> Gate:
    """Run a command of meshgate with the credentials of the bucket, which it never prints."""

    def run(*words: object, **environment: str) -> Any:
        run = started("-m", "meshgate", *words, cwd=root, **{**storage.environment, **environment})
        assert SECRET not in run.out
        assert ACCESS not in run.out
        assert "Traceback" not in run.out
        return run

    return run


def files(storage: ObjectStorage) -> list[str]:
    """Return the name of each object in the bucket."""
    return sorted(
        str(each.relative_to(storage.folder))
        for each in storage.folder.rglob("*")
        if each.is_file()
    )


def test_a_cluster_is_recorded_listed_and_evaluated(
    meshgate: Gate, storage: ObjectStorage, estate: Estates, tmp_path: Path
) -> None:
    there = estate(snapshot(pods=(istiod(ip=fakes.address()), sidecar())))
    place = f"{storage.url}/all"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pilot-discovery", "envoy", "istiod.yaml"):
        (programs / name).touch()

    recorded = meshgate("record", place, *there.options, "--cluster-name=eu-1")

    stored = re.search(r"stored the recording (eu-1/\S+)", recorded.last)
    assert stored is not None, recorded.out
    name = stored[1]
    assert files(storage) == [f"all/{name}.json", f"all/{name}.json.gz"]
    listed = meshgate("recordings", place)
    assert listed.code == 0
    assert listed.last.startswith(f"{name}  istiod {VERSION}")
    fleet = meshgate(
        *("fleet", place, "--target-version=1.29.1", f"--programs={programs}"),
        *(f"--cache={tmp_path / 'cache'}", f"--json={tmp_path / 'fleet.json'}"),
    )
    # the programs cannot simulate anything: nothing passes
    assert fleet.code == 10, fleet.out
    (only,) = json.loads((tmp_path / "fleet.json").read_text())["clusters"]
    assert (only["name"], only["state"]) == ("eu-1", "unknown")
    # stage A has judged the recording that was read
    assert any("PC101" in why for why in only["unknown"])


def test_only_the_last_recordings_of_a_cluster_are_kept(here: ObjectStorage) -> None:
    place = open_place(f"{here.url}/all", pytest.fail)
    taken = {
        (cluster, day): snapshot(taken=AT + timedelta(days=day), source=f"context {cluster}")
        for cluster in ("eu-1", "arn:aws:eks:eu:1:cluster/a")
        for day in (1, 2, 3)
    }

    for each in taken.values():
        keep(place, each, last=2)

    heads = place.heads()
    assert len(files(here)) == 2 * len(heads)
    assert {(each.cluster, (each.taken - AT).days) for each in heads} == {
        key for key in taken if key[1] > 1
    }
    for head in heads:
        assert read(place, head) == taken[head.cluster, (head.taken - AT).days]


def test_a_recording_of_several_parts_is_read_as_it_was_taken(here: ObjectStorage) -> None:
    from meshgate.collect.storage import Storage  # noqa: PLC0415

    content = bytes(range(256)) * (240 * 1024)  # 60 MiB: more than s3fs sends at once

    Storage(here.url).write("large", content)

    assert Storage(here.url).read("large") == content
    assert (here.folder / "large").stat().st_size == len(content)


def test_the_reports_of_a_run_are_stored_and_listed(
    gate: Gate, meshgate: Gate, storage: ObjectStorage, root: Path
) -> None:
    run = gate(
        *("-m", "controlplane", f"--snapshot={root / 'demo/healthy.json.gz'}"),
        f"--report-to={storage.url}/reports/eu-1/controlplane",
        **storage.environment,
    )

    assert run.code == 0, run.out
    assert "could not publish" not in run.out
    stored = {name.rpartition("/")[2] for name in files(storage)}
    assert stored >= {"junit.xml", "index.html", "verdict.json"}
    index = meshgate("index", f"{storage.url}/reports")
    assert index.code == 0, index.out
    assert "reports/index.html" in files(storage)


@pytest.mark.parametrize("command", ["recordings", "record", "fleet", "index"])
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"AWS_SECRET_ACCESS_KEY": f"not-{SECRET}"}, "is not available: "),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "is not available: EndpointConnectionError"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "is not available: "),
    ],
    ids=["wrong key", "no server", "no key"],
)
def test_what_is_not_available_is_said_and_is_no_verdict(
    meshgate: Gate, estate: Estates, command: str, changed: dict[str, str], why: str
) -> None:
    there = estate(snapshot(pods=(istiod(ip=fakes.address()), sidecar())))
    words = {"record": there.options, "fleet": ("--target-version=1.31.0",)}.get(command, ())
    environment = {"AWS_MAX_ATTEMPTS": "1", **changed}

    run = meshgate(command, "s3://mesh-recordings/all", *words, **environment)

    assert run.code == 10, run.out
    assert f"s3://mesh-recordings/all {why}" in " ".join(run.out.split())


def test_no_bucket_is_created(meshgate: Gate, storage: ObjectStorage, estate: Estates) -> None:
    there = estate(snapshot(pods=(istiod(ip=fakes.address()), sidecar())))

    run = meshgate("record", "s3://mesh-recordingz/all", *there.options)

    assert run.code == 10, run.out
    assert "s3://mesh-recordingz/all is not available" in " ".join(run.out.split())
    assert [each.name for each in storage.folder.parent.iterdir()] == ["mesh-recordings"]


def test_a_run_that_cannot_store_its_reports_keeps_its_verdict(
    gate: Gate, storage: ObjectStorage, root: Path
) -> None:
    environment = {**storage.environment, "AWS_SECRET_ACCESS_KEY": f"not-{SECRET}"}

    run = gate(
        *("-m", "controlplane", f"--snapshot={root / 'demo/healthy.json.gz'}"),
        f"--report-to={storage.url}/reports",
        **environment,
    )

    assert run.code == 0, run.out
    assert "could not publish the report to s3://mesh-recordings/reports" in run.out
    assert SECRET not in run.out
