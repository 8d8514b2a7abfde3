"""One snapshot, one file: gzip over a JSON header line and a JSON body (`zcat FILE | tail -1`).

The header names the format, the schema and the body's SHA-256.  The digest finds damage and
careless edits; it is no signature: who rewrites the body can rewrite the digest.
"""

import gzip
import hashlib
import os
import tempfile
import zlib
from pathlib import Path

import msgspec

from meshgate.snapshot.model import DECODER, SCHEMA, Snapshot

FORMAT = "meshgate-snapshot"


class Header(msgspec.Struct, frozen=True):
    format: str
    schema: int
    sha256: str


class UnusableSnapshot(Exception):
    """The file cannot be believed; the message says why and what to do."""


def pack(snapshot: Snapshot) -> bytes:
    """The file's bytes: the same for the same snapshot."""
    body = msgspec.json.encode(snapshot)
    header = msgspec.json.encode(Header(FORMAT, SCHEMA, hashlib.sha256(body).hexdigest()))
    return gzip.compress(header + b"\n" + body + b"\n", mtime=0)


def save(snapshot: Snapshot, path: Path) -> None:
    """Writes the whole file or none of it: a killed run leaves no half snapshot."""
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
    """Reads a snapshot; raises UnusableSnapshot for anything that is not wholly one."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UnusableSnapshot(f"cannot read the snapshot {path}: {error}") from error
    return unpack(packed, str(path))


def unpack(packed: bytes, path: str) -> Snapshot:
    """The snapshot of a file's bytes; `path` is what it is called in an error."""
    try:
        header_line, _, body = gzip.decompress(packed).partition(b"\n")
    except gzip.BadGzipFile as error:
        raise UnusableSnapshot(f"cannot read the snapshot {path}: {error}") from error
    except (EOFError, zlib.error) as error:
        raise UnusableSnapshot(
            f"the snapshot {path} is truncated or damaged ({error}): capture it again"
        ) from error
    try:
        header = msgspec.json.decode(header_line, type=Header)
    except ValueError as error:
        raise UnusableSnapshot(f"{path} is not a meshgate snapshot: {error}") from error
    if header.format != FORMAT:
        raise UnusableSnapshot(f"{path} is not a meshgate snapshot but a {header.format!r}")
    if header.schema != SCHEMA:
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
        return DECODER.decode(body)
    except ValueError as error:
        raise UnusableSnapshot(f"the snapshot {path} cannot be decoded: {error}") from error
