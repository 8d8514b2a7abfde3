"""Declared pairs that follow from the AuthorizationPolicies of a mesh, for a first file."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from meshgate.semantics.authorization import Answer, Request, decide, is_dry_run, selects
from meshgate.semantics.layer4 import at_ztunnel
from meshgate.semantics.meshes import OwnMesh
from meshgate.semantics.pair_targets import PairTargets, is_headless
from meshgate.semantics.waypoints import enforces
from meshgate.semantics.workloads import Port, is_active, is_ambient_proxy, is_captured, proxy
from meshgate.snapshot.declared_pairs import ALLOWED, DENIED, DeclaredPair, PairWaypoint
from meshgate.snapshot.istio import AuthorizationPolicy
from meshgate.snapshot.kubernetes import Pod, Service, ServicePort

MOST = 3  # allowed callers of a request, and denied ones
SAFE = ("GET", "HEAD", "OPTIONS")
# labels that differ between the pods of one workload
OF_ONE_POD = ("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index")


class _Way(NamedTuple):
    """One way of a request to a Service's pods.

    Attributes:
        policies: the AuthorizationPolicies on it that may be about HTTP.
        decide: returns whether a caller's request is allowed on it; None if that is not known.
    """

    policies: list[AuthorizationPolicy]
    decide: Callable[[str, DeclaredPair], Answer]


class Proposals:
    """The pairs of a mesh.

    Args:
        pods: the pods of the mesh.
        services: all Services.
        policies: all AuthorizationPolicies.
        own: the mesh's configuration.
        targets: where requests are sent to.
    """

    def __init__(
        self,
        pods: Iterable[Pod],
        services: Iterable[Service],
        policies: Iterable[AuthorizationPolicy],
        own: OwnMesh,
        targets: PairTargets,
    ) -> None:
        self._services, self._targets, self._own = tuple(services), targets, own
        self._policies = [each for each in policies if not is_dry_run(each)]
        # many clients have no port
        self._callers = sorted({_account(each) for each in pods if _has_identity(each)})

    @property
    def pairs(self) -> tuple[DeclaredPair, ...]:
        """Requests to every HTTP port of a Service that an AuthorizationPolicy protects.

        A pair is proposed only if the policies certainly allow or deny it wherever the request is
        sent to, with at most three allowed and three denied callers for each request.
        """
        found = {
            pair.key: pair
            for service in self._services
            for request, ways in self._requests(service)
            for pair in self._decided(request, ways)
        }
        return tuple(sorted(found.values(), key=lambda each: (each.target, each.expect, each.key)))

    def _requests(self, service: Service) -> Iterator[tuple[DeclaredPair, list[_Way]]]:
        """Yield requests to a Service, and every way that each takes."""
        for exposed in service.spec.ports:
            ways = self._ways(service, exposed)
            about = {each for way in ways for policy in way.policies for each in _about(policy)}
            for method, path in sorted(about):
                request = DeclaredPair(
                    caller="",
                    service=f"{service.metadata.namespace}/{service.metadata.name}",
                    port=exposed.port,
                    method=method,
                    path=path,
                    expect="",
                )
                yield request, ways

    def _ways(self, service: Service, exposed: ServicePort) -> list[_Way]:
        """Return every way to an HTTP port of a Service; none if a waypoint cannot be used."""
        behind = self._targets.behind(service, exposed)
        if not any(each.http for each in (*behind.sidecars, *behind.ambient)):
            return []
        ways = [self._to_pod(each, at_layer_4=False) for each in _distinct(behind.sidecars)]
        using = self._targets.of_service(service)
        headless = is_headless(service)
        for port in _distinct(behind.ambient):
            if headless:
                using = self._targets.of_pod(port.pod)
            if using.missing or not all(map(self._targets.pods_of, using.waypoints)):
                return []
            last = self._to_pod(port, at_layer_4=True)
            number = port.number if headless else exposed.port
            name = "" if headless else f"{service.metadata.namespace}/{service.metadata.name}"
            ways += [self._through(each, name, number, last) for each in using.waypoints] or [last]
        return ways

    def _to_pod(self, port: Port, *, at_layer_4: bool) -> _Way:
        """Return the way to a port of a pod, whose ztunnel knows layer 4 only."""
        policies = [e for e in self._policies if selects(e, port.pod, self._own.root_namespace)]
        enforced = policies
        if at_layer_4:
            known = [each for each in policies if each.spec.action in ("ALLOW", "DENY")]
            enforced = [at_ztunnel(each) for each in known]
        return _Way(
            policies, lambda caller, asked: self._decide(enforced, caller, asked, port.number)
        )

    def _through(self, waypoint: PairWaypoint, service: str, number: int, last: _Way) -> _Way:
        """Return the way through a waypoint, which connects to the pods as itself.

        Args:
            waypoint: the waypoint.
            service: the Service, `namespace/name`; empty if clients connect to its pods.
            number: the port that clients name.
            last: the way from the waypoint to a pod.

        Returns:
            The way; it is not known whether it allows a request that the pod denies the waypoint.
        """
        root = self._own.root_namespace
        policies = [
            each
            for each in self._policies
            if enforces(each, waypoint.name, waypoint.of_class, service, root)
        ]
        accounts = {_account(each) for each in self._targets.pods_of(waypoint)}

        def answer(caller: str, asked: DeclaredPair) -> Answer:
            allowed = self._decide(policies, caller, asked, number)
            if allowed and not all(last.decide(each, asked) for each in accounts):
                return None
            return allowed

        return _Way(policies, answer)

    def _decide(
        self, policies: list[AuthorizationPolicy], caller: str, asked: DeclaredPair, number: int
    ) -> Answer:
        """Return whether policies allow a request of a ServiceAccount to a port.

        Args:
            policies: the policies of one proxy.
            caller: the ServiceAccount, `namespace/name`.
            asked: the request.
            number: the port.

        Returns:
            True or False; None if it is not known.
        """
        aliases = self._own.trust_domain_aliases if self._own.is_configured else None
        namespace, _, account = caller.partition("/")
        identity = f"{self._own.trust_domain}/ns/{namespace}/sa/{account}"
        return decide(
            policies, Request(identity, number, asked.method, asked.path, aliases)
        ).allowed

    def _decided(self, request: DeclaredPair, ways: list[_Way]) -> Iterator[DeclaredPair]:
        """Yield the request from the first callers that are allowed, and the first denied ones."""
        left = {ALLOWED: MOST, DENIED: MOST}
        for caller in self._callers:
            answers = {way.decide(caller, request) for way in ways}
            if len(answers) > 1 or None in answers:
                continue
            expect = ALLOWED if answers == {True} else DENIED
            if left[expect]:
                left[expect] -= 1
                yield msgspec.structs.replace(request, caller=caller, expect=expect)


def _distinct(ports: Iterable[Port]) -> list[Port]:
    """Return one port of all those whose pods have the same labels: policies select by labels."""
    return list({frozenset(_lasting(each.pod)): each for each in ports}.values())


def _lasting(pod: Pod) -> Iterator[tuple[str, str]]:
    """Yield the labels that all pods of a workload have."""
    labels = pod.metadata.labels
    return (each for each in labels.items() if each[0] not in OF_ONE_POD)


def _has_identity(pod: Pod) -> bool:
    """Return whether a pod calls others with an identity of the mesh."""
    captured = proxy(pod) is not None or is_captured(pod)
    return is_active(pod) and captured and not is_ambient_proxy(pod)


def _account(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.spec.service_account_name}"


def _about(policy: AuthorizationPolicy) -> Iterator[tuple[str, str]]:
    """Yield a safe method and a path without wildcards for each rule of a policy."""
    operations = [each.operation for rule in policy.spec.rules for each in rule.to]
    for operation in operations:
        methods = [each for each in operation.methods if each in SAFE]
        paths = [each for each in operation.paths if re.fullmatch(r"/[\w./-]*", each)]
        if methods or not operation.methods:
            yield (methods or ["GET"])[0], (paths or ["/"])[0]
    if not operations or any(not rule.to for rule in policy.spec.rules):
        yield "GET", "/"
