"""DestinationRules that make clients speak what servers refuse."""

from typing import Any

import msgspec
import pytest

from meshgate.snapshot.injector import DefaultExports, InjectorConfig
from meshgate.snapshot.istio import (
    ClientTls,
    DestinationRule,
    PeerSelector,
    PortSelector,
    PortTraffic,
    Subset,
    TrafficPolicy,
)
from meshgate.snapshot.kubernetes import Annotations, Metadata
from meshgate.verdict import Finding, NotApplicable
from tests.support.builders import HTTP, istiod, mesh, pod, running, sidecar
from tests.support.mtls_builders import destination_rule, labeled, peer, service

STRICT = "STRICT"
DISABLE = ClientTls(mode="DISABLE")
WEB = sidecar(ip="10.0.0.1", ports=(HTTP,), labels={"app": "web", "version": "v1"})
CLIENT = sidecar("client-1", labels={"app": "client"})
SERVER = sidecar(
    ip="10.0.0.1",
    ports=(HTTP,),
    labels={"app": "web"},
    annotations=Annotations(revision="1-30"),
)
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
        f"trafficPolicy.tls sets {mode} for Service shop/web port 80, but PeerAuthentication "
        "istio-system/default requires STRICT (clients: namespace shop)"
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
        "web.shop.svc.cluster.local",
        "*.shop.svc.cluster.local",
        "*.local",
        "*",
    ],
)
def test_every_way_to_name_a_service(host: str) -> None:
    pods = (istiod(), WEB, sidecar("api-1", "payments"))

    assert breaking(destination_rule(host=host, namespace="payments"), pods=pods)


def test_a_name_with_a_dot_is_not_completed() -> None:
    """istiod takes `web.shop` for a whole name, which no Service has."""
    assert breaking(destination_rule(host="web.shop")) == []


# --- which rule counts --------------------------------------------------------------------------


def named(name: str, host: str, mode: str, namespace: str = "shop", **spec: Any) -> DestinationRule:
    rule = destination_rule(host, mode, namespace, **spec)
    return msgspec.structs.replace(rule, metadata=Metadata(name=name, namespace=namespace))


def of(*rules: DestinationRule, **changes: Any) -> list[str]:
    """The rules that break something for clients in shop and payments."""
    found = {
        "pods": (istiod(), CLIENT, WEB, sidecar("api-1", "payments")),
        "services": (service(),),
        "peer_authentications": (peer(),),
        **changes,
    }
    return [
        each.subject for each in mesh(destination_rules=rules, **found).destination_rules.breaking
    ]


def test_the_most_specific_host_counts() -> None:
    """ISTIO_MUTUAL for all, with an exception for what has no sidecar (B36)."""
    everything = named("all", "*.svc.cluster.local", "ISTIO_MUTUAL")
    exception = named("plain", "*.legacy.svc.cluster.local", "DISABLE")
    batch = pod("batch", "legacy", containers=[running("app")], ports=(HTTP,), labels={"app": "b"})
    legacy = {
        "services": (service("b", "legacy"),),
        "pods": (istiod(), CLIENT, batch),
    }

    assert of(everything, exception, **legacy) == []
    assert of(everything, **legacy) == ["DestinationRule shop/all"]


def test_the_rule_of_the_client_comes_first() -> None:
    own = named("own", "web", "ISTIO_MUTUAL")
    client = named("client", "web.shop.svc.cluster.local", "DISABLE", "payments")

    assert of(own, client) == ["DestinationRule payments/client"]
    assert of(own) == []


def test_a_rule_of_the_root_namespace_comes_last() -> None:
    root = named("root", "web.shop.svc.cluster.local", "DISABLE", "istio-system")

    assert of(root) == ["DestinationRule istio-system/root"]
    assert of(root, named("own", "web", "ISTIO_MUTUAL")) == []


@pytest.mark.parametrize(
    ("export_to", "clients"),
    [((), "shop"), (("*",), "shop"), ((".",), "shop"), (("payments",), "payments"), (("~",), "")],
)
def test_a_rule_counts_where_it_is_exported(export_to: tuple[str, ...], clients: str) -> None:
    found = breaking(
        destination_rule(export_to=export_to),
        pods=(istiod(), WEB, sidecar("api-1", "payments")),
    )

    assert [each.seen.rpartition("namespace ")[2] for each in found] == (
        [f"{clients})"] if clients else []
    )


@pytest.mark.parametrize(("app", "broken"), [("client", 1), ("other", 0)])
def test_a_rule_for_some_clients(app: str, broken: int) -> None:
    rule = named(
        "some", "web", "DISABLE", workload_selector=PeerSelector(match_labels={"app": app})
    )

    assert len(of(rule)) == broken


def test_the_oldest_of_merged_rules_counts() -> None:
    old, new = named("a", "web", "ISTIO_MUTUAL"), named("b", "web", "DISABLE")
    full = named("b", "web.shop.svc.cluster.local", "DISABLE")

    assert of(new, old) == []
    assert of(full, old) == []
    assert of(named("a", "web", "DISABLE"), new) == ["DestinationRule shop/a"]


def test_merged_rules_have_the_oldest_subset_of_each_name() -> None:
    def with_subset(name: str, mode: str) -> DestinationRule:
        subset = Subset(name="v1", traffic_policy=TrafficPolicy(tls=ClientTls(mode=mode)))
        return named(name, "web", "", subsets=(subset,))

    mutual, plain = with_subset("a", "ISTIO_MUTUAL"), with_subset("b", "DISABLE")

    assert of(plain, mutual) == []
    assert of(with_subset("a", "DISABLE"), with_subset("b", "ISTIO_MUTUAL")) == [
        "DestinationRule shop/a"
    ]
    # the policy of the rule itself is the oldest one that there is
    assert of(mutual, named("b", "web", "DISABLE")) == ["DestinationRule shop/b"]


def test_the_most_specific_host_counts_before_the_labels_of_clients() -> None:
    """istiod looks for the host first, and then for the rule of the client's labels."""
    client = PeerSelector(match_labels={"app": "client"})
    everything = named("all", "*", "DISABLE", workload_selector=client)

    assert of(everything) == ["DestinationRule shop/all"]
    assert of(everything, named("web", "web", "ISTIO_MUTUAL")) == []


def test_a_rule_for_other_clients_alone_leaves_none() -> None:
    """The Service's namespace has no say then."""
    others = PeerSelector(match_labels={"app": "nobody"})
    full = "web.shop.svc.cluster.local"
    elsewhere = named("other", full, "ISTIO_MUTUAL", "payments", workload_selector=others)
    exported = named("web", "web", "DISABLE", export_to=("payments",))

    assert of(exported) == ["DestinationRule shop/web"]
    assert of(exported, elsewhere) == []


def test_clients_in_the_root_namespace_use_its_rules_last() -> None:
    """A gateway in istio-system, a rule for the whole mesh, and an exception for a Service."""
    gateway = pod("gateway", "istio-system", containers=[running("istio-proxy")])
    whole_mesh = named("all", "*.local", "DISABLE", "istio-system")
    exception = named("web", "web", "ISTIO_MUTUAL")
    own = named("own", "*.local", "DISABLE", "istio-system", export_to=(".",))

    assert of(whole_mesh, exception, pods=(istiod(), WEB, gateway)) == []
    assert of(whole_mesh, pods=(istiod(), WEB, gateway)) == ["DestinationRule istio-system/all"]
    assert of(own, exception, pods=(istiod(), WEB, gateway)) == ["DestinationRule istio-system/own"]


def test_a_specific_rule_for_other_namespaces_hides_a_wildcard() -> None:
    specific = named("web", "web", "ISTIO_MUTUAL", export_to=("legacy",))
    wildcard = named("all", "*.shop.svc.cluster.local", "DISABLE", export_to=("payments",))

    assert of(wildcard) == ["DestinationRule shop/all"]
    assert of(wildcard, specific) == []


def test_the_mesh_config_may_keep_rules_in_their_namespace() -> None:
    private = DefaultExports(destination_rules=(".",))
    config = InjectorConfig(revision="default", default_exports=private)
    root = named("root", "web.shop.svc.cluster.local", "DISABLE", "istio-system")
    exported = named(
        "root", "web.shop.svc.cluster.local", "DISABLE", "istio-system", export_to=("*",)
    )

    assert of(root) == ["DestinationRule istio-system/root"]
    assert of(root, injector_configs=(config,)) == []
    assert of(exported, injector_configs=(config,)) == ["DestinationRule istio-system/root"]


def test_settings_of_a_port_replace_those_of_the_rule() -> None:
    """A store with its own TLS between members (B39): one port DISABLE, the other untouched."""
    level = PortTraffic(port=PortSelector(number=80))
    policy = TrafficPolicy(tls=DISABLE, port_level_settings=(level,))

    assert of(named("own", "web", "", traffic_policy=policy)) == []
    assert of(named("own", "web", "", traffic_policy=TrafficPolicy(tls=DISABLE)))


def test_the_same_problem_for_several_namespaces_is_one_finding() -> None:
    assert of(named("own", "web", "DISABLE")) == ["DestinationRule shop/own"]


def test_a_rule_for_one_port() -> None:
    def of(port: int) -> DestinationRule:
        level = PortTraffic(port=PortSelector(number=port), tls=DISABLE)
        return destination_rule(traffic_policy=TrafficPolicy(port_level_settings=(level,)))

    assert "trafficPolicy port 80 sets DISABLE" in breaking(of(80))[0].seen
    assert breaking(of(81)) == []


def test_a_rule_for_one_subset() -> None:
    def of(version: str) -> DestinationRule:
        policy = TrafficPolicy(tls=DISABLE)
        subset = Subset(name="canary", labels={"version": version}, traffic_policy=policy)
        return destination_rule(mode="", subsets=(subset,))

    assert "subset canary.tls sets DISABLE" in breaking(of("v1"))[0].seen
    assert breaking(of("v2")) == []


def test_mtls_towards_who_has_no_sidecar_or_takes_none() -> None:
    mutual = destination_rule(mode="ISTIO_MUTUAL")

    (bare,) = breaking(mutual, pods=(istiod(), CLIENT, BARE))
    assert "its pods have no sidecar" in bare.seen
    (disabled,) = breaking(mutual, "DISABLE")
    assert "sets DISABLE" in disabled.seen
    assert breaking(destination_rule(mode="DISABLE"), pods=(istiod(), CLIENT, BARE)) == []


def test_without_any_that_names_tls() -> None:
    with pytest.raises(NotApplicable, match="none of 1 DestinationRules"):
        breaking(destination_rule(mode=""))


def manual(*rules: DestinationRule, policy: str = "STRICT", **changes: Any) -> Any:
    """The rules' facts in a mesh without auto-mTLS."""
    found = {
        "pods": (istiod(), WEB, sidecar("api-1", "payments")),
        "services": (service(),),
        "peer_authentications": (peer(policy),),
        "injector_configs": (InjectorConfig(revision="default", auto_mtls=False),),
        **changes,
    }
    return mesh(destination_rules=rules, **found).destination_rules


def test_without_auto_mtls_clients_send_plaintext() -> None:
    (finding,) = manual().breaking

    assert finding.subject == "Service shop/web"
    assert finding.seen == (
        "clients send plaintext to port 80 (enableAutoMtls: false, and no DestinationRule sets "
        "tls.mode), but PeerAuthentication istio-system/default requires STRICT (clients: "
        "namespaces payments, shop)"
    )


@pytest.mark.parametrize(
    ("rules", "policy"),
    [
        (
            (destination_rule(host="*.local", namespace="istio-system", mode="ISTIO_MUTUAL"),),
            STRICT,
        ),
        ((), "PERMISSIVE"),
        ((), "DISABLE"),
    ],
)
def test_without_auto_mtls_a_mesh_may_be_well(rules: Any, policy: str) -> None:
    facts = manual(*rules, policy=policy)

    assert facts.breaking == []
    assert facts.limited == []


def test_without_auto_mtls_clients_without_a_rule_are_a_warning_beside_others() -> None:
    rule = destination_rule(
        host="web.shop.svc.cluster.local", namespace="payments", mode="ISTIO_MUTUAL"
    )
    facts = manual(rule)

    assert facts.breaking == []
    (warning,) = facts.limited
    assert "(clients: namespaces shop)" in warning.seen


def test_a_rule_for_a_subset_alone_leaves_the_service_without_mtls() -> None:
    policy = TrafficPolicy(tls=ClientTls(mode="ISTIO_MUTUAL"))
    rule = destination_rule(namespace="istio-system", host="*.local")
    spec = msgspec.structs.replace(
        rule.spec, traffic_policy=None, subsets=(Subset(name="v1", traffic_policy=policy),)
    )

    assert manual(msgspec.structs.replace(rule, spec=spec)).breaking


def test_the_mesh_config_of_a_clients_own_revision_counts() -> None:
    own = InjectorConfig(revision="1-31-0")
    canary = sidecar("api-1", "payments", annotations=Annotations(revision="1-31-0"))
    other = InjectorConfig(revision="default", auto_mtls=False)

    facts = manual(pods=(istiod(), WEB, canary), injector_configs=(other, own))

    assert facts.breaking == []
    assert "(clients: namespaces shop)" in facts.limited[0].seen


def test_a_mesh_wide_rule_may_meet_services_that_applications_do_not_call() -> None:
    dns = pod("dns", "kube-system", containers=[running("dns")], labels={"app": "dns"})
    service_of_dns = service("dns", namespace="kube-system")
    rule = destination_rule(host="*.local", namespace="istio-system", mode="ISTIO_MUTUAL")

    facts = manual(
        rule, pods=(istiod(), WEB, dns), services=(service(), service_of_dns), policy="STRICT"
    )

    assert facts.breaking == []
    assert ["kube-system/dns" in each.seen for each in facts.limited] == [True]
    own = destination_rule(
        host="dns.kube-system.svc.cluster.local", namespace="shop", mode="ISTIO_MUTUAL"
    )
    assert manual(own, pods=(istiod(), WEB, dns), services=(service_of_dns,)).breaking


def test_a_rule_counts_only_for_clients_of_the_revision_that_reads_it() -> None:
    def found(*revisions: str) -> list[Finding]:
        clients = [
            sidecar(f"client-{each}", annotations=Annotations(revision=each)) for each in revisions
        ]
        return breaking(labeled(destination_rule(), "1-31"), pods=(istiod(), *clients, SERVER))

    assert found("1-30") == []
    assert found("1-31")
    assert found("1-30", "1-31")


def test_istio_mutual_to_pods_in_ambient_mode() -> None:
    """istiod replaces the mode by HBONE, except for headless Services."""
    captured = pod(
        "web-1",
        containers=[running("app")],
        ports=(HTTP,),
        labels={"app": "web"},
        annotations=Annotations(ambient="enabled"),
    )
    rule, pods = destination_rule(mode="ISTIO_MUTUAL"), (istiod(), CLIENT, captured)
    headless = msgspec.structs.replace(
        service(), spec=msgspec.structs.replace(service().spec, cluster_ips=("None",))
    )

    assert breaking(rule, pods=pods) == []
    (finding,) = breaking(rule, pods=pods, services=(headless,))
    assert "its pods have no sidecar" in finding.seen
    (finding,) = breaking(rule, pods=(*pods, BARE))
    assert "its pods have no sidecar" in finding.seen
