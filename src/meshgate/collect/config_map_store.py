"""Bytes in ConfigMaps, split into parts: found again whole or not at all."""

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

# A ConfigMap holds 1 MiB; base64 and the object around it want room.
PART = 600 * 1024


class Missing(Exception):
    """No ConfigMap has this name."""


class Damaged(Exception):
    """The stored content differs from what was written."""


class ConfigMapStore:
    """The ConfigMaps of one namespace: a head that names its parts, and the parts."""

    def __init__(self, cluster: "Cluster", namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"

    def put(self, name: str, content: bytes) -> None:
        """Replace the content atomically; raise ReadError."""
        old = self._parts(name)
        digest = hashlib.sha256(content).hexdigest()
        parts = {
            f"{name}-{digest[:10]}-{number}": content[start : start + PART]
            for number, start in enumerate(range(0, len(content), PART))
        }
        for each, part in parts.items():
            self._put(each, binaryData={"part": base64.b64encode(part).decode()})
        # the head comes last: until it is there the old content is the one that is read
        self.write(name, {"sha256": digest, "parts": " ".join(parts)})
        for each in old - parts.keys():
            self._delete(each)

    def get(self, name: str) -> bytes:
        """Return the content; raise Missing, Damaged or ReadError."""
        try:
            parts, digest = self._found(name)
            content = b"".join(map(base64.b64decode, parts))
        except (KeyError, ValueError) as error:
            raise Damaged(f"{self._namespace}/{name} was not put there by meshgate") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise Damaged(f"{self._namespace}/{name} was changed")
        return content

    def _found(self, name: str) -> tuple[list[str], str]:
        """Return the encoded parts that a head names, and the digest of the content."""
        head = self.read(name)
        while True:
            try:
                names = head["parts"].split()
                return [self._get(each)["binaryData"]["part"] for each in names], head["sha256"]
            except Missing:
                before, head = head, self.read(name)
                if head == before:
                    raise
                # it was replaced since its head was read

    def delete(self, name: str) -> None:
        """Delete the content, its head first; missing content is not an error."""
        parts = self._parts(name)
        for each in (name, *sorted(parts)):
            self._delete(each)

    def write(self, name: str, data: dict[str, str]) -> None:
        """Write one ConfigMap of plain text."""
        self._put(name, data=data)

    def read(self, name: str) -> dict[str, str]:
        """Return what `write` wrote; raise Missing, ReadError, or KeyError for a foreign one."""
        data: dict[str, str] = self._get(name)["data"]
        return data

    def _parts(self, name: str) -> set[str]:
        try:
            return set(self.read(name)["parts"].split())
        except (Missing, KeyError):
            return set()

    def _get(self, name: str) -> Any:
        response = self._cluster.ask("GET", f"{self._path}/{name}")
        if response.status == 404:
            raise Missing(f"there is no {self._namespace}/{name}")
        if response.status != 200:
            self._cluster.get(f"{self._path}/{name}", right=self._right("get"))
        return msgspec.json.decode(response.data)

    def _put(self, name: str, **content: dict[str, str]) -> None:
        metadata = {
            "name": name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "meshgate"},
        }
        value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **content}
        self._cluster.put(self._path, name, value, right=self._right("create and update"))

    def _delete(self, name: str) -> None:
        self._cluster.delete(f"{self._path}/{name}", right=self._right("delete"))

    def _right(self, verb: str) -> str:
        return f"{verb} configmaps in {self._namespace}"
