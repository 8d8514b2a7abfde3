"""The control plane: istiod's Deployments (one per revision) and their replicas."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.versions import Target, Version
from meshgate.settings import flag
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.kubernetes import Deployment, Pod
from meshgate.snapshot.model import ISTIOD
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

INSTALL = (
    f"set {flag('criteria.istio_namespace')} to the namespace of istiod, or install istiod there; "
    f"if it runs outside this cluster, pass {flag('criteria.accept_unverified', ISTIOD)}"
)


class ControlPlane:
    """Every istiod in the mesh's root namespace."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def namespace(self) -> str:
        return self._evidence.expectations.istio_namespace

    @cached_property
    def deployments(self) -> list[Deployment]:
        """Istiod's Deployments, by name."""
        return sorted(
            (
                deployment
                for deployment in self._evidence.deployments
                if deployment.metadata.namespace == self.namespace
                and deployment.metadata.labels.get("app") == "istiod"
            ),
            key=lambda deployment: deployment.metadata.name,
        )

    @cached_property
    def replicas(self) -> list[Pod]:
        """Istiod's pods that are neither terminating nor finished, by name."""
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

    def need_own(self) -> None:
        """Raise NotApplicable if istiod runs outside the cluster, and that was accepted."""
        if self.is_external:
            raise NotApplicable(
                "no istiod runs in this cluster; its external control plane was accepted without "
                f"verification ({flag('criteria.accept_unverified', ISTIOD)})"
            )

    @property
    def is_external(self) -> bool:
        """Whether an external control plane was accepted, and none is here."""
        accepted = ISTIOD in self._evidence.expectations.accepted_unverified
        return accepted and not self.deployments and not self.replicas

    @property
    def readings(self) -> dict[str, IstiodReading]:
        """What each replica reported, by pod name; raises CouldNotVerify if one refused us."""
        for reading in self._evidence.istiod:
            if reading.denied:
                raise CouldNotVerify(
                    f"Pod {self.namespace}/{reading.pod}: {reading.denied.rstrip('.')}"
                )
        return {reading.pod: reading for reading in self._evidence.istiod}

    @property
    def answers(self) -> list[IstiodReading]:
        """What all running replicas reported; raises CouldNotVerify unless each of them answered.

        Each replica knows only its own proxies: with one missing nothing follows from the rest.
        """
        self.need_own()
        running = [pod for pod in self.replicas if pod.status.phase == "Running"]
        if not running:
            raise CouldNotVerify(
                f"no istiod pod is running in namespace {self.namespace}",
                INSTALL,
                transient=bool(self.replicas),
            )
        readings = self.readings
        for pod in running:
            reading = readings.get(pod.metadata.name)
            if reading is None or reading.error:
                why = reading.error if reading else pods.reason_not_ready(pod)
                raise CouldNotVerify(
                    f"{pods.name(pod)} did not report which proxies are connected to it: {why}",
                    f"kubectl -n {self.namespace} describe pod {pod.metadata.name}",
                    transient=not pods.fails_permanently(pod),
                )
        return list(readings.values())

    # --- versions -------------------------------------------------------------------------------

    @cached_property
    def target(self) -> Target | None:
        """The version that the upgrade goes to; None if none was given."""
        text = self._evidence.expectations.target_version
        if text is None:
            return None
        if (target := Target.parse(text)) is None:
            raise CouldNotVerify(
                f"{text!r} is not a version",
                f"pass {flag('criteria.target_version', 'X.Y.Z')} or "
                f"{flag('criteria.target_version', 'X.Y')}",
            )
        return target

    def versions(self, deployment: Deployment) -> list[Version]:
        """Return the versions that its replicas reported."""
        found = (self._running_version(pod) for pod in self._pods_of(deployment))
        return [version for version in found if version is not None]

    def _running_version(self, pod: Pod) -> Version | None:
        reading = self.readings.get(pod.metadata.name)
        return Version.parse(reading.version) if reading else None

    def _pods_of(self, deployment: Deployment) -> list[Pod]:
        revision = deployment.metadata.labels.get("istio.io/rev", "")
        return [
            pod for pod in self.replicas if pod.metadata.labels.get("istio.io/rev", "") == revision
        ]

    def _is_target(self, deployment: Deployment) -> bool:
        """Return whether a Deployment is at the target version, or on its way there."""
        if self.target is None:
            return False
        if version := image_version(deployment):
            return self.target.met_by(version)
        return any(self.target.met_by(version) for version in self.versions(deployment))

    def _is_kept(self, deployment: Deployment) -> bool:
        """Whether a Deployment is an old revision beside one of the target version.

        A canary upgrade keeps it until all workloads have moved.
        """
        return (
            self.target is not None
            and len(self.deployments) > 1
            and not self._is_target(deployment)
            and any(self._is_target(each) for each in self.deployments)
        )

    def _expected(self, deployment: Deployment) -> Target | None:
        """Return the version that its replicas should run: the target's, or the one of its image.

        None if neither is known.
        """
        if self.target is not None and not self._is_kept(deployment):
            return self.target
        version = image_version(deployment)
        return Target(version) if version else None

    # --- rollout --------------------------------------------------------------------------------

    @property
    def unfinished_rollouts(self) -> list[Finding]:
        """Deployments that are not rolled out, or whose replicas run the wrong version."""
        self.need_own()
        if not self.deployments:
            return [
                Finding(
                    f"Namespace {self.namespace}",
                    "has no Deployment with the label app=istiod",
                    "istiod",
                    INSTALL,
                    problem="no-istiod",
                )
            ]
        unfinished = [finding for each in self.deployments for finding in self._rollout_of(each)]
        # without an answer of istiod the versions are unknown: report what is known to be wrong
        wrong = unfinished or [
            finding for each in self.deployments for finding in self._wrong_version(each)
        ]
        for each in [] if wrong else self.deployments:
            self._need_versions(each)
        return wrong

    @property
    def kept(self) -> list[Finding]:
        """Old revisions beside one of the target version: fine until their last user has moved."""
        return [
            Finding(
                self._subject(each),
                f"still runs {version}, beside the target version {self.target}",
                remedy="remove this revision after its last workload has moved; "
                "`meshgate revisions SNAPSHOT` lists its users",
                problem="old-revision",
                about=(("revision", each.metadata.labels.get("istio.io/rev", "default")),),
            )
            for each in self.deployments
            if self._is_kept(each)
            for version in [
                image_version(each) or next(iter(self.versions(each)), "another version")
            ]
        ]

    def _subject(self, deployment: Deployment) -> str:
        return f"Deployment {self.namespace}/{deployment.metadata.name}"

    def _rollout_of(self, deployment: Deployment) -> Iterator[Finding]:
        # an old revision at zero is being removed; proxies that still use it are disconnected
        if deployment.spec.replicas == 0 and self._is_kept(deployment):
            return iter(())
        return _rollout(deployment, self._pods_of(deployment))

    def _wrong_version(self, deployment: Deployment) -> Iterator[Finding]:
        expected = self._expected(deployment)
        for pod in self._pods_of(deployment):
            running = self._running_version(pod)
            if expected is not None and running is not None and not expected.met_by(running):
                yield Finding(
                    pods.name(pod),
                    f"runs istiod {running}",
                    f"{expected}"
                    + (
                        ""
                        if expected is self.target
                        else f", the version of the image in {self._subject(deployment)}"
                    ),
                    f"upgrade {self._subject(deployment)} (sync the Application that installs it)",
                    problem="wrong-version",
                    owner=workloads.owner(pod) or self._subject(deployment),
                    about=(("version", str(running)),),
                )
        if expected is None and len(found := sorted(set(self.versions(deployment)))) > 1:
            yield Finding(
                self._subject(deployment),
                f"its replicas report different versions: {', '.join(map(str, found))}",
                "one version",
                f"kubectl -n {self.namespace} rollout restart "
                f"deployment/{deployment.metadata.name}",
                problem="mixed-versions",
            )

    def _need_versions(self, deployment: Deployment) -> None:
        """Raise CouldNotVerify unless every replica reported a version that must be compared."""
        if deployment.spec.replicas == 0 or self._expected(deployment) is None:
            return
        replicas = self._pods_of(deployment)
        silent = [pods.name(pod) for pod in replicas if self._running_version(pod) is None]
        if silent or not replicas:
            raise CouldNotVerify(
                f"{silent[0]} did not report its version"
                if silent
                else f"{self._subject(deployment)} has no pod that could report its version",
                f"kubectl -n {self.namespace} get pods -l app=istiod",
                transient=True,
            )

    # --- replicas -------------------------------------------------------------------------------

    @property
    def silent_replicas(self) -> list[Finding]:
        """Replicas that are not Ready, or that do not answer."""
        self.need_own()
        if not self.replicas:
            return [
                Finding(
                    f"Namespace {self.namespace}",
                    "has no istiod pod",
                    "at least one replica that is Ready",
                    INSTALL,
                    transient=any(each.spec.replicas for each in self.deployments),
                    problem="no-istiod",
                )
            ]
        return [finding for pod in self.replicas for finding in self._silence(pod)]

    def _silence(self, pod: Pod) -> Iterator[Finding]:
        if not pods.ready(pod):
            yield Finding(
                pods.name(pod),
                pods.reason_not_ready(pod),
                "Ready",
                f"kubectl -n {self.namespace} describe pod {pod.metadata.name}",
                transient=not pods.fails_permanently(pod),
                problem="not-ready",
                owner=workloads.owner(pod),
            )
            return
        reading = self.readings.get(pod.metadata.name)
        if reading is None or reading.error:
            yield Finding(
                pods.name(pod),
                "is Ready but does not answer" + (f": {reading.error}" if reading else ""),
                "an answer on port 15014",
                "check the NetworkPolicies and AuthorizationPolicies between meshgate and istiod",
                transient=True,
                problem="no-answer",
                owner=workloads.owner(pod),
            )


def _rollout(deployment: Deployment, replicas: list[Pod]) -> Iterator[Finding]:
    """Report what keeps a Deployment of istiod from being rolled out."""
    name, namespace = deployment.metadata.name, deployment.metadata.namespace
    subject = f"Deployment {namespace}/{name}"
    wanted, status = deployment.spec.replicas, deployment.status
    if wanted == 0:
        yield Finding(
            subject,
            "is scaled to 0 replicas",
            "at least 1",
            f"kubectl -n {namespace} scale deployment/{name} --replicas=1",
            problem="scaled-to-zero",
        )
        return
    if deployment.spec.paused:
        yield Finding(
            subject,
            "its rollout is paused",
            "an active rollout",
            f"kubectl -n {namespace} rollout resume deployment/{name}",
            problem="paused",
        )
    failing = [pod for pod in replicas if pods.fails_permanently(pod)]
    for pod in failing:
        yield Finding(
            pods.name(pod),
            pods.reason_not_ready(pod),
            "a running replica",
            "correct the image or its pull secret: "
            f"kubectl -n {namespace} describe pod {pod.metadata.name}",
            problem="cannot-start",
            owner=workloads.owner(pod) or subject,
        )
    done = min(status.updated_replicas, status.available_replicas)
    current = status.observed_generation >= deployment.metadata.generation
    if not failing and not (current and done == wanted == status.replicas):
        yield Finding(
            subject,
            f"is not rolled out: {status.updated_replicas} of {wanted} replicas updated, "
            f"{status.available_replicas} available, {status.replicas} exist"
            + (
                ""
                if current
                else f" (status is stale: observedGeneration {status.observed_generation}, "
                f"generation {deployment.metadata.generation})"
            ),
            f"{wanted} replicas, all updated and available",
            f"kubectl -n {namespace} describe deployment/{name}",
            transient=not deployment.spec.paused and not _gave_up(deployment),
            problem="not-rolled-out",
        )


def image_version(deployment: Deployment) -> Version | None:
    """Return the version of istiod's image, by its tag or the Deployment's version label."""
    for container in deployment.spec.template.spec.containers:
        if container.name == "discovery":
            labeled = deployment.metadata.labels.get("app.kubernetes.io/version", "")
            return Version.of_image(container.image) or Version.of_image(f":{labeled}")
    return None


def _gave_up(deployment: Deployment) -> bool:
    return any(
        condition.type == "Progressing"
        and condition.status == "False"
        and condition.reason == "ProgressDeadlineExceeded"
        for condition in deployment.status.conditions
    )
