"""Whether every route is answered by its backend, and not by the gateway in its place."""

from collections.abc import Iterator

from meshgate.facts.ingress.denials import DENIED, Denials, about
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.kubernetes_ingress import served
from meshgate.semantics.listeners import HTTP, Listener
from meshgate.semantics.requests import hidden_routes
from meshgate.semantics.virtual_services import not_exported
from meshgate.settings import flag
from meshgate.snapshot.ingress import PROBER, Exchange, Request
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class RouteAnswers:
    """What came back for every route that a request was derived for."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress
        self._denials = Denials(ingress)

    @property
    def unanswered(self) -> list[Finding]:
        """Routes that were answered by the gateway itself, by an error, or not at all.

        Raise CouldNotVerify if it cannot be seen who answered.
        """
        found: dict[tuple[str, str], Finding] = {}
        ambiguous: dict[str, None] = {}
        routed = False
        for seen, listener in self._ingress.exchanges():
            request = seen.request
            if not request.route or request.declared:
                continue
            if request.kind != "request" and seen.stage != "stream" and not _is_tcp(request):
                continue
            routed = True
            if seen.stage in ("connect", "handshake"):
                continue  # the listener's: IG004 reports it
            if seen.reason == "NR" and request.service in self._ingress.anonymous:
                ambiguous[request.words] = None
            elif finding := self._answer(seen, listener):
                found.setdefault((finding.subject, request.url), finding)
        hidden = list(
            dict.fromkeys((*self._hidden(), *self._not_exported(), *self._denials.on_tcp()))
        )
        if ambiguous and not (found or hidden):
            raise CouldNotVerify(
                f"{len(ambiguous)} requests got 404, and the gateway does not show whether it or "
                f"the backend answered (envoyDebugHeaders are disabled): {next(iter(ambiguous))}",
                f"declare the expected answers with {flag('ingress.expect')}, and deselect "
                "IG007, or enable "
                "defaultConfig.proxyHeaders.envoyDebugHeaders",
            )
        if routed and not (found or hidden) and (denied := self.denied) and not self._answered:
            raise CouldNotVerify(
                f"the gateway denies all requests, and no backend was reached: {denied[0].seen}",
                f"declare authorized requests with {flag('ingress.expect')}, and deselect IG007",
            )
        if not routed and not hidden:
            skipped = self._ingress.traffic.skipped
            why = f": {skipped[0].subject} ({skipped[0].why})" if skipped else ""
            raise NotApplicable(f"no request can be derived from any route{why}")
        return [*found.values(), *hidden]

    @property
    def _answered(self) -> bool:
        """Whether a backend answered for a route: neither a denial nor the gateway's redirect."""
        return any(
            seen.request.route
            and not seen.request.expected
            and (seen.status or not seen.error)
            and not self._denials.denies(seen, listener)
            for seen, listener in self._ingress.exchanges()
            if seen.request.kind == "request"
        )

    def _hidden(self) -> Iterator[Finding]:
        topology = self._ingress.topology
        seen: set[tuple[str, str]] = set()
        for listener in topology.listeners:
            http = listener.protocol in HTTP and listener.tls != "PASSTHROUGH"
            differently = (
                "give the routes different matches, or put them into one {kind}, the longer path "
                "first"
                if http
                else "give the routes different ports or TLS names, or delete one of them"
            )
            for each in hidden_routes(topology, listener):
                by = each.by
                if (each.rule.route, each.host) in seen:
                    continue
                seen.add((each.rule.route, each.host))
                yield Finding(
                    each.rule.owner,
                    f"route {each.rule.name} for {each.host} is never used: {by.owner} "
                    f"(route {by.name}) takes its requests first",
                    "a route that receives requests",
                    differently.format(kind=by.owner.partition(" ")[0]),
                    problem="hidden-route",
                    about=(("by", by.route), ("host", each.host), ("route", each.rule.route)),
                )

    def _not_exported(self) -> Iterator[Finding]:
        topology = self._ingress.topology
        seen: set[tuple[str, str]] = set()
        for listener in topology.listeners:
            if listener.api:
                continue
            for service in not_exported(topology, listener):
                subject = f"VirtualService {service.metadata.namespace}/{service.metadata.name}"
                if (subject, listener.subject) in seen:
                    continue
                seen.add((subject, listener.subject))
                pods = ", ".join(sorted(topology.namespaces_of(listener))) or listener.namespace
                exported = service.spec.export_to or topology.lists.default_export
                yield Finding(
                    subject,
                    f"{listener.subject} does not use it: its exportTo is "
                    f"{', '.join(exported)}, and the gateway's pods are in {pods}",
                    f"an exportTo that includes {pods}",
                    f"add {pods} to the exportTo of the VirtualService, or remove the gateway from "
                    "its list of gateways",
                    problem="not-exported-to-its-gateway",
                    about=(("gateway", listener.subject),),
                )

    @property
    def ignored(self) -> list[Finding]:
        """The Ingresses with a defaultBackend, which Istio ignores."""
        evidence = self._ingress.evidence
        own = evidence.own_mesh
        return [
            Finding(
                f"Ingress {each.metadata.namespace}/{each.metadata.name}",
                "its defaultBackend has no effect: Istio ignores it, and answers 404 to what no "
                "rule matches",
                remedy="Replace it with a rule for the path / (pathType Prefix).",
                problem="default-backend",
            )
            for each in evidence.ingresses
            if each.spec.default_backend is not None
            and own.watches(each.metadata.namespace)
            and served(each, evidence.ingress_classes, own.ingress_settings)
        ]

    def _answer(self, seen: Exchange, listener: Listener) -> Finding | None:
        request = seen.request
        if request.certificate and seen.alert:
            return None  # the listener's: IG004 reports it
        if request.http2 and not seen.status and not seen.error:
            return _no_http2(seen) if "GRPCRoute" in request.route else None
        if seen.stage == "stream":
            return self._closed(seen)
        if seen.stage == "request":
            return _finding(
                request,
                "no-answer",
                f"got no answer: {seen.error}",
                "an answer from its backend",
                f"look at {_backends(request)}",
            )
        if request.expected:
            return _expected(seen, listener)
        if not seen.status or seen.refused:
            return None
        return self._own_answer(seen, listener) or _error(seen)

    def _closed(self, seen: Exchange) -> Finding:
        request = seen.request
        empty = [
            each for each in request.backends if self._ingress.topology.without_endpoints(each)
        ]
        why = f"{', '.join(empty)} has no ready endpoint" if empty else seen.error
        return _finding(
            request,
            "connection-closed",
            f"closes every connection at once: {why}",
            "a connection that stays open",
            f"look at {_backends(request)}",
        )

    def _own_answer(self, seen: Exchange, listener: Listener) -> Finding | None:
        """Return what the gateway's own answer means, by Envoy's response flag."""
        request = seen.request
        kind = seen.reason.partition(" ")[0]
        if kind == "NC":
            return self._no_cluster(request)
        if self._denials.denies(seen, listener):
            denial = self._denials.of(seen, listener)
            return denial if denial.problem != DENIED else None
        meaning = {
            "NR": (
                "no-route",
                "no route matched (404 NR)",
                f"istioctl proxy-config routes, and look for {request.subject}",
            ),
            "UH": (
                "no-healthy-endpoint",
                "no healthy endpoint (503 UH)",
                f"look at {_backends(request)}",
            ),
            "UF": (
                "backend-unreachable",
                f"the backend cannot be reached (503 {seen.reason})",
                "compare the backend's port and mTLS mode with what the gateway sends",
            ),
        }.get(kind)
        if meaning is None:
            return None
        problem, why, remedy = meaning
        return _finding(request, problem, f"{why} for {_names(request)}", "an answer", remedy)

    @property
    def denied(self) -> list[Finding]:
        """Routes whose requests a policy of the gateway denies, so that no backend was reached."""
        return [
            finding
            for seen, listener in self._ingress.exchanges()
            if seen.request.route and not seen.request.declared
            if self._denials.denies(seen, listener)
            if (finding := self._denials.of(seen, listener)).problem == DENIED
        ]

    def _no_cluster(self, request: Request) -> Finding:
        topology = self._ingress.topology
        why = "the route leads to a cluster that does not exist (503 NC)"
        for backend in request.backends:
            host, _, subset = backend.partition("|")
            name = host.partition(":")[0]
            if topology.subset_missing(name, subset):
                remedy = f"define the subset {subset} in a DestinationRule for {name}"
                return _finding(
                    request,
                    "no-cluster",
                    f"{why} for {_names(request)}: no DestinationRule defines the subset {subset}",
                    "an answer",
                    remedy,
                    transient=False,
                )
            if service := topology.intended_service(name):
                named = service.metadata
                full = f"{named.name}.{named.namespace}.svc.{topology.lists.domain}"
                return _finding(
                    request,
                    "no-cluster",
                    f"{why} for {_names(request)}: Istio does not complete the host {name}",
                    "an answer",
                    f"write {full} in {request.subject}",
                    transient=False,
                )
        remedy = f"check that the Service exists and exposes this port: {_names(request)}"
        return _finding(request, "no-cluster", f"{why} for {_names(request)}", "an answer", remedy)


def _is_tcp(request: Request) -> bool:
    return request.kind == "connect" and not request.tls and bool(request.backends)


def _names(request: Request) -> str:
    return ", ".join(request.backends) or "no backend"


def _backends(request: Request) -> str:
    return f"the pods and the log of {', '.join(request.backends) or request.subject}"


def _finding(
    request: Request,
    problem: str,
    seen: str,
    expected: str,
    remedy: str,
    *,
    transient: bool = True,
) -> Finding:
    """Return the finding about a request.

    Args:
        request: what was sent.
        problem: its code.
        seen: what is wrong, after the words of the request.
        expected: instead.
        remedy: what to do.
        transient: whether time alone may resolve it.
    """
    return Finding(
        request.subject,
        f"{request.words}: {seen}",
        expected,
        remedy,
        transient=transient,
        problem=problem,
        about=about(request),
    )


def _no_http2(seen: Exchange) -> Finding:
    return _finding(
        seen.request,
        "no-http2",
        f"the listener does not speak HTTP/2 (ALPN {seen.alpn or 'none'})",
        "HTTP/2, which gRPC needs",
        "look for an EnvoyFilter that changes the listener's ALPN",
    )


def _expected(seen: Exchange, listener: Listener) -> Finding | None:
    request = seen.request
    redirects = 300 <= request.expected < 400
    right = 300 <= seen.status < 400 if redirects else seen.status == request.expected
    to_https = listener.redirects and request.route == listener.subject
    if right and to_https and not seen.location.startswith("https://"):
        right = False
    if right:
        return None
    where = f" to {seen.location}" if seen.location else ""
    return _finding(
        request,
        "unexpected-status",
        f"got {seen.status}{where}",
        "a redirect to HTTPS" if to_https else f"{request.expected}",
        "look for another Gateway or an EnvoyFilter on this port",
    )


def _error(seen: Exchange) -> Finding | None:
    if seen.status < 500:
        return None
    request = seen.request
    by = "its backend" if seen.upstream else "the gateway itself"
    if request.vantage == PROBER:
        by = "its backend or the gateway"
    return _finding(
        request,
        "server-error",
        f"got {seen.status} from {by} ({_names(request)})",
        "a status below 500",
        f"look at {_backends(request)}" if seen.upstream else "look for an EnvoyFilter",
    )
