"""What a probe saw of the workloads' ports, and the policies: STRICT unless a test changes it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from meshgate.snapshot.declared_pairs import DeclaredPair
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    AuthorizationRule,
    ClientTls,
    DestinationRule,
    DestinationRuleSpec,
    MutualTls,
    PeerAuthentication,
    PeerAuthenticationSpec,
    PeerSelector,
    TrafficPolicy,
)
from meshgate.snapshot.kubernetes import Metadata, Service, ServicePort, ServiceSpec
from meshgate.snapshot.mtls import Attempt, PortProbe, PortProbes
from meshgate.snapshot.wire import Certificate
from tests.support.webhook_builders import AT

Config = TypeVar("Config", AuthorizationPolicy, DestinationRule, PeerAuthentication)

US = "spiffe://cluster.local/ns/istio-system/sa/verifier"
WEB = "spiffe://cluster.local/ns/shop/sa/default"

ANSWERED = Attempt(end="answered", status=200)
REFUSED = Attempt(end="refused", error="Connection reset by peer")
SILENT = Attempt(end="silent")


def shown(end: str, **more: Any) -> Attempt:
    """A connection in which the sidecar showed its certificate."""
    return Attempt(end=end, tls=True, identity=WEB, **more)


def leaf(*sans: str, lasts: timedelta = timedelta(hours=24), ends: datetime | None = None) -> Any:
    """A certificate of a workload, an hour old."""
    begins = AT - timedelta(hours=1)
    return Certificate(
        subject="", not_before=begins, not_after=ends or begins + lasts, sans=sans or (WEB,)
    )


STRICT: dict[str, Any] = {
    "plain": REFUSED,
    "anonymous": shown("refused"),
    "foreign": shown("refused"),
    "mesh": shown("answered", status=200),
    "chain": (leaf(),),
}
PERMISSIVE: dict[str, Any] = {**STRICT, "plain": ANSWERED, "anonymous": REFUSED}
DISABLED: dict[str, Any] = {
    "plain": ANSWERED,
    "anonymous": REFUSED,
    "foreign": REFUSED,
    "mesh": REFUSED,
}


def port_probe(pod: str = "shop/web-1", port: int = 8080, **seen: Any) -> PortProbe:
    """A port that behaves as under STRICT, with changes."""
    return PortProbe(pod=pod, port=port, **{**STRICT, **seen})


def port_probes(*seen: PortProbe, **more: Any) -> PortProbes:
    """What was seen, with a certificate of the mesh."""
    return PortProbes(**{"identity": US, "probes": seen, **more})


def peer(
    mode: str = "STRICT",
    namespace: str = "istio-system",
    name: str = "default",
    *,
    selects: dict[str, str] | None = None,
    ports: dict[int, str] | None = None,
    created: datetime | None = AT,
) -> PeerAuthentication:
    """A PeerAuthentication; mode "" leaves it out."""
    return PeerAuthentication(
        metadata=Metadata(name=name, namespace=namespace, creation_timestamp=created),
        spec=PeerAuthenticationSpec(
            selector=None if selects is None else PeerSelector(match_labels=selects),
            mtls=MutualTls(mode=mode) if mode else None,
            port_level_mtls={port: MutualTls(mode=each) for port, each in (ports or {}).items()},
        ),
    )


def labeled(config: Config, revision: str) -> Config:
    """Configuration that only the istiod of this revision reads."""
    metadata = msgspec.structs.replace(config.metadata, labels={"istio.io/rev": revision})
    return msgspec.structs.replace(config, metadata=metadata)


def authorization(
    *rules: AuthorizationRule,
    action: str = "ALLOW",
    namespace: str = "shop",
    name: str = "policy",
    selects: dict[str, str] | None = None,
) -> AuthorizationPolicy:
    """An AuthorizationPolicy."""
    return AuthorizationPolicy(
        metadata=Metadata(name=name, namespace=namespace),
        spec=AuthorizationPolicySpec(
            selector=None if selects is None else PeerSelector(match_labels=selects),
            action=action,
            rules=rules,
        ),
    )


def destination_rule(
    host: str = "web", mode: str = "DISABLE", namespace: str = "shop", **spec: Any
) -> DestinationRule:
    """A DestinationRule that names a tls.mode; mode "" leaves it out."""
    policy = TrafficPolicy(tls=ClientTls(mode=mode)) if mode else None
    return DestinationRule(
        metadata=Metadata(name="rule", namespace=namespace),
        spec=DestinationRuleSpec(host=host, **{"traffic_policy": policy, **spec}),
    )


def service(
    name: str = "web",
    namespace: str = "shop",
    *,
    selects: dict[str, str] | None = None,
    ports: Iterable[ServicePort] = (ServicePort(port=80, name="http", target_port=8080),),
) -> Service:
    """A Service in front of the pods with the label app=`name`."""
    return Service(
        metadata=Metadata(name=name, namespace=namespace),
        spec=ServiceSpec(ports=tuple(ports), selector=selects or {"app": name}),
    )


def declared_pair(caller: str = "shop/client", expect: str = "200", **changes: Any) -> DeclaredPair:
    """A request of a client in shop to the Service web."""
    fields = {"service": "shop/web", "port": 80, "method": "GET", "path": "/healthz", **changes}
    return DeclaredPair(caller=caller, expect=expect, **fields)


HEALTHY: dict[str, Any] = {
    "peer_authentications": (peer(),),
    "port_probes": port_probes(port_probe()),
}
