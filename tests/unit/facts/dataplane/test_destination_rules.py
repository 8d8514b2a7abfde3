"""DestinationRules that make clients speak what servers refuse."""

from typing import Any

import pytest

from meshgate.snapshot.istio import (
    ClientTls,
    DestinationRule,
    PortSelector,
    PortTraffic,
    Subset,
    TrafficPolicy,
)
from meshgate.verdict import Finding, NotApplicable
from tests.builders import HTTP, istiod, mesh, pod, running, sidecar
from tests.mtls_builders import destination_rule, peer, service

DISABLE = ClientTls(mode="DISABLE")
WEB = sidecar(ip="10.0.0.1", ports=(HTTP,), labels={"app": "web", "version": "v1"})
BARE = pod("bare", containers=[running("app")], ports=(HTTP,), labels={"app": "web"})


def breaking(rule: DestinationRule, policy: str = "STRICT", **changes: Any) -> list[Finding]:
    found = {
        "pods": (istiod(), WEB),
        "services": (service(),),
        "peer_authentications": (peer(policy),),
        **changes,
    }
    return mesh(destination_rules=(rule,), **found).destination_rules.breaking


@pytest.mark.parametrize("mode", ["DISABLE", "SIMPLE", "MUTUAL"])
def test_what_a_strict_server_refuses(mode: str) -> None:
    (finding,) = breaking(destination_rule(mode=mode))

    assert finding.subject == "DestinationRule shop/rule"
    assert finding.seen == (
        f"trafficPolicy.tls says {mode}, and PeerAuthentication istio-system/default demands "
        "STRICT behind Service shop/web (port 8080)"
    )


@pytest.mark.parametrize(
    ("rule", "policy"),
    [
        (destination_rule(mode="ISTIO_MUTUAL"), "STRICT"),
        (destination_rule(mode="DISABLE"), "PERMISSIVE"),
        (destination_rule(host="orders"), "STRICT"),
        (destination_rule(host="web", namespace="payments"), "STRICT"),
        (destination_rule(host="web.payments.svc.cluster.local"), "STRICT"),
    ],
)
def test_what_breaks_nothing(rule: DestinationRule, policy: str) -> None:
    assert breaking(rule, policy) == []


@pytest.mark.parametrize(
    "host",
    [
        "web.shop",
        "web.shop.svc",
        "web.shop.svc.cluster.local",
        "*.shop.svc.cluster.local",
        "*.local",
        "*",
    ],
)
def test_every_way_to_name_a_service(host: str) -> None:
    assert breaking(destination_rule(host=host, namespace="payments"))


def test_a_rule_for_one_port() -> None:
    def of(port: int) -> DestinationRule:
        level = PortTraffic(port=PortSelector(number=port), tls=DISABLE)
        return destination_rule(traffic_policy=TrafficPolicy(port_level_settings=(level,)))

    assert "trafficPolicy port 80 says DISABLE" in breaking(of(80))[0].seen
    assert breaking(of(81)) == []


def test_a_rule_for_one_subset() -> None:
    def of(version: str) -> DestinationRule:
        policy = TrafficPolicy(tls=DISABLE)
        subset = Subset(name="canary", labels={"version": version}, traffic_policy=policy)
        return destination_rule(mode="", subsets=(subset,))

    assert "subset canary.tls says DISABLE" in breaking(of("v1"))[0].seen
    assert breaking(of("v2")) == []


def test_mtls_towards_who_has_no_sidecar_or_takes_none() -> None:
    mutual = destination_rule(mode="ISTIO_MUTUAL")

    (bare,) = breaking(mutual, pods=(istiod(), BARE))
    assert "no sidecar is there to take it" in bare.seen
    (disabled,) = breaking(mutual, "DISABLE")
    assert "says DISABLE" in disabled.seen
    assert breaking(destination_rule(mode="DISABLE"), pods=(istiod(), BARE)) == []


def test_without_any_that_names_tls() -> None:
    with pytest.raises(NotApplicable, match="none of the 1 DestinationRules"):
        breaking(destination_rule(mode=""))
