"""A run's files in a place that outlives its pod: ConfigMaps, or storage that fsspec knows."""

import io
import tarfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from meshgate.collect.config_map_store import ConfigMapStore, Missing
from meshgate.collect.errors import ReadError
from meshgate.collect.snapshot_location import SCHEME, config_map

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster


class Run(msgspec.Struct, frozen=True):
    """One line of the index: a run, and under which name its files are kept."""

    name: str
    at: datetime
    version: str
    exit: int
    line: str
    stages: dict[str, bool]


def keep(
    place: str, run: Run, files: dict[str, Path], cluster: "Cluster | None", last: int = 5
) -> str:
    """Keeps the files that exist, and the index of the `last` runs; says where.

    Raises Unreadable, OSError, ValueError.
    """
    if not place.startswith(SCHEME):
        return _store(f"{place.rstrip('/')}/{run.name}", files)
    shelf, name = _shelf(place, cluster)
    shelf.keep(f"{name}-{run.name}", _packed(files))
    runs = [run, *(each for each in _runs(shelf, name) if each.name != run.name)]
    # files come before the line that names them, and go after it
    shelf.write(name, {"runs": msgspec.json.encode(runs[:last]).decode(), "latest": run.line})
    for each in runs[last:]:
        shelf.drop(f"{name}-{each.name}")
    return f"{place}-{run.name}"


def runs(place: str, cluster: "Cluster | None") -> tuple[Run, ...]:
    """The index, the latest first; empty where nothing was ever kept."""
    shelf, name = _shelf(place, cluster)
    return _runs(shelf, name)


def fetch(place: str, run: str, folder: Path, cluster: "Cluster | None") -> None:
    """Writes a run's files into a folder; raises Missing, Damaged, Unreadable, OSError."""
    shelf, name = _shelf(place, cluster)
    with tarfile.open(fileobj=io.BytesIO(shelf.take(f"{name}-{run}")), mode="r:gz") as archive:
        archive.extractall(folder, filter="data")


def _shelf(place: str, cluster: "Cluster | None") -> tuple[ConfigMapStore, str]:
    namespace, name = config_map(place)
    if cluster is None:
        raise ReadError(f"{place} needs a cluster", "name one with --kubeconfig and --context")
    return ConfigMapStore(cluster, namespace), name


def _runs(shelf: ConfigMapStore, name: str) -> tuple[Run, ...]:
    try:
        return msgspec.json.decode(shelf.read(name)["runs"], type=tuple[Run, ...])
    except Missing:
        return ()
    except KeyError as error:
        raise ValueError(f"the ConfigMap {name} is no index of reports: name another") from error


def _packed(files: dict[str, Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, file in files.items():
            if file.is_file():
                archive.add(file, name)
    return packed.getvalue()


def _store(folder: str, files: dict[str, Path]) -> str:
    try:
        import fsspec  # noqa: PLC0415 - an extra: most keep their reports in the cluster
    except ImportError as error:
        raise ReadError(
            f"{folder} needs fsspec", "install meshgate[storage] and the storage's own package"
        ) from error
    for name, file in files.items():
        if file.is_file():
            with fsspec.open(f"{folder}/{name}", "wb", auto_mkdir=True) as target:
                target.write(file.read_bytes())
    return folder
