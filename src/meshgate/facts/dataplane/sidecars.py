"""Sidecars: which pods should have one, its version, and the istiod that it is connected to."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.istiod_versions import version_of_revision
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.dataplane.pod_findings import pod_finding, target
from meshgate.facts.dataplane.restart_obstacles import JOBS, RestartObstacles
from meshgate.facts.evidence import Evidence
from meshgate.semantics import injector, meshes, pods, workloads
from meshgate.semantics.versions import Version
from meshgate.semantics.webhooks import IGNORED, Webhooks
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class Sidecars:
    """The sidecars of all workloads of this mesh."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)
        self._proxies = evidence.facts(Proxies)
        self._obstacles = RestartObstacles(evidence)

    @cached_property
    def _active(self) -> list[Pod]:
        return [pod for pod in self._evidence.pods if workloads.is_active(pod)]

    @cached_property
    def with_sidecar(self) -> dict[str, Pod]:
        """Active pods of this mesh with a sidecar, by `pod.namespace`.

        Raises NotApplicable if there are none.
        """
        found = {
            identity: pod
            for identity, pod in self._proxies.promised.items()
            if workloads.has_sidecar(pod)
        }
        if not found:
            raise NotApplicable(f"none of {len(self._active)} active pods has a sidecar")
        return found

    @cached_property
    def upgraded(self) -> dict[str, Pod]:
        """The pods whose proxy must be upgraded at the end of stage D.

        Ztunnels, waypoints and gateways are among them: a gateway that no Gateway selects, such as
        an egress gateway, may have been forgotten.
        """
        others = {
            identity: pod
            for identity, pod in self._proxies.promised.items()
            if workloads.is_ambient_proxy(pod) or workloads.is_gateway(pod)
        }
        if not others:
            return self.with_sidecar
        return {
            identity: pod
            for identity, pod in self._proxies.promised.items()
            if workloads.has_sidecar(pod) or identity in others
        }

    @cached_property
    def _webhooks(self) -> Webhooks:
        return Webhooks(self._evidence.mutating_webhooks, (), (), (), self._evidence.own_mesh)

    # --- injection ------------------------------------------------------------------------------

    @cached_property
    def _uninjected(self) -> list[Pod]:
        """Pods without a sidecar for which our injector would be called if they were created now.

        Raises CouldNotVerify if no injector exists.
        """
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        if not self._webhooks.injectors:
            raise CouldNotVerify(
                "no injection webhook exists, so nothing shows which pods should have a sidecar",
                "install istiod's MutatingWebhookConfiguration",
            )
        return [
            pod
            for pod in self._active
            if workloads.proxy(pod) is None
            # istiod injects none of these, whatever their labels say
            and not pod.spec.host_network
            and pod.metadata.namespace not in IGNORED
            and (namespace := namespaces.get(pod.metadata.namespace))
            and not workloads.ambient(pod, namespaces)
            and self._webhooks.selecting(namespace, pod.metadata.labels)
        ]

    @cached_property
    def _excluded(self) -> dict[str, str]:
        """The pods that the injector's configuration excludes, by name, with the reason."""
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        found = {}
        for pod in self._uninjected:
            hooks = self._webhooks.selecting(
                namespaces[pod.metadata.namespace], pod.metadata.labels
            )
            config = injector.of_hooks(hooks, self._evidence.injector_configs)
            if reason := injector.excludes(config, pod):
                found[pods.name(pod)] = reason
        return found

    @cached_property
    def _having(self) -> list[Pod]:
        return [pod for pod in self._active if workloads.has_sidecar(pod)]

    @property
    def selected(self) -> int:
        """How many pods have a sidecar or are selected for one."""
        return len(self._having) + len(self._uninjected)

    @property
    def missing(self) -> list[Finding]:
        """Pods that should have a sidecar and have none."""
        found = [
            pod
            for pod in self._uninjected
            if not injector.declined(pod.metadata) and pods.name(pod) not in self._excluded
        ]
        if not found and not self._having:
            raise NotApplicable(
                f"none of the {len(self._active)} active pods has a sidecar or should have one"
            )
        return [
            pod_finding(
                pod,
                "has no sidecar, although its namespace and labels select it for injection",
                "a sidecar",
                workloads.restart_command(pod),
                problem="no-sidecar",
                transient=_is_of_job(pod),  # its end resolves it
            )
            for pod in found
        ]

    @property
    def opted_out(self) -> list[Finding]:
        """Pods that a webhook selects, and that an annotation or the injector excludes."""
        excluded = [
            pod_finding(
                pod,
                f"has no sidecar because of the injector's configuration ({reason})",
                remedy="Accept this if it is intended: the mesh does not protect its traffic.",
                problem="injector-excludes",
            )
            for pod in self._uninjected
            if (reason := self._excluded.get(pods.name(pod)))
            and not injector.declined(pod.metadata)
        ]
        return excluded + [
            pod_finding(
                pod,
                "has no sidecar because of its annotation sidecar.istio.io/inject: false",
                remedy="Accept this if it is intended: the mesh does not protect its traffic.",
                problem="injection-disabled",
            )
            for pod in self._uninjected
            if injector.declined(pod.metadata)
        ]

    # --- version --------------------------------------------------------------------------------

    @property
    def outdated(self) -> list[Finding]:
        """Sidecars of another version than expected, with the reason."""
        return [self._outdated(*each) for each in self._versions if not _is_of_job(each[0])]

    @property
    def outdated_jobs(self) -> list[Finding]:
        """Sidecars of Jobs that started before the upgrade: no restart reaches them."""
        return [self._outdated(*each) for each in self._versions if _is_of_job(each[0])]

    @cached_property
    def _versions(self) -> list[tuple[Pod, Version, str]]:
        """The pods whose sidecar has the wrong version, that version, and the expected one."""
        found = []
        for identity, pod in self.upgraded.items():
            version = self._version(identity, pod)
            matches, expected = self._expected(pod, version)
            if not matches:
                found.append((pod, version, expected))
        return found

    def _version(self, identity: str, pod: Pod) -> Version:
        external = self._control_plane.is_external
        connected = None if external else self._proxies.connected.get(identity)
        container = workloads.proxy(pod)
        version = (Version.parse(connected.istio_version) if connected else None) or (
            Version.of_image(container.image) if container else None
        )
        if version is None:
            raise CouldNotVerify(
                f"cannot determine the sidecar version of {pods.name(pod)}: it is not connected to "
                "istiod, and its image has no version tag",
                f"kubectl -n {pod.metadata.namespace} describe pod {pod.metadata.name}",
                transient=True,
            )
        return version

    def _expected(self, pod: Pod, version: Version) -> tuple[bool, str]:
        """Whether a version is the expected one, and the latter as text."""
        if wanted := target(self._evidence):
            return wanted.met_by(version), str(wanted)
        revision = workloads.injected_revision(pod) or meshes.DEFAULT
        expected = version_of_revision(self._control_plane, revision)
        return version == expected, str(expected)

    def _outdated(self, pod: Pod, version: Version, expected: str) -> Finding:
        return pod_finding(
            pod,
            f"its {_kind(pod)} is {version}: {self._obstacles.reason(pod)}",
            expected,
            self._obstacles.remedy(pod),
            problem="wrong-version",
            transient=self._obstacles.is_rolling(pod),
            version=str(version),
        )

    # --- connection -----------------------------------------------------------------------------

    @property
    def wrong_istiod(self) -> list[Finding]:
        """Sidecars that are connected to no istiod, or to one of another version than the target.

        A pod of another cluster with the same name does not count as connected.
        """
        names = {pods.name(pod) for pod in self.with_sidecar.values()}
        disconnected = [each for each in self._proxies.disconnected if each.subject in names]
        return [*disconnected, *self._of_another_version()]

    def _of_another_version(self) -> Iterator[Finding]:
        wanted = target(self._evidence)
        if wanted is None:
            return
        connections: defaultdict[str, list[tuple[str, Version | None]]] = defaultdict(list)
        for reading in self._control_plane.answers:
            for proxy in reading.proxies:
                known = self._proxies.connected.get(proxy.proxy)
                if known and known.cluster_id == proxy.cluster_id:
                    version = Version.parse(reading.version)
                    connections[proxy.proxy].append((reading.pod, version))
        for identity, pod in self.with_sidecar.items():
            replicas = connections.get(identity, [])
            # two replicas list a proxy for a moment when it moves
            if replicas and not any(version and wanted.met_by(version) for _, version in replicas):
                replica, version = replicas[0]
                yield pod_finding(
                    pod,
                    f"its sidecar is connected to {replica}, which is {version or 'unknown'}",
                    f"an istiod of version {wanted}",
                    workloads.restart_command(pod),
                    problem="wrong-istiod",
                    transient=True,
                    version=str(version or "unknown"),
                )


def _kind(pod: Pod) -> str:
    other = workloads.is_ambient_proxy(pod) or workloads.is_gateway(pod)
    return "proxy" if other else "sidecar"


def _is_of_job(pod: Pod) -> bool:
    return workloads.workload(pod).partition(" ")[0] in JOBS
