"""What AuthorizationPolicies of a gateway deny: a request, everybody, or TCP unintentionally."""

from collections.abc import Iterator

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.authorization import Request as AuthorizationRequest
from meshgate.semantics.authorization import (
    allows_nothing,
    denies_everything,
    may_match,
    name,
    providers,
)
from meshgate.semantics.gateway_policies import policies_of
from meshgate.semantics.layer4 import denied_by_http_rule, not_allowed_by_http_rules
from meshgate.semantics.listeners import HTTP, Listener
from meshgate.semantics.requests import planned_requests
from meshgate.settings import flag
from meshgate.snapshot.ingress import Exchange, Request
from meshgate.snapshot.istio import AuthorizationPolicy
from meshgate.verdict import Finding

About = tuple[tuple[str, str], ...]


def about(request: Request) -> About:
    """Return what distinguishes a request from others of the same route."""
    return (
        ("host", request.host),
        ("method", request.method),
        ("path", request.path),
        ("port", str(request.port)),
        ("route", request.route),
        ("vantage", request.vantage),
        *((("way", request.way.strip()),) if request.way else ()),
    )


REDIRECTS = range(300, 400)

# The problem of a request that a policy for unknown clients denies: the verifier has no identity.
DENIED = "denied"


class Denials:
    """The policies of the gateways, compared with what they answered."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    def denies(self, seen: Exchange, listener: Listener) -> bool:
        """Return whether the gateway refused a request in place of the backend.

        The service that a CUSTOM policy asks may also redirect to a login.
        """
        if seen.reason == "RBAC":
            return True
        own = "envoy" in seen.server and not (seen.upstream or seen.request.expected)
        if own and seen.status in REDIRECTS:
            return any(each.spec.action == "CUSTOM" for each in self._policies(listener))
        hidden = seen.request.service in self._ingress.anonymous
        return own and not hidden and seen.status in (401, 403)

    def of(self, seen: Exchange, listener: Listener) -> Finding:
        """Return what a denial by the gateway means.

        A policy denies unknown clients (the problem `DENIED`) or everybody, or the provider of a
        CUSTOM policy is missing: istiod then denies everything that the policy matches, in the
        same words.
        """
        request = seen.request
        policies = self._policies(listener)
        if seen.reason != "RBAC":
            return self._of_another_filter(seen, policies)
        if closed := denies_everything(policies) or allows_nothing(policies):
            return Finding(
                name(closed),
                f"denies every request at {listener.subject} (403 RBAC: access denied), such as "
                f"{request.words}",
                "a policy that admits at least one client",
                f"add a rule for the clients of {listener.subject}, or delete the policy",
                transient=True,
                problem="denies-everyone",
                about=(("gateway", listener.subject),),
            )
        custom = [each for each in policies if each.spec.action == "CUSTOM"]
        for policy in custom:
            if (provider := _provider(policy)) and self._lacks(provider, policy, seen, listener):
                return _missing_provider(
                    policy,
                    f"the gateway denies {request.words} (403 RBAC: access denied): the mesh "
                    f"config lacks the provider {provider}",
                )
        if several := self._several(custom, seen, listener):
            return several
        if len(custom) < len(policies):
            names = ", ".join(name(each) for each in policies)
            return _finding(
                request,
                DENIED,
                f"the gateway denies it (403 RBAC: access denied; {names}): its backend was not "
                "reached",
                f"declare an authorized request with {flag('ingress.expect')}",
            )
        if custom:
            return _missing_provider(
                custom[0],
                f"the gateway denies {request.words} (403 RBAC: access denied), as it does when "
                f"the mesh config lacks the provider {_provider(custom[0])}",
            )
        return _finding(
            request,
            "denied-without-policy",
            "the gateway denies it (403 RBAC: access denied), and no AuthorizationPolicy applies "
            "to the gateway",
            "look for an EnvoyFilter, and at istioctl x authz check for the gateway's pod",
        )

    def _lacks(
        self, provider: str, policy: AuthorizationPolicy, seen: Exchange, listener: Listener
    ) -> bool:
        """Return whether a mesh config lacks a provider whose policy matches a request."""
        return self._may_match(policy, seen, listener) and any(
            provider not in replica.providers
            for config in self._ingress.evidence.mesh_configs
            for replica in config.effective
            if not (replica.error or replica.denied)
        )

    def _may_match(self, policy: AuthorizationPolicy, seen: Exchange, listener: Listener) -> bool:
        method, path = seen.request.method, seen.request.path.partition("?")[0]
        targets = [each.target for each in self._ingress.topology.entrypoints(listener)]
        ports = {listener.port, *(each for each in targets if isinstance(each, int))}
        asked = (AuthorizationRequest("", port, method, path) for port in ports)
        return any(may_match(policy, each) for each in asked)

    def _several(
        self, custom: list[AuthorizationPolicy], seen: Exchange, listener: Listener
    ) -> Finding | None:
        """Return that CUSTOM policies name several providers, which istiod turns into denials."""
        names = providers(custom)
        own = self._ingress.evidence.own_mesh
        if len(names) < 2 or not own.refuses_several_providers:
            return None
        policy = next((each for each in custom if self._may_match(each, seen, listener)), None)
        if policy is None:
            return None
        return Finding(
            name(policy),
            f"the gateway denies {seen.request.words} (403 RBAC: access denied): its CUSTOM "
            f"policies name several providers ({', '.join(names)})",
            "one provider for each gateway",
            "name one provider in all of them, or set "
            "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS=true on istiod 1.30 or newer",
            transient=True,
            problem="several-providers",
            about=(("gateway", listener.subject),),
        )

    def _of_another_filter(self, seen: Exchange, policies: list[AuthorizationPolicy]) -> Finding:
        """Return what an answer of the gateway itself means that no rule of a policy gives."""
        request = seen.request
        custom = ", ".join(name(each) for each in policies if each.spec.action == "CUSTOM")
        by = f"the provider of {custom}" if custom else "an EnvoyFilter or a WasmPlugin"
        return _finding(
            request,
            DENIED,
            f"the gateway answers {seen.status} by itself ({by} denies it, or does not answer): "
            "its backend was not reached",
            f"declare an authorized request with {flag('ingress.expect')}",
        )

    def on_tcp(self) -> Iterator[Finding]:
        """Yield TCP listeners that admit no client, because policies are about HTTP.

        Envoy evaluates policies with the first byte of a connection, which is not sent: a
        connection that stays open proves nothing.
        """
        topology = self._ingress.topology
        for listener in topology.listeners:
            if listener.protocol in HTTP and listener.tls != "PASSTHROUGH":
                continue
            policies = self._policies(listener)
            if not policies or not any(
                each.backends for each in planned_requests(topology, listener)
            ):
                continue
            if closed := self._closed(listener, policies):
                policy, how = closed
                yield Finding(
                    name(policy),
                    f"{listener.words} is TCP, and {how}",
                    "a policy that denies what it names",
                    f"add the HTTP ports to `to.operation.ports` in {name(policy)}"
                    if policy.spec.action == "DENY"
                    else f"add a rule with `to.operation.ports` for {listener.port}",
                    transient=False,
                    problem="denies-tcp",
                    about=(("gateway", listener.subject), ("port", str(listener.port))),
                )

    def _closed(
        self, listener: Listener, policies: list[AuthorizationPolicy]
    ) -> tuple[AuthorizationPolicy, str] | None:
        """Return the policy that closes a TCP listener, and how; None if a client may get in.

        Ports of policies are those of the pod: both numbers must be closed where they differ.
        """
        targets = {each.target for each in self._ingress.topology.entrypoints(listener)}
        ports = {listener.port, *(each for each in targets if isinstance(each, int))}
        denied = [denied_by_http_rule(policies, port) for port in ports]
        if denied[0] and all(each and each.everyone for each in denied):
            return denied[0].policy, "its rule about HTTP denies every connection there"
        ignored = [not_allowed_by_http_rules(policies, port) for port in ports]
        if ignored[0] and all(ignored):
            return ignored[0], "its rules about HTTP are ignored there: it admits no client"
        return None

    def _policies(self, listener: Listener) -> list[AuthorizationPolicy]:
        evidence = self._ingress.evidence
        return policies_of(
            self._ingress.topology,
            listener,
            evidence.authorization_policies,
            evidence.own_mesh.root_namespace,
        )


def _missing_provider(policy: AuthorizationPolicy, seen: str) -> Finding:
    provider = _provider(policy)
    return Finding(
        name(policy),
        seen,
        f"extensionProviders with {provider}",
        f"add {provider} to meshConfig.extensionProviders, or delete the policy",
        transient=True,
        problem="missing-provider",
        about=(("provider", provider),),
    )


def _provider(policy: AuthorizationPolicy) -> str:
    return policy.spec.provider.name if policy.spec.provider else ""


def _finding(request: Request, problem: str, seen: str, remedy: str) -> Finding:
    """Return the finding about a request.

    Args:
        request: what was sent.
        problem: its code.
        seen: what is wrong, after the words of the request.
        remedy: what to do.
    """
    return Finding(
        request.subject,
        f"{request.words}: {seen}",
        "an answer from the backend",
        remedy,
        transient=problem != DENIED,
        problem=problem,
        about=about(request),
    )
