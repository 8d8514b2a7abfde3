"""The fields of Istio's CRDs, read from the cluster."""

from typing import Any, cast

import msgspec

from meshgate.collect import istio_crds
from meshgate.collect.readers import Context
from meshgate.snapshot.items import Items
from meshgate.snapshot.sources import Kind

REDIRECT = {"properties": {"prefixRewrite": {"type": "string"}}}
HTTP = {"type": "array", "items": {"properties": {"redirect": REDIRECT}}}
SCHEMA = {"openAPIV3Schema": {"properties": {"spec": {"properties": {"http": HTTP}}}}}


class _Cluster:
    def __init__(self, **definitions: list[dict[str, Any]]) -> None:
        self._definitions = definitions

    def objects(self, kind: Kind) -> tuple[dict[str, Any], ...]:
        name = kind.only.partition("=")[2].partition(".")[0]
        versions = self._definitions.get(name)
        return () if versions is None else ({"spec": {"versions": versions}},)


class _Context(msgspec.Struct):
    cluster: Any


def read(**definitions: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    context = cast("Context", _Context(_Cluster(**definitions)))
    return {each.name: each.fields for each in istio_crds.read(context, Items())}


def test_only_tracked_fields_of_the_stored_version_are_kept() -> None:
    old: dict[str, Any] = {"name": "v1alpha3", "schema": {}}
    new = {"name": "v1", "storage": True, "schema": SCHEMA}

    assert read(virtualservices=[old, new]) == {
        "virtualservices.networking.istio.io": ("spec.http.redirect.prefixRewrite",)
    }
    assert read(virtualservices=[{**old, "schema": SCHEMA}, {**new, "schema": {}}]) == {
        "virtualservices.networking.istio.io": ()
    }


def test_fields_of_the_values_of_a_map_are_found() -> None:
    tags = {"type": "object", "additionalProperties": {"properties": {"formatter": {}}}}
    tracing = {"type": "array", "items": {"properties": {"customTags": tags}}}
    spec = {"properties": {"tracing": tracing}}
    schema = {"openAPIV3Schema": {"properties": {"spec": spec}}}

    assert read(telemetries=[{"name": "v1", "storage": True, "schema": schema}]) == {
        "telemetries.telemetry.istio.io": ("spec.tracing.customTags.formatter",)
    }


def test_a_crd_without_a_schema_has_no_fields() -> None:
    assert read(gateways=[{"name": "v1", "storage": True}]) == {"gateways.networking.istio.io": ()}
    assert read() == {}
