"""Declared pairs that follow from the AuthorizationPolicies of a mesh, for a first file."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from meshgate.semantics.authorization import Request, decide, is_dry_run, selects
from meshgate.semantics.meshes import OwnMesh
from meshgate.semantics.selectors import fronts
from meshgate.semantics.workloads import (
    Port,
    is_active,
    is_ambient_proxy,
    is_captured,
    ports,
    proxy,
    target,
)
from meshgate.snapshot.declared_pairs import ALLOWED, DENIED, DeclaredPair
from meshgate.snapshot.istio import AuthorizationPolicy
from meshgate.snapshot.kubernetes import Pod, Service

MOST = 3  # allowed callers of a request, and denied ones
SAFE = ("GET", "HEAD", "OPTIONS")


class Proposals:
    """The pairs of a mesh.

    Args:
        pods: the pods of the mesh.
        services: all Services.
        policies: all AuthorizationPolicies.
        own: the mesh's configuration.
    """

    def __init__(
        self,
        pods: Iterable[Pod],
        services: Iterable[Service],
        policies: Iterable[AuthorizationPolicy],
        own: OwnMesh,
    ) -> None:
        pods, self._services = tuple(pods), tuple(services)
        self._ports = [each for each in ports(pods, self._services) if not each.bypass]
        self._policies = [each for each in policies if not is_dry_run(each)]
        self._own = own
        # many clients have no port
        self._callers = sorted({_account(each) for each in pods if _has_identity(each)})

    @property
    def pairs(self) -> tuple[DeclaredPair, ...]:
        """Requests to every HTTP port of a Service that an AuthorizationPolicy protects.

        A pair is proposed only if the policies certainly allow or deny it, with at most three
        allowed and three denied callers for each request.
        """
        found = {
            pair.key: pair
            for service in self._services
            for request, port, policies in self._requests(service)
            for pair in self._decided(request, port, policies)
        }
        return tuple(sorted(found.values(), key=lambda each: (each.target, each.expect, each.key)))

    def _requests(
        self, service: Service
    ) -> Iterator[tuple[DeclaredPair, Port, list[AuthorizationPolicy]]]:
        """Yield requests to a Service, the port that gets each, and the policies that apply."""
        for exposed in service.spec.ports:
            port = next(
                (
                    each
                    for each in self._ports
                    if each.http
                    and fronts(service, each.pod)
                    and target(exposed, each.pod) == each.number
                ),
                None,
            )
            if port is None:
                continue
            root = self._own.root_namespace
            policies = [each for each in self._policies if selects(each, port.pod, root)]
            for method, path in sorted({each for policy in policies for each in _about(policy)}):
                request = DeclaredPair(
                    caller="",
                    service=f"{service.metadata.namespace}/{service.metadata.name}",
                    port=exposed.port,
                    method=method,
                    path=path,
                    expect="",
                )
                yield request, port, policies

    def _decided(
        self, request: DeclaredPair, port: Port, policies: list[AuthorizationPolicy]
    ) -> Iterator[DeclaredPair]:
        """Yield the request from the first callers that are allowed, and the first denied ones."""
        aliases = self._own.trust_domain_aliases if self._own.is_configured else None
        left = {ALLOWED: MOST, DENIED: MOST}
        for caller in self._callers:
            namespace, _, account = caller.partition("/")
            identity = f"{self._own.trust_domain}/ns/{namespace}/sa/{account}"
            decision = decide(
                policies, Request(identity, port.number, request.method, request.path, aliases)
            )
            expect = ALLOWED if decision.allowed else DENIED
            if decision.allowed is not None and left[expect]:
                left[expect] -= 1
                yield msgspec.structs.replace(request, caller=caller, expect=expect)


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
