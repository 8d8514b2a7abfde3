"""EnvoyFilters, as the target's istiod will apply them.

`proxyVersion` is a regular expression of Go (RE2), searched for in the proxy's version.  Python's
agrees with it on what both can say of a version; what is written differently is not guessed at.
"""

import re
import warnings
from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.snapshot.istio import ConfigPatch, EnvoyFilter
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# What Go has and Python has not or takes for something else, and what Python has and Go refuses:
# POSIX classes, \Q…\E, \pN, \z and octal escapes; look-around, back references, possessive repeats.
_UNLIKE = re.compile(r"\[\[?:|\\[QEpPzZCxX0-9]|\(\?(?:[=!>(]|<[=!]|P[=>]|[a-zA-Z-]*U)|[*+?}]\+")

# pkg/config/xds/deprecated.go of Istio 1.29: what its validation warns of
DEPRECATED = frozenset(
    {
        *("envoy.buffer", "envoy.cors", "envoy.csrf", "envoy.http_dynamo_filter", "envoy.fault"),
        *("envoy.ext_authz", "envoy.grpc_http1_bridge", "envoy.grpc_json_transcoder"),
        *("envoy.grpc_web", "envoy.gzip", "envoy.health_check", "envoy.ip_tagging", "envoy.lua"),
        *("envoy.rate_limit", "envoy.router", "envoy.squash", "envoy.client_ssl_auth"),
        *("envoy.listener.http_inspector", "envoy.listener.original_dst"),
        *("envoy.listener.original_src", "envoy.listener.proxy_protocol"),
        *("envoy.listener.tls_inspector", "envoy.http_connection_manager", "envoy.mongo_proxy"),
        *("envoy.ratelimit", "envoy.redis_proxy", "envoy.tcp_proxy"),
    }
)
FILTERS = frozenset({"HTTP_FILTER", "NETWORK_FILTER", "LISTENER_FILTER"})
INSERTS = frozenset({"ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"})


class EnvoyFilters:
    """All of them, each patch on its own."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @cached_property
    def _filters(self) -> list[EnvoyFilter]:
        if not self._evidence.envoy_filters:
            raise NotApplicable("there is no EnvoyFilter")
        return list(self._evidence.envoy_filters)

    @property
    def lost(self) -> list[Finding]:
        """EnvoyFilters that reach a proxy now and no longer reach it once it is of the target."""
        before, after = self._before, str(self._upgrade.target)
        found = []
        for each in self._filters:
            lost = sorted(
                {
                    pattern
                    for patch in each.spec.config_patches
                    if (pattern := _pattern(patch))
                    and any(_applies(each, pattern, version) for version in before)
                    and not _applies(each, pattern, after)
                    and not self._replaced(each, patch, after)
                }
            )
            found += [
                Finding(
                    f"EnvoyFilter {each.metadata.namespace}/{each.metadata.name}",
                    f"its proxyVersion {pattern} matches what runs now and not {after}: it stops "
                    "applying when pods restart",
                    "a pattern that matches the target, or a patch for it",
                    "add a patch for the target's version, tried there first",
                )
                for pattern in lost
            ]
        return found

    @property
    def _before(self) -> set[str]:
        proxies = (version for version in self._upgrade.proxies.values() if version is not None)
        return {str(version) for version in (*self._upgrade.running.values(), *proxies)}

    def _replaced(self, lost: EnvoyFilter, patch: ConfigPatch, after: str) -> bool:
        """Whether a patch in the same place, for the same workloads, takes over at the target."""
        return any(
            other.metadata.namespace == lost.metadata.namespace
            and other.spec.workload_selector == lost.spec.workload_selector
            and each.apply_to == patch.apply_to
            and (pattern := _pattern(each))
            and _applies(other, pattern, after)
            and not any(_applies(other, pattern, version) for version in self._before)
            for other in self._filters
            for each in other.spec.config_patches
        )

    @property
    def fragile(self) -> list[Finding]:
        """Filters by a deprecated name, or put in without a typed_config."""
        return [
            Finding(
                f"EnvoyFilter {each.metadata.namespace}/{each.metadata.name}",
                words,
                "a canonical name, and a typed_config",
                "write the filter as the target's Envoy documents it",
            )
            for each in self._filters
            for words in sorted(
                {words for patch in each.spec.config_patches for words in _fragile(patch)}
            )
        ]


def _fragile(patch: ConfigPatch) -> Iterator[str]:
    value = patch.patch.value
    if patch.apply_to not in FILTERS or value is None:
        return
    if value.name in DEPRECATED:
        yield f"names the filter {value.name}, which is deprecated"
    if patch.patch.operation in INSERTS and not (value.typed_config or value.config_discovery):
        yield f"puts in the filter {value.name or '(without a name)'} without a typed_config"


def _pattern(patch: ConfigPatch) -> str:
    return patch.match.proxy.proxy_version if patch.match and patch.match.proxy else ""


def _applies(each: EnvoyFilter, pattern: str, version: str) -> bool:
    try:
        if _UNLIKE.search(pattern):
            raise re.error("it is written in a way that only Go reads, or that Go does not")
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            return re.search(pattern, version, re.ASCII) is not None
    except (re.error, FutureWarning) as error:
        raise CouldNotVerify(
            f"EnvoyFilter {each.metadata.namespace}/{each.metadata.name}: its proxyVersion "
            f"{pattern} cannot be evaluated here ({error})",
            f"write it plainly, such as ^{re.escape(version)}",
        ) from error
