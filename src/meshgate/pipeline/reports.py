"""Store the files of a run outside its pod: in ConfigMaps, or storage that fsspec supports."""

import io
import itertools
import tarfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from meshgate.collect.config_map_store import ConfigMapStore, Missing
from meshgate.collect.errors import ReadError
from meshgate.collect.snapshot_location import SCHEME, config_map
from meshgate.collect.storage import Storage
from meshgate.settings import CLUSTER_OPTIONS

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster


# of the files of one run
MOST, LARGEST = 100, 512 * 1024 * 1024


class Run(msgspec.Struct, frozen=True):
    """One entry of the index: a run, and the name of its stored files."""

    name: str
    at: datetime
    version: str
    exit: int
    line: str
    stages: dict[str, bool]


def keep(
    place: str, run: Run, files: dict[str, Path], cluster: "Cluster | None", last: int = 5
) -> str:
    """Store the files that exist, and update the index.

    Args:
        place: `configmap://NAMESPACE/NAME`, a folder or a URL.
        run: The entry of the run.
        files: The files by name.
        cluster: The cluster, required for ConfigMaps.
        last: How many runs are kept; older ones are deleted.

    Returns:
        The location of the files.

    Raises:
        ReadError: If the cluster or the storage is not available.
        OSError: If a file cannot be read or written.
        ValueError: If the location is not valid.
    """
    if not place.startswith(SCHEME):
        return _store(f"{place.rstrip('/')}/{run.name}", files)
    store, name = _open(place, cluster)
    store.put(f"{name}-{run.name}", _packed(files))
    runs = [run, *(each for each in _runs(store, name) if each.name != run.name)]
    # files are written before their entry in the index, and deleted after it
    store.write(name, {"runs": msgspec.json.encode(runs[:last]).decode(), "latest": run.line})
    for each in runs[last:]:
        store.delete(f"{name}-{each.name}")
    return f"{place}-{run.name}"


def runs(place: str, cluster: "Cluster | None") -> tuple[Run, ...]:
    """Return the stored runs, the latest first; empty if nothing was stored."""
    store, name = _open(place, cluster)
    return _runs(store, name)


def fetch(place: str, run: str, folder: Path, cluster: "Cluster | None") -> None:
    """Write the files of a run into a folder.

    Args:
        place: `configmap://NAMESPACE/NAME`.
        run: The name of the run.
        folder: Where the files are written.
        cluster: The cluster.

    Raises:
        Missing, Damaged: If the files are not stored, or not completely.
        ReadError: If the cluster is not available.
        OSError: If the folder cannot be written.
    """
    store, name = _open(place, cluster)
    with tarfile.open(fileobj=io.BytesIO(store.get(f"{name}-{run}")), mode="r:gz") as archive:
        members = list(itertools.islice(archive, MOST + 1))
        # a header says how large its file is: nothing is unpacked to find out
        if len(members) > MOST or sum(each.size for each in members) > LARGEST:
            raise ValueError(
                f"the files of {place}-{run} are more than {MOST}, or larger than "
                f"{LARGEST // 1024**2} MiB: they are not read"
            )
        archive.extractall(folder, members, filter="data")


def _open(place: str, cluster: "Cluster | None") -> tuple[ConfigMapStore, str]:
    namespace, name = config_map(place)
    if cluster is None:
        raise ReadError(
            f"{place} needs a cluster",
            f"name one with {CLUSTER_OPTIONS}",
        )
    return ConfigMapStore(cluster, namespace), name


def _runs(store: ConfigMapStore, name: str) -> tuple[Run, ...]:
    try:
        return msgspec.json.decode(store.read(name)["runs"], type=tuple[Run, ...])
    except Missing:
        return ()
    except KeyError as error:
        raise ValueError(f"ConfigMap {name} does not contain an index of reports") from error


def _packed(files: dict[str, Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, file in files.items():
            if file.is_file():
                archive.add(file, name)
    return packed.getvalue()


def _store(folder: str, files: dict[str, Path]) -> str:
    storage = Storage(folder)
    for name, file in files.items():
        if file.is_file():
            storage.write(name, file.read_bytes())
    return folder
