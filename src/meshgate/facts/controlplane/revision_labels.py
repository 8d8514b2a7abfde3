"""Configuration with the label istio.io/rev, which only the istiod of that revision reads.

The label is compared with the revision's name: a revision tag selects no istiod here
(LabelsInRevision, pkg/config in Istio).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics.webhooks import Hook
from meshgate.snapshot.kubernetes import Metadata
from meshgate.verdict import Finding

LABEL = "istio.io/rev"

# Kinds that change a proxy's configuration for one release: a new one may not need them.
_PATCHES = ("EnvoyFilter", "WasmPlugin")


class _Labeled(NamedTuple):
    """An object with the label; `revision` is the label's value."""

    kind: str
    metadata: Metadata
    revision: str

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.metadata.namespace}/{self.metadata.name}"

    def finding(self, problem: str, seen: str, expected: str) -> Finding:
        """Return a finding about the object.

        Args:
            problem: the code of the kind of problem.
            seen: what is wrong, after the label.
            expected: what was expected instead.

        Returns:
            The finding, with a command that removes the label.
        """
        return Finding(
            self.subject,
            f"its label {LABEL}={self.revision} {seen}",
            expected,
            f"kubectl -n {self.metadata.namespace} label {self.kind.lower()} {self.metadata.name} "
            f"{LABEL}-",
            problem=problem,
            about=(("revision", self.revision),),
        )


class RevisionLabels:
    """The objects that only one revision of istiod reads.

    Args:
        evidence: what was captured.
        active: the revisions that have an istiod.
        tags: the webhooks of revision tags, by their configuration.
    """

    def __init__(
        self, evidence: Evidence, active: frozenset[str], tags: Mapping[str, Hook]
    ) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)
        self._active = active
        self._tags = {hook.tag: hook.revision for hook in tags.values()}

    @cached_property
    def objects(self) -> list[_Labeled]:
        """The objects with the label, without those of another mesh in this cluster."""
        foreign = self._evidence.own_mesh.foreign_revisions
        return [each for each in self._labeled() if each.revision not in foreign]

    def _labeled(self) -> Iterator[_Labeled]:
        seen = self._evidence
        for objects in (
            seen.authorization_policies,
            seen.destination_rules,
            seen.envoy_filters,
            seen.gateways,
            seen.peer_authentications,
            seen.request_authentications,
            seen.service_entries,
            seen.telemetries,
            seen.virtual_services,
            seen.wasm_plugins,
        ):
            for each in objects:
                if revision := each.metadata.labels.get(LABEL):
                    yield _Labeled(type(each).__name__, each.metadata, revision)

    @property
    def unread(self) -> list[Finding]:
        """Objects that no istiod reads, or that pods lose when they move to the new revision."""
        return [finding for finding, is_patch in self._findings if not is_patch]

    @property
    def unread_patches(self) -> list[Finding]:
        """The same of objects that one release may need and the next one may not."""
        return [finding for finding, is_patch in self._findings if is_patch]

    @cached_property
    def _findings(self) -> list[tuple[Finding, bool]]:
        self._control_plane.need_own()
        active = self._active
        found = []
        for each in self.objects:
            if each.revision not in active:
                seen = f"selects {self._words(each.revision)}: no istiod reads it"
                expected = f"an existing revision: {', '.join(sorted(active)) or '(none exists)'}"
                found.append((each.finding("no-istiod-reads-it", seen, expected), each))
            elif each.revision in self._kept and (lacking := self._lacking(each)):
                names = ", ".join(lacking)
                seen = f"hides it from revision {names}, to which its pods move"
                expected = f"no label, or a {each.kind} for revision {names}"
                found.append((each.finding("not-for-the-new-revision", seen, expected), each))
        return [(finding, each.kind in _PATCHES) for finding, each in found]

    def _words(self, value: str) -> str:
        if value in self._tags:
            return f"no revision: {value} is a tag (of revision {self._tags[value]})"
        return f"revision {value}, which has no istiod"

    @cached_property
    def _kept(self) -> frozenset[str]:
        """The old revisions beside one of the target version."""
        return frozenset(dict(finding.about)["revision"] for finding in self._control_plane.kept)

    def _lacking(self, labeled: _Labeled) -> list[str]:
        """Return the revisions that replace an old one and have no object in place of this one."""
        own = self._by_kind[labeled.kind, labeled.metadata.namespace]
        return sorted(self._active - self._kept - own)

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str], set[str]]:
        """The revisions with objects of one kind in one namespace."""
        found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for each in self.objects:
            found[each.kind, each.metadata.namespace].add(each.revision)
        return found
