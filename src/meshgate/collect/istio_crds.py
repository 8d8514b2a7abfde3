"""Istio's own CRDs: which of the fields that releases add they have.

A CRD's schema is large, so only the CRDs that the ledger names are read, and only paths are kept.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from meshgate.collect.readers import Context
from meshgate.semantics.releases import crd_fields
from meshgate.snapshot.items import Items
from meshgate.snapshot.sources import Kind
from meshgate.snapshot.upgrade import IstioCrd

_KIND = Kind(
    "definitions", "apiextensions.k8s.io", "v1", "customresourcedefinitions", dict[str, Any]
)


def read(context: Context, _: Items) -> tuple[IstioCrd, ...]:
    """Return the CRDs that the ledger names and the cluster has.

    Raises ReadError if they cannot be listed.
    """
    found = []
    for name, tracked in crd_fields().items():
        kind = msgspec.structs.replace(_KIND, only=f"metadata.name={name}")
        for definition in context.cluster.objects(kind):
            fields = tracked & set(_fields(definition))
            found.append(IstioCrd(name=name, fields=tuple(sorted(fields))))
    return tuple(found)


def _fields(definition: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of all fields of the version that the API server stores."""
    for version in (definition.get("spec") or {}).get("versions") or ():
        if version.get("storage"):
            yield from _paths((version.get("schema") or {}).get("openAPIV3Schema"), "")


def _paths(schema: Any, path: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for name, each in (schema.get("properties") or {}).items():
        inner = f"{path}.{name}" if path else str(name)
        yield inner
        yield from _paths(each, inner)
    # Items of a list and values of a map have the path of the list or map itself.
    yield from _paths(schema.get("items"), path)
    yield from _paths(schema.get("additionalProperties"), path)
