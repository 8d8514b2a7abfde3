"""The gateways: are they well, and does traffic from outside really arrive?"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.requests import attached
from meshgate.semantics.topology import Entrypoint, GatewayTopology, Listener, RoutingConfig, covers
from meshgate.semantics.versions import Version
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.gateway_api import ApiGateway, ObservedCondition, Route
from meshgate.snapshot.ingress import INSIDE, OUTSIDE, PROBER, Exchange, Ingress
from meshgate.snapshot.kubernetes import Container, Deployment, Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

SOON = timedelta(days=14)
# milliseconds, and times what it was, above which an answer is late
LATE, SLOWER = 500, 3
# what a connection that was refused for want of a client's certificate is told
REFUSED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")


class IngressGateways:
    """All gateways of either kind, what they are configured to do, and what they did."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    @cached_property
    def topology(self) -> GatewayTopology:
        """Listeners and what serves them; raises NotApplicable where there is none."""
        topology = GatewayTopology(RoutingConfig.of(self._evidence))
        if not topology.listeners:
            raise NotApplicable("there is no Gateway that this mesh serves")
        return topology

    @cached_property
    def traffic(self) -> Ingress:
        """What was sent; raises CouldNotVerify where less was sent than had to be."""
        traffic = self._evidence.ingress
        for vantage in traffic.vantages:
            if vantage.unused and vantage.name in self._evidence.expectations.vantages:
                raise CouldNotVerify(
                    f"nothing was sent from {vantage.name}: {vantage.unused}",
                    "name an address with --ingress-url, or ask for another --vantage",
                )
        if traffic.unsent:
            raise CouldNotVerify(
                f"{len(traffic.unsent)} of the planned requests were not sent within the limits, "
                f"the first of them {traffic.unsent[0].url}",
                "raise --ingress-limit, --ingress-rate or --ingress-deadline",
            )
        return traffic

    # --- rolled out -----------------------------------------------------------------------------

    @property
    def unfinished(self) -> list[Finding]:
        """Gateways whose pods are not all there, Ready, and of istiod's version."""
        found: dict[Finding, None] = {}
        for listener in self.topology.listeners:
            deployments, replicas = (
                self.topology.deployments_of(listener),
                self.topology.pods_of(listener),
            )
            if not deployments and not replicas:
                found[
                    Finding(
                        listener.subject,
                        f"its selector {_labels(listener)} finds no pod and no Deployment",
                        "the gateway that it configures",
                        "correct the selector, or install the gateway",
                    )
                ] = None
            for deployment in deployments:
                found |= dict.fromkeys(self._rollout(deployment))
            for pod in replicas:
                found |= dict.fromkeys(self._pod(pod))
        return list(found)

    @staticmethod
    def _rollout(deployment: Deployment) -> Iterator[Finding]:
        metadata, status, wanted = deployment.metadata, deployment.status, deployment.spec.replicas
        subject = f"Deployment {metadata.namespace}/{metadata.name}"
        if wanted == 0:
            yield Finding(subject, "is scaled to 0 replicas", "at least 1")
            return
        if (
            status.observed_generation < metadata.generation
            or status.updated_replicas < wanted
            or status.available_replicas < wanted
            or status.replicas > wanted
        ):
            gave_up = any(each.reason == "ProgressDeadlineExceeded" for each in status.conditions)
            yield Finding(
                subject,
                f"{status.updated_replicas} of {wanted} replicas are updated, "
                f"{status.available_replicas} available"
                + (", and its rollout has given up" if gave_up else ""),
                "a rollout that is complete",
                f"kubectl -n {metadata.namespace} rollout status deployment {metadata.name}",
                transient=not gave_up,
            )

    def _pod(self, pod: Pod) -> Iterator[Finding]:
        if not pods.ready(pod):
            yield Finding(
                pods.name(pod), pods.trouble(pod), "Ready", transient=not pods.hopeless(pod)
            )
        image = next((each.image for each in _containers(pod) if each.name == PROXY), "")
        runs = Version.of_image(image)
        expected = self._expected(pod.metadata.labels.get("istio.io/rev", "default"))
        if runs and expected and runs != expected:
            namespace = pod.metadata.namespace
            yield Finding(
                pods.name(pod),
                f"its proxy is {runs}",
                f"{expected}, like istiod",
                f"restart the gateway: kubectl -n {namespace} rollout restart deployment",
            )

    def _expected(self, revision: str) -> Version | None:
        """The version that a revision's istiod runs, or the one that was asked for."""
        for replica in self._control_plane.replicas:
            if replica.metadata.labels.get("istio.io/rev", "default") == revision:
                reading = self._control_plane.readings.get(replica.metadata.name)
                if reading and (version := Version.parse(reading.version)):
                    return version
        wanted = self._evidence.expectations.target_version
        return Version.parse(wanted) if wanted else None

    # --- served ---------------------------------------------------------------------------------

    @property
    def unserved(self) -> list[Finding]:
        """Listeners that no Service's port leads to, or one without a ready endpoint."""
        found: dict[Finding, None] = {}
        for listener in self.topology.listeners:
            services = self.topology.services_of(listener)
            entrypoints = self.topology.entrypoints(listener)
            if not services and not self.topology.pods_of(listener):
                continue  # the gateway itself is not there: said elsewhere
            if not entrypoints:
                names = ", ".join(f"{s.metadata.namespace}/{s.metadata.name}" for s in services)
                found[
                    Finding(
                        listener.words,
                        f"no Service has this port (there is {names or 'none'}), and its pods "
                        "open none on their nodes",
                        f"a Service with port {listener.port}, a hostPort or hostNetwork",
                        "add the port to the gateway's Service",
                    )
                ] = None
            for entrypoint in entrypoints:
                found |= dict.fromkeys(self._door(entrypoint))
        return list(found)

    @staticmethod
    def _door(entrypoint: Entrypoint) -> Iterator[Finding]:
        kind, _, name = entrypoint.subject.partition(" ")
        namespace, _, name = name.partition("/")
        if not entrypoint.backends:
            yield Finding(
                entrypoint.subject,
                f"port {entrypoint.port} (targetPort {entrypoint.target}) has no ready endpoint",
                "a gateway behind it",
                f"kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}"
                if kind == "Service"
                else "look at its pods, which are to open it on their nodes",
                transient=True,
            )

    @property
    def addressless(self) -> list[Finding]:
        """LoadBalancers that have no address, and were not reached from outside another way."""
        sent = self._evidence.ingress.exchanges
        reached = {each.request.service for each in sent if each.request.vantage == OUTSIDE}
        return [
            Finding(
                f"Service {each.metadata.namespace}/{each.metadata.name}",
                "is of type LoadBalancer and has no address",
                "one, or an --ingress-url that leads there another way",
            )
            for each in {
                id(service): service
                for listener in self.topology.listeners
                for service in self.topology.services_of(listener)
            }.values()
            if each.spec.type == "LoadBalancer"
            and not each.status.load_balancer.ingress
            and f"Service {each.metadata.namespace}/{each.metadata.name}" not in reached
        ]

    # --- the Gateway API's own word -------------------------------------------------------------

    @property
    def unaccepted(self) -> list[Finding]:
        """Gateways, listeners and routes whose conditions say that they are not in effect."""
        ours = {(each.namespace, each.name): each for each in self.topology.listeners if each.api}
        if not ours:
            raise NotApplicable("there is no Gateway of the Gateway API")
        found = []
        for gateway in self._evidence.api_gateways:
            if (gateway.metadata.namespace, gateway.metadata.name) in ours:
                found += list(self._gateway(gateway))
        for kind, routes in (
            ("HTTPRoute", self._evidence.http_routes),
            ("GRPCRoute", self._evidence.grpc_routes),
            ("TLSRoute", self._evidence.tls_routes),
        ):
            for route in routes:
                if any(
                    (each.namespace or route.metadata.namespace, each.name) in ours
                    for each in route.spec.parent_refs
                ):
                    found += list(self._route(kind, route))
        return found

    def _gateway(self, gateway: ApiGateway) -> Iterator[Finding]:
        metadata, status = gateway.metadata, gateway.status
        subject = f"Gateway {metadata.namespace}/{metadata.name}"
        wanted = ("Accepted", "Programmed")
        yield from _conditions(subject, status.conditions, wanted, metadata.generation)
        reported = {each.name: each for each in status.listeners}
        for listener in gateway.spec.listeners:
            where = f"{subject} listener {listener.name}"
            says = reported.get(listener.name)
            if says is None:
                yield Finding(where, "has no status", "one of istiod", transient=True)
                continue
            resolved = (*wanted, "ResolvedRefs")
            yield from _conditions(where, says.conditions, resolved, metadata.generation)
            if listener.protocol == "TLS" and not says.attached_routes:
                yield Finding(
                    where,
                    "passes TLS through, and no TLSRoute is attached to it",
                    "a TLSRoute",
                    "attach one; it needs the TLSRoute CRD of the experimental channel, and "
                    "PILOT_ENABLE_ALPHA_GATEWAY_API=true on istiod",
                    transient=self._may_attach(gateway, listener.name),
                )
            before = self._before.get((metadata.namespace, metadata.name, listener.name), 0)
            if says.attached_routes < before:
                yield Finding(
                    where,
                    f"{says.attached_routes} routes are attached to it, {before} were before",
                    "no fewer than before the upgrade",
                    "kubectl get httproutes,grpcroutes -A -o yaml, and see their parents' status",
                    transient=True,
                )

    def _may_attach(self, gateway: ApiGateway, section: str) -> bool:
        """Whether a TLSRoute names this listener, which istiod has yet to count."""
        where = (gateway.metadata.namespace, gateway.metadata.name, section)
        return any(
            attached(parent, route.metadata.namespace, listener)
            for listener in self.topology.listeners
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

    @staticmethod
    def _route(kind: str, route: Route) -> Iterator[Finding]:
        metadata = route.metadata
        subject = f"{kind} {metadata.namespace}/{metadata.name}"
        if not route.status.parents:
            yield Finding(subject, "no controller has looked at it", "a status", transient=True)
        for parent in route.status.parents:
            reference = parent.parent_ref
            namespace = reference.namespace or metadata.namespace
            where = f"{subject} at Gateway {namespace}/{reference.name}"
            wanted = ("Accepted", "ResolvedRefs")
            yield from _conditions(where, parent.conditions, wanted, metadata.generation)

    # --- on the wire ----------------------------------------------------------------------------

    def exchanges(self) -> Iterator[tuple[Exchange, Listener]]:
        """All that was sent, each with its listener."""
        by_place = {
            (listener.subject, listener.port, listener.tls): listener
            for listener in self.topology.listeners
        }
        for each in self.traffic.exchanges:
            listener = by_place.get((each.request.gateway, each.request.port, each.request.tls))
            if listener is not None:
                yield each, listener

    @property
    def unreachable(self) -> list[Finding]:
        """Listeners that nobody can open a connection to."""
        found: dict[tuple[str, str, str], Finding] = {}
        for seen, listener in self.exchanges():
            asked = seen.request
            if seen.stage == "connect":
                entrypoint = f"{asked.service} port {asked.port}"
                where = (listener.subject, asked.vantage, entrypoint)
                found[where] = Finding(
                    listener.words,
                    f"no connection from {asked.vantage} by {entrypoint}: {seen.error}",
                    "one that opens",
                    "look at the Service's endpoints, and for a NetworkPolicy or firewall",
                    transient=True,
                )
            elif asked.tls_version:
                continue  # whether it is to be taken is another question
            elif asked.certificate and seen.alert:
                where = (listener.subject, asked.vantage, asked.host)
                found[where] = Finding(
                    listener.words,
                    f"refuses the client's certificate for {asked.host}: {seen.error}",
                    "that of --ingress-client-cert is taken",
                    f"compare its issuer with the ca.crt of {listener.credential}",
                    transient=True,
                )
            elif seen.stage == "handshake" and (asked.tls != "MUTUAL" or asked.certificate):
                names = f", credential {listener.credential}" if listener.credential else ""
                found[(listener.subject, asked.vantage, asked.host)] = Finding(
                    listener.words,
                    f"the TLS handshake for {asked.host} fails from {asked.vantage}: "
                    f"{seen.error}{names}",
                    "a certificate",
                    f"look for a finding on {asked.route}'s backends"
                    if asked.tls == "PASSTHROUGH"
                    else "is the Secret that it names there, and may the gateway read it?",
                    transient=True,
                )
        return list(found.values())

    @property
    def bad_certificates(self) -> list[Finding]:
        """Served certificates that a client would not take."""
        return [finding for finding, soon in self._certificates() if not soon]

    @property
    def ageing_certificates(self) -> list[Finding]:
        """Those that a client takes today, or if it knows a root that is not known here."""
        return [finding for finding, soon in self._certificates() if soon]

    def _certificates(self) -> Iterator[tuple[Finding, bool]]:
        seen_one = False
        for seen, listener in self.exchanges():
            if not seen.certificate or seen.request.vantage != INSIDE:
                continue
            asked = seen.request
            if asked.tls_version or asked.certificate:
                continue
            if asked.kind != "connect" and asked.tls != "MUTUAL":
                continue
            seen_one = True
            yield from self._certificate(seen, listener)
        if not seen_one and not any(each.tls for each in self.topology.listeners):
            raise NotApplicable("no listener uses TLS")

    def _certificate(self, seen: Exchange, listener: Listener) -> Iterator[tuple[Finding, bool]]:
        certificate, host = seen.certificate, seen.request.host
        if certificate is None:
            return
        where = f"{listener.words} host {host}"
        now = self._evidence.snapshot.taken
        if not any(covers(name, host) for name in certificate.sans):
            names = ", ".join(certificate.sans) or certificate.subject
            yield (
                Finding(
                    where,
                    f"serves a certificate for {names}",
                    f"one for {host}",
                    f"correct what {listener.credential or 'the listener'} holds",
                ),
                False,
            )
        if not certificate.not_before <= now <= certificate.not_after:
            began = certificate.not_before <= now
            yield (
                Finding(
                    where,
                    f"serves a certificate that {'expired on' if began else 'is not valid before'} "
                    f"{certificate.not_after if began else certificate.not_before:%Y-%m-%d}",
                    "one that is valid today",
                    "renew it",
                ),
                False,
            )
        elif certificate.not_after - now < SOON:
            yield (
                Finding(
                    where,
                    f"its certificate expires on {certificate.not_after:%Y-%m-%d}",
                    "14 days that are left",
                    "renew it",
                ),
                True,
            )
        elif seen.distrust:
            yield (
                Finding(
                    where,
                    f"its certificate leads to no root that is known here: {seen.distrust}",
                    "a chain that clients trust",
                    "name the roots that its clients trust with --ingress-ca",
                ),
                not self.traffic.trusted,
            )
        if seen.tls_version and seen.tls_version not in ("TLSv1.2", "TLSv1.3"):
            yield Finding(where, f"agrees on {seen.tls_version}", "TLS 1.2 or newer"), False

    @property
    def missing_client_auth(self) -> list[Finding]:
        """Mutual TLS listeners that let a client without a certificate in."""
        if not any(each.tls == "MUTUAL" for each in self.topology.listeners):
            raise NotApplicable("no listener asks clients for a certificate")
        found = []
        for seen, listener in self.exchanges():
            asked = seen.request
            if listener.tls != "MUTUAL" or seen.stage == "connect":
                continue
            if asked.certificate or asked.tls_version or asked.vantage == PROBER:
                continue
            where = f"{listener.words} host {seen.request.host}"
            if seen.status:
                found.append(
                    Finding(
                        where,
                        f"answers {seen.status} to a client without a certificate",
                        "a refusal",
                        "its tls.mode must be MUTUAL, and its credential hold a ca.crt",
                    )
                )
            elif not any(word in seen.alert for word in REFUSED):
                found.append(
                    Finding(
                        where,
                        f"breaks off without asking for a certificate: {seen.error}",
                        "a refusal for want of one",
                        f"is the credential {listener.credential} there, with a ca.crt?",
                        transient=True,
                    )
                )
        return found

    @property
    def unanswered(self) -> list[Finding]:
        """Routes whose requests the gateway, or nobody, answered in place of their backend."""
        found: dict[tuple[str, str], Finding] = {}
        routed = False
        for seen, listener in self.exchanges():
            if seen.request.kind != "request" or not seen.request.route:
                continue
            routed = True
            if seen.stage in ("connect", "handshake"):
                continue  # the listener's: said elsewhere
            if finding := self._answer(seen, listener):
                found.setdefault((finding.subject, seen.request.url), finding)
        if not routed:
            raise NotApplicable("no safe request can be derived from any route")
        return list(found.values())

    def _answer(self, seen: Exchange, listener: Listener) -> Finding | None:
        asked = seen.request
        subject = asked.subject
        request = asked.words
        backends = ", ".join(asked.backends) or "no backend"
        if asked.certificate and seen.alert:
            return None  # the listener's: said elsewhere
        if asked.http2 and not seen.status and not seen.error:
            if "GRPCRoute" not in asked.route:
                return None  # that it is not spoken is no error, unless it was before
            return Finding(
                subject,
                f"{request}: the listener does not speak HTTP/2 (ALPN {seen.alpn or 'none'})",
                "HTTP/2, which gRPC needs",
                "look for an EnvoyFilter",
                transient=True,
            )
        if seen.stage == "request":
            return Finding(
                subject,
                f"{request} got no answer: {seen.error}",
                f"one of {backends}",
                transient=True,
            )
        if asked.expected:
            redirects = 300 <= asked.expected < 400
            right = 300 <= seen.status < 400 if redirects else seen.status == asked.expected
            if right and listener.redirects and not seen.location.startswith("https://"):
                right = False
            if right:
                return None
            where = f" to {seen.location}" if seen.location else ""
            return Finding(
                subject,
                f"{request} got {seen.status}{where}",
                "a redirect to HTTPS" if listener.redirects else f"{asked.expected}",
                transient=True,
            )
        if seen.refused:
            return None
        missing = [each for each in asked.backends if self._subset_missing(each)]
        kind = seen.reason.partition(" ")[0]
        why, remedy = {
            "NR": ("no route matched (404 NR)", "does the gateway have this route yet?"),
            "UH": ("no healthy endpoint (503 UH)", "look at the backend's pods"),
            "UF": (
                f"the backend cannot be reached (503 {seen.reason})",
                "compare the backend's port and mTLS mode with what the gateway sends",
            ),
            "NC": (
                "the route leads to a cluster that does not exist (503 NC)",
                f"no DestinationRule defines the subset of {', '.join(missing)}"
                if missing
                else "does the backend's Service exist, with this port?",
            ),
        }.get(kind, ("", ""))
        if why:
            transient = not missing
            return Finding(
                subject,
                f"{request}: {why} for {backends}",
                "an answer",
                remedy,
                transient=transient,
            )
        if seen.status >= 500:
            by = "its backend" if seen.upstream else "the gateway itself"
            if asked.vantage == PROBER:
                by = "one of the two"
            return Finding(
                subject,
                f"{request} got {seen.status} from {by} ({backends})",
                "an answer that is no error",
                "look at the backend's log" if seen.upstream else "look for an EnvoyFilter",
                transient=True,
            )
        return None

    def _subset_missing(self, backend: str) -> bool:
        host, _, subset = backend.partition("|")
        return self.topology.subset_missing(host.partition(":")[0], subset)

    # --- as before ------------------------------------------------------------------------------

    @cached_property
    def _now(self) -> dict[str, list[Exchange]]:
        now: dict[str, list[Exchange]] = {}
        for seen, _ in self.exchanges():
            now.setdefault(seen.request.key, []).append(seen)
        return now

    def _then(self) -> Iterator[Exchange]:
        """What was answered before the upgrade, and could be asked again."""
        _ = self._now
        before = self._evidence.expectations.before
        if before is None or before.ingress is None:
            raise NotApplicable("there is no --baseline that holds traffic to compare with")
        vantages = {each.name for each in self.traffic.vantages if not each.unused}
        for then in before.ingress.exchanges:
            if then.error or then.status == 429 or then.status >= 500:
                continue
            if then.request.vantage not in vantages:
                continue  # nobody asked from there this time
            if then.request.certificate and not self._identified:
                continue  # nor with a certificate
            yield then

    @property
    def _identified(self) -> bool:
        return any(each.request.certificate for each in self.traffic.exchanges)

    @property
    def drifted(self) -> list[Finding]:
        """What is answered as before, and much later, or by another server."""
        found = []
        for then in self._then():
            asked = then.request
            for now in self._now.get(asked.key, ()):
                if now.error or now.status != then.status:
                    continue
                words = ""
                if then.server != now.server:
                    words = (
                        f"says server {now.server or 'none'}, and {then.server or 'none'} before"
                    )
                elif now.milliseconds > max(LATE, SLOWER * then.milliseconds):
                    words = f"took {now.milliseconds} ms, and {then.milliseconds} ms before"
                if words:
                    where = f"{asked.words} {words}"
                    subject = asked.subject
                    found.append(Finding(subject or asked.gateway, where, "the same as before"))
        return found

    @property
    def changed(self) -> list[Finding]:
        """What was answered before the upgrade and is answered in another way now."""
        now = self._now
        found = []
        for then in self._then():
            asked = then.request
            subject = asked.subject or asked.gateway
            request = asked.words
            if asked.key not in now:
                found.append(
                    Finding(
                        subject,
                        f"{request} was answered before the upgrade, and leads nowhere now",
                        "its listener and route",
                        "was it removed on purpose? Then keep a new baseline",
                    )
                )
            differences = {_difference(then, each) for each in now.get(asked.key, ())} - {""}
            found += [
                Finding(subject, f"{request} {each}", "the same as before", transient=True)
                for each in differences
            ]
        return found


def _difference(then: Exchange, now: Exchange) -> str:
    if now.error:
        return f"was answered before the upgrade; now: {now.error}"
    if then.alpn == "h2" and now.alpn != "h2":
        return "spoke HTTP/2 before the upgrade, and does not now"
    if now.status != then.status and now.status != 429:
        return f"got {then.status} before the upgrade, and gets {now.status} now"
    if now.location != then.location:
        return f"led to {then.location or 'nowhere'}, and leads to {now.location or 'nowhere'} now"
    if then.certificate and now.certificate and then.fingerprint != now.fingerprint:
        if now.certificate.not_after < then.certificate.not_after:
            return "serves an older certificate than before"
        if lost := set(then.certificate.sans) - set(now.certificate.sans):
            return f"serves a certificate that is no longer for {', '.join(sorted(lost))}"
    return ""


def _conditions(
    where: str,
    conditions: tuple[ObservedCondition, ...],
    wanted: tuple[str, ...],
    generation: int,
) -> Iterator[Finding]:
    by_type = {each.type: each for each in conditions}
    for name in wanted:
        says = by_type.get(name)
        if says is None:
            yield Finding(where, f"has no condition {name}", f"{name}=True", transient=True)
        elif says.status != "True":
            yield Finding(
                where,
                f"{name}={says.status} ({says.reason}): {says.message}",
                f"{name}=True",
                transient=says.reason in ("Pending", "AddressNotAssigned")
                or says.observed_generation < generation,
            )
        elif says.observed_generation < generation:
            yield Finding(
                where,
                f"{name} is about generation {says.observed_generation}, it is at {generation}",
                "a status of what is there now",
                transient=True,
            )


def _labels(listener: Listener) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(listener.selector.items()))


def _containers(pod: Pod) -> Iterator[Container]:
    yield from pod.spec.containers
    yield from pod.spec.init_containers


def sent(traffic: Ingress | None) -> tuple[str, ...]:
    """Where requests were sent from, in words: what the verdict rests on."""
    requests = [each.request for each in traffic.exchanges] if traffic else []
    counts = Counter(each.vantage for each in requests)
    words = ", ".join(f"{count} from {name}" for name, count in sorted(counts.items()))
    lines = [f"requests sent through the gateways: {words or 'none'}"]
    if asked := sum(each.grpc and not each.declared for each in requests):
        lines.append(
            f"to gRPC servers by GET, which proves their routes and no method: {asked} of them; "
            "a call can be declared (--expect)"
        )
    return tuple(lines)
