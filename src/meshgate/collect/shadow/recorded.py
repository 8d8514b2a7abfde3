"""A recording in the place of a cluster and of its running istiods."""

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
from meshgate.snapshot.items import Kind
from meshgate.snapshot.offline_bundle import Listed, OfflineBundle

_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[\w.-]+)/(?P<version>\w+))"
    r"(?:/namespaces/(?P<namespace>[\w.-]+)(?=/[a-z]))?/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[\w.:-]+))?"
)
_METADATA_ONLY = "as=PartialObjectMetadataList"


class RecordedCluster:
    """The API server as it was: lists that never change.

    Args:
        listed: its objects by group and resource.
        version: its own.
    """

    def __init__(self, listed: Mapping[str, Listed], version: str) -> None:
        self._listed = listed
        self._version = version

    def objects(self, kind: Kind) -> tuple[Any, ...]:
        """All objects of a kind."""
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
        """What it answers to a read."""
        asked = dict(query or ())
        if path == "/version":
            return RecordedAnswer(200, {"gitVersion": self._version})
        match = _PATH.fullmatch(path)
        listed = self._listed.get(f"{match['group'] or ''}/{match['resource']}") if match else None
        if match is None or listed is None:
            return RecordedAnswer(404, {"kind": "Status", "status": "Failure", "code": 404})
        if asked.get("watch") in ("1", "true"):
            return RecordedAnswer(200, None)
        api = f"{match['group']}/{match['version']}" if match["group"] else "v1"
        head = {"kind": listed.kind, "apiVersion": api}
        found = _selected(listed.objects, match["namespace"] or "", asked)
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
    objects: Iterable[dict[str, Any]], namespace: str, asked: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Those of a namespace that the selectors leave."""
    for each in objects:
        of = each["metadata"].get("namespace", "")
        if namespace in ("", of) and all(
            _field(each, name) == value if equal else _field(each, name) != value
            for name, equal, value in _terms(asked.get("fieldSelector", ""))
        ):
            yield each


def _terms(selector: str) -> Iterator[tuple[str, bool, str]]:
    for term in filter(None, selector.split(",")):
        name, _, value = term.partition("=")
        yield name.rstrip("!"), not name.endswith("!"), value.removeprefix("=")


def _field(value: Any, path: str) -> str:
    for name in path.split("."):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return str(value or "")


class RecordedAnswer:
    """One answer; a watch (no body) waits until it is shut down, for nothing happens any more."""

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
        """All of it."""
        return self.read1()

    def read1(self) -> bytes:
        """What is there."""
        if self._body is None:
            self._over.wait()
            return b""
        return self._body.read()

    def shutdown(self) -> None:
        """Ends a watch."""
        self._over.set()


class RecordedRunningMesh(msgspec.Struct, frozen=True):
    """What the istiods gave that ran then."""

    of: OfflineBundle

    @property
    def proxies(self) -> frozenset[str]:
        return frozenset(self.of.connected)

    @property
    def injection_enabled(self) -> tuple[str, ...]:
        return tuple(sorted({*self.of.injected, *self.of.not_injected}))

    def given(self, proxy: str) -> Resources:
        if proxy not in self.of.given:
            why = self.of.not_given.get(proxy, "it was not looked at then")
            raise ReadError(f"the recording has nothing of {proxy}: {why}", "capture it again")
        bodies = self.of.bodies
        return {(each.type, each.name): bodies[each.body] for each in self.of.given[proxy]}

    def injected(self, namespace: str) -> Shape:
        if why := self.of.not_injected.get(namespace):
            raise ReadError(why, "capture it again")
        shape: Shape = self.of.injected[namespace]
        return shape
