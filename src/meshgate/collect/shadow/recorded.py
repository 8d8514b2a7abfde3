"""Serve a snapshot's offline bundle like a cluster and its running istiods."""

import io
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.semantics.config_diff import Resources
from meshgate.semantics.injection import Shape
from meshgate.snapshot.offline_bundle import Listed, OfflineBundle
from meshgate.snapshot.sources import Kind

_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[\w.-]+)/(?P<version>\w+))"
    r"(?:/namespaces/(?P<namespace>[\w.-]+)(?=/[a-z]))?/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[\w.:-]+))?"
)
_METADATA_ONLY = "as=PartialObjectMetadataList"


class RecordedCluster:
    """An API server that serves recorded lists, which never change.

    Args:
        listed: the objects by `GROUP/RESOURCE`.
        version: the version of Kubernetes.
    """

    def __init__(self, listed: Mapping[str, Listed], version: str) -> None:
        self._listed = listed
        self._version = version

    def objects(self, kind: Kind) -> tuple[Any, ...]:
        """Return all recorded objects of a kind; empty if none was recorded."""
        found = self._listed.get(f"{kind.group}/{kind.resource}", Listed(""))
        return msgspec.convert(found.objects, tuple[kind.type, ...])  # type: ignore[name-defined]

    def send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        stream: bool = False,
        headers: dict[str, str] | None = None,
    ) -> "RecordedAnswer":
        """Return the response to a read, as the API server would.

        Args:
            method: ignored: the façade forwards only reads.
            path: the path of the request.
            query: its parameters, of which selectors on fields and `watch` are used.
            stream: ignored.
            headers: its headers, of which `Accept` is used.

        Returns:
            The response, with status 404 for what was not recorded.
        """
        parameters = dict(query or ())
        if path == "/version":
            return RecordedAnswer(200, {"gitVersion": self._version})
        match = _PATH.fullmatch(path)
        listed = self._listed.get(f"{match['group'] or ''}/{match['resource']}") if match else None
        if match is None or listed is None:
            return RecordedAnswer(404, {"kind": "Status", "status": "Failure", "code": 404})
        if parameters.get("watch") in ("1", "true"):
            return RecordedAnswer(200, None)
        api = f"{match['group']}/{match['version']}" if match["group"] else "v1"
        head = {"kind": listed.kind, "apiVersion": api}
        found = _selected(listed.objects, match["namespace"] or "", parameters)
        if match["name"]:
            one = [each for each in found if each["metadata"]["name"] == match["name"]]
            return RecordedAnswer(200, one[0] | head) if one else RecordedAnswer(404, {"code": 404})
        if _METADATA_ONLY in (headers or {}).get("Accept", ""):
            head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
            found = ({"metadata": each["metadata"]} for each in found)
        return RecordedAnswer(
            200,
            {
                "kind": f"{head['kind']}List",
                "apiVersion": head["apiVersion"],
                "metadata": {"resourceVersion": "1"},
                "items": [each | head for each in found],
            },
        )


def _selected(
    objects: Iterable[dict[str, Any]], namespace: str, parameters: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a namespace that match the field selector.

    Args:
        objects: all objects of a kind.
        namespace: every namespace if empty.
        parameters: of the request.
    """
    for each in objects:
        of = each["metadata"].get("namespace", "")
        if namespace in ("", of) and all(
            _field(each, name) == value if equal else _field(each, name) != value
            for name, equal, value in _terms(parameters.get("fieldSelector", ""))
        ):
            yield each


def _terms(selector: str) -> Iterator[tuple[str, bool, str]]:
    """Yield (field, whether it must be equal, value) of a field selector."""
    for term in filter(None, selector.split(",")):
        name, _, value = term.partition("=")
        yield name.rstrip("!"), not name.endswith("!"), value.removeprefix("=")


def _field(value: Any, path: str) -> str:
    for name in path.split("."):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return str(value or "")


class RecordedAnswer:
    """One response; a watch has no body and blocks until it is shut down, since nothing changes."""

    headers: Mapping[str, str] = {"Content-Type": "application/json"}

    def __init__(self, status: int, body: dict[str, Any] | None) -> None:
        self.status = status
        self._over = threading.Event()
        self._body = None if body is None else io.BytesIO(json.dumps(body).encode())

    def __enter__(self) -> "RecordedAnswer":
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def read(self) -> bytes:
        """Return the whole body."""
        return self.read1()

    def read1(self) -> bytes:
        """Return what is available."""
        if self._body is None:
            self._over.wait()
            return b""
        return self._body.read()

    def shutdown(self) -> None:
        """End a watch."""
        self._over.set()


class RecordedRunningMesh(msgspec.Struct, frozen=True):
    """What the istiods sent that ran at the time of the capture."""

    of: OfflineBundle

    @property
    def proxies(self) -> frozenset[str]:
        return frozenset(self.of.connected)

    @property
    def injection_enabled(self) -> tuple[str, ...]:
        return tuple(sorted({*self.of.injected, *self.of.not_injected}))

    def injects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        # the injector itself ignores pods that opt out
        return namespace in self.injection_enabled

    def given(self, proxy: str) -> Resources:
        if proxy not in self.of.given:
            why = self.of.not_given.get(proxy, "it was not recorded")
            raise ReadError(
                f"the snapshot has no configuration of {proxy}: {why}",
                "repeat `meshgate capture --for-shadow`",
            )
        bodies = self.of.bodies
        return {(each.type, each.name): bodies[each.body] for each in self.of.given[proxy]}

    def injected(self, namespace: str) -> Shape:
        if why := self.of.not_injected.get(namespace):
            raise ReadError(why, "repeat `meshgate capture --for-shadow`")
        shape: Shape = self.of.injected[namespace]
        return shape
