"""The messages of `istioctl analyze`, as findings."""

from collections import defaultdict
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics.analyze_configuration import Configuration
from meshgate.semantics.analyze_rules import disproof, newer_than, only_newer
from meshgate.semantics.releases import use_istioctl_of
from meshgate.semantics.versions import Target, Version
from meshgate.snapshot.istioctl import AnalysisMessage
from meshgate.snapshot.model import specs
from meshgate.verdict import CouldNotVerify, Finding

# analyze is shown an empty list of Secrets: these messages follow from that alone.
FROM_NO_SECRETS = (
    ("IST0101", "Referenced credentialName not found"),
    ("IST0126", "Unknown service registry"),  # of other clusters, which Secrets name
)

# The levels that may close the gate, the worst first.
LEVELS = ("Error", "Warning")

# The kinds whose objects are compared with the baseline's.
COMPARED = frozenset(
    {
        *("VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "EnvoyFilter"),
        *("Telemetry", "AuthorizationPolicy", "RequestAuthentication", "WorkloadEntry"),
    }
)


class AnalyzeMessages:
    """The messages of one analysis that could read everything but Secrets."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _messages(self) -> tuple[AnalysisMessage, ...]:
        analysis = self._evidence.analysis
        self._need_istioctl_of_target(analysis.istioctl_version)
        if analysis.refused:
            raise CouldNotVerify(
                f"istioctl analyze was refused {len(analysis.refused)} reads, "
                f"the first was {analysis.refused[0]}",
                "report this to the authors of meshgate with the version of istioctl: "
                f"{analysis.istioctl_version}",
            )
        return tuple(message for message in analysis.messages if not _from_no_secrets(message))

    def _need_istioctl_of_target(self, istioctl: str) -> None:
        """Raise CouldNotVerify if istioctl has another minor version than the target."""
        target = Target.parse(self._evidence.expectations.target_version or "")
        version = Version.parse(istioctl)
        if target and version and version[:2] != target.version[:2]:
            raise CouldNotVerify(
                f"istioctl has the version {istioctl}, and the target is {target}: each minor "
                "version analyzes different things",
                use_istioctl_of(target),
            )

    @property
    def namespaces(self) -> int:
        """How many namespaces were analyzed."""
        return len(self._evidence.namespaces)

    @property
    def left_out(self) -> str:
        """A note about the messages that are omitted; empty if there are none."""
        omitted = [m for m in self._evidence.analysis.messages if _from_no_secrets(m)]
        codes = ", ".join(sorted({message.code for message in omitted}))
        return (
            f"{len(omitted)} messages of istioctl analyze ({codes}) are omitted: they only result "
            "from the empty list of Secrets that it was shown"
            if omitted
            else ""
        )

    @cached_property
    def _disproved(self) -> dict[AnalysisMessage, str]:
        """The messages that count and that prove no problem, with the reason."""
        if not self._counting:
            return {}
        seen, own = self._evidence, self._evidence.own_mesh
        configuration = Configuration(
            seen.virtual_services,
            seen.destination_rules,
            seen.gateways,
            seen.service_entries,
            seen.services,
            seen.pods,
            seen.envoy_filters,
            seen.telemetries,
            seen.workload_entries,
            seen.request_authentications,
            own.cluster_domain,
            own.root_namespace,
            own.default_exports.virtual_services,
            tuple({name for e in seen.mesh_configs for r in e.effective for name in r.clusters}),
            own.revisions,
            tuple(e for e in seen.service_imports if own.watches(e.metadata.namespace)),
            own.serves_mcs_hosts,
            own.default_exports.services,
        )
        found = {}
        for message in self._counting:
            if why := self._is_newer(message):
                found[message] = f"New only because istioctl is newer: {why}."
            elif evidence := disproof(message, configuration):
                found[message] = f"Disproved: {evidence}"
        return found

    def _is_newer(self, message: AnalysisMessage) -> str:
        """Return why a message is new only because istioctl is newer; empty if it is not."""
        criteria = self._evidence.expectations
        before, istioctl = criteria.before, self._evidence.analysis.istioctl_version
        if before is None:
            return ""
        same = self._analyzed_before.get((message.code, message.origin), ())
        accepted = any(
            (each.subject, each.problem) == (_subject(message), message.code)
            for each in (criteria.known_problems if same else None) or ()
        )
        if message.message in same or (same and not accepted):
            # the baseline had this finding, which decides whether it closes the gate
            return ""
        return newer_than(message.code, before.analyzed_by) or only_newer(
            message, istioctl, before, self._specs
        )

    @cached_property
    def _analyzed_before(self) -> dict[tuple[str, str], list[str]]:
        """The messages of the baseline by code and origin."""
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        before = self._evidence.expectations.before
        for each in before.analyzed if before else ():
            found[each.code, each.origin].append(each.message)
        return found

    @cached_property
    def _specs(self) -> dict[str, str]:
        return specs(self._evidence, COMPARED)

    @property
    def _counting(self) -> list[AnalysisMessage]:
        """The messages of the levels that close the gate."""
        threshold = self._evidence.expectations.failure_threshold
        fatal = LEVELS[: LEVELS.index(threshold) + 1]
        return [message for message in self._messages if message.level in fatal]

    @property
    def errors(self) -> list[Finding]:
        """The messages that close the gate, one finding each."""
        return [
            Finding(
                _subject(message),
                f"{message.code} {message.message}",
                remedy=f"see {_page(message)}",
                problem=message.code,
                about=_about(message),
            )
            for message in self._counting
            if message not in self._disproved
        ]

    @property
    def warnings(self) -> list[Finding]:
        """Messages that other evidence disproves, and those of level Warning, by code."""
        disproved = [
            Finding(
                _subject(message),
                f"{message.code} {message.message} {evidence}",
                problem=message.code,
                about=_about(message),
            )
            for message, evidence in self._disproved.items()
        ]
        if self._evidence.expectations.failure_threshold == "Warning":
            return disproved
        by_code: defaultdict[str, list[AnalysisMessage]] = defaultdict(list)
        for message in self._messages:
            if message.level == "Warning":
                by_code[message.code].append(message)
        return disproved + [
            Finding(
                _subject(messages[0]),
                f"{code} {messages[0].message}" + _others(len(messages) - 1, code),
                remedy=f"see {_page(messages[0])}",
                problem=code,
                about=_about(messages[0]),
            )
            for code, messages in sorted(by_code.items())
        ]


def _subject(message: AnalysisMessage) -> str:
    return message.origin or "the mesh"


def _about(message: AnalysisMessage) -> tuple[tuple[str, str], ...]:
    return (("message", message.message),)


def _from_no_secrets(message: AnalysisMessage) -> bool:
    return any(
        message.code == code and message.message.startswith(words)
        for code, words in FROM_NO_SECRETS
    )


def _others(count: int, code: str) -> str:
    return f" ({count} more {code}: `istioctl analyze -A` lists them)" if count else ""


def _page(message: AnalysisMessage) -> str:
    return message.documentation_url.partition("?")[0]
