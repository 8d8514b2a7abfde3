"""Objects that put what their author wrote into proxies' configuration: who may bring a refusal."""

from collections.abc import Iterator
from typing import Any

import msgspec

from meshgate.collect.kubernetes import Api
from meshgate.collect.shadow.proxies import Proxy
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import Kind
from meshgate.snapshot.kubernetes import Metadata

Key = tuple[str, str, str, str]


class _Selector(Base, frozen=True):
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class _Spec(Base, frozen=True):
    workload_selector: _Selector | None = None
    selector: _Selector | None = None
    config_patches: tuple[Any, ...] = ()


class _Candidate(Base, frozen=True):
    metadata: Metadata
    spec: _Spec = _Spec()


class Candidate(msgspec.Struct, frozen=True):
    """An object that puts what its author wrote into proxies' configuration."""

    key: Key
    subject: str
    labels: dict[str, str]
    names: frozenset[str]

    def reaches(self, proxy: Proxy, root: str) -> bool:
        """Whether it is about a proxy."""
        near = self.key[2] in (root, proxy.namespace)
        return near and self.labels.items() <= proxy.labels.items()


def candidates(api: Api) -> list[Candidate]:
    """All of the cluster's."""
    found = []
    for kind, group, version, resource in (
        ("EnvoyFilter", "networking.istio.io", "v1alpha3", "envoyfilters"),
        ("WasmPlugin", "extensions.istio.io", "v1alpha1", "wasmplugins"),
        ("AuthorizationPolicy", "security.istio.io", "v1", "authorizationpolicies"),
        ("Telemetry", "telemetry.istio.io", "v1", "telemetries"),
    ):
        listed = api.objects(Kind(resource, group, version, resource, _Candidate, optional=True))
        for each in listed:
            namespace, name = each.metadata.namespace, each.metadata.name
            selector = each.spec.workload_selector or each.spec.selector or _Selector()
            found.append(
                Candidate(
                    (group, resource, namespace, name),
                    f"{kind} {namespace}/{name}",
                    selector.labels or selector.match_labels,
                    frozenset(_names([patch.get("patch") for patch in each.spec.config_patches])),
                )
            )
    return found


def _names(value: Any) -> Iterator[str]:
    """All that a patch gives a name to: filters, routes, headers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("name", "key") and isinstance(inner, str):
                # the names that every proxy's configuration has say nothing of who brought them
                if not inner.startswith("envoy.filters.network."):
                    yield inner
            else:
                yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)
