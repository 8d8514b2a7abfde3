"""The file of a snapshot: it comes back as it was written, and nothing else is ever believed."""

import gzip
import hashlib
import json
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot import store
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.model import SCHEMA, Gap, Snapshot
from meshgate.snapshot.store import FORMAT, UnusableSnapshot, load, save
from tests.support.builders import (
    LISTENER,
    after,
    envoy_filter,
    expecting,
    message,
    pushed,
    reading,
    sidecar,
    snapshot,
    sync,
)


@pytest.fixture
def full() -> Snapshot:
    """A snapshot in which every field holds something."""
    return snapshot(
        **expecting(istio_namespace="mesh", target_version="1.29.1", stale_after=5.0),
        pods=(sidecar(native=True, deleted=True, labels={"app": "web"}),),
        envoy_filters=(envoy_filter("retries", selects={"app": "web"}),),
        istiod=(
            reading(proxies=[sync(listener=pushed(answered=False, error="no"))]),
            reading("istiod-2", error="no answer"),
        ),
        unanswered_since={f"web-1.shop|{LISTENER}": after(-90)},
        analysis=Analysis(istioctl_version="1.29.1", messages=(message("IST0101"),)),
        gaps=(Gap(item="namespaces", why="no right", remedy="grant it", transient=True),),
    )


@pytest.fixture
def saved(full: Snapshot, tmp_path: Path) -> Path:
    """Its file."""
    file = tmp_path / "saved.json.gz"
    save(full, file)
    return file


def test_what_is_loaded_equals_what_was_saved(full: Snapshot, saved: Path) -> None:
    assert load(saved) == full


def test_equal_snapshots_are_equal_bytes(full: Snapshot, saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "deeper/another-name.json.gz"

    save(load(saved), again)

    assert again.read_bytes() == saved.read_bytes()
    assert again.read_bytes()[4:8] == bytes(4), "gzip keeps the time of writing there"


def test_the_file_names_its_format_its_schema_and_its_digest(saved: Path) -> None:
    header, body = gzip.decompress(saved.read_bytes()).splitlines()

    assert json.loads(header) == {
        "format": FORMAT,
        "schema": SCHEMA,
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def test_the_body_is_the_json_of_the_snapshot(full: Snapshot, saved: Path) -> None:
    _, body = gzip.decompress(saved.read_bytes()).splitlines()

    assert body == msgspec.json.encode(full)


def test_packing_needs_no_memory_for_the_whole_body() -> None:
    large = snapshot(pods=tuple(sidecar(f"web-{number}") for number in range(5000)))

    tracemalloc.start()
    try:
        packed = store.pack(large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < len(gzip.decompress(packed)) / 2


@pytest.mark.parametrize("kept", [0, 5, 11, 0.25, 0.5, 0.9, -9, -8, -1])
def test_a_file_that_was_cut_off_is_refused(saved: Path, kept: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])

    with pytest.raises(UnusableSnapshot, match=r"saved\.json\.gz"):
        load(saved)


def test_a_flipped_bit_is_refused(saved: Path) -> None:
    whole = bytearray(saved.read_bytes())
    whole[len(whole) // 2] ^= 0x10
    saved.write_bytes(whole)

    with pytest.raises(UnusableSnapshot, match=r"saved\.json\.gz"):
        load(saved)


def rewritten(file: Path, change: Callable[[bytes, bytes], bytes]) -> None:
    """Packs what `change` makes of a file's header and body."""
    header, body = gzip.decompress(file.read_bytes()).splitlines()
    file.write_bytes(gzip.compress(change(header, body)))


def test_an_edited_body_is_refused(saved: Path) -> None:
    rewritten(saved, lambda header, body: header + b"\n" + body.replace(b"web-1", b"web-2"))

    with pytest.raises(UnusableSnapshot, match="changed after it was taken"):
        load(saved)


@pytest.mark.parametrize(
    ("schema", "what_to_do"),
    [(SCHEMA + 1, "use a newer meshgate"), (0, "capture it again")],
)
def test_another_schema_is_refused_with_what_to_do(
    saved: Path, schema: int, what_to_do: str
) -> None:
    def change(header: bytes, body: bytes) -> bytes:
        return json.dumps({**json.loads(header), "schema": schema}).encode() + b"\n" + body

    rewritten(saved, change)

    with pytest.raises(UnusableSnapshot, match=f"has schema {schema}.*{what_to_do}"):
        load(saved)


def test_a_file_that_decompresses_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.json.gz"
    file.write_bytes(gzip.compress(bytes(2 * 1024**2)))
    monkeypatch.setattr(store, "LARGEST", 1024**2)

    with pytest.raises(UnusableSnapshot, match=r"bomb\.json\.gz is larger than 1 MiB"):
        load(file)


@pytest.mark.parametrize("schema", [1, SCHEMA])
def test_a_body_that_is_nested_without_end_is_refused(saved: Path, schema: int) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000

    def change(header: bytes, body: bytes) -> bytes:
        digest = hashlib.sha256(deep).hexdigest()
        values = {**json.loads(header), "sha256": digest, "schema": schema}
        return json.dumps(values).encode() + b"\n" + deep

    rewritten(saved, change)

    with pytest.raises(UnusableSnapshot, match="nested too deeply"):
        load(saved)


def test_a_body_of_this_schema_that_is_no_snapshot_is_refused(saved: Path) -> None:
    def change(header: bytes, body: bytes) -> bytes:
        digest = hashlib.sha256(b"{}").hexdigest()
        return json.dumps({**json.loads(header), "sha256": digest}).encode() + b"\n{}"

    rewritten(saved, change)

    with pytest.raises(UnusableSnapshot, match="cannot be decoded"):
        load(saved)


def foreign(value: Any) -> bytes:
    return gzip.compress(json.dumps(value).encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"items": []}', id="plain JSON"),
        pytest.param(foreign({"items": []}), id="foreign JSON"),
        pytest.param(foreign({"format": "other", "schema": 1, "sha256": ""}), id="another format"),
        pytest.param(gzip.compress(b'{"format": "\xff"}'), id="not UTF-8"),
        pytest.param(gzip.compress(b""), id="nothing"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "foreign.gz"
    file.write_bytes(content)

    with pytest.raises(UnusableSnapshot, match=r"foreign\.gz"):
        load(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableSnapshot, match="No such file"):
        load(tmp_path / "missing.json.gz")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond some bytes: what a full disk does to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_leaves_what_was_there(
    full: Snapshot, saved: Path, tmp_path: Path
) -> None:
    before = saved.read_bytes()

    with full_disk(), pytest.raises(OSError, match="too large"):
        save(snapshot(), saved)

    assert saved.read_bytes() == before
    assert list(tmp_path.iterdir()) == [saved]


def test_a_write_that_cannot_end_leaves_nothing(full: Snapshot, tmp_path: Path) -> None:
    taken = tmp_path / "a-folder"
    taken.mkdir()

    with pytest.raises(OSError, match="a-folder"):
        save(full, taken)

    assert list(tmp_path.iterdir()) == [taken]
