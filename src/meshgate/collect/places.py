"""Where a snapshot is kept: a file, or ConfigMaps that outlive the Job that took it."""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from meshgate.collect.errors import Unreadable
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import UnusableSnapshot, load, pack, save, unpack

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

SCHEME = "configmap://"

# A ConfigMap holds 1 MiB; base64 and the object around it want room.
PART = 600 * 1024


class Place:
    """`configmap://namespace/name`, or a file's path."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.in_cluster = address.startswith(SCHEME)
        namespace, slash, name = address.removeprefix(SCHEME).partition("/")
        if self.in_cluster and not (namespace and slash and name and "/" not in name):
            raise ValueError(f"{address} is not {SCHEME}NAMESPACE/NAME")
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._namespace, self._name = namespace, name

    def save(self, snapshot: Snapshot, cluster: "Cluster | None") -> None:
        """Keeps it whole or not at all; raises Unreadable, OSError."""
        if not self.in_cluster:
            save(snapshot, Path(self.address))
            return
        cluster = _needed(cluster, self.address)
        old = self._parts(cluster)
        packed = pack(snapshot)
        digest = hashlib.sha256(packed).hexdigest()
        parts = {
            f"{self._name}-{digest[:10]}-{number}": packed[start : start + PART]
            for number, start in enumerate(range(0, len(packed), PART))
        }
        for name, part in parts.items():
            self._put(cluster, name, binaryData={"part": base64.b64encode(part).decode()})
        # the head comes last: until it is there the old snapshot is the one that is read
        self._put(cluster, self._name, data={"sha256": digest, "parts": " ".join(parts)})
        for name in old - parts.keys():
            cluster.delete(f"{self._path}/{name}", right=self._right("delete"))

    def load(self, cluster: "Cluster | None") -> Snapshot:
        """What is kept there; raises UnusableSnapshot, Unreadable."""
        if not self.in_cluster:
            return load(Path(self.address))
        cluster = _needed(cluster, self.address)
        try:
            head = self._get(cluster, self._name)["data"]
            names, digest = head["parts"].split(), head["sha256"]
            parts = [self._get(cluster, name)["binaryData"]["part"] for name in names]
            packed = b"".join(map(base64.b64decode, parts))
        except (KeyError, ValueError) as error:
            raise UnusableSnapshot(
                f"what is in {self.address} is no snapshot: capture one there"
            ) from error
        if hashlib.sha256(packed).hexdigest() != digest:
            raise UnusableSnapshot(f"the snapshot {self.address} was changed: capture it again")
        return unpack(packed, self.address)

    def _parts(self, cluster: "Cluster") -> set[str]:
        """The ConfigMaps of the snapshot that is there now, if one is."""
        try:
            return set(self._get(cluster, self._name)["data"]["parts"].split())
        except (UnusableSnapshot, KeyError):
            return set()

    def _get(self, cluster: "Cluster", name: str) -> Any:
        response = cluster.send("GET", f"{self._path}/{name}")
        if response.status == 404:
            raise UnusableSnapshot(f"there is no snapshot in {self.address}: capture one first")
        if response.status != 200:
            cluster.get(f"{self._path}/{name}", right=self._right("get"))
        return msgspec.json.decode(response.data)

    def _put(self, cluster: "Cluster", name: str, **content: dict[str, str]) -> None:
        metadata = {
            "name": name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "meshgate"},
        }
        value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **content}
        cluster.put(self._path, name, value, right=self._right("create and update"))

    def _right(self, verb: str) -> str:
        return f"{verb} configmaps in {self._namespace}"


def _needed(cluster: "Cluster | None", address: str) -> "Cluster":
    if cluster is None:
        raise Unreadable(f"{address} needs a cluster", "name one with --kubeconfig and --context")
    return cluster
