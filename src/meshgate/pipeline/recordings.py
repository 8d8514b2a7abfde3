"""Recordings of many clusters: each is a snapshot, with a head that says what it contains.

A place has a folder for each cluster, with two files for each recording: `TIME.json.gz`, the
snapshot, and `TIME.json`, its head.  The head is written last and deleted first, so a recording
with a head is complete.  `configmap://NAMESPACE/NAME` keeps the recordings of one cluster in that
cluster, and `configmap://NAMESPACE/NAME@CONTEXT` names the context of its kubeconfig.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import msgspec

from meshgate.collect.config_map_store import ConfigMapStore, Damaged, Missing
from meshgate.collect.errors import ReadError
from meshgate.collect.snapshot_location import SCHEME, config_map
from meshgate.collect.storage import Storage
from meshgate.facts.evidence import Evidence
from meshgate.facts.overview import control_plane_summary
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.recording import Recording
from meshgate.snapshot.store import UnusableSnapshot, pack, unpack

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

# Returns the cluster of a context; of the current one for an empty name.
Connect = Callable[[str], "Cluster"]

_BODY, _HEAD = ".json.gz", ".json"
# The head of a recording is small: a larger file is not one.
_LARGEST_HEAD = 1024 * 1024


def cluster_name(snapshot: Snapshot) -> str:
    """Return the name of the cluster that a snapshot is from."""
    return snapshot.source.removeprefix("context ")


def head_of(snapshot: Snapshot, packed: bytes) -> Recording:
    """Return the head of a snapshot, of which `packed` is the file."""
    plane = control_plane_summary(Evidence(snapshot))
    bundle = snapshot.offline_bundle
    return Recording(
        cluster=cluster_name(snapshot),
        taken=snapshot.taken,
        sha256=hashlib.sha256(packed).hexdigest(),
        size=len(packed),
        meshgate_version=snapshot.meshgate_version,
        versions=plane.versions,
        revisions=plane.revisions,
        proxies=len(bundle.connected) if bundle else None,
        gaps=tuple(f"{each.item}: {each.why}" for each in snapshot.gaps),
    )


class Recordings(Protocol):
    """Where recordings are kept."""

    def heads(self, cluster: str = "") -> list[Recording]:
        """Return the heads of the recordings of a cluster, or of all.

        Raise ReadError, OSError or ValueError.
        """

    def put(self, head: Recording, packed: bytes) -> None:
        """Store a recording; raise ReadError or OSError."""

    def get(self, head: Recording) -> bytes:
        """Return the file of a recording; raise ReadError, OSError or UnusableSnapshot."""

    def delete(self, head: Recording) -> None:
        """Delete a recording; raise ReadError or OSError."""


def open_place(place: str, connect: Connect) -> Recordings:
    """Return what is kept in a place.

    Args:
        place: a folder, a URL that fsspec supports, or `configmap://NAMESPACE/NAME[@CONTEXT]`.
        connect: connects to the cluster of a context.

    Raises:
        ReadError: the package of the storage is not installed.
        ValueError: the place is not valid.
    """
    if place.startswith(SCHEME):
        address, _, context = place.partition("@")
        namespace, name = config_map(address)
        return _InConfigMaps(ConfigMapStore(connect(context), namespace), name)
    return _InFolder(Storage(place))


def keep(place: Recordings, snapshot: Snapshot, last: int) -> Recording:
    """Store a snapshot, and delete older recordings of its cluster.

    Args:
        place: where.
        snapshot: a capture.
        last: how many recordings of this cluster are kept.

    Returns:
        The head of the new recording.

    Raises:
        ReadError, OSError, ValueError: the place is not available.
    """
    packed = pack(snapshot)
    head = head_of(snapshot, packed)
    place.put(head, packed)
    own = place.heads(head.cluster)
    for each in sorted(own, key=lambda each: each.taken, reverse=True)[max(last, 1) :]:
        place.delete(each)
    return head


def newest(heads: Iterable[Recording]) -> list[Recording]:
    """Return the newest recording of each cluster, sorted by the cluster's name."""
    found: dict[str, Recording] = {}
    for each in sorted(heads, key=lambda each: each.taken):
        found[each.cluster] = each
    return [found[name] for name in sorted(found)]


def read(place: Recordings, head: Recording) -> Snapshot:
    """Return the snapshot of a recording.

    Raise UnusableSnapshot if its file is missing or differs from its head, ReadError or OSError.
    """
    name = f"{head.cluster}/{head.name}"
    packed = place.get(head)
    if hashlib.sha256(packed).hexdigest() != head.sha256:
        raise UnusableSnapshot(
            f"the recording {name} was changed after it was taken (its digest does not match): "
            "record the cluster again"
        )
    snapshot = unpack(packed, name)
    if cluster_name(snapshot) != head.cluster or snapshot.taken != head.taken:
        raise UnusableSnapshot(f"the recording {name} is not of this cluster and time")
    return snapshot


class _InFolder:
    """Recordings in a folder or in object storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def heads(self, cluster: str = "") -> list[Recording]:
        return list(self._heads(_folder(cluster) if cluster else ""))

    def _heads(self, folder: str) -> Iterator[Recording]:
        for name in self._storage.names(folder):
            if name.count("/") == 1 and name.endswith(_HEAD):
                try:
                    content = self._storage.read(name, _LARGEST_HEAD)
                except FileNotFoundError:  # a newer recording has just replaced it
                    continue
                head = _decoded(content, name)
                if f"{_name(head)}{_HEAD}" != name:
                    raise ValueError(f"{name} is the head of another recording")
                yield head

    def put(self, head: Recording, packed: bytes) -> None:
        self._storage.write(f"{_name(head)}{_BODY}", packed)
        self._storage.write(f"{_name(head)}{_HEAD}", msgspec.json.encode(head))

    def get(self, head: Recording) -> bytes:
        try:
            return self._storage.read(f"{_name(head)}{_BODY}")
        except FileNotFoundError as error:
            raise UnusableSnapshot(
                f"the recording {head.cluster}/{head.name} has no file: record the cluster again"
            ) from error

    def delete(self, head: Recording) -> None:
        self._storage.delete(f"{_name(head)}{_HEAD}")
        self._storage.delete(f"{_name(head)}{_BODY}")


def _name(head: Recording) -> str:
    """Return the names of the files of a recording, without their endings."""
    return f"{_folder(head.cluster)}/{head.name}"


def _folder(cluster: str) -> str:
    folder = quote(cluster, safe=" ")
    # not the folder above
    return folder if folder.strip(".") else folder.replace(".", "%2E")


class _InConfigMaps:
    """Recordings of one cluster in its ConfigMaps: an index, and the parts of each recording."""

    def __init__(self, store: ConfigMapStore, name: str) -> None:
        self._store = store
        self._name = name

    def heads(self, cluster: str = "") -> list[Recording]:
        try:
            index = self._store.read(self._name)["recordings"]
        except Missing:
            return []
        except KeyError as error:
            raise ValueError(f"ConfigMap {self._name} does not contain recordings") from error
        heads = msgspec.json.decode(index, type=list[Recording])
        return [each for each in heads if cluster in ("", each.cluster)]

    def put(self, head: Recording, packed: bytes) -> None:
        self._store.put(f"{self._name}-{head.name.lower()}", packed)
        self._index([*(each for each in self.heads() if each.name != head.name), head])

    def get(self, head: Recording) -> bytes:
        try:
            return self._store.get(f"{self._name}-{head.name.lower()}")
        except (Missing, Damaged) as error:
            raise UnusableSnapshot(f"{error}: record the cluster again") from error

    def delete(self, head: Recording) -> None:
        self._index([each for each in self.heads() if each.name != head.name])
        self._store.delete(f"{self._name}-{head.name.lower()}")

    def _index(self, heads: list[Recording]) -> None:
        self._store.write(self._name, {"recordings": msgspec.json.encode(heads).decode()})


def _decoded(content: bytes, path: str) -> Recording:
    try:
        return msgspec.json.decode(content, type=Recording)
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"{path} is not the head of a recording: {error}", f"delete {path}"
        ) from error
