"""EnvoyFilters, as the target's istiod will apply them.

`proxyVersion` is a regular expression of RE2, the engine that Go and istiod use: it is searched for
in the proxy's version.
"""

from collections.abc import Iterator
from functools import cached_property

import re2

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.proxy_skew import ProxySkew
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.versions import Version
from meshgate.settings import flag
from meshgate.snapshot.istio import ConfigPatch, EnvoyFilter
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

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
    """All EnvoyFilters, each patch on its own."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @cached_property
    def all(self) -> list[EnvoyFilter]:
        """All of them; raises NotApplicable if there are none."""
        self._upgrade.need_known_target()
        if not self._evidence.envoy_filters:
            raise NotApplicable("the cluster has no EnvoyFilter")
        return list(self._evidence.envoy_filters)

    @property
    def lost(self) -> list[Finding]:
        """EnvoyFilters that apply to a proxy now and no longer once it runs the target version."""
        found = []
        for each in self.all:
            lost = {
                pattern
                for patch in each.spec.config_patches
                if (pattern := _pattern(patch))
                and any(_applies(each, pattern, version) for version in self._before)
                and not self._applies_after(each, pattern)
                and not self._replaced(each, patch)
            }
            found += [
                Finding(
                    _subject(each),
                    f"its proxyVersion {pattern} matches the running proxies and not "
                    f"{self._upgrade.target}: it stops applying when pods restart",
                    "a pattern that also matches the target",
                    f"add a patch with a proxyVersion that matches {self._upgrade.target} to "
                    f"{_subject(each)}",
                    problem="proxy-version-mismatch",
                    about=(("pattern", pattern),),
                )
                for pattern in sorted(lost)
            ]
        return found

    @cached_property
    def _before(self) -> set[str]:
        proxies = ProxySkew(self._evidence).versions.values()
        found = (*self._upgrade.running.values(), *proxies)
        return {str(version) for version in found if version is not None}

    def _applies_after(self, each: EnvoyFilter, pattern: str) -> bool:
        """Whether a pattern matches the target; for a target without a patch, any of its patches.

        Raises CouldNotVerify if it matches some patches of such a target and not others.
        """
        if not self._upgrade.target.any_patch:
            return _applies(each, pattern, str(self._upgrade.target))
        base: Version = self._upgrade.target.version
        found = {
            _applies(each, pattern, str(base._replace(patch=patch))) for patch in range(PATCHES)
        }
        if len(found) > 1:
            raise CouldNotVerify(
                f"{_subject(each)}: its proxyVersion {pattern} matches some patches of "
                f"{self._upgrade.target} and not others",
                "name the patch with "
                f"{flag('criteria.target_version', f'{self._upgrade.target}.PATCH')}",
            )
        return found.pop()

    def _replaced(self, lost: EnvoyFilter, patch: ConfigPatch) -> bool:
        """Whether another patch of the same kind, for the same workloads, begins at the target."""
        return any(
            other.metadata.namespace == lost.metadata.namespace
            and other.spec.workload_selector == lost.spec.workload_selector
            and each.apply_to == patch.apply_to
            and (pattern := _pattern(each))
            and self._applies_after(other, pattern)
            and not any(_applies(other, pattern, version) for version in self._before)
            for other in self.all
            for each in other.spec.config_patches
        )

    @property
    def fragile(self) -> list[Finding]:
        """EnvoyFilters with a deprecated filter name, or that insert one without typed_config."""
        return [
            Finding(
                _subject(each),
                words,
                "a canonical filter name and a typed_config",
                f"rewrite {_subject(each)} as the documentation of the target's Envoy shows",
                problem=problem,
                about=(("filter", name),),
            )
            for each in self.all
            for problem, name, words in sorted(
                {found for patch in each.spec.config_patches for found in _fragile(patch)}
            )
        ]


# No minor release of Istio has had more patches.
PATCHES = 20


def _subject(each: EnvoyFilter) -> str:
    return f"EnvoyFilter {each.metadata.namespace}/{each.metadata.name}"


def _fragile(patch: ConfigPatch) -> Iterator[tuple[str, str, str]]:
    value = patch.patch.value
    if patch.apply_to not in FILTERS or value is None:
        return
    if value.name in DEPRECATED:
        words = f"uses the deprecated filter name {value.name}"
        yield "deprecated-filter-name", value.name, words
    if patch.patch.operation in INSERTS and not (value.typed_config or value.config_discovery):
        words = f"inserts the filter {value.name or '(without a name)'} without a typed_config"
        yield "no-typed-config", value.name, words


def _pattern(patch: ConfigPatch) -> str:
    return patch.match.proxy.proxy_version if patch.match and patch.match.proxy else ""


# RE2 logs invalid patterns to stderr by default.
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def _applies(each: EnvoyFilter, pattern: str, version: str) -> bool:
    try:
        return re2.search(pattern, version, options=_OPTIONS) is not None
    except re2.error as error:
        raise CouldNotVerify(
            f"{_subject(each)}: its proxyVersion {pattern} is not a valid RE2 expression ({error})",
            f"correct the proxyVersion of {_subject(each)}",
        ) from error
