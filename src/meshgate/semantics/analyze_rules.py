"""Messages of `istioctl analyze` that the configuration itself disproves (analyze_rules.toml)."""

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

from meshgate.semantics.hosts import DEFAULT_DOMAIN, fully_qualified
from meshgate.semantics.versions import Version
from meshgate.snapshot.istio import (
    DestinationRule,
    Gateway,
    HttpRoute,
    ServiceEntry,
    TcpRoute,
    TlsRoute,
    VirtualService,
)
from meshgate.snapshot.istioctl import AnalysisMessage


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of analyze_rules.toml."""

    code: str
    pattern: str
    evidence: str
    reason: str


class Newer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code that istioctl has `since` a minor version."""

    code: str
    since: str
    reason: str


class _Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]
    newer: tuple[Newer, ...]


Route = HttpRoute | TlsRoute | TcpRoute


class Configuration(NamedTuple):
    """The objects that can disprove a message."""

    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    service_entries: tuple[ServiceEntry, ...] = ()
    domain: str = DEFAULT_DOMAIN


@cache
def _rules() -> _Rules:
    text = files("meshgate.semantics").joinpath("analyze_rules.toml").read_text()
    return msgspec.convert(tomllib.loads(text), _Rules)


def rules() -> tuple[Rule, ...]:
    """Return the rules about messages that the configuration can disprove."""
    return _rules().rule


def newer_than(code: str, istioctl: str) -> str:
    """Return why an istioctl of this version cannot report a code; empty if it can."""
    version = Version.parse(istioctl)
    for each in _rules().newer:
        since = Version.parse(f"{each.since}.0")
        if each.code == code and version and since and version[:2] < since[:2]:
            return f"the baseline was analyzed by istioctl {istioctl} ({each.reason})"
    return ""


def disproof(message: AnalysisMessage, configuration: Configuration) -> str:
    """Return the evidence that a message is wrong, and why the analyzer reports it; else empty."""
    for rule in rules():
        if rule.code == message.code and (found := re.search(rule.pattern, message.message)):
            evidence = EVIDENCE[rule.evidence](message.origin, found.groupdict(), configuration)
            if evidence:
                return f"{evidence} ({rule.reason})"
    return ""


def _object(origin: str) -> tuple[str, str]:
    """Return the namespace and name in `Kind namespace/name`."""
    namespace, _, name = origin.partition(" ")[2].partition("/")
    return namespace, name


def _subset_without_traffic(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """Every route to the subset has weight 0, beside a destination that gets the traffic."""
    rule = next(
        (
            each
            for each in seen.destination_rules
            if (each.metadata.namespace, each.metadata.name) == _object(origin)
        ),
        None,
    )
    if rule is None:
        return ""
    host = fully_qualified(rule.spec.host, rule.metadata.namespace, seen.domain)
    users = []
    for service in seen.virtual_services:
        routes: tuple[Route, ...] = (*service.spec.http, *service.spec.tls, *service.spec.tcp)
        for route in routes:
            to_host = [
                each
                for each in route.route
                if fully_qualified(each.destination.host, service.metadata.namespace, seen.domain)
                == host
            ]
            if to_host and _is_mirrored(route):
                return ""  # to which subset is not collected
            to_subset = [e for e in to_host if e.destination.subset == found["subset"]]
            if any((each.weight or 0) > 0 for each in to_subset) or (
                to_subset and len(route.route) == 1
            ):
                return ""
            if to_subset:
                users.append(f"VirtualService {service.metadata.namespace}/{service.metadata.name}")
    return f"{users[0]} sends it weight 0" if users else ""


def _is_mirrored(route: Route) -> bool:
    return isinstance(route, HttpRoute) and (route.mirror is not None or bool(route.mirrors))


def _conflict_with_itself(_: str, found: dict[str, str], __: Configuration) -> str:
    names = set(found["names"].split(","))
    return f"only VirtualService {names.pop()} defines the host" if len(names) == 1 else ""


_LEGACY = re.compile(r"(?P<name>[^.]+)\.(?P<namespace>[^.]+)(\.svc(\.[^/]+)?)?")


def _legacy_gateway_name(_: str, found: dict[str, str], seen: Configuration) -> str:
    legacy = _LEGACY.fullmatch(found["gateway"])
    if legacy is None:
        return ""
    wanted = (legacy["namespace"], legacy["name"])
    there = any((e.metadata.namespace, e.metadata.name) == wanted for e in seen.gateways)
    return f"Gateway {wanted[0]}/{wanted[1]} exists" if there else ""


def _host_exported_to_gateways(origin: str, found: dict[str, str], seen: Configuration) -> str:
    namespace, name = _object(origin)
    users = [
        each
        for each in seen.virtual_services
        if (each.metadata.namespace, each.metadata.name) == (namespace, name)
    ]
    if not users:
        return ""
    using = {reference for each in users for reference in _gateway_namespaces(each)}
    if not using or "" in using:  # the sidecars of the mesh use it too
        return ""
    for entry in seen.service_entries:
        exported = entry.spec.export_to
        if found["host"] in entry.spec.hosts and all(
            "*" in exported
            or each in exported
            or ("." in exported and each == entry.metadata.namespace)
            for each in using
        ):
            subject = f"ServiceEntry {entry.metadata.namespace}/{entry.metadata.name}"
            return f"{subject} exports it to {', '.join(sorted(using))}"
    return ""


def _gateway_namespaces(service: VirtualService) -> Iterator[str]:
    """Return the namespaces of the gateways that use a VirtualService; empty for the whole mesh."""
    for reference in service.spec.gateways or ("mesh",):
        namespace, slash, _ = reference.partition("/")
        legacy = _LEGACY.fullmatch(reference)
        if reference == "mesh":
            yield ""
        elif slash:
            yield service.metadata.namespace if namespace == "." else namespace
        else:
            yield legacy["namespace"] if legacy else service.metadata.namespace


Evidence = Callable[[str, dict[str, str], Configuration], str]

EVIDENCE: dict[str, Evidence] = {
    "subset_without_traffic": _subset_without_traffic,
    "conflict_with_itself": _conflict_with_itself,
    "legacy_gateway_name": _legacy_gateway_name,
    "host_exported_to_gateways": _host_exported_to_gateways,
}
