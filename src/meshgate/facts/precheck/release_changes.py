"""What releases changed, held against what the mesh uses: a row of upgrade/changes.toml each."""

import tomllib
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from importlib.resources import files
from typing import NamedTuple

import msgspec

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics import pods
from meshgate.semantics.versions import Version
from meshgate.snapshot.kubernetes import Metadata, Pod
from meshgate.verdict import CouldNotVerify, Finding


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row; its fields are explained in upgrade/changes.toml."""

    since: tuple[str, ...]
    what: str
    look: str
    do: str
    names: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    removed: bool = False

    def holds(self, version: Version) -> bool:
        """Whether a release has it: its own minor's backport counts, else the last of `since`."""
        begins = sorted(filter(None, map(Version.parse, self.since)))
        own = [each for each in begins if each[:2] == version[:2]]
        # a pre-release has what its release brings
        return (version.major, version.minor, version.patch) >= (own or begins[-1:])[0][:3]


@cache
def known() -> dict[str, Change]:
    """All rows, by name."""
    text = files("meshgate").joinpath("upgrade", "changes.toml").read_text()
    return msgspec.convert(tomllib.loads(text), dict[str, Change])


def looked_for(look: str) -> frozenset[str]:
    """The names that a look is about: no other setting is ever kept."""
    return frozenset(
        name for change in known().values() if change.look == look for name in change.names
    )


def settling() -> frozenset[str]:
    """The variables by which somebody may have chosen already."""
    return frozenset(name for change in known().values() for name in change.unless)


class Sign(NamedTuple):
    """Why a mesh is concerned by a change: an object, and what was seen of it."""

    subject: str
    seen: str


Look = Callable[[Evidence, Change], Iterator[Sign]]


class Changes:
    """The changes between what runs (exclusive) and the target (inclusive)."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @cached_property
    def ahead(self) -> list[Change]:
        """Those that the upgrade brings."""
        oldest, target = self._upgrade.oldest, self._upgrade.target
        return [each for each in known().values() if not each.holds(oldest) and each.holds(target)]

    @property
    def removed(self) -> list[Finding]:
        """What somebody has set, and the target no longer knows."""
        return self._found(removed=True)

    @property
    def turned(self) -> list[Finding]:
        """What will behave in another way by itself."""
        return self._found(removed=False)

    def _found(self, *, removed: bool) -> list[Finding]:
        return [
            Finding(
                sign.subject,
                f"{sign.seen}; since Istio {change.since[-1]} {change.what}",
                remedy=change.do,
            )
            for change in self.ahead
            if change.removed is removed and not self._chosen(change)
            for sign in LOOKS[change.look](self._evidence, change)
        ]

    def _chosen(self, change: Change) -> bool:
        return any(
            change.unless and {*each.variables, *each.cni} & {*change.unless}
            for each in self._evidence.settings
        )


# --- the looks ------------------------------------------------------------------------------------


def _variable(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.settings:
        for name in sorted(each.variables.keys() & {*change.names}):
            yield Sign(each.deployment, f"sets {name}")


def _proxy_metadata(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.settings:
        for name in sorted(each.proxy_metadata.keys() & {*change.names}):
            yield Sign(each.deployment, f"its mesh config sets {name} in proxyMetadata")


def _provider(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.settings:
        for provider in each.providers:
            if provider.kind in change.names:
                yield Sign(
                    each.deployment,
                    f"its mesh config has the {provider.kind} provider {provider.name}",
                )
        for kind in each.tracers:
            if kind in change.names:
                yield Sign(each.deployment, f"its mesh config traces by {kind}")


def _tracing(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.settings:
        if each.tracers:
            yield Sign(each.deployment, f"its mesh config traces by {', '.join(each.tracers)}")


def _networks(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.settings:
        if each.networks:
            yield Sign(each.deployment, "its mesh config names networks")


def _compatibility(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.settings:
        if each.compatibility in change.names:
            yield Sign(each.deployment, f"is set by compatibilityVersion {each.compatibility}")


def _annotation(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.workloads:
        for name in sorted({*each.annotations} & {*change.names}):
            yield Sign(f"{each.kind} {each.namespace}/{each.name}", f"its pods carry {name}")


def _crd(evidence: Evidence, change: Change) -> Iterator[Sign]:
    """A name alone is a CRD that nobody reads any more; `NAME=VERSION` what it has to serve."""
    asked = dict(name.partition("=")[::2] for name in change.names)
    for each in evidence.definitions:
        needed = asked.get(each.metadata.name)
        served = [version.name for version in each.spec.versions if version.served]
        if needed is not None and needed not in served:
            yield Sign(
                f"CustomResourceDefinition {each.metadata.name}",
                f"serves {', '.join(served) or 'no version'}"
                + (f", not {needed}" if needed else ""),
            )


def _kubelet(evidence: Evidence, change: Change) -> Iterator[Sign]:
    (least,) = filter(None, map(Version.parse, change.names))
    versions = [Version.parse(each.status.node_info.kubelet_version) for each in evidence.nodes]
    if versions and all(version is not None and version >= least for version in versions):
        yield Sign(
            f"{len(versions)} Nodes", f"run kubelets of {least.major}.{least.minor} or newer"
        )


def _mirror(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.virtual_services:
        if any(route.mirror or route.mirrors for route in each.spec.http):
            yield Sign(_named("VirtualService", each.metadata), "mirrors requests")


def _connection_pool(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for each in evidence.destination_rules:
        policies = [each.spec.traffic_policy, *(row.traffic_policy for row in each.spec.subsets)]
        if any(policy and policy.connection_pool for policy in policies):
            yield Sign(_named("DestinationRule", each.metadata), "limits a connection pool")


def _tool(evidence: Evidence, change: Change) -> Iterator[Sign]:
    for pod in evidence.pods:
        labels, home = pod.metadata.labels, evidence.expectations.istio_namespace
        names = {labels.get("app", ""), labels.get("app.kubernetes.io/name", "")}
        if names & {*change.names} and pod.metadata.namespace != home:
            yield Sign(pods.name(pod), f"reads istiod's debug endpoints from outside {home}")


def _ambient(evidence: Evidence, change: Change) -> Iterator[Sign]:
    if ztunnels := _ztunnels(evidence):
        yield Sign(pods.name(ztunnels[0]), "the mesh has ambient workloads")


def _ambient_entry(evidence: Evidence, change: Change) -> Iterator[Sign]:
    ambient = bool(_ztunnels(evidence))
    for each in evidence.service_entries:
        if ambient and each.spec.resolution in change.names:
            yield Sign(
                _named("ServiceEntry", each.metadata),
                f"has the resolution {each.spec.resolution}",
            )


def _dry_run(evidence: Evidence, change: Change) -> Iterator[Sign]:
    """On at the target, and a ztunnel of a release before the change is there."""
    (name,) = change.names
    if not any(each.variables.get(name) == "true" for each in evidence.settings):
        return
    proxies = Upgrade(evidence).proxies
    for pod in _ztunnels(evidence):
        version = proxies.get(pods.name(pod))
        if version is None:
            raise CouldNotVerify(f"{pods.name(pod)} does not say which version it is")
        if not change.holds(version):
            yield Sign(pods.name(pod), f"is of {version}, and {name} is on")


LOOKS: dict[str, Look] = {
    look.__name__.removeprefix("_"): look
    for look in (
        *(_variable, _proxy_metadata, _provider, _tracing, _networks, _compatibility),
        *(_annotation, _crd, _kubelet, _mirror, _connection_pool, _tool),
        *(_ambient, _ambient_entry, _dry_run),
    )
}


def _ztunnels(evidence: Evidence) -> list[Pod]:
    return [each for each in evidence.pods if each.metadata.labels.get("app") == "ztunnel"]


def _named(kind: str, metadata: Metadata) -> str:
    return f"{kind} {metadata.namespace}/{metadata.name}"
