"""Revisions: the one that each pod would get by its labels, compared with the one that it has."""

from collections import defaultdict
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.controlplane.revision_labels import RevisionLabels
from meshgate.facts.evidence import Evidence
from meshgate.semantics import meshes, pods, workloads
from meshgate.semantics.webhooks import Hook, Webhooks
from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.kubernetes import Namespace, Pod
from meshgate.verdict import Finding, NotApplicable


class Revisions:
    """The revisions of this mesh, and the tags that point to them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)
        self._proxies = evidence.facts(Proxies)

    @cached_property
    def is_active(self) -> frozenset[str]:
        """Revisions that have an istiod Deployment; other checks judge whether it is healthy."""
        return frozenset(
            meshes.revision(each.metadata.labels) for each in self._control_plane.deployments
        )

    @cached_property
    def labels(self) -> RevisionLabels:
        """The configuration that only one revision reads."""
        return RevisionLabels(self._evidence, self.is_active, self.tags)

    @property
    def known(self) -> frozenset[str]:
        """Revisions that have an istiod or are the revision of an injector or a user."""
        injectors = {hook.revision for hook in self._webhooks.injectors}
        return self.is_active | injectors | self.users.keys()

    @cached_property
    def _webhooks(self) -> Webhooks:
        return Webhooks(self._evidence.mutating_webhooks, (), (), (), self._evidence.own_mesh)

    @cached_property
    def _enabled(self) -> list[Namespace]:
        return self._webhooks.injection_enabled(self._evidence.namespaces)

    @cached_property
    def _running(self) -> list[tuple[Pod, str]]:
        """Active pods with a proxy of this mesh, with the revision that injected it."""
        return [
            (pod, revision)
            for pod in self._proxies.promised.values()
            if (revision := injected_revision(pod))
        ]

    @property
    def selecting(self) -> int:
        """How many pods, namespaces and tags select a revision."""
        return len(self._running) + len(self._enabled) + len(self.tags)

    @property
    def users(self) -> dict[str, list[str]]:
        """What uses each revision: pods, tags, namespaces, and the proxies of other clusters."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for pod, revision in self._running:
            found[revision].append(pods.name(pod))
        for subject, hook in self.tags.items():
            found[hook.revision].append(f"{subject} (tag {hook.tag})")
        for namespace in self._enabled:
            for hook in self._webhooks.selecting(namespace):
                found[hook.revision].append(f"Namespace {namespace.metadata.name}")
        for revision, proxy in self._remote():
            found[revision].append(proxy)
        return {revision: sorted(names) for revision, names in found.items()}

    def _remote(self) -> list[tuple[str, str]]:
        """Proxies that run outside this cluster, with the revision that they are connected to."""
        serving = {
            pod.metadata.name: meshes.revision(pod.metadata.labels)
            for pod in self._control_plane.replicas
        }
        local = meshes.local_clusters(
            self._control_plane.answers,
            self._proxies.promised,
            self._evidence.own_mesh.cluster_id,
        )
        here = {f"{pod.metadata.name}.{pod.metadata.namespace}" for pod in self._evidence.pods}
        return sorted(
            {
                (serving[reading.pod], f"Proxy {proxy.proxy} (cluster {proxy.cluster_id})")
                for reading in self._control_plane.answers
                for proxy in reading.proxies
                if reading.pod in serving
                and (proxy.cluster_id not in {"", *local} or proxy.proxy not in here)
            }
        )

    # --- revisions without an istiod ------------------------------------------------------------

    @property
    def dangling(self) -> list[Finding]:
        """Tags, namespaces and pods of a revision that has no istiod."""
        self._control_plane.need_own()
        if not self._enabled and not self._running and not self.tags:
            raise NotApplicable("no namespace enables injection, and no pod contains a proxy")
        return [*self._dangling_tags(), *self._dangling_namespaces(), *self._orphans()]

    @property
    def tags(self) -> dict[str, Hook]:
        """The webhooks of revision tags, by their configuration."""
        return {hook.subject: hook for hook in self._webhooks.injectors if hook.tag}

    def _dangling_tags(self) -> list[Finding]:
        return [
            Finding(
                subject,
                f"tag {hook.tag} points to revision {hook.revision}, which has no istiod",
                self._existing,
                f"istioctl tag set {hook.tag} --revision=REVISION --overwrite",
                problem="tag-without-istiod",
                about=(("revision", hook.revision), ("tag", hook.tag)),
            )
            for subject, hook in self.tags.items()
            if hook.revision not in self.is_active
        ]

    def _dangling_namespaces(self) -> list[Finding]:
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"its label selects revision {hook.revision}"
                + (f" through tag {hook.tag}" if hook.tag else "")
                + ", which has no istiod",
                self._existing,
                f"kubectl label namespace {each.metadata.name} istio.io/rev=REVISION --overwrite",
                problem="namespace-without-istiod",
                about=(("revision", hook.revision),),
            )
            for each in self._enabled
            for hook in self._webhooks.selecting(each)
            if hook.revision not in self.is_active
        ]

    def _orphans(self) -> list[Finding]:
        return [
            Finding(
                pods.name(pod),
                f"its proxy belongs to revision {revision}, which has no istiod",
                self._existing,
                workloads.restart_command(pod),
                problem="pod-without-istiod",
                owner=workloads.owner(pod),
                about=(("revision", revision),),
            )
            for pod, revision in self._running
            if revision not in self.is_active
        ]

    @property
    def _existing(self) -> str:
        return f"an existing revision: {', '.join(sorted(self.is_active)) or '(none exists)'}"

    # --- labels that contradict each other ------------------------------------------------------

    @property
    def contradicting(self) -> list[Finding]:
        """Namespaces with both of Istio's labels: istio-injection takes precedence."""
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"has the labels istio-injection={injection} and istio.io/rev={revision}: "
                "istio.io/rev has no effect",
                "one of the two",
                f"kubectl label namespace {each.metadata.name} istio-injection- "
                "if it should follow the revision",
                problem="two-labels",
            )
            for each in self._evidence.namespaces
            if (injection := each.metadata.labels.get("istio-injection"))
            and (revision := each.metadata.labels.get("istio.io/rev"))
        ]

    # --- pods that have not moved yet -----------------------------------------------------------

    @property
    def lagging(self) -> list[Finding]:
        """Pods that a restart would move to another revision: the next stages do that."""
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        behind: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        for pod, revision in self._running:
            namespace = namespaces.get(pod.metadata.namespace)
            hooks = self._webhooks.selecting(namespace, pod.metadata.labels) if namespace else []
            # none: not injected by a webhook (a gateway that istiod deploys); two: see CP008
            if len(hooks) == 1 and hooks[0].revision != revision:
                behind[pod.metadata.namespace, revision, hooks[0].revision].append(
                    pod.metadata.name
                )
        return [
            Finding(
                f"Namespace {namespace}",
                f"{len(names)} pods run a proxy of revision {has}, for example {min(names)}; "
                f"their labels select revision {wants}",
                f"revision {wants}",
                "restart the workloads in their stage",
                problem="pods-not-moved",
                about=(("from", has), ("to", wants)),
            )
            for (namespace, has, wants), names in sorted(behind.items())
        ]
