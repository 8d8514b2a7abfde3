"""Sidecars: who should have one, of which version it is, and whom it follows."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.selectors import selects
from meshgate.semantics.versions import Version
from meshgate.semantics.webhooks import IGNORED, Webhooks
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class Sidecars:
    """The sidecars of all workloads."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)
        self._proxies = Proxies(evidence)

    @property
    def _alive(self) -> list[Pod]:
        return [pod for pod in self._evidence.pods if workloads.is_active(pod)]

    @property
    def _meshed(self) -> list[Pod]:
        has_sidecar = [pod for pod in self._alive if workloads.has_sidecar(pod)]
        if not has_sidecar:
            raise NotApplicable("no workload has a sidecar")
        return has_sidecar

    # --- who has one ----------------------------------------------------------------------------

    @cached_property
    def _bare(self) -> list[Pod]:
        """Pods without a sidecar for which an injector would be called if they were created now."""
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        webhooks = Webhooks(self._evidence.mutating_webhooks, (), (), ())
        if not webhooks.injectors:
            raise CouldNotVerify(
                "there is no injector, so nobody says who should have a sidecar",
                "install istiod's webhooks",
            )
        return [
            pod
            for pod in self._alive
            if workloads.proxy(pod) is None
            # istiod injects none of these, whatever their labels say
            and not pod.spec.host_network
            and pod.metadata.namespace not in IGNORED
            and (namespace := namespaces.get(pod.metadata.namespace))
            and not workloads.ambient(pod, namespaces)
            and webhooks.selecting(namespace, pod.metadata.labels)
        ]

    @property
    def missing(self) -> list[Finding]:
        """Pods that should have a sidecar and have none."""
        bare = [pod for pod in self._bare if pod.metadata.annotations.inject != "false"]
        if not bare and not any(workloads.has_sidecar(pod) for pod in self._alive):
            raise NotApplicable("no workload has a sidecar, and none should")
        return [
            Finding(
                pods.name(pod),
                "has no sidecar, though its namespace and labels ask for one",
                "a sidecar",
                _restart(pod) + "; it was created while the injector was away or did not select it",
            )
            for pod in bare
        ]

    @property
    def opted_out(self) -> list[Finding]:
        """Pods in enrolled namespaces that say by an annotation that they want none."""
        return [
            Finding(
                pods.name(pod),
                "has no sidecar by its annotation sidecar.istio.io/inject: false",
                remedy="nothing, if that is meant: its traffic is not protected by the mesh",
            )
            for pod in self._bare
            if pod.metadata.annotations.inject == "false"
        ]

    # --- of which version -----------------------------------------------------------------------

    @property
    def outdated(self) -> list[Finding]:
        """Sidecars of another version than expected, with what keeps each."""
        connected = self._proxies.connected
        found = []
        for pod in self._meshed:
            expected = self._expected(pod)
            known = connected.get(f"{pod.metadata.name}.{pod.metadata.namespace}")
            has = (Version.parse(known.istio_version) if known else None) or _of_image(pod)
            if has is None:
                raise CouldNotVerify(
                    f"nothing says which version the sidecar of {pods.name(pod)} is",
                    "tag the proxy's image by its version, or wait until it is connected",
                    transient=True,
                )
            if has != expected:
                found.append(
                    Finding(
                        pods.name(pod),
                        f"its sidecar is {has}: {self._reason(pod)}",
                        str(expected),
                        self._remedy(pod),
                        transient=self._rolling(pod),
                    )
                )
        return found

    def _expected(self, pod: Pod) -> Version:
        if wanted := self._evidence.expectations.target_version:
            version = Version.parse(wanted)
            if version is None:
                raise CouldNotVerify(f"{wanted} is no version", "--target-version=X.Y.Z")
            return version
        revision = workloads.injected_revision(pod) or "default"
        versions = {
            Version.parse(reading.version)
            for replica in self._control_plane.replicas
            if replica.metadata.labels.get("istio.io/rev", "default") == revision
            and (reading := self._control_plane.readings.get(replica.metadata.name))
        } - {None}
        if len(versions) != 1:
            raise CouldNotVerify(
                f"the istiods of the revision {revision} do not say one version",
                "name the version that is expected with --target-version",
                transient=True,
            )
        return versions.pop()  # type: ignore[return-value]

    def _reason(self, pod: Pod) -> str:
        if image := pod.metadata.annotations.proxy_image:
            return f"its image is pinned, sidecar.istio.io/proxyImage: {image}"
        kind, _, name = workloads.workload(pod).partition(" ")
        if (pod.metadata.namespace, kind, name) in self._on_delete:
            return f"{kind} {name} has the update strategy OnDelete, and it was not deleted"
        if kind == "Pod":
            return "nothing makes it anew, it has no controller"
        if kind == "Job":
            return f"Job {name} began before, and runs"
        if budget := self._budget(pod):
            return f"PodDisruptionBudget {budget} allows no disruption"
        if self._rolling(pod):
            return f"{kind} {name} is not rolled out yet"
        return f"{kind} {name} was not restarted since"

    def _remedy(self, pod: Pod) -> str:
        if pod.metadata.annotations.proxy_image:
            return "take the annotation away and restart it"
        kind, _, name = workloads.workload(pod).partition(" ")
        if (pod.metadata.namespace, kind, name) in self._on_delete or kind in ("Pod", "Job"):
            return f"kubectl -n {pod.metadata.namespace} delete pod {pod.metadata.name}"
        if budget := self._budget(pod):
            return f"give PodDisruptionBudget {budget} room, then {_restart(pod)}"
        return _restart(pod)

    @cached_property
    def _on_delete(self) -> set[tuple[str, str, str]]:
        kinds = {
            "StatefulSet": self._evidence.stateful_sets,
            "DaemonSet": self._evidence.daemon_sets,
        }
        return {
            (each.metadata.namespace, kind, each.metadata.name)
            for kind, controllers in kinds.items()
            for each in controllers
            if each.spec.update_strategy.type == "OnDelete"
        }

    def _budget(self, pod: Pod) -> str:
        return next(
            (
                f"{each.metadata.namespace}/{each.metadata.name}"
                for each in self._evidence.disruption_budgets
                if each.metadata.namespace == pod.metadata.namespace
                and each.status.disruptions_allowed == 0
                and each.spec.selector is not None
                and selects(each.spec.selector, pod.metadata.labels)
            ),
            "",
        )

    def _rolling(self, pod: Pod) -> bool:
        """Whether its Deployment is being rolled out, so that it will go by itself."""
        owner = workloads.workload(pod).removeprefix("Deployment ")
        return any(
            each.status.updated_replicas < each.spec.replicas
            or each.status.observed_generation < each.metadata.generation
            or each.status.replicas > each.status.updated_replicas
            for each in self._evidence.deployments
            if (each.metadata.namespace, each.metadata.name) == (pod.metadata.namespace, owner)
        )

    # --- whom it follows ------------------------------------------------------------------------

    @property
    def wrong_istiod(self) -> list[Finding]:
        """Sidecars that follow no istiod, or one of another version than the target."""
        wanted = Version.parse(self._evidence.expectations.target_version or "")
        promised = {pods.name(pod): pod for pod in self._meshed}
        lost = [each for each in self._proxies.disconnected if each.subject in promised]
        return [*lost, *(self._of_another(promised, wanted) if wanted else ())]

    def _of_another(self, promised: dict[str, Pod], wanted: Version) -> Iterator[Finding]:
        seen: dict[str, list[tuple[str, Version | None]]] = {}
        for reading in self._control_plane.answers:
            for proxy in reading.proxies:
                name, _, namespace = proxy.proxy.rpartition(".")
                follows = reading.pod, Version.parse(reading.version)
                seen.setdefault(f"Pod {namespace}/{name}", []).append(follows)
        for subject, replicas in seen.items():
            # one that moves is known to both for a moment
            if subject in promised and all(version != wanted for _, version in replicas):
                replica, version = replicas[0]
                yield Finding(
                    subject,
                    f"its sidecar follows {replica}, which is {version or 'of no known version'}",
                    f"an istiod of {wanted}",
                    "restart it under the revision of that istiod",
                    transient=True,
                )


def _of_image(pod: Pod) -> Version | None:
    container = workloads.proxy(pod)
    return Version.of_image(container.image) if container else None


def _restart(pod: Pod) -> str:
    kind, _, name = workloads.workload(pod).partition(" ")
    namespace = pod.metadata.namespace
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        return f"kubectl -n {namespace} rollout restart {kind.lower()} {name}"
    return f"create it anew: kubectl -n {namespace} delete pod {pod.metadata.name}"
