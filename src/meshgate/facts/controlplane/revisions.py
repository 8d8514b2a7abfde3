"""Revisions: which one each pod would get by its labels, held against the one that it has."""

from collections import defaultdict
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.webhooks import Hook, Webhooks, injection_enabled
from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.kubernetes import Namespace, Pod
from meshgate.verdict import Finding, NotApplicable

DEFAULT = "default"


class Revisions:
    """Revisions and the tags that point to them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    @cached_property
    def is_active(self) -> frozenset[str]:
        """Revisions that have an istiod; whether that is well is told by other claims."""
        return frozenset(
            each.metadata.labels.get("istio.io/rev", DEFAULT)
            for each in self._control_plane.deployments
        )

    @cached_property
    def _webhooks(self) -> Webhooks:
        return Webhooks(self._evidence.mutating_webhooks, (), (), ())

    @cached_property
    def _running(self) -> list[tuple[Pod, str]]:
        """Pods that hold a proxy and are neither finished nor leaving, with their revision."""
        return [
            (pod, revision)
            for pod in self._evidence.pods
            if pod.status.phase in ("Pending", "Running")
            and pod.metadata.deletion_timestamp is None
            and (revision := injected_revision(pod))
        ]

    @property
    def users(self) -> dict[str, list[str]]:
        """By revision: the pods that have its proxy, and what would give new pods one."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for pod, revision in self._running:
            found[revision].append(pods.name(pod))
        for subject, hook in self._tags.items():
            found[hook.revision].append(f"{subject} (the tag {hook.tag})")
        for namespace in injection_enabled(self._evidence.namespaces):
            for hook in self._webhooks.selecting(namespace):
                found[hook.revision].append(f"Namespace {namespace.metadata.name}")
        return {revision: sorted(names) for revision, names in found.items()}

    # --- gone -----------------------------------------------------------------------------------

    @property
    def dangling(self) -> list[Finding]:
        """Tags, namespaces and pods that lead to a revision whose istiod is gone."""
        namespaces = injection_enabled(self._evidence.namespaces)
        if not namespaces and not self._running and not self._tags:
            raise NotApplicable("no namespace asks for sidecars, and no pod holds a proxy")
        return [*self._dangling_tags(), *self._dangling_namespaces(namespaces), *self._orphans()]

    @property
    def _tags(self) -> dict[str, Hook]:
        return {hook.subject: hook for hook in self._webhooks.injectors if hook.tag}

    def _dangling_tags(self) -> list[Finding]:
        return [
            Finding(
                subject,
                f"the tag {hook.tag} points to the revision {hook.revision}, whose istiod is gone",
                self._there,
                f"istioctl tag set {hook.tag} --revision REVISION --overwrite",
            )
            for subject, hook in self._tags.items()
            if hook.revision not in self.is_active
        ]

    def _dangling_namespaces(self, namespaces: list[Namespace]) -> list[Finding]:
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"its label leads to the revision {hook.revision}"
                + (f" by the tag {hook.tag}" if hook.tag else "")
                + ", whose istiod is gone",
                self._there,
                "label it for a revision or tag that exists, then restart its workloads",
            )
            for each in namespaces
            for hook in self._webhooks.selecting(each)
            if hook.revision not in self.is_active
        ]

    def _orphans(self) -> list[Finding]:
        return [
            Finding(
                pods.name(pod),
                f"its proxy belongs to the revision {revision}, whose istiod is gone",
                self._there,
                "restart its workload, so that it gets a proxy of a revision that exists",
            )
            for pod, revision in self._running
            if revision not in self.is_active
        ]

    @property
    def _there(self) -> str:
        return f"one that exists: {', '.join(sorted(self.is_active)) or '(there is none)'}"

    # --- contradicting --------------------------------------------------------------------------

    @property
    def contradicting(self) -> list[Finding]:
        """Namespaces with both of Istio's labels: the one that people look at has no effect."""
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"has istio-injection={injection} and istio.io/rev={revision}: the latter has no "
                "effect",
                "one of the two",
                f"kubectl label namespace {each.metadata.name} istio-injection-, if it is to "
                "follow the revision",
            )
            for each in self._evidence.namespaces
            if (injection := each.metadata.labels.get("istio-injection"))
            and (revision := each.metadata.labels.get("istio.io/rev"))
        ]

    # --- behind ---------------------------------------------------------------------------------

    @property
    def lagging(self) -> list[Finding]:
        """Pods that a restart would move to another revision: what the next stages are for."""
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        behind: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        for pod, revision in self._running:
            namespace = namespaces.get(pod.metadata.namespace)
            hooks = self._webhooks.selecting(namespace, pod.metadata.labels) if namespace else []
            # none: not injected by a webhook (a gateway that istiod deploys); two: CP008 tells
            if len(hooks) == 1 and hooks[0].revision != revision:
                behind[pod.metadata.namespace, revision, hooks[0].revision].append(
                    pod.metadata.name
                )
        return [
            Finding(
                f"Namespace {namespace}",
                f"{len(names)} pods are of the revision {has}, {min(names)} among them, and their "
                f"labels ask for {wants}",
                f"the revision {wants}",
                "restart the workloads in their stage",
            )
            for (namespace, has, wants), names in sorted(behind.items())
        ]
