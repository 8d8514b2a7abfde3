"""One snapshot, one file: gzip over a JSON header line and a JSON body (`zcat FILE | tail -1`).

The header names the format, the schema and the body's SHA-256.  The digest finds damage and
careless edits.  It is not a signature: an attacker who rewrites the body can rewrite the digest.
"""

import gzip
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshgate.snapshot.migrate import MIGRATIONS
from meshgate.snapshot.model import DECODER, SCHEMA, Snapshot

FORMAT = "meshgate-snapshot"

# A mesh of 10,000 pods is about 60 MiB.
LARGEST = 512 * 1024 * 1024  # bytes, uncompressed


class Header(msgspec.Struct, frozen=True):
    format: str
    schema: int
    sha256: str


class UnusableSnapshot(Exception):
    """The file cannot be used; the message says why and what to do."""


def pack(snapshot: Snapshot) -> bytes:
    """Return the bytes of the file: equal for equal snapshots.

    The header contains the digest of the body, which is encoded and compressed before it: a gzip
    file can consist of several parts, which are decompressed as one.
    """
    digest = hashlib.sha256()
    packer = _packer()
    packed = []
    for part in _body(snapshot):
        digest.update(part)
        packed.append(packer.compress(part))
    packed += packer.compress(b"\n"), packer.flush()
    head = _packer()
    header = msgspec.json.encode(Header(FORMAT, SCHEMA, digest.hexdigest()))
    return b"".join([head.compress(header + b"\n"), head.flush(), *packed])


def _packer() -> "zlib._Compress":
    return zlib.compressobj(wbits=31)  # gzip, without a time


# a byte that no JSON contains
_PLACE = b"\0"


def _body(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the JSON of a snapshot in parts: it is never in memory as a whole.

    msgspec encodes the snapshot with a placeholder in each list, which its objects replace.
    """
    values = ((name, getattr(snapshot, name)) for name in snapshot.__struct_fields__)
    lists = {name: value for name, value in values if value and isinstance(value, tuple)}
    places = dict.fromkeys(lists, (msgspec.Raw(_PLACE),))
    frame = msgspec.json.encode(msgspec.structs.replace(snapshot, **places))
    begin, *rest = frame.split(_PLACE)
    yield begin
    for objects, text in zip(lists.values(), rest, strict=True):
        for number, each in enumerate(objects):
            yield b"," * bool(number) + msgspec.json.encode(each)
        yield text


def save(snapshot: Snapshot, path: Path) -> None:
    """Write the whole file or nothing: a killed run leaves no partial snapshot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pack(snapshot))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path) -> Snapshot:
    """Read a snapshot; raise UnusableSnapshot for anything else, or for a damaged one."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UnusableSnapshot(f"cannot read the snapshot {path}: {error}") from error
    return unpack(packed, str(path))


def unpack(packed: bytes, path: str) -> Snapshot:
    """Return the snapshot of a file's bytes; raise UnusableSnapshot, which names `path`."""
    try:
        header_line, _, body = _decompressed(packed, path).partition(b"\n")
    except gzip.BadGzipFile as error:
        raise UnusableSnapshot(f"cannot read the snapshot {path}: {error}") from error
    except (EOFError, zlib.error) as error:
        raise UnusableSnapshot(
            f"the snapshot {path} is truncated or damaged ({error}): capture it again"
        ) from error
    try:
        header = msgspec.json.decode(header_line, type=Header)
    except (ValueError, RecursionError) as error:
        raise UnusableSnapshot(f"{path} is not a meshgate snapshot: {error}") from error
    if header.format != FORMAT:
        raise UnusableSnapshot(f"{path} is not a meshgate snapshot but a {header.format!r}")
    if header.schema != SCHEMA and header.schema not in MIGRATIONS:
        raise UnusableSnapshot(
            f"the snapshot {path} has schema {header.schema}, this meshgate reads {SCHEMA}: "
            + ("use a newer meshgate" if header.schema > SCHEMA else "capture it again")
        )
    body = body.removesuffix(b"\n")
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise UnusableSnapshot(
            f"the snapshot {path} was changed after it was taken (its digest does not match): "
            "capture it again"
        )
    try:
        return DECODER.decode(body) if header.schema == SCHEMA else _migrated(body, header.schema)
    except RecursionError as error:
        raise UnusableSnapshot(
            f"the snapshot {path} cannot be decoded: it is nested too deeply"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableSnapshot(f"the snapshot {path} cannot be decoded: {error}") from error


def _decompressed(packed: bytes, path: str) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise UnusableSnapshot(
            f"the snapshot {path} is larger than {LARGEST // 1024**2} MiB when decompressed: "
            "it is not read"
        )
    return found


def _migrated(body: bytes, schema: int) -> Snapshot:
    found = msgspec.json.decode(body)
    while schema != SCHEMA:
        found = MIGRATIONS[schema](found)
        schema += 1
    return msgspec.convert(found, Snapshot)
