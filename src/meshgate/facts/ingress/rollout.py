"""Whether every gateway is rolled out, and runs the version of its istiod."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.istiod_versions import version_of_revision
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics import meshes, pods, workloads
from meshgate.semantics.listeners import Listener
from meshgate.semantics.versions import Target, Version
from meshgate.semantics.waypoints import Waypoint
from meshgate.semantics.webhooks import Webhooks
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.kubernetes import Deployment, Pod
from meshgate.verdict import CouldNotVerify, Finding

GAVE_UP = "ProgressDeadlineExceeded"


class GatewayRollout:
    """The gateways' Deployments and pods."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress
        self._evidence = ingress.evidence
        self._control_plane = ingress.evidence.facts(ControlPlane)

    @property
    def unfinished(self) -> list[Finding]:
        """Gateways whose pods are not all there, Ready, and of istiod's version.

        Raise CouldNotVerify if the version of a gateway cannot be determined.
        """
        topology = self._ingress.all if self._ingress.unselected else self._ingress.topology
        found: dict[Finding, None] = {}
        unknown: dict[str, CouldNotVerify] = {}
        for listener in topology.listeners:
            deployments, replicas = topology.deployments_of(listener), topology.pods_of(listener)
            if not deployments and not replicas:
                found[_absent(listener)] = None
            found |= dict.fromkeys(self._of(deployments, replicas, unknown))
        for pod in self._ingress.unselected:
            found |= dict.fromkeys(self._version(pod, unknown))
        self._need_versions(unknown, found)
        return list(found)

    def unfinished_waypoints(self, waypoints: Iterable[Waypoint]) -> list[Finding]:
        """Return the same of waypoints; raise CouldNotVerify for the same reason."""
        found: list[Finding] = []
        unknown: dict[str, CouldNotVerify] = {}
        for each in waypoints:
            metadata = each.gateway.metadata
            labels = {workloads.GATEWAY_NAME: metadata.name}
            deployments = [
                deployment
                for deployment in self._evidence.deployments
                if deployment.metadata.namespace == metadata.namespace
                and labels.items() <= deployment.spec.template.metadata.labels.items()
            ]
            if not deployments and not each.pods:
                found.append(
                    Finding(
                        f"Gateway {each.key}",
                        "istiod has not deployed this waypoint",
                        "a Deployment and its pods",
                        f"kubectl -n {metadata.namespace} describe gateway {metadata.name}",
                        problem="no-pods",
                        transient=True,
                    )
                )
            found += self._of(deployments, each.pods, unknown)
        self._need_versions(unknown, found)
        return found

    def _of(
        self,
        deployments: Sequence[Deployment],
        replicas: Sequence[Pod],
        unknown: dict[str, CouldNotVerify],
    ) -> Iterator[Finding]:
        for deployment in deployments:
            if deployment.spec.replicas or not _has_others(deployment, deployments, replicas):
                yield from _rollout(deployment)
        for pod in replicas:
            yield from self._pod(pod, unknown)

    @staticmethod
    def _need_versions(unknown: dict[str, CouldNotVerify], found: Collection[Finding]) -> None:
        """Raise the error of the first proxy that was not compared, unless something is wrong."""
        if unknown and not found:
            first, *others = sorted(unknown)
            error = unknown[first]
            more = f" (and {len(others)} more)" if others else ""
            raise CouldNotVerify(
                f"the version of the proxy of {first} was not verified: {error.why}{more}",
                error.remedy,
                transient=error.transient,
            )

    def _pod(self, pod: Pod, unknown: dict[str, CouldNotVerify]) -> Iterator[Finding]:
        namespace = pod.metadata.namespace
        owner = workloads.owner(pod)
        if not pods.ready(pod):
            yield Finding(
                pods.name(pod),
                pods.reason_not_ready(pod),
                "Ready",
                f"kubectl -n {namespace} describe pod {pod.metadata.name}",
                transient=not pods.fails_permanently(pod),
                problem="not-ready",
                owner=owner,
            )
        yield from self._version(pod, unknown)

    def _version(self, pod: Pod, unknown: dict[str, CouldNotVerify]) -> Iterator[Finding]:
        owner = workloads.owner(pod)
        try:
            expected, runs = self._expected(pod), self._runs(pod)
        except CouldNotVerify as error:
            unknown[pods.name(pod)] = error
            return
        if runs is None:
            unknown[pods.name(pod)] = CouldNotVerify(
                "it is not connected to istiod, and its image's tag has no version",
                "compare with `istioctl proxy-status`",
                transient=True,
            )
        elif not expected.met_by(runs):
            yield Finding(
                pods.name(pod),
                f"its proxy is {runs}",
                f"{expected}, the version of its istiod",
                workloads.restart_command(pod),
                problem="wrong-version",
                owner=owner,
                about=(("version", str(runs)),),
            )

    @cached_property
    def _reported(self) -> dict[str, list[tuple[str, ProxySync]]]:
        """What istiod's replicas report of the proxies of this cluster, by `pod.namespace`."""
        readings, own = self._evidence.istiod, self._evidence.own_mesh
        promised = self._evidence.facts(Proxies).promised
        local = meshes.local_clusters(readings, promised, own.cluster_id)
        found: defaultdict[str, list[tuple[str, ProxySync]]] = defaultdict(list)
        for reading in readings:
            for each in reading.proxies:
                if not (local and each.cluster_id and each.cluster_id not in local):
                    found[each.proxy].append((reading.pod, each))
        return found

    def _reports(self, pod: Pod) -> list[tuple[str, ProxySync]]:
        """Return the replicas that a pod's proxy is connected to, and what they report of it."""
        return self._reported.get(f"{pod.metadata.name}.{pod.metadata.namespace}", [])

    def _runs(self, pod: Pod) -> Version | None:
        """Return the version that the proxy reports to istiod, else that of its image."""
        for _, each in self._reports(pod):
            if version := Version.parse(each.istio_version):
                return version
        container = workloads.proxy(pod)
        return Version.of_image(container.image) if container else None

    def _expected(self, pod: Pod) -> Target:
        """Return the version that a gateway must run: the target, or that of its istiod.

        Raises CouldNotVerify if no replica of istiod shows it.
        """
        if wanted := self._control_plane.target:
            return wanted
        connected = {replica for replica, _ in self._reports(pod)}
        return Target(version_of_revision(self._control_plane, self._revision(pod), connected))

    def _revision(self, pod: Pod) -> str:
        """Return the revision that would inject the pod today, else the one that did."""
        seen = self._evidence
        namespaces = {each.metadata.name: each for each in seen.namespaces}
        webhooks = Webhooks(
            seen.mutating_webhooks, seen.validating_webhooks, seen.services, seen.endpoint_slices
        )
        namespace = namespaces.get(pod.metadata.namespace)
        hooks = webhooks.selecting(namespace, pod.metadata.labels) if namespace else []
        if len(hooks) == 1:
            return hooks[0].revision
        return workloads.injected_revision(pod) or pod.metadata.labels.get(
            "istio.io/rev", "default"
        )


def _absent(listener: Listener) -> Finding:
    selector = ",".join(f"{key}={value}" for key, value in sorted(listener.selector.items()))
    if listener.service:
        return Finding(
            listener.subject,
            f"Service {listener.service}, which its addresses name, does not exist or has no pods",
            "a Service in front of the gateway's pods",
            "correct spec.addresses, or install the gateway",
            problem="no-pods",
        )
    return Finding(
        listener.subject,
        f"no pod and no Deployment matches its selector {selector}",
        "the pods of the gateway",
        "look at the Gateway's conditions and at istiod's log"
        if listener.api
        else "correct the selector, or install the gateway",
        problem="no-pods",
        transient=listener.api,
    )


def _has_others(
    deployment: Deployment, deployments: Iterable[Deployment], replicas: Iterable[Pod]
) -> bool:
    """Return whether a gateway has replicas that are not of this Deployment.

    A canary upgrade of a gateway has two Deployments, and scales the old one to 0.

    Args:
        deployment: one of the gateway's.
        deployments: all of them.
        replicas: the gateway's pods.
    """
    metadata = deployment.metadata
    own = ("", f"Deployment {metadata.namespace}/{metadata.name}")
    return any(each.spec.replicas for each in deployments) or any(
        workloads.owner(each) not in own for each in replicas
    )


def _rollout(deployment: Deployment) -> Iterator[Finding]:
    metadata, status, wanted = deployment.metadata, deployment.status, deployment.spec.replicas
    subject = f"Deployment {metadata.namespace}/{metadata.name}"
    if wanted == 0:
        yield Finding(
            subject,
            "is scaled to 0 replicas",
            "at least 1",
            f"kubectl -n {metadata.namespace} scale deployment/{metadata.name} --replicas=1",
            problem="scaled-to-zero",
        )
        return
    if (
        status.observed_generation < metadata.generation
        or status.updated_replicas < wanted
        or status.available_replicas < wanted
        or status.replicas > wanted
    ):
        gave_up = any(each.reason == GAVE_UP for each in status.conditions)
        yield Finding(
            subject,
            f"is not rolled out: {status.updated_replicas} of {wanted} replicas are updated, "
            f"{status.available_replicas} available" + (f" ({GAVE_UP})" if gave_up else ""),
            f"{wanted} updated and available replicas",
            f"kubectl -n {metadata.namespace} rollout status deployment/{metadata.name}",
            transient=not gave_up,
            problem="rollout-incomplete",
        )
