"""The waypoint that istiod makes clients use, compared with the one that labels select."""

from collections.abc import Iterator, Mapping
from functools import cached_property

from meshgate.facts.ambient.membership import AmbientMesh
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.hosts import fully_qualified
from meshgate.semantics.waypoints import WITHOUT_WAYPOINT, Waypoint, canary, selected, waypoints
from meshgate.snapshot.ambient import (
    AmbientReading,
    AmbientService,
    AmbientWorkload,
    WaypointAddress,
)
from meshgate.snapshot.kubernetes import Metadata, Pod, Service
from meshgate.verdict import Finding

SERVICE, WORKLOAD, EVERYTHING = "service", "workload", "all"


class WaypointBindings:
    """The waypoints of pods and Services, by their labels."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._ambient = AmbientMesh(evidence)

    @cached_property
    def _waypoints(self) -> dict[str, Waypoint]:
        """Every waypoint by `namespace/name`, with nothing behind it."""
        seen = self._evidence
        found = waypoints(seen.api_gateways, seen.gateway_classes, (), (), {})
        return {each.key: each for each in found}

    def wrong(
        self, reading: AmbientReading, known: Mapping[tuple[str, str], AmbientWorkload]
    ) -> Iterator[Finding]:
        """Yield what has another waypoint than labels select.

        These are captured pods, Services and the hosts of ServiceEntries.

        Args:
            reading: what one replica of istiod sends to ztunnels.
            known: its workloads of this cluster, by namespace and name.

        Returns:
            Findings, lazily.
        """
        for pod in self._ambient.pods:
            workload = known.get((pod.metadata.namespace, pod.metadata.name))
            if workload and workloads.is_captured(pod):
                yield from self._pod(pod, self._actual(workload.waypoint))
        services = {
            (each.namespace, each.name): each
            for each in reading.services
            if each.hostname in ("", self._host(each.namespace, each.name))
        }
        for service in self._evidence.services:
            metadata = service.metadata
            sent = services.get((metadata.namespace, metadata.name))
            if sent and self._evidence.own_mesh.watches(metadata.namespace):
                yield from self._service("Service", metadata, sent)
        entries = {(each.namespace, each.name, each.hostname): each for each in reading.services}
        for entry in self._evidence.service_entries:
            metadata = entry.metadata
            for host in entry.spec.hosts:
                sent = entries.get((metadata.namespace, metadata.name, host))
                if sent and self._evidence.own_mesh.watches(metadata.namespace):
                    yield from self._service("ServiceEntry", metadata, sent)

    def _host(self, namespace: str, name: str) -> str:
        return fully_qualified(name, namespace, self._evidence.own_mesh.cluster_domain)

    def _pod(self, pod: Pod, actual: str) -> Iterator[Finding]:
        expected = self._expected(pod.metadata, WORKLOAD)
        if expected != actual:
            yield self._finding(pods.name(pod), expected, actual, workloads.owner(pod))

    def _service(self, kind: str, metadata: Metadata, sent: AmbientService) -> Iterator[Finding]:
        subject = f"{kind} {metadata.namespace}/{metadata.name}"
        without = metadata.labels.get(workloads.MANAGED) in WITHOUT_WAYPOINT
        expected = "" if without else self._expected(metadata, SERVICE)
        actual = self._actual(sent.waypoint)
        if expected != actual:
            yield self._finding(subject, expected, actual, "")
            return
        other = canary(metadata, self._ambient.by_name)
        weighted = {self._actual(each.destination) for each in sent.weighted_waypoints or ()}
        if expected and other and other not in weighted:
            name = other.partition("/")[2]
            seen = (
                f"its labels select the canary waypoint {other}, which does not exist"
                if other not in self._waypoints
                else f"istiod does not know its canary waypoint {other}, which its labels select"
            )
            yield Finding(
                subject,
                seen,
                f"the waypoints {expected} and {other}",
                f"kubectl get gateways.gateway.networking.k8s.io {name} -n "
                f"{other.partition('/')[0]} -o yaml",
                problem="wrong-canary-waypoint",
                transient=True,
            )

    def _expected(self, metadata: Metadata, kind: str) -> str:
        """Return the waypoint that labels select for a kind of traffic; empty for none."""
        key = selected(metadata, self._ambient.by_name)
        waypoint = self._waypoints.get(key)
        return "" if waypoint and waypoint.scope not in (kind, EVERYTHING) else key

    def _actual(self, address: WaypointAddress | None) -> str:
        """Return the Gateway of the Service that istiod names as a waypoint; empty for none."""
        if address is None or not (address.hostname or address.address):
            return ""
        if (named := address.hostname) is not None:
            namespace, name = named.namespace, named.hostname.partition(".")[0]
            service = self._services.get(f"{namespace}/{name}")
        else:
            ip = address.address.address.decode(errors="replace") if address.address else ""
            service = self._by_address.get(ip)
            namespace, name = "", ip
        if service is None:
            return f"{namespace}/{name}".lstrip("/")
        gateway = service.metadata.labels.get(workloads.GATEWAY_NAME, service.metadata.name)
        return f"{service.metadata.namespace}/{gateway}"

    @cached_property
    def _services(self) -> dict[str, Service]:
        return {
            f"{each.metadata.namespace}/{each.metadata.name}": each
            for each in self._evidence.services
        }

    @cached_property
    def _by_address(self) -> dict[str, Service]:
        return {ip: each for each in self._evidence.services for ip in each.spec.cluster_ips}

    def _finding(self, subject: str, expected: str, actual: str, owner: str) -> Finding:
        if not expected:
            seen = f"istiod makes clients use the waypoint {actual}, which its labels do not select"
        elif expected not in self._waypoints:
            seen = f"its labels select the waypoint {expected}, which does not exist"
        else:
            other = f"the waypoint {actual}" if actual else "no waypoint"
            seen = f"istiod makes clients use {other}, although its labels select {expected}"
        namespace, _, name = (expected or actual).rpartition("/")
        where = f" -n {namespace}" if namespace else ""
        return Finding(
            subject,
            seen,
            f"the waypoint {expected}" if expected else "no waypoint",
            f"kubectl get gateways.gateway.networking.k8s.io {name}{where} -o yaml",
            problem="wrong-waypoint",
            transient=True,  # a changed label, or a waypoint's address, takes a moment
            owner=owner,
        )
