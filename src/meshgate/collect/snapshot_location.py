"""Where a snapshot is kept: a file, or ConfigMaps that outlive the Job that took it."""

from pathlib import Path
from typing import TYPE_CHECKING

from meshgate.collect.config_map_store import ConfigMapStore, Damaged, Missing
from meshgate.collect.errors import ReadError
from meshgate.settings import CLUSTER_OPTIONS
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import UnusableSnapshot, load, pack, save, unpack

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

SCHEME = "configmap://"


def config_map(address: str) -> tuple[str, str]:
    """Namespace and name of `configmap://namespace/name`; raises ValueError."""
    namespace, slash, name = address.removeprefix(SCHEME).partition("/")
    if not (namespace and slash and name and "/" not in name):
        raise ValueError(f"{address} is not {SCHEME}NAMESPACE/NAME")
    return namespace, name


class SnapshotLocation:
    """`configmap://namespace/name`, or a file's path."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.in_cluster = address.startswith(SCHEME)
        self._namespace, self._name = config_map(address) if self.in_cluster else ("", "")

    def save(self, snapshot: Snapshot, cluster: "Cluster | None") -> None:
        """Keep it whole or not at all; raise ReadError, OSError."""
        if self.in_cluster:
            self._store(cluster).put(self._name, pack(snapshot))
        else:
            save(snapshot, Path(self.address))

    def load(self, cluster: "Cluster | None") -> Snapshot:
        """Return the stored snapshot; raise UnusableSnapshot or ReadError."""
        if not self.in_cluster:
            return load(Path(self.address))
        try:
            packed = self._store(cluster).get(self._name)
        except Missing as error:
            raise UnusableSnapshot(
                f"there is no snapshot in {self.address}: capture one first"
            ) from error
        except Damaged as error:
            raise UnusableSnapshot(
                f"what is in {self.address} is not a snapshot, or was changed: capture it again"
            ) from error
        return unpack(packed, self.address)

    def _store(self, cluster: "Cluster | None") -> ConfigMapStore:
        if cluster is None:
            raise ReadError(
                f"{self.address} needs a cluster",
                f"name one with {CLUSTER_OPTIONS}",
            )
        return ConfigMapStore(cluster, self._namespace)
