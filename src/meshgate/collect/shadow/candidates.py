"""Objects that add their own content to proxies' configuration and may cause a rejection."""

from collections.abc import Iterator
from typing import Any

import msgspec

from meshgate.collect.api import Api
from meshgate.collect.shadow.proxies import Proxy
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.sources import Kind

# The group, resource, namespace and name of an object.
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
    """An object that adds its own content to proxies' configuration.

    Attributes:
        key: group, resource, namespace and name.
        subject: `Kind namespace/name`.
        labels: the labels of the pods that it selects; all pods if empty.
        names: the filters, routes and headers that it names.
    """

    key: Key
    subject: str
    labels: dict[str, str]
    names: frozenset[str]

    def reaches(self, proxy: Proxy, root: str) -> bool:
        """Return whether the object applies to a proxy; `root` is the mesh's root namespace."""
        in_scope = self.key[2] in (root, proxy.namespace)
        return in_scope and self.labels.items() <= proxy.labels.items()


def candidates(api: Api) -> list[Candidate]:
    """Return every candidate of the cluster; raise ReadError if a kind cannot be listed."""
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
    """Yield every name in a patch: of filters, routes and headers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("name", "key") and isinstance(inner, str):
                # Every proxy's configuration has these names, so they identify no object.
                if not inner.startswith("envoy.filters.network."):
                    yield inner
            else:
                yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)
