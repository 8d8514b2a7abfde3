"""Values of the mesh config that have the right type and that istiod's validation rejects.

istiod then uses nothing of the mesh config, as with a value that it cannot parse
(ValidateMeshConfig, pkg/config/validation/agent in Istio).  Extension providers are not among
them: of an invalid one istiod only logs a warning.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from meshgate.semantics.mesh_config import seconds, unparsable

_PORTS = ("proxyListenPort", "defaultConfig.proxyAdminPort", "defaultConfig.statusPort")
_ADDRESSES = (
    "defaultConfig.discoveryAddress",
    "defaultConfig.statsdUdpAddress",
    "defaultConfig.envoyMetricsServiceAddress",
    "defaultConfig.envoyMetricsService.address",
    "defaultConfig.envoyAccessLogService.address",
)
_TRACERS = ("defaultConfig.tracing.zipkin", "defaultConfig.tracing.datadog")
# In the addresses of tracers istiod replaces this before it validates them.
_HOST_IP = "$(HOST_IP)"

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:]*)):(?P<port>\d+)")
_LABEL = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
_WILDCARD = re.compile(r"\*|(\*-?)?[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
_LONGEST = 255


def faults(config: Any) -> list[str]:
    """Return the fields for which istiod ignores a mesh config, each with the reason.

    `config` is the decoded YAML.  Values are examined if every field can be parsed.
    """
    return unparsable(config) or _rejected(config)


def _rejected(config: Any) -> list[str]:
    found = (*_durations(config), *_ports_and_addresses(config), *_names(config))
    return [f"{path}: {why}" for path, why in (*found, *_localities(config), *_others(config))]


def _durations(config: Any) -> Iterator[tuple[str, str]]:
    connect = _duration(config, "connectTimeout")
    if connect is not None and not (0.001 <= connect <= 3600 and _is_whole(connect * 1000)):
        yield "connectTimeout", "is not a duration of 1ms to 1h in whole milliseconds"
    detection = _duration(config, "protocolDetectionTimeout")
    if detection is not None and not _is_whole(detection * 1000):
        yield "protocolDetectionTimeout", "is not a duration in whole milliseconds"
    drain = _duration(config, "defaultConfig.drainDuration")
    if drain is not None and not (drain > 0 and _is_whole(drain)):
        yield "defaultConfig.drainDuration", "is not a duration in whole seconds"


def _ports_and_addresses(config: Any) -> Iterator[tuple[str, str]]:
    for path in _PORTS:
        port = _get(config, path)
        if port is not None and not 1 <= int(port) <= 65535:
            yield path, "is not a port from 1 to 65535"
    for path in _ADDRESSES:
        if (address := _get(config, path)) and not _is_address(address):
            yield path, "is not HOST:PORT"
    for path in _TRACERS:
        tracer = _get(config, path)
        if isinstance(tracer, dict):
            address = str(tracer.get("address") or "").replace(_HOST_IP, "127.0.0.1", 1)
            if not _is_address(address):
                yield f"{path}.address", "is not HOST:PORT"


def _names(config: Any) -> Iterator[tuple[str, str]]:
    domain = _get(config, "trustDomain")
    if domain and not _is_trust_domain(domain):
        yield "trustDomain", "is not a domain name"
    for index, alias in enumerate(_get(config, "trustDomainAliases") or ()):
        if not _is_trust_domain(alias):
            yield f"trustDomainAliases[{index}]", "is not a domain name"
    for number, settings in enumerate(_get(config, "serviceSettings") or ()):
        for index, host in enumerate((settings or {}).get("hosts") or ()):
            if not _is_wildcard_host(host):
                yield f"serviceSettings[{number}].hosts[{index}]", "is not a host name"


def _localities(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the contradictions in localityLbSetting, whose types are not examined elsewhere."""
    setting = _get(config, "localityLbSetting")
    if not isinstance(setting, dict):
        return
    path = "localityLbSetting"
    distribute, failover = setting.get("distribute") or (), setting.get("failover") or ()
    if distribute and failover:
        yield path, "has both distribute and failover"
        return
    for index, each in enumerate(distribute):
        weights = list((each.get("to") or {}).values()) if isinstance(each, dict) else []
        if all(isinstance(weight, int) for weight in weights) and sum(weights) != 100:
            yield f"{path}.distribute[{index}].to", "has weights whose sum is not 100"
    for index, each in enumerate(failover):
        if isinstance(each, dict) and each.get("from") == each.get("to"):
            yield f"{path}.failover[{index}]", "leads from a region to itself"


def _others(config: Any) -> Iterator[tuple[str, str]]:
    if _get(config, "meshMTLS.ecdhCurves"):
        yield "meshMTLS.ecdhCurves", "is not supported for mTLS of the mesh"
    for provider in ("cryptomb", "qat"):
        path = f"defaultConfig.privateKeyProvider.{provider}"
        if isinstance(_get(config, path), dict) and not _duration(config, f"{path}.pollDelay"):
            yield f"{path}.pollDelay", "is not a duration above 0"


def _get(config: Any, path: str) -> Any:
    """Return a field by its dotted path; None without it.  Both spellings of names count."""
    for name in path.split("."):
        if not isinstance(config, dict):
            return None
        snake = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)
        config = config.get(name, config.get(snake))
    return config


def _duration(config: Any, path: str) -> float | None:
    value = _get(config, path)
    return None if value is None else seconds(str(value))


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6


def _is_address(address: str) -> bool:
    """Return whether it is a host and a port, as Go's net.SplitHostPort and istiod read it."""
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return False
    host = found["v6"] or found["host"]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _is_host(host) and not host.rpartition(".")[2].isdigit()
    return True


def _is_host(name: str) -> bool:
    """Return whether each label of a name is valid; the last one may be empty."""
    return 0 < len(name) <= _LONGEST and _is_trust_domain(name)


def _is_trust_domain(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    return all(len(label) <= 63 and _LABEL.fullmatch(label) for label in labels)


def _is_wildcard_host(host: str) -> bool:
    first, _, rest = host.partition(".")
    return bool(_WILDCARD.fullmatch(first)) and (not rest or _is_host(rest))
