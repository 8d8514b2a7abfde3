"""Whether every gateway is rolled out, and runs the version of its istiod."""

from collections.abc import Collection, Iterable, Iterator

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics import pods, workloads
from meshgate.semantics.listeners import Listener
from meshgate.semantics.versions import Target, Version
from meshgate.semantics.waypoints import Waypoint
from meshgate.semantics.webhooks import Webhooks
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
        unknown: set[str] = set()
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
        unknown: set[str] = set()
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
        self, deployments: Iterable[Deployment], replicas: Iterable[Pod], unknown: set[str]
    ) -> Iterator[Finding]:
        for deployment in deployments:
            yield from _rollout(deployment)
        for pod in replicas:
            yield from self._pod(pod, unknown)

    def _need_versions(self, unknown: set[str], found: Collection[Finding]) -> None:
        if unknown and not found:
            names = ", ".join(sorted(unknown))
            raise CouldNotVerify(
                f"the version of the proxy is unknown: {names} (not connected to istiod, and no "
                "version in the image's tag)",
                "compare with `istioctl proxy-status`",
                transient=True,
            )

    def _pod(self, pod: Pod, unknown: set[str]) -> Iterator[Finding]:
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

    def _version(self, pod: Pod, unknown: set[str]) -> Iterator[Finding]:
        owner = workloads.owner(pod)
        runs, expected = self._runs(pod), self._expected(pod)
        if runs is None:
            unknown.add(pods.name(pod))
        elif expected and not expected.met_by(runs):
            yield Finding(
                pods.name(pod),
                f"its proxy is {runs}",
                f"{expected}, the version of its istiod",
                workloads.restart_command(pod),
                problem="wrong-version",
                owner=owner,
                about=(("version", str(runs)),),
            )

    def _runs(self, pod: Pod) -> Version | None:
        """Return the version that the proxy reports to istiod, else that of its image."""
        proxy = f"{pod.metadata.name}.{pod.metadata.namespace}"
        for reading in self._evidence.istiod:
            for each in reading.proxies:
                if each.proxy == proxy and (version := Version.parse(each.istio_version)):
                    return version
        container = workloads.proxy(pod)
        return Version.of_image(container.image) if container else None

    def _expected(self, pod: Pod) -> Target | None:
        """Return the version that a gateway must run: the target, or that of its istiod."""
        if wanted := self._evidence.expectations.target_version:
            return Target.parse(wanted)
        revision = self._revision(pod)
        for replica in self._control_plane.replicas:
            if replica.metadata.labels.get("istio.io/rev", "default") == revision:
                reading = self._control_plane.readings.get(replica.metadata.name)
                if reading and (version := Version.parse(reading.version)):
                    return Target(version)
        return None

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
