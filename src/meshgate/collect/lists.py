"""Lists of the API server: all pages, at the newest version that the cluster serves.

A 404 never means "there are none" by itself.  The discovery API says whether the cluster lacks the
kind (then there are none), or serves it at other versions.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from meshgate.collect import decode
from meshgate.collect.errors import NotServed, ReadError
from meshgate.settings import flag
from meshgate.snapshot.base import Base
from meshgate.snapshot.model import Undecodable
from meshgate.snapshot.sources import Kind

PAGE = 500
# how many undecodable objects a message names
NAMED = 3


class Listing(msgspec.Struct, frozen=True):
    """All objects of a kind.

    Attributes:
        version: the API version they were read at, empty where the cluster does not serve the kind.
        undecodable: the objects that are missing in `objects`.
    """

    version: str
    objects: tuple[Any, ...] = ()
    undecodable: tuple[Undecodable, ...] = ()


class _GroupVersion(Base, frozen=True):
    version: str


class _Group(Base, frozen=True):
    versions: tuple[_GroupVersion, ...] = ()


class _Resource(Base, frozen=True):
    name: str


class _Resources(Base, frozen=True):
    resources: tuple[_Resource, ...] = ()


class Getter(Protocol):
    """What reads the API server."""

    def get(
        self, path: str, *, query: list[tuple[str, str]] | None = None, right: str = ""
    ) -> bytes:
        """Return the body of one GET; raise NotServed for a 404, ReadError for other failures.

        Args:
            path: the request's path.
            query: the query parameters, in order.
            right: the permission that an error names, such as `list pods`; derived from the path
                if empty.

        Returns:
            The body.
        """


def read_list(api: Getter, kind: Kind) -> Listing:
    """Return the list of a kind at the first of its versions that the cluster serves.

    Raises ReadError where it is served only at versions that its type does not decode, or where a
    kind that every cluster has is missing.
    """
    try:
        return _read_at(api, kind)
    except NotServed:
        served = _served(api, kind)
        if not served and kind.optional:
            return Listing("")
        if not served or kind.version in served:
            raise
    for version in kind.older:
        if version in served:
            return _read_at(api, msgspec.structs.replace(kind, version=version, older=()))
    raise ReadError(
        f"the cluster serves {kind.name} only at {', '.join(served)}; this meshgate reads "
        f"{', '.join((kind.version, *kind.older))}",
        "use a meshgate that knows these versions, or serve a version that it reads",
    )


def _read_at(api: Getter, kind: Kind) -> Listing:
    pages = list(_pages(api, kind))
    return Listing(
        kind.version,
        tuple(each for page in pages for each in page.objects),
        tuple(each for page in pages for each in page.undecodable),
    )


def _pages(api: Getter, kind: Kind) -> Iterator[decode.Page]:
    position = ""
    seen: set[str] = set()
    while True:
        query = [("limit", str(PAGE))]
        query += [("fieldSelector", kind.only)] if kind.only else []
        query += [("continue", position)] if position else []
        body = api.get(kind.path, query=query, right=kind.right)
        try:
            page = decode.page(body, kind.type, kind.name)
        except (ValueError, RecursionError) as error:
            raise not_kubernetes(kind.right, error) from error
        yield page
        if not page.position:
            return
        if page.position in seen:
            raise ReadError(
                f"the API server repeats the continue token of {kind.name}: its list has no end",
                "check the API server, or the proxy in front of it",
            )
        seen.add(position := page.position)


def _served(api: Getter, kind: Kind) -> tuple[str, ...]:
    """Return the versions at which the cluster serves the resource, as it prefers them."""
    if not kind.group:
        versions = ["v1"]
    else:
        try:
            group = _decoded(api, kind.root, _Group)
        except NotServed:
            return ()
        versions = [each.version for each in group.versions]
    return tuple(version for version in versions if _serves(api, kind, version))


def _serves(api: Getter, kind: Kind, version: str) -> bool:
    try:
        found = _decoded(api, f"{kind.root}/{version}", _Resources)
    except NotServed:
        return False
    return kind.resource in {each.name for each in found.resources}


def _decoded(api: Getter, path: str, type: type[Any]) -> Any:
    try:
        return msgspec.json.decode(api.get(path, right=f"get {path}"), type=type)
    except (ValueError, RecursionError) as error:
        raise not_kubernetes(f"get {path}", error) from error


def undecodable(kind: Kind, objects: tuple[Undecodable, ...]) -> tuple[str, str]:
    """Return why a list is incomplete, and what to do."""
    more = f", and {len(objects) - NAMED} more" if len(objects) > NAMED else ""
    words = "; ".join(map(str, objects[:NAMED]))
    namespace, _, name = objects[0].name.rpartition("/")
    where = f"-n {namespace} " if namespace else ""
    return (
        f"cannot decode {words}{more}",
        f"kubectl {where}get {kind.name} {name} -o yaml, and correct the field",
    )


def not_kubernetes(request: str, error: Exception) -> ReadError:
    """Return the error for an answer that is not one of an API server."""
    return ReadError(
        f"cannot decode the answer to {request}: {error}",
        f"check that {flag('access.kubeconfig')} leads to a Kubernetes API server; if it does, "
        "report this with "
        "its version",
    )
