"""Whether Gateways and routes of the Gateway API are in effect, by their own conditions."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.facts.ingress.other_gateways import OtherGateways
from meshgate.semantics.gateway_api_routes import attached
from meshgate.semantics.gateway_classes import is_istios, parent_of
from meshgate.semantics.listener_sets import accepted, permitted
from meshgate.semantics.listeners import tls_mode
from meshgate.settings import flag
from meshgate.snapshot.gateway_api import (
    ApiGateway,
    ListenerSet,
    ObservedCondition,
    ParentStatus,
    Route,
)
from meshgate.verdict import Finding, NotApplicable

TLS_ROUTES = "tlsroutes.gateway.networking.k8s.io"
UNASSIGNED = "AddressNotAssigned"
PENDING = ("Pending", UNASSIGNED)

# What istiod's message contains for each Service that only lacks an address (in Istio,
# ResolveGatewayInstances); it lists other problems with the same reason.
_ADDRESS_PENDING = "address pending for hostname"


class GatewayConditions:
    """The conditions of Gateways, listeners and routes."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress
        self._evidence = ingress.evidence

    @cached_property
    def gateways(self) -> frozenset[tuple[str, str]]:
        """Namespace and name of the Gateways that Istio serves; NotApplicable without any."""
        listeners = self._ingress.topology.listeners
        found = frozenset((own.namespace, own.name) for own in listeners if own.api)
        if not found:
            without_class = "".join(f"; {each.subject} {each.seen}" for each in self.without_class)
            raise NotApplicable(f"the Gateway API has no Gateway that Istio serves{without_class}")
        return found

    @property
    def without_class(self) -> list[Finding]:
        """Gateways whose GatewayClass does not exist."""
        return OtherGateways(self._ingress).without_class

    @property
    def addressless(self) -> list[Finding]:
        """Gateways and ListenerSets without an address that requests from outside reached."""
        ours = self.gateways
        _ = self._ingress.reached_from_outside  # must be known, also if all have an address
        found: list[Finding] = []
        for gateway in self._evidence.api_gateways:
            if (gateway.metadata.namespace, gateway.metadata.name) in ours:
                found += self._without_address("Gateway", gateway)
        for each in self._evidence.listener_sets:
            if parent_of(each) in ours:
                found += self._without_address("ListenerSet", each)
        return found

    @property
    def unaccepted(self) -> list[Finding]:
        """Gateways, listeners and routes whose conditions say that they are not in effect."""
        ours = self.gateways
        found: list[Finding] = []
        for gateway in self._evidence.api_gateways:
            if (gateway.metadata.namespace, gateway.metadata.name) in ours:
                found += self._gateway(gateway)
        parents = {("Gateway", *each) for each in ours}
        for each in self._evidence.listener_sets:
            if parent_of(each) in ours:
                parents.add(("ListenerSet", each.metadata.namespace, each.metadata.name))
                found += self._not_permitted(each) or self._listener_set(each)
        for kind, routes in (
            ("HTTPRoute", self._evidence.http_routes),
            ("GRPCRoute", self._evidence.grpc_routes),
            ("TLSRoute", self._evidence.tls_routes),
            ("TCPRoute", self._evidence.tcp_routes),
        ):
            for route in routes:
                found += self._route(kind, route, parents)
        return found

    def _gateway(self, gateway: ApiGateway) -> Iterator[Finding]:
        metadata, status = gateway.metadata, gateway.status
        subject = f"Gateway {metadata.namespace}/{metadata.name}"
        wanted = ("Accepted", "Programmed")
        hint = self._no_istiod(gateway)
        own = self._own_conditions(gateway)
        for each in _conditions(subject, status.conditions, own, metadata.generation):
            yield _because(each, hint)
        reported = {each.name: each for each in status.listeners}
        for listener in gateway.spec.listeners:
            where = f"{subject} listener {listener.name}"
            seen = reported.get(listener.name)
            if seen is None:
                yield Finding(
                    where,
                    "has no status" + hint,
                    "a status from istiod",
                    "look at istiod's log",
                    transient=not hint,
                    problem="no-status",
                )
                continue
            resolved = (*wanted, "ResolvedRefs")
            yield from _conditions(where, seen.conditions, resolved, metadata.generation)
            passes = tls_mode(gateway, listener) == "PASSTHROUGH"
            if listener.protocol == "TLS" and passes and not seen.attached_routes:
                yield Finding(
                    where,
                    "passes TLS through, and no TLSRoute is attached to it",
                    "a TLSRoute",
                    self._attach_tls_route(where),
                    transient=self._may_attach(gateway, listener.name),
                    problem="no-tls-route",
                )
            before = self._before.get((metadata.namespace, metadata.name, listener.name), 0)
            if seen.attached_routes < before:
                yield Finding(
                    where,
                    f"has {seen.attached_routes} attached routes, {before} before the upgrade",
                    f"{before} attached routes",
                    "kubectl get httproutes,grpcroutes -A -o yaml, and look at status.parents",
                    transient=True,
                    problem="fewer-routes",
                )

    # --- addresses ------------------------------------------------------------------------------

    def _own_conditions(self, each: ApiGateway | ListenerSet) -> tuple[str, ...]:
        """Return the conditions that must be True of an object itself, not of its listeners."""
        unneeded = _lacks_only_an_address(each) and self._is_reached(each)
        return ("Accepted",) if unneeded else ("Accepted", "Programmed")

    def _is_reached(self, each: ApiGateway | ListenerSet) -> bool:
        """Return whether requests from outside reached all Services without an address."""
        own, topology = each.metadata, self._ingress.topology
        gateway = parent_of(each) if isinstance(each, ListenerSet) else (own.namespace, own.name)
        waiting = {
            f"Service {service.metadata.namespace}/{service.metadata.name}"
            for listener in topology.listeners
            if listener.api and (listener.namespace, listener.name) == gateway
            for service in topology.services_of(listener)
            if service.spec.type == "LoadBalancer" and not service.status.load_balancer.ingress
        }
        return bool(waiting) and waiting <= self._ingress.reached_from_outside

    def _without_address(self, kind: str, each: ApiGateway | ListenerSet) -> Iterator[Finding]:
        if "Programmed" not in self._own_conditions(each):
            yield Finding(
                f"{kind} {each.metadata.namespace}/{each.metadata.name}",
                f"Programmed=False ({UNASSIGNED}): its LoadBalancer has no external address, but "
                "requests from outside reached it",
                "an address",
                "Accept this if clients do not use the LoadBalancer.",
                problem="no-address",
            )

    def _attach_tls_route(self, where: str) -> str:
        """Return how to attach a TLSRoute, by the versions that the installed CRD serves."""
        served = {
            version.name
            for each in self._evidence.definitions
            if each.metadata.name == TLS_ROUTES
            for version in each.spec.versions
            if version.served
        }
        if not served:
            return "install the Gateway API bundle 1.5 or newer, and attach a TLSRoute"
        if "v1" in served:
            return f"attach a TLSRoute to {where}, or delete the listener"
        return (
            "install the Gateway API bundle 1.5 or newer, whose TLSRoute is v1, and attach one; "
            "istiod before 1.30 reads older ones with PILOT_ENABLE_ALPHA_GATEWAY_API=true"
        )

    def _no_istiod(self, gateway: ApiGateway) -> str:
        """Return why no istiod serves a Gateway: its revision has none."""
        revision = gateway.metadata.labels.get("istio.io/rev", "")
        if not revision or any(each.status == "True" for each in gateway.status.conditions):
            return ""
        known = {
            each.metadata.labels.get("istio.io/rev", "default")
            for each in self._evidence.deployments
            if each.metadata.labels.get("app") == "istiod"
        }
        if revision in known:
            return ""
        return f" (its label istio.io/rev={revision}: no istiod has this revision)"

    def _not_permitted(self, added: ListenerSet) -> list[Finding]:
        """Report a ListenerSet without a status that its Gateway does not permit."""
        if accepted(added):
            return []
        namespace, name = parent_of(added)
        return [
            Finding(
                f"ListenerSet {added.metadata.namespace}/{added.metadata.name}",
                f"has no condition Accepted, and allowedListeners of Gateway {namespace}/{name} "
                f"does not permit namespace {added.metadata.namespace}",
                "Accepted=True",
                f"add the namespace to spec.allowedListeners of Gateway {namespace}/{name}, or "
                "delete the ListenerSet",
                problem="not-permitted",
            )
            for gateway in self._evidence.api_gateways
            if (gateway.metadata.namespace, gateway.metadata.name) == (namespace, name)
            and not permitted(gateway, added, self._evidence.namespaces)
        ]

    def _listener_set(self, listeners: ListenerSet) -> Iterator[Finding]:
        """Yield what a ListenerSet's own conditions, and those of its listeners, say."""
        metadata, status = listeners.metadata, listeners.status
        subject = f"ListenerSet {metadata.namespace}/{metadata.name}"
        wanted = ("Accepted", "Programmed")
        own = self._own_conditions(listeners)
        yield from _conditions(subject, status.conditions, own, metadata.generation)
        reported = {each.name: each for each in status.listeners}
        condition = accepted(listeners)
        for listener in listeners.spec.listeners:
            where = f"{subject} listener {listener.name}"
            if seen := reported.get(listener.name):
                resolved = (*wanted, "ResolvedRefs")
                yield from _conditions(where, seen.conditions, resolved, metadata.generation)
            elif condition and condition.status == "True":
                yield Finding(
                    where,
                    "has no status, although its ListenerSet is accepted",
                    "a status from istiod",
                    "look at istiod's log",
                    transient=True,
                    problem="no-status",
                )

    def _route(self, kind: str, route: Route, ours: set[tuple[str, str, str]]) -> Iterator[Finding]:
        metadata = route.metadata
        subject = f"{kind} {metadata.namespace}/{metadata.name}"
        wanted = {
            (each.kind, each.namespace or metadata.namespace, each.name)
            for each in route.spec.parent_refs
        } & ours
        seen: set[tuple[str, str, str]] = set()
        for parent in route.status.parents:
            place = _place(parent, metadata.namespace)
            if place not in wanted or not self._is_istios(parent):
                continue  # another controller's Gateway, or its opinion of ours
            seen.add(place)
            where = f"{subject} at {place[0]} {'/'.join(place[1:])}"
            conditions = ("Accepted", "ResolvedRefs")
            yield from _conditions(where, parent.conditions, conditions, metadata.generation)
        for parent_kind, namespace, name in sorted(wanted - seen):
            yield Finding(
                f"{subject} at {parent_kind} {namespace}/{name}",
                "has no status from Istio",
                "Accepted=True",
                f"look at the conditions of {parent_kind} {namespace}/{name}, and at istiod's log",
                transient=True,
                problem="no-status",
            )

    def _is_istios(self, parent: ParentStatus) -> bool:
        name, own = parent.controller_name, self._evidence.own_mesh.gateway_controller
        return not name or is_istios(name, own)

    def _may_attach(self, gateway: ApiGateway, section: str) -> bool:
        """Return whether a TLSRoute names this listener, which istiod may not have counted yet."""
        where = (gateway.metadata.namespace, gateway.metadata.name, section)
        return any(
            attached(parent, route.metadata.namespace, listener)
            for listener in self._ingress.topology.listeners
            if listener.api and (listener.namespace, listener.name, listener.section) == where
            for route in self._evidence.tls_routes
            for parent in route.spec.parent_refs
        )

    @cached_property
    def _before(self) -> dict[tuple[str, str, str], int]:
        before = self._evidence.expectations.before
        return {
            (each.metadata.namespace, each.metadata.name, listener.name): listener.attached_routes
            for each in (before.api_gateways if before else ())
            for listener in each.status.listeners
        }


def _because(finding: Finding, hint: str) -> Finding:
    """Return the finding with the reason; without an istiod it is not transient."""
    if not hint:
        return finding
    return Finding(
        finding.subject,
        finding.seen + hint,
        finding.expected,
        "correct or remove the label istio.io/rev of the Gateway",
        problem=finding.problem,
        about=finding.about,
    )


def _lacks_only_an_address(each: ApiGateway | ListenerSet) -> bool:
    """Return whether istiod reports that an object is programmed but for pending addresses."""
    seen = next((one for one in each.status.conditions if one.type == "Programmed"), None)
    return (
        seen is not None
        and (seen.status, seen.reason) == ("False", UNASSIGNED)
        and seen.observed_generation >= each.metadata.generation
        and all(_ADDRESS_PENDING in problem for problem in seen.message.split("; "))
    )


def _place(parent: ParentStatus, namespace: str) -> tuple[str, str, str]:
    reference = parent.parent_ref
    return reference.kind, reference.namespace or namespace, reference.name


def _conditions(
    where: str, conditions: tuple[ObservedCondition, ...], wanted: tuple[str, ...], generation: int
) -> Iterator[Finding]:
    """Yield every condition that is not True.

    Args:
        where: the subject.
        conditions: of its status.
        wanted: their types.
        generation: of the object; older conditions are stale.
    """
    by_type = {each.type: each for each in conditions}
    for name in wanted:
        seen = by_type.get(name)
        remedy = f"kubectl get {_resource(where)} -o yaml, and look at its status"
        if seen and seen.reason == UNASSIGNED:
            remedy = f"pass {flag('ingress.urls')} if it is reachable otherwise"
        if seen is None:
            yield Finding(
                where,
                f"has no condition {name}",
                f"{name}=True",
                remedy,
                transient=True,
                problem="no-condition",
                about=(("condition", name),),
            )
        elif seen.status != "True":
            yield Finding(
                where,
                f"{name}={seen.status} ({seen.reason}): {seen.message}",
                f"{name}=True",
                remedy,
                transient=seen.reason in PENDING or seen.observed_generation < generation,
                problem="condition-not-true",
                about=(("condition", name), ("reason", seen.reason)),
            )
        elif seen.observed_generation < generation:
            yield Finding(
                where,
                f"{name} is stale: observedGeneration {seen.observed_generation}, "
                f"generation {generation}",
                "a status of the current generation",
                "look at istiod's log",
                transient=True,
                problem="stale-condition",
                about=(("condition", name),),
            )


def _resource(where: str) -> str:
    """Return what kubectl takes: `gateways.gateway.networking.k8s.io name -n namespace`."""
    kind, _, rest = where.partition(" ")
    namespace, _, name = rest.partition(" ")[0].partition("/")
    return f"{kind.lower()}s.gateway.networking.k8s.io {name} -n {namespace}"
