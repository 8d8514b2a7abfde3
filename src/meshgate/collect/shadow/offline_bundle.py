"""Record what the simulation of an upgrade needs, to run it later without the cluster.

Objects are recorded whole, because istiod reads more of them than any check does.  Exceptions: of
pods and pod templates only what istiod reads, nothing of ConfigMaps and Secrets, and nothing that
looks like a credential.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from meshgate.collect.api import Api
from meshgate.collect.errors import ReadError
from meshgate.collect.plan import SHADOW_READS
from meshgate.collect.shadow import proxies
from meshgate.collect.shadow.recorded import RecordedCluster
from meshgate.collect.shadow.running import RunningMesh
from meshgate.collect.workloads import WORKLOADS
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.base import Base
from meshgate.snapshot.offline_bundle import (
    SOURCE_ANNOTATIONS,
    Given,
    Listed,
    OfflineBundle,
)
from meshgate.snapshot.redact import REDACTED, is_credential, text
from meshgate.snapshot.sources import Kind

# The version and kind of every built-in resource.
_BUILT_IN = {
    "/configmaps": ("v1", "ConfigMap"),
    "/endpoints": ("v1", "Endpoints"),
    "/namespaces": ("v1", "Namespace"),
    "/nodes": ("v1", "Node"),
    "/pods": ("v1", "Pod"),
    "/serviceaccounts": ("v1", "ServiceAccount"),
    "/services": ("v1", "Service"),
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": (
        "v1",
        "MutatingWebhookConfiguration",
    ),
    "admissionregistration.k8s.io/validatingwebhookconfigurations": (
        "v1",
        "ValidatingWebhookConfiguration",
    ),
    "apiextensions.k8s.io/customresourcedefinitions": ("v1", "CustomResourceDefinition"),
    "apps/daemonsets": ("v1", "DaemonSet"),
    "apps/deployments": ("v1", "Deployment"),
    "apps/statefulsets": ("v1", "StatefulSet"),
    "discovery.k8s.io/endpointslices": ("v1", "EndpointSlice"),
    "networking.k8s.io/ingressclasses": ("v1", "IngressClass"),
    "networking.k8s.io/ingresses": ("v1", "Ingress"),
}

# Read by the simulation itself: their pod templates are sent to the target's injector.
_TEMPLATES = ("apps", tuple(WORKLOADS.values()))

# The target reads its rendered ConfigMaps instead of these, and needs no others.
_NOTHING = frozenset({"/configmaps"})

_METADATA_ALONE = frozenset(
    {
        "/serviceaccounts",
        "admissionregistration.k8s.io/mutatingwebhookconfigurations",
        "admissionregistration.k8s.io/validatingwebhookconfigurations",
        "apiextensions.k8s.io/customresourcedefinitions",
    }
)

_METADATA = (
    *("name", "namespace", "labels", "uid", "generation", "resourceVersion"),
    *("creationTimestamp", "deletionTimestamp", "ownerReferences"),
)
# Annotations that a version of istiod reads, and those that say where an object comes from.
_ANNOTATIONS = re.compile(
    r".*istio\.io/.*|gateway\.networking\.k8s\.io/.*|kubernetes\.io/ingress.*"
    r"|" + "|".join(map(re.escape, SOURCE_ANNOTATIONS))
)

# Annotations of pods that an injector reads.
_INJECTION = re.compile(r".*istio\.io/.*|prometheus\.io/.*")

_POD = ("hostNetwork", "hostname", "nodeName", "serviceAccountName", "subdomain")
_POD_STATUS = ("conditions", "hostIP", "phase", "podIP", "podIPs")
_CONTAINER = ("name", "ports", "restartPolicy")
# The environment variables that a proxy derives its node metadata from.
_NODE_VARIABLES = re.compile(r"ISTIO_META_.*|ISTIO_METAJSON_.*|PROXY_CONFIG")

_ONLY_NAMES = frozenset({"imagePullSecret"})


class _Names(Base, frozen=True):
    kind: str


class _Version(Base, frozen=True):
    name: str
    served: bool = False


class _DefinitionSpec(Base, frozen=True):
    names: _Names
    versions: tuple[_Version, ...] = ()


class _Name(Base, frozen=True):
    name: str


class _Definition(Base, frozen=True):
    metadata: _Name
    spec: _DefinitionSpec


def record(api: Api, running: RunningMesh) -> OfflineBundle:
    """Return everything that a simulation needs.

    Args:
        api: the cluster's API server.
        running: what the running istiods send.

    Raises:
        ReadError: a list cannot be read.
    """
    cut: set[str] = set()
    listed = dict(_listed(api, cut))
    given: dict[str, tuple[Given, ...]] = {}
    not_given: dict[str, str] = {}
    bodies: dict[str, Any] = {}
    # Proxies that are alike without a version and a mesh config are alike with any.
    found = proxies.read(RecordedCluster(listed, ""), {}, "")
    for members in proxies.alike(each for each in found if each.key in running.proxies):
        for proxy in members[: proxies.TRIES]:
            try:
                given[proxy.key] = tuple(_given(running, proxy.key, bodies))
                break
            except ReadError as error:
                not_given[proxy.key] = text(error.why)
    injected: dict[str, Any] = {}
    not_injected: dict[str, str] = {}
    for namespace in running.injection_enabled:
        try:
            injected[namespace] = running.injected(namespace)
        except ReadError as error:
            not_injected[namespace] = text(error.why)
    return OfflineBundle(
        listed=listed,
        connected=tuple(sorted(running.proxies)),
        given=given,
        not_given=not_given,
        bodies=bodies,
        injected=injected,
        not_injected=not_injected,
        cut=tuple(sorted(cut)),
    )


def _given(running: RunningMesh, proxy: str, bodies: dict[str, Any]) -> Iterator[Given]:
    """Yield the resources of a proxy, and add their bodies by digest.

    Args:
        running: what the running istiods send.
        proxy: `pod.namespace`.
        bodies: receives the bodies.
    """
    for (type, name), body in running.given(proxy).items():
        kept = _without_variables(_without_secrets(body, lambda: None), lambda: None)
        digest = hashlib.sha256(msgspec.json.encode(kept)).hexdigest()[:32]
        bodies.setdefault(digest, kept)
        yield Given(type=type, name=name, body=digest)


def _listed(api: Api, cut: set[str]) -> Iterator[tuple[str, Listed]]:
    """Yield the objects of each resource; add to `cut` what was recorded incompletely."""
    definitions = api.objects(
        Kind("", "apiextensions.k8s.io", "v1", "customresourcedefinitions", _Definition)
    )
    known = dict(_BUILT_IN)
    for each in definitions:
        resource, _, group = each.metadata.name.partition(".")
        if served := [version.name for version in each.spec.versions if version.served]:
            known[f"{group}/{resource}"] = max(served, key=_rank), each.spec.names.kind
    for group, resources in (*SHADOW_READS, _TEMPLATES):
        for resource in resources:
            key = f"{group}/{resource}"
            if key in known:
                version, kind = known[key]
                found: tuple[Any, ...] = ()
                if key not in _NOTHING:
                    found = api.objects(Kind("", group, version, resource, dict[str, Any]))
                objects = tuple(_kept(key, kind, each, cut) for each in found)
                yield key, Listed(kind=kind, objects=objects)


def _rank(version: str) -> tuple[int, int, int]:
    """Return a sort key of an API version: v1 ranks above v1beta2, and that above v1alpha3."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return 0, 0, 0
    level = {None: 3, "beta": 2, "alpha": 1}[match[2]]
    return level, int(match[1]), int(match[3] or 0)


def _kept(key: str, kind: str, whole: dict[str, Any], cut: set[str]) -> dict[str, Any]:
    """Return the parts of an object that are recorded.

    Args:
        key: `GROUP/RESOURCE`.
        kind: its kind.
        whole: the object.
        cut: receives the object's name if it is recorded incompletely.
    """
    metadata = _some(whole["metadata"], _METADATA)
    annotations = whole["metadata"].get("annotations") or {}
    if istios := {name: annotations[name] for name in annotations if _ANNOTATIONS.fullmatch(name)}:
        metadata["annotations"] = istios
    rest = {name: value for name, value in whole.items() if name != "metadata"}
    if key in _METADATA_ALONE:
        rest = {}
    elif key == "/nodes":
        rest = {"status": _some(whole.get("status", {}), ("addresses", "nodeInfo"))}
    elif key == "/pods":
        rest = _pod(whole)
    elif key.startswith("apps/"):
        rest = {"spec": {"template": _template(whole["spec"].get("template") or {})}}
    name = f"{kind} {metadata.get('namespace', '')}/{metadata['name']}".replace(" /", " ")
    kept: dict[str, Any] = {"metadata": metadata, **rest}
    kept = _without_secrets(kept, lambda: cut.add(name))
    if key == "extensions.istio.io/wasmplugins":
        kept = _without_variables(kept, lambda: cut.add(name))
    return kept


def _some(whole: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: whole[name] for name in names if name in whole}


def _pod(pod: dict[str, Any]) -> dict[str, Any]:
    spec = pod["spec"]
    kept = _some(spec, _POD)
    for part in ("containers", "initContainers"):
        kept[part] = [_container(each) for each in spec.get(part, ())]
    return {"spec": kept, "status": _some(pod.get("status", {}), _POD_STATUS)}


def _template(template: dict[str, Any]) -> dict[str, Any]:
    """Return what an injector reads of a pod template, without environments and commands."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    kept = _some(spec, _POD)
    for part in ("containers", "initContainers"):
        kept[part] = [_some(each, (*_CONTAINER, "image")) for each in spec.get(part) or ()]
    return {
        "metadata": {
            "labels": metadata.get("labels") or {},
            "annotations": {
                name: annotations[name] for name in annotations if _INJECTION.fullmatch(name)
            },
        },
        "spec": kept,
    }


def _container(container: dict[str, Any]) -> dict[str, Any]:
    kept = _some(container, _CONTAINER)
    args = container.get("args") or ["?"]
    if container["name"] == PROXY and args[0] == "proxy":
        role = [word for word in args[1:2] if not word.startswith("-")]
        kept["args"] = ["proxy", *role, f"--domain={proxies.domain(args)}"]
        kept["env"] = [
            {"name": each["name"], "value": _plain(each["name"], each["value"])}
            for each in container.get("env", ())
            if "value" in each and _NODE_VARIABLES.fullmatch(each["name"])
        ]
    return kept


def _plain(name: str, value: str) -> str:
    """Return the value of a variable; of PROXY_CONFIG without `proxyMetadata`, which has others."""
    if name != "PROXY_CONFIG" or not value.strip():
        return value
    config = json.loads(value)
    config.pop("proxyMetadata", None)
    return json.dumps(config)


def _without_secrets(value: Any, on_cut: Callable[[], Any], name: str = "") -> Any:
    """Return a value without what looks like a credential.

    Args:
        value: decoded JSON.
        on_cut: called whenever something is removed.
        name: the field that has the value.
    """
    if isinstance(value, dict):
        # A header has a field `key` and a field `value`.
        header = str(value.get("key", ""))
        return {
            key: _without_secrets(each, on_cut, header if key == "value" and header else key)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(each, on_cut, name) for each in value]
    if not isinstance(value, str):
        return value
    secret = value and name not in _ONLY_NAMES and is_credential(name)
    kept = REDACTED if secret else _text(value)
    if kept != value:
        on_cut()
    return kept


def _text(value: str) -> str:
    """Return a text without what looks like a credential; JSON stays JSON."""
    if value.startswith(("{", "[")):
        with suppress(ValueError):
            whole = json.loads(value)
            kept = _without_secrets(whole, lambda: None)
            return value if kept == whole else json.dumps(kept)
    return text(value)


def _without_variables(value: Any, on_cut: Callable[[], Any]) -> Any:
    """Return a value without the environment variables of Wasm modules.

    `on_cut` is called whenever one is removed.
    """
    if isinstance(value, list):
        return [_without_variables(each, on_cut) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_variables(each, on_cut) for key, each in value.items()}
    for each in kept.get("env") or ():
        if "value" in each:
            each["value"] = REDACTED
            on_cut()
    if variables := kept.get("keyValues"):
        kept["keyValues"] = dict.fromkeys(variables, REDACTED)
        on_cut()
    return kept
