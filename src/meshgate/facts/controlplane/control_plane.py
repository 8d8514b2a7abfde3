"""The control plane: istiod's Deployments (one a revision) and their replicas."""

from collections.abc import Iterator

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.versions import Version
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.kubernetes import Deployment, Pod
from meshgate.verdict import CouldNotVerify, Finding


class ControlPlane:
    """All istiods of the mesh's root namespace."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def namespace(self) -> str:
        return self._evidence.expectations.istio_namespace

    @property
    def deployments(self) -> list[Deployment]:
        """istiod's Deployments, by name."""
        return sorted(
            (
                deployment
                for deployment in self._evidence.deployments
                if deployment.metadata.namespace == self.namespace
                and deployment.metadata.labels.get("app") == "istiod"
            ),
            key=lambda deployment: deployment.metadata.name,
        )

    @property
    def replicas(self) -> list[Pod]:
        """istiod's pods that are not on their way out, by name."""
        return sorted(
            (
                pod
                for pod in self._evidence.pods
                if pod.metadata.namespace == self.namespace
                and pod.metadata.labels.get("app") == "istiod"
                and pod.metadata.deletion_timestamp is None
                and pod.status.phase not in ("Succeeded", "Failed")
            ),
            key=lambda pod: pod.metadata.name,
        )

    @property
    def readings(self) -> dict[str, IstiodReading]:
        """What each replica said, by pod name; raises where one refused us."""
        for reading in self._evidence.istiod:
            if reading.denied:
                raise CouldNotVerify(
                    f"Pod {self.namespace}/{reading.pod}: {reading.denied.rstrip('.')}"
                )
        return {reading.pod: reading for reading in self._evidence.istiod}

    @property
    def answers(self) -> list[IstiodReading]:
        """What all replicas that run said; raises unless every one of them answered.

        Each replica knows only its own proxies: with one missing nothing follows from the rest.
        One that does not run yet serves none.
        """
        running = [pod for pod in self.replicas if pod.status.phase == "Running"]
        if not running:
            raise CouldNotVerify(
                f"no istiod runs in {self.namespace} that could be asked",
                "bring istiod up first",
                transient=bool(self.replicas),
            )
        readings = self.readings
        for pod in running:
            reading = readings.get(pod.metadata.name)
            if reading is None or reading.error:
                why = reading.error if reading else pods.trouble(pod)
                raise CouldNotVerify(
                    f"{pods.name(pod)} did not say which proxies it serves: {why}",
                    f"kubectl -n {self.namespace} describe pod {pod.metadata.name}",
                    transient=not pods.hopeless(pod),
                )
        return list(readings.values())

    @property
    def unfinished_rollouts(self) -> list[Finding]:
        """Deployments that are not wholly rolled out, or run another version than they should."""
        if not self.deployments:
            return [
                Finding(
                    f"Namespace {self.namespace}",
                    "has no Deployment with the label app=istiod",
                    "istiod",
                    "name istiod's namespace with --istio-namespace, or install istiod",
                )
            ]
        unfinished = [finding for each in self.deployments for finding in self._rollout(each)]
        # what a replica runs is asked only where nothing worse is known without its answer
        wrong = unfinished or [
            finding for each in self.deployments for finding in self._wrong_version(each)
        ]
        for each in [] if wrong else self.deployments:
            self._need_versions(each)
        return wrong

    def _rollout(self, deployment: Deployment) -> Iterator[Finding]:
        name = deployment.metadata.name
        subject = f"Deployment {self.namespace}/{name}"
        wanted, status = deployment.spec.replicas, deployment.status
        if wanted == 0:
            yield Finding(
                subject,
                "is scaled to 0 replicas",
                "at least 1",
                f"kubectl -n {self.namespace} scale deployment {name} --replicas=1",
            )
            return
        if deployment.spec.paused:
            yield Finding(
                subject,
                "its rollout is paused",
                "a rollout that goes on",
                f"kubectl -n {self.namespace} rollout resume deployment {name}",
            )
        hopeless = [pod for pod in self._pods_of(deployment) if pods.hopeless(pod)]
        for pod in hopeless:
            yield Finding(
                pods.name(pod),
                pods.trouble(pod),
                "a running replica",
                "correct the image or its pull secret",
            )
        done = min(status.updated_replicas, status.available_replicas)
        current = status.observed_generation >= deployment.metadata.generation
        if not hopeless and not (current and done == wanted == status.replicas):
            yield Finding(
                subject,
                f"{status.updated_replicas} of {wanted} replicas are updated, "
                f"{status.available_replicas} available, {status.replicas} exist",
                f"exactly {wanted}, all updated and available",
                transient=not deployment.spec.paused and not _gave_up(deployment),
            )

    def _pods_of(self, deployment: Deployment) -> list[Pod]:
        revision = deployment.metadata.labels.get("istio.io/rev", "")
        return [
            pod for pod in self.replicas if pod.metadata.labels.get("istio.io/rev", "") == revision
        ]

    def _wrong_version(self, deployment: Deployment) -> Iterator[Finding]:
        target = self._evidence.expectations.target_version
        expected = self._expected_version(deployment)
        for pod in self._pods_of(deployment):
            running = self._running_version(pod)
            if expected is not None and running is not None and running != expected:
                yield Finding(
                    pods.name(pod),
                    f"runs {running}",
                    f"{expected}"
                    + ("" if target else f", as its Deployment {deployment.metadata.name} says"),
                    "sync the Application that installs istiod, and look at its values",
                )

    def _need_versions(self, deployment: Deployment) -> None:
        """Raises unless every replica said what it runs, where that is held against something."""
        if self._expected_version(deployment) is None:
            return
        replicas = self._pods_of(deployment)
        silent = [pods.name(pod) for pod in replicas if self._running_version(pod) is None]
        if silent or not replicas:
            name = f"Deployment {self.namespace}/{deployment.metadata.name}"
            raise CouldNotVerify(
                f"{silent[0]} did not say which version it runs"
                if silent
                else f"{name} has no pod to say which version it runs",
                transient=True,
            )

    def _running_version(self, pod: Pod) -> Version | None:
        reading = self.readings.get(pod.metadata.name)
        return Version.parse(reading.version) if reading else None

    def _expected_version(self, deployment: Deployment) -> Version | None:
        """The version that was asked for, else the image's; None where neither says one."""
        target = self._evidence.expectations.target_version
        if target is None:
            return image_version(deployment)
        if (version := Version.parse(target)) is None:
            raise CouldNotVerify(
                f"{target!r} is no version", "name one with --target-version=X.Y.Z"
            )
        return version

    def versions(self, deployment: Deployment) -> list[Version]:
        """What those of its replicas that say so run."""
        found = (self._running_version(pod) for pod in self._pods_of(deployment))
        return [version for version in found if version is not None]

    @property
    def silent_replicas(self) -> list[Finding]:
        """Replicas that are not Ready, or that do not answer."""
        if not self.replicas:
            return [
                Finding(
                    f"Namespace {self.namespace}",
                    "has no pod of istiod",
                    "at least one replica that is Ready",
                    transient=any(each.spec.replicas for each in self.deployments),
                )
            ]
        return [finding for pod in self.replicas for finding in self._silence(pod)]

    def _silence(self, pod: Pod) -> Iterator[Finding]:
        if not pods.ready(pod):
            yield Finding(
                pods.name(pod),
                pods.trouble(pod),
                "Ready",
                f"kubectl -n {self.namespace} describe pod {pod.metadata.name}",
                transient=not pods.hopeless(pod),
            )
            return
        reading = self.readings.get(pod.metadata.name)
        if reading is None or reading.error:
            yield Finding(
                pods.name(pod),
                "is Ready and does not answer" + (f": {reading.error}" if reading else ""),
                "an answer on port 15014",
                "look for a NetworkPolicy or AuthorizationPolicy between here and istiod",
                transient=True,
            )


def image_version(deployment: Deployment) -> Version | None:
    """What the tag of istiod's image says."""
    for container in deployment.spec.template.spec.containers:
        if container.name == "discovery":
            return Version.of_image(container.image)
    return None


def _gave_up(deployment: Deployment) -> bool:
    return any(
        condition.type == "Progressing"
        and condition.status == "False"
        and condition.reason == "ProgressDeadlineExceeded"
        for condition in deployment.status.conditions
    )
