"""Simulate an upgrade with the target's programs.

The target's istiod generates the configuration of the mesh, the target's Envoy validates it, and
it is compared with what the running istiod sends.

Nothing is applied: the target reads the cluster through the read-only API, and no proxy is
contacted.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from meshgate.collect.api import Api
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow import envoy, proxies, target, templates
from meshgate.collect.shadow.candidates import candidates
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.shadow.proxies import Proxy
from meshgate.collect.shadow.recorded import RecordedCluster, RecordedRunningMesh
from meshgate.collect.shadow.running import RunningMesh
from meshgate.collect.shadow.validation import (
    PARALLEL,
    Accepted,
    SimulatedClass,
    Validator,
    check_deadline,
)
from meshgate.collect.temporary import temporary_folder
from meshgate.deadline import Deadline, concurrently
from meshgate.probe import admission, ads
from meshgate.semantics.config_diff import changes, resources
from meshgate.semantics.injection import has_sidecar, shape
from meshgate.semantics.versions import Version
from meshgate.settings import flag
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.redact import redacted
from meshgate.snapshot.shadow import Injection, ProxyClass, Shadow, TemplateReview

Progress = Callable[[str], None]


def simulate_live(
    api: Api,
    current: RunningMesh,
    options: Programs,
    istio_namespace: str,
    progress: Progress = lambda words: None,
    accepted: Accepted | None = None,
) -> Shadow:
    """Simulate the upgrade of a running mesh.

    Args:
        api: the cluster's API server.
        current: what the running istiods send.
        options: the target's programs and manifests, and the limits.
        istio_namespace: the namespace of istiod.
        progress: receives one sentence per step.
        accepted: configurations that the target's Envoy need not validate again.

    Returns:
        The result for every class of proxies and every injection-enabled namespace, redacted.

    Raises:
        ReadError: a program or the manifests cannot be used, the deadline passed, or no proxy is
            connected.
    """
    return Simulation(api, current, options, istio_namespace, progress, accepted).run()


def simulate_recorded(
    snapshot: Snapshot,
    options: Programs,
    progress: Progress = lambda words: None,
    accepted: Accepted | None = None,
) -> Shadow:
    """Simulate the upgrade of a mesh that was captured with its offline bundle.

    Args:
        snapshot: a snapshot taken with `meshgate capture --for-shadow`.
        options: the target's programs and manifests, and the limits.
        progress: receives one sentence per step.
        accepted: as for `simulate_live`.

    Returns:
        The same as `simulate_live`, and which objects were recorded incompletely (`cut`).

    Raises:
        ReadError: as `simulate_live`, and if the snapshot has no offline bundle.
    """
    recorded = snapshot.offline_bundle
    if recorded is None:
        raise ReadError(
            "the snapshot does not contain the data that a simulation needs",
            "take it with `meshgate capture --for-shadow`",
        )
    simulated = simulate_live(
        RecordedCluster(recorded.listed, snapshot.kubernetes_version),
        RecordedRunningMesh(recorded),
        options,
        snapshot.expectations.istio_namespace,
        progress,
        accepted,
    )
    # A recording has no leader, so the target requests the ConfigMaps of leader election.
    refused = tuple(each for each in simulated.refused if "/configmaps" not in each)
    # nor did an older meshgate record pod templates
    templates = simulated.templates if "apps/deployments" in recorded.listed else None
    return msgspec.structs.replace(
        simulated, refused=refused, cut=recorded.cut, templates=templates
    )


class Simulation:
    """One simulation of an upgrade, with its limits.  The deadline starts now.

    Args:
        api: the cluster's API server.
        running_mesh: what the running istiods send.
        options: the target's programs and manifests, and the limits.
        istio_namespace: the namespace of istiod.
        progress: receives one sentence per step.
        accepted: configurations that the target's Envoy need not validate again.

    Raises:
        ReadError: the manifests or the objects of the cluster cannot be read.
    """

    def __init__(
        self,
        api: Api,
        running_mesh: RunningMesh,
        options: Programs,
        istio_namespace: str,
        progress: Progress,
        accepted: Accepted | None = None,
    ) -> None:
        self._accepted = accepted
        self._api = api
        self._running_mesh = running_mesh
        self._options = options
        self._progress = progress
        self._deadline = Deadline(options.deadline)
        self._target = target.Launch(
            program=options.istiod,
            rendered=target.rendered(Path(options.manifests)),
            istio_namespace=istio_namespace,
            timeout=options.timeout,
            memory=options.memory,
        )
        self._mesh_config = self._target.rendered.mesh()
        self._root = str(self._mesh_config.get("rootNamespace") or istio_namespace)
        self._candidates = candidates(api)
        self._kept: dict[bytes, bytes] = {}

    def run(self) -> Shadow:
        """Return the result; raise ReadError if a step that all classes need fails."""
        with self._target.running(self._api) as running:
            self._check_version(running.version)
            classes = self._classes(running.version)

            def compare(members: list[Proxy]) -> SimulatedClass:
                return self._compared(running, members)

            simulated = concurrently(compare, classes, PARALLEL)
            pods = injections(running, self._running_mesh)
            reviews = self._reviewed_templates(running)
            version, refused = running.version, running.facade.refused
        if not simulated:
            raise ReadError(
                "no proxy is connected to the running istiod", "see the findings of check CP003"
            )
        results = self._validated(version, simulated, classes)
        # Only a leader may write Leases: the target must not become one.
        unexpected = tuple(each for each in refused if "/leases" not in each)
        return redacted(
            Shadow(
                version=version,
                classes=tuple(results),
                refused=unexpected,
                injections=pods,
                templates=reviews,
            )
        )

    def _reviewed_templates(self, running: target.Running) -> tuple[TemplateReview, ...]:
        found = list(templates.read(self._api, self._running_mesh))
        self._progress(f"sending {len(found)} pod templates to the injector of {running.version}")
        reviews = []
        for each in found:
            check_deadline(self._deadline)
            reviews.append(templates.review(running, each))
        return tuple(reviews)

    def _validated(
        self, version: str, simulated: list[SimulatedClass], classes: list[list[Proxy]]
    ) -> list[ProxyClass]:
        options = self._options
        self._progress(f"validating {len(simulated)} configurations with Envoy {version}")
        with temporary_folder() as folder:
            program = envoy.Envoy(options.envoy, folder, options.timeout, options.memory)
            validator = Validator(program, self._deadline, self._accepted)
            results = validator.validated(simulated)
            first_proxies = {members[0].key: members[0] for members in classes}
            return self._attribute_rejections(validator, first_proxies, results)

    def _check_version(self, found: str) -> None:
        expected = self._options.version
        if expected and Version.parse(found) != Version.parse(expected):
            raise ReadError(
                f"the target's istiod has version {found}, not {expected}",
                f"pass the istiod, the Envoy and the manifests of {expected}",
            )

    def _classes(self, version: str) -> list[list[Proxy]]:
        """Return the connected proxies in classes that istiod cannot distinguish."""
        found = proxies.read(self._api, self._mesh_config, version)
        connected = [proxy for proxy in found if proxy.key in self._running_mesh.proxies]
        classes = proxies.alike(connected)
        self._progress(
            f"simulating {len(classes)} classes of {len(connected)} proxies with istiod {version}"
        )
        if len(classes) > self._options.classes:
            raise ReadError(
                f"the mesh has {len(classes)} classes of proxies, more than the limit of "
                f"{self._options.classes}",
                f"pass {flag('simulation.classes', len(classes))}",
            )
        return classes

    def _compared(self, running: target.Running, members: list[Proxy]) -> SimulatedClass:
        """Return the differences of one class, seen from its first proxy.

        If that proxy cannot be simulated (its pod may be gone), the next ones are tried.
        """
        keys = tuple(member.key for member in members)
        for proxy in members[: proxies.TRIES]:
            check_deadline(self._deadline)
            try:
                with connected(running, proxy, self._options.timeout) as configuration:
                    after = resources(running.config_dump(proxy.key))
                    before = self._running_mesh.given(proxy.key)
                break
            except (ads.NoConfiguration, ReadError) as error:
                why = str(error)
        else:
            return SimulatedClass(ProxyClass(proxies=keys, error=why))
        sources = {
            name: candidate.subject
            for candidate in self._candidates
            if candidate.reaches(proxy, self._root)
            for name in candidate.names
        }
        result = ProxyClass(
            proxies=keys,
            resources=len({*before, *after}),
            changes=changes(before, after, sources),
        )
        return SimulatedClass(result, deduplicated(configuration, self._kept))

    def _attribute_rejections(
        self,
        validator: Validator,
        first_proxies: dict[str, Proxy],
        results: list[ProxyClass],
    ) -> list[ProxyClass]:
        """Return the results with the objects that cause each rejection.

        The target starts again for each candidate, with all other candidates hidden: a candidate
        is a culprit if Envoy still rejects the same part.

        Args:
            validator: the target's Envoy.
            first_proxies: the first proxy of each class by its key.
            results: one per class.
        """
        rejected = {
            each.proxies[0]: [refusal.part for refusal in each.refusals]
            for each in results
            if each.refusals
        }
        possible = [
            candidate
            for candidate in self._candidates
            if any(candidate.reaches(first_proxies[key], self._root) for key in rejected)
        ]
        culprits: dict[tuple[str, str], list[str]] = {}
        for candidate in possible:
            if self._deadline.passed:
                self._progress(
                    "no time is left to find the objects that cause the rejections; "
                    f"raise {flag('simulation.deadline')}"
                )
                break
            self._progress(f"testing {candidate.subject} alone")
            hidden = frozenset(each.key for each in possible if each is not candidate)
            reached = {
                key: first_proxies[key]
                for key in rejected
                if candidate.reaches(first_proxies[key], self._root)
            }
            with self._target.running(self._api, hidden) as running:
                for key, proxy in reached.items():
                    with connected(running, proxy, self._options.timeout) as configuration:
                        assembled = envoy.Assembler().assembled(configuration)
                        for part in rejected[key]:
                            if validator.rejects(assembled, part):
                                culprits.setdefault((key, part), []).append(candidate.subject)
        return [_with_culprits(each, culprits) for each in results]


def _with_culprits(result: ProxyClass, culprits: dict[tuple[str, str], list[str]]) -> ProxyClass:
    first = result.proxies[0]
    refusals = tuple(
        msgspec.structs.replace(each, culprits=tuple(culprits.get((first, each.part), ())))
        for each in result.refusals
    )
    return msgspec.structs.replace(result, refusals=refusals)


def deduplicated(configuration: ads.Configuration, kept: dict[bytes, bytes]) -> ads.Configuration:
    """Return the configuration with equal resources of all classes stored once, in `kept`."""
    found = {
        type_url: tuple(kept.setdefault(body, body) for body in bodies)
        for type_url, bodies in configuration.resources.items()
    }
    return ads.Configuration(configuration.node, found)


def connected(
    running: target.Running, proxy: Proxy, timeout: float
) -> AbstractContextManager[ads.Configuration]:
    """Connect to the target's istiod as a proxy, and yield the configuration that it sends.

    Args:
        running: the target's istiod.
        proxy: who to connect as.
        timeout: seconds.

    Returns:
        A context manager of what istiod sends.

    Raises:
        NoConfiguration: istiod did not answer in time.
    """
    node = ads.node(proxy.id, proxy.cluster, proxy.metadata, proxy.locality)
    return ads.connected(running.discovery, node, timeout)


def injections(running: target.Running, running_mesh: RunningMesh) -> tuple[Injection, ...]:
    """Return what the target's injector changes for a pod of each injection-enabled namespace."""
    return tuple(
        _injection(running, running_mesh, namespace) for namespace in running_mesh.injection_enabled
    )


def _injection(running: target.Running, running_mesh: RunningMesh, name: str) -> Injection:
    try:
        after = shape(admission.patch_of(running.review(admission.sample_review(name))))
    except ReadError as error:
        return Injection(namespace=name, error=error.why)
    except ValueError as error:
        return Injection(namespace=name, refused=str(error))
    if not has_sidecar(after):
        return Injection(namespace=name, refused="the patch has no container istio-proxy")
    try:
        before = running_mesh.injected(name)
    except ReadError as error:
        return Injection(namespace=name, error=error.why)
    return Injection(
        namespace=name, changes=changes({("pod", name): before}, {("pod", name): after}, {})
    )
