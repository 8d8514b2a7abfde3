"""The Jobs of the probe namespace: what a probe creates there, reads of it, and deletes."""

from typing import Any, Protocol

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata, Pod


class Api(Protocol):
    """The calls to the API server that Jobs need, all of them in one namespace."""

    def get(
        self, path: str, *, query: list[tuple[str, str]] | None = None, right: str = ""
    ) -> bytes: ...

    def create(self, path: str, value: object, *, right: str) -> bytes: ...

    def delete(
        self, path: str, *, right: str, query: list[tuple[str, str]] | None = None
    ) -> None: ...


class _Spec(Base, frozen=True):
    active_deadline_seconds: int = 0


class Job(Base, frozen=True):
    """A Job, as far as probes need it."""

    metadata: Metadata
    spec: _Spec = _Spec()


class _Jobs(Base, frozen=True):
    items: tuple[Job, ...] = ()


class Pods(Base, frozen=True):
    """A list of pods."""

    items: tuple[Pod, ...] = ()


# before there are threads, see snapshot/model.py
JOB, _JOBS = msgspec.json.Decoder(Job), msgspec.json.Decoder(_Jobs)
PODS = msgspec.json.Decoder(Pods)


class Jobs:
    """The Jobs of a namespace; every method raises ReadError.

    Args:
        api: the API server.
        namespace: the namespace.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._core = f"/api/v1/namespaces/{namespace}"

    def create(self, manifest: dict[str, Any]) -> bytes:
        """Create a Job, and return it as JSON: whatever that is, the Job exists now."""
        right = self._right("create", "jobs.batch")
        return self._api.create(self._path, manifest, right=right)

    def listed(self, selector: str) -> tuple[Job, ...]:
        """Return the Jobs with these labels."""
        query, right = [("labelSelector", selector)], self._right("list", "jobs.batch")
        return _JOBS.decode(self._api.get(self._path, query=query, right=right)).items

    def delete(self, name: str) -> None:
        """Delete a Job and its pods."""
        # without this, the pods of a deleted Job remain
        query = [("propagationPolicy", "Background")]
        right = self._right("delete", "jobs.batch")
        self._api.delete(f"{self._path}/{name}", query=query, right=right)

    def expose(self, service: dict[str, Any]) -> None:
        """Create a Service."""
        right = self._right("create", "services")
        self._api.create(f"{self._core}/services", service, right=right)

    def pods(self, selector: str) -> bytes:
        """Return the pods with these labels as JSON (`PODS` decodes it)."""
        query, right = [("labelSelector", selector)], self._right("list", "pods")
        return self._api.get(f"{self._core}/pods", query=query, right=right)

    def admitted(self, pod: dict[str, Any]) -> bytes:
        """Return a pod as the API server would store it, as JSON; it is not created."""
        right = self._right("create", "pods")
        return self._api.create(f"{self._core}/pods?dryRun=All", pod, right=right)

    def _right(self, verb: str, resource: str) -> str:
        return f"{verb} {resource} in {self._namespace}"
