"""Waypoints: whether they are rolled out, serve HBONE as themselves, and pass requests."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.facts.ingress.rollout import GatewayRollout
from meshgate.facts.tunnels import need_signed, server_problems, unanswered
from meshgate.facts.unverified import Unverified
from meshgate.semantics import pods, workloads
from meshgate.semantics.authorization import Decision, Request, decide, is_dry_run
from meshgate.semantics.config_revisions import applies_to
from meshgate.semantics.waypoints import Behind, Waypoint, enforces, http_behind, waypoints
from meshgate.snapshot.hbone import Tunnel, TunnelProbe, TunnelProbes
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

METHOD, PATH = "OPTIONS", "/"


class Waypoints:
    """The waypoints of the mesh, and what was sent through them."""

    def __init__(self, evidence: Evidence, rollout: GatewayRollout) -> None:
        self._evidence = evidence
        self._rollout = rollout
        self._unverified = Unverified(evidence)

    @cached_property
    def all(self) -> list[Waypoint]:
        """Every waypoint; raise NotApplicable if there are none."""
        seen, own = self._evidence, self._evidence.own_mesh
        found = waypoints(
            [each for each in seen.api_gateways if own.watches(each.metadata.namespace)],
            seen.gateway_classes,
            [each for each in seen.services if own.watches(each.metadata.namespace)],
            [each for each in own.own(seen.pods) if workloads.is_active(each)],
            {each.metadata.name: each for each in seen.namespaces},
        )
        if not found:
            raise NotApplicable("the mesh has no waypoint")
        return found

    @property
    def unfinished(self) -> list[Finding]:
        """Waypoints that are not deployed or rolled out, or not of their istiod's version."""
        return self._rollout.unfinished_waypoints(self.all)

    # --- HBONE ----------------------------------------------------------------------------------

    @cached_property
    def _probes(self) -> TunnelProbes:
        return need_signed(self._evidence.waypoint_probes, self._evidence)

    @cached_property
    def probed(self) -> list[tuple[Waypoint, Pod, list[TunnelProbe]]]:
        """Every running pod of a waypoint, with the probes of what is behind it.

        Raise CouldNotVerify if one was not probed.
        """
        seen: dict[str, list[TunnelProbe]] = {}
        found = []
        domain = self._evidence.own_mesh.cluster_domain
        for waypoint in self.all:
            behind = http_behind(waypoint, domain)
            for pod in waypoint.pods:
                if pod.status.phase == "Running" and pod.status.pod_ip:
                    if not seen:
                        for each in self._probes.probes:
                            seen.setdefault(each.pod, []).append(each)
                    probes = seen.get(f"{pod.metadata.namespace}/{pod.metadata.name}", [])
                    _need_all(pod, behind, probes)
                    found.append((waypoint, pod, probes))
        return found

    @property
    def broken(self) -> list[Finding]:
        """Waypoints that do not serve HBONE as themselves, or do not pass what they should.

        Raise CouldNotVerify if nothing is wrong, but something was not seen.
        """
        found: dict[Finding, None] = {}
        for waypoint, pod, probes in self.probed:
            for probe in probes:
                found |= dict.fromkeys(self._server(waypoint, pod, probe))
                if probe.mesh is not None:
                    found |= dict.fromkeys(self._request(waypoint, pod, probe, probe.mesh))
        if not found:
            self._need_answers()
            self._need_requests()
        return list(found)

    def _server(self, waypoint: Waypoint, pod: Pod, probe: TunnelProbe) -> Iterator[Finding]:
        for each in server_problems(self._evidence, pod, probe, self._probes.identity):
            yield self._finding(waypoint, pod, each.seen, each.expected, each.code)

    def _finding(
        self, waypoint: Waypoint, pod: Pod, seen: str, expected: str, code: str, service: str = ""
    ) -> Finding:
        namespace, name = pod.metadata.namespace, pod.metadata.name
        return Finding(
            f"Gateway {waypoint.key}",
            f"{pods.name(pod)} {seen}",
            expected,
            f"kubectl -n {namespace} logs {name} -c {workloads.PROXY}",
            transient=True,  # a new waypoint's listeners take a moment
            problem=code,
            about=(("service", service),) if service else (),
        )

    def _request(
        self, waypoint: Waypoint, pod: Pod, probe: TunnelProbe, mesh: Tunnel
    ) -> Iterator[Finding]:
        to = f"Service {probe.service}" if probe.service else f"address {probe.authority}"
        seen, expected, code = "", "an answer of the backend", "request-fails"
        decision = self._decision(waypoint, probe)
        if mesh.end == "refused":
            seen = f"refuses a certificate that istiod signed ({mesh.error or 'closed'})"
            expected, code = "an open connection", "refuses-mesh"
        elif mesh.end == "declined":
            seen = f"answers CONNECT for {to} with {mesh.connect}"
            expected = "an open connection"
        elif mesh.denied and decision.allowed:
            seen = f"denies a request to {to} (RBAC), although {decision.policy} it"
            code = "denied-without-policy"
        elif mesh.status and not mesh.denied and decision.allowed is False:
            seen = (
                f"answers {mesh.status} to a request of {self._probes.identity} to {to}, although "
                f"{decision.policy} denies it"
            )
            expected, code = "403 (RBAC: access denied)", "not-denied"
        elif mesh.reason and not mesh.denied and mesh.reason != "JWT":
            seen = f"answers {mesh.status} ({mesh.reason}) by itself to a request to {to}"
        elif mesh.end == "open" and mesh.error and not mesh.status and not unanswered(probe):
            seen = f"does not pass a request to {to}: {mesh.error}"
        if seen:
            yield self._finding(waypoint, pod, seen, expected, code, probe.service)

    def _decision(self, waypoint: Waypoint, probe: TunnelProbe) -> Decision:
        """Return what the policies of a Service and its waypoint say of the verifier's request."""
        own, of_class = self._evidence.own_mesh, waypoint.gateway.spec.gateway_class_name
        applied = [
            each
            for each in self._evidence.authorization_policies
            if not is_dry_run(each)
            and any(applies_to(each.metadata, pod) for pod in waypoint.pods)
            and enforces(each, waypoint.key, of_class, probe.service, own.root_namespace)
        ]
        aliases = own.trust_domain_aliases if own.is_configured else None
        caller = self._probes.identity.removeprefix("spiffe://")
        return decide(applied, Request(caller, probe.port, METHOD, PATH, aliases))

    def _need_answers(self) -> None:
        for waypoint, pod, probes in self.probed:
            for probe in probes:
                if reason := unanswered(probe):
                    raise CouldNotVerify(
                        f"Gateway {waypoint.key}: {pods.name(pod)} does not answer through HBONE "
                        f"for {probe.authority} ({reason})",
                        "look for a NetworkPolicy that does not allow port 15008 of the waypoint",
                        transient=True,
                    )

    def _need_requests(self) -> None:
        """Raise CouldNotVerify if something is behind a waypoint, but nothing that is HTTP."""
        for waypoint in self.all:
            behind = http_behind(waypoint, self._evidence.own_mesh.cluster_domain)
            used = waypoint.services or waypoint.ports
            if used and not behind and not self._unverified.accepts_ambient:
                raise self._unverified.of_ambient(
                    f"no request was sent through Gateway {waypoint.key}: nothing behind it is "
                    "known to be HTTP",
                    "name an HTTP port of its Services http or http-NAME",
                )

    @property
    def unproven(self) -> list[Finding]:
        """Waypoints through which no request passed, although nothing is wrong."""
        passed: dict[str, bool] = {}
        for waypoint, _, probes in self.probed:
            answered = any(
                each.mesh and each.mesh.status and not each.mesh.denied for each in probes
            )
            passed[waypoint.key] = passed.get(waypoint.key, False) or answered
        return [
            Finding(
                f"Gateway {key}",
                "no request passed through this waypoint: policies deny the verifier, or nothing "
                "behind it is known to be HTTP",
                remedy="Send a request that its policies allow by other means.",
                problem="nothing-passed",
            )
            for key, answered in passed.items()
            if not answered
        ]


def _need_all(pod: Pod, behind: list[Behind], probes: list[TunnelProbe]) -> None:
    seen = {(each.authority.rpartition(":")[0].strip("[]"), each.port) for each in probes}
    if not probes or any((each.address, each.port) not in seen for each in behind):
        raise CouldNotVerify(
            f"not everything behind {pods.name(pod)} was requested through it",
            "capture it again",
            transient=True,
        )
