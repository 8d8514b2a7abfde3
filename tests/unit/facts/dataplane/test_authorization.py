"""What a stranger may, by the policies, and what the port said to it."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.authorization import Authorization
from meshgate.semantics.authorization import Request, decide
from meshgate.snapshot.conditions import AuthorizationCondition
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.istio import (
    AuthorizationFrom,
    AuthorizationOperation,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationSource,
    AuthorizationTo,
    ExtensionProvider,
    TargetRef,
)
from meshgate.snapshot.kubernetes import Annotations, ContainerPort, ServicePort
from meshgate.snapshot.mtls import Attempt
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support.builders import HTTP, expecting, istiod, mesh, sidecar
from tests.support.mtls_builders import (
    REFUSED,
    SILENT,
    authorization,
    labeled,
    peer,
    port_probe,
    port_probes,
    service,
    shown,
)

DENIED = shown("answered", status=403, denied=True)
LET_IN = shown("answered", status=200)


def source(**fields: Any) -> AuthorizationRule:
    return AuthorizationRule(from_=(AuthorizationFrom(source=AuthorizationSource(**fields)),))


def operation(**fields: Any) -> AuthorizationRule:
    return AuthorizationRule(to=(AuthorizationTo(operation=AuthorizationOperation(**fields)),))


ANY = AuthorizationRule()
CLIENT = source(principals=("cluster.local/ns/shop/sa/client",))
US = source(principals=("cluster.local/ns/istio-system/sa/verifier",))
WHEN = AuthorizationRule(when=(AuthorizationCondition(key="request.headers[x]"),))


def policy_violations(denied: bool, *policies: AuthorizationPolicy) -> list[Finding]:
    seen = port_probes(port_probe(mesh=DENIED if denied else LET_IN))
    return mesh(authorization_policies=policies, port_probes=seen).authorization.policy_violations


def denies(*policies: AuthorizationPolicy) -> bool | None:
    """What the policies say of us: None if both answers of the port are right."""
    wrong_to_deny = any(
        "denies the verifier" in each.seen for each in policy_violations(True, *policies)
    )
    wrong_to_answer = any("answers" in each.seen for each in policy_violations(False, *policies))
    return None if wrong_to_deny == wrong_to_answer else wrong_to_answer


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (ANY, True),
        (CLIENT, False),
        (US, True),
        (source(principals=("*",)), True),
        (source(principals=("cluster.local/ns/istio-system/*",)), True),
        (source(principals=("*/sa/verifier",)), True),
        (source(not_principals=("cluster.local/ns/shop/sa/client",)), True),
        (source(namespaces=("istio-system",)), True),
        (source(namespaces=("shop",)), False),
        (source(not_namespaces=("istio-system",)), False),
        (source(service_accounts=("istio-system/verifier",)), True),
        (source(service_accounts=("verifier",)), False),
        (source(not_service_accounts=("istio-system/verifier",)), False),
        (source(request_principals=("*",)), False),
        (source(principals=("mesh.example/ns/shop/sa/client",)), False),
        # another trust domain may be an alias of ours
        (source(principals=("mesh.example/ns/istio-system/sa/verifier",)), None),
        (source(trust_domains=("cluster.local",)), True),
        (source(trust_domains=("other",)), False),
        (source(not_trust_domains=("cluster.local",)), False),
        (source(not_trust_domains=("other",)), True),
        (operation(paths=("/users/{*}",)), None),
        (source(ip_blocks=("10.0.0.0/8",)), None),
        (source(namespaces=("shop",), ip_blocks=("10.0.0.0/8",)), False),
        (operation(methods=("GET",)), False),
        (operation(methods=("OPTIONS",)), True),
        (operation(not_methods=("OPTIONS",)), False),
        (operation(paths=("/admin*",)), False),
        (operation(ports=("8080",)), True),
        (operation(ports=("9090",)), False),
        (operation(hosts=("web",)), None),
        (WHEN, None),
    ],
)
def test_what_a_rule_says_of_us(rule: AuthorizationRule, holds: bool | None) -> None:
    """ALLOW lets in whom a rule holds for, and nobody else; DENY the other way round."""
    assert denies(authorization(rule)) is (None if holds is None else not holds)
    if rule != ANY:
        denied = denies(authorization(rule, action="DENY"))
        assert denied is (None if holds is None else holds)


@pytest.mark.parametrize(("aliases", "denied"), [(("other",), False), ((), True)])
def test_an_alias_of_the_trust_domain_is_a_principals_own(
    aliases: tuple[str, ...], denied: bool
) -> None:
    config = InjectorConfig(revision="default", trust_domain_aliases=aliases)
    rule = source(principals=("other/ns/istio-system/sa/verifier",))
    facts = mesh(
        authorization_policies=(authorization(rule),),
        port_probes=port_probes(port_probe(mesh=DENIED)),
        injector_configs=(config,),
    ).authorization

    wrong_to_deny = any("denies the verifier" in each.seen for each in facts.policy_violations)

    assert wrong_to_deny is not denied


def test_several_policies_together() -> None:
    assert denies(authorization(US), authorization(CLIENT)) is False
    assert denies(authorization(ANY), authorization(US, action="DENY")) is True
    assert denies(authorization(CLIENT), authorization(WHEN)) is None
    assert denies(authorization(ANY), authorization(US, action="CUSTOM")) is None
    assert denies(authorization(US, action="AUDIT")) is False


@pytest.mark.parametrize(
    "elsewhere",
    [
        authorization(US, action="DENY", namespace="payments"),
        authorization(US, action="DENY", selects={"app": "other"}),
        msgspec.structs.replace(
            authorization(),
            spec=msgspec.structs.replace(
                authorization(US, action="DENY").spec, target_ref=TargetRef(kind="Gateway")
            ),
        ),
        msgspec.structs.replace(
            authorization(US, action="DENY"),
            metadata=msgspec.structs.replace(
                authorization().metadata, annotations=Annotations(dry_run="true")
            ),
        ),
    ],
    ids=["namespace", "selector", "targetRef", "dry run"],
)
def test_policies_that_do_not_reach_it(elsewhere: AuthorizationPolicy) -> None:
    assert denies(elsewhere, authorization(US)) is False


def test_a_policy_of_the_root_namespace_reaches_all() -> None:
    assert denies(authorization(US, action="DENY", namespace="istio-system")) is True


@pytest.mark.parametrize(
    "policy", [authorization(ANY, action="DENY", name="no"), authorization(name="no")]
)
def test_a_workload_that_lets_nobody_in(policy: AuthorizationPolicy) -> None:
    (finding,) = policy_violations(True, policy)

    assert finding.subject == "Pod shop/web-1"
    assert "admits no client: AuthorizationPolicy shop/no denies every request" in finding.seen
    assert not finding.transient


def test_a_denial_that_no_policy_asks_for() -> None:
    (finding,) = policy_violations(True)

    assert "although no AuthorizationPolicy denies" in finding.seen


def test_who_is_let_in_though_a_policy_denies() -> None:
    (finding,) = policy_violations(False, authorization(CLIENT, name="only-client"))

    assert "answers 200 to spiffe://cluster.local/ns/istio-system/sa/verifier" in finding.seen
    assert "AuthorizationPolicy shop/only-client denies it" in finding.seen
    assert finding.transient


def test_without_any_policy() -> None:
    with pytest.raises(NotApplicable, match="none of 1 HTTP ports denies"):
        policy_violations(False)


# --- by default, and on TCP ---------------------------------------------------------------------


def test_a_default_that_denies_beside_policies_that_allow_is_a_warning() -> None:
    default = authorization(name="allow-nothing")
    elsewhere = authorization(CLIENT, selects={"app": "other"})
    denied = port_probes(port_probe(mesh=DENIED))
    facts = mesh(authorization_policies=(default, elsewhere), port_probes=denied).authorization

    assert facts.policy_violations == []
    (warning,) = facts.denied_by_default
    assert "AuthorizationPolicy shop/allow-nothing denies by default" in warning.seen


TCP = ServicePort(port=3306, name="mysql", target_port=3306)
DATABASE = sidecar(
    "db-1", ip="10.0.0.1", labels={"app": "db"}, ports=(ContainerPort(container_port=3306),)
)


def database(*policies: AuthorizationPolicy, port: ServicePort = TCP) -> Authorization:
    probe = port_probe("shop/db-1", 3306, plain=None, mesh=shown("held"))
    return mesh(
        pods=(istiod(), DATABASE),
        services=(service("db", ports=(port,)),),
        port_probes=port_probes(probe),
        authorization_policies=policies,
    ).authorization


def about_port(*ports: str) -> AuthorizationRule:
    """A rule about a path at these ports, by a condition."""
    rule = operation(paths=("/admin",))
    condition = AuthorizationCondition(key="destination.port", values=ports)
    return msgspec.structs.replace(rule, when=(condition,))


def tcp(rule: AuthorizationRule, port: ServicePort = TCP, action: str = "DENY") -> list[Finding]:
    return database(authorization(rule, action=action), port=port).policy_violations


@pytest.mark.parametrize(
    ("rule", "denies"),
    [
        (operation(paths=("/admin",)), True),
        (operation(methods=("DELETE",)), True),
        (operation(hosts=("x",)), True),
        (source(request_principals=("*",)), True),
        (AuthorizationRule(when=(AuthorizationCondition(key="request.headers[x]"),)), True),
        # what else a rule asks for still counts
        (operation(paths=("/admin",), ports=("8080",)), False),
        (operation(paths=("/admin",), ports=("3306",)), True),
        (source(namespaces=("other",), request_principals=("*",)), False),
        (operation(ports=("3306",)), False),
        (about_port("8080"), False),
        (about_port("3306"), True),
        # istiod does not treat the address in a header as an attribute of HTTP
        (source(remote_ip_blocks=("10.0.0.0/8",)), False),
        (source(not_remote_ip_blocks=("10.0.0.0/8",)), False),
    ],
)
def test_a_deny_rule_about_http_denies_all_of_tcp(rule: AuthorizationRule, denies: bool) -> None:
    found = tcp(rule)

    assert bool(found) is denies
    assert all("DENY rules ignore HTTP attributes" in each.seen for each in found)
    assert tcp(rule, action="ALLOW") == []


def test_a_deny_rule_about_http_and_sources_is_a_warning() -> None:
    rule = AuthorizationRule(
        from_=(AuthorizationFrom(source=AuthorizationSource(namespaces=("batch",))),),
        to=(AuthorizationTo(operation=AuthorizationOperation(paths=("/admin",))),),
    )

    facts = database(authorization(rule, action="DENY"))

    assert facts.policy_violations == []
    (warning,) = facts.limited_on_tcp
    assert "every connection from the sources that it names" in warning.seen


@pytest.mark.parametrize(
    ("rules", "closed"),
    [
        ((operation(methods=("GET",)),), True),
        ((operation(methods=("GET",), ports=("8080",)),), False),  # TCP is denied on purpose
        ((operation(methods=("GET",)), CLIENT), False),
        ((operation(methods=("GET",)), operation(ports=("3306",))), False),
        ((CLIENT,), False),
    ],
)
def test_allow_rules_about_http_allow_nothing_on_tcp(
    rules: tuple[AuthorizationRule, ...], closed: bool
) -> None:
    facts = database(authorization(*rules))

    assert facts.policy_violations == []
    assert ["ALLOW rules about HTTP" in each.seen for each in facts.limited_on_tcp] == (
        [True] if closed else []
    )


@pytest.mark.parametrize(
    "policy", [authorization(ANY, action="DENY"), authorization()], ids=["deny all", "allow none"]
)
def test_a_tcp_port_that_no_client_can_connect_to(policy: AuthorizationPolicy) -> None:
    (finding,) = database(policy).policy_violations

    assert "port 3306 admits no client" in finding.seen


def test_a_port_whose_protocol_is_detected_may_be_http() -> None:
    unnamed = msgspec.structs.replace(TCP, name="", port=5432, target_port=3306)
    server_first = msgspec.structs.replace(TCP, name="")

    with pytest.raises(NotApplicable, match="none of 1 ports is known to be HTTP or TCP"):
        tcp(operation(paths=("/admin",)), unnamed)
    assert len(tcp(operation(paths=("/admin",)), server_first)) == 1


@pytest.mark.parametrize(
    ("key", "values", "not_values", "allowed"),
    [
        ("destination.port", ("8080",), (), True),
        ("destination.port", ("9090",), (), False),
        ("destination.port", (), ("8080",), False),
        ("source.namespace", ("istio-*",), (), True),
        ("source.namespace", ("shop",), (), False),
        ("source.principal", ("*/sa/verifier",), (), True),
        ("source.principal", (), ("*/sa/verifier",), False),
        # unknown in recordings of earlier releases, and for other keys
        ("destination.port", (), (), None),
        ("source.ip", ("10.0.0.1",), (), None),
    ],
)
def test_conditions_are_evaluated_where_their_values_are_known(
    key: str, values: tuple[str, ...], not_values: tuple[str, ...], allowed: bool | None
) -> None:
    condition = AuthorizationCondition(key=key, values=values, not_values=not_values)
    policy = authorization(AuthorizationRule(when=(condition,)))
    caller = "cluster.local/ns/istio-system/sa/verifier"

    assert decide([policy], Request(caller, 8080, "GET", "/", frozenset())).allowed is allowed


def test_values_of_other_conditions_are_not_kept() -> None:
    body = {"key": "request.headers[x-token]", "values": ["planted"], "notValues": ["planted"]}
    kept = {"key": "destination.port", "values": ["8080"]}

    assert "planted" not in repr(msgspec.convert(body, AuthorizationCondition))
    assert msgspec.convert(kept, AuthorizationCondition).values == ("8080",)


def test_several_providers_of_a_workload_deny_what_they_match() -> None:
    def custom(provider: str) -> AuthorizationPolicy:
        plain = authorization(ANY, action="CUSTOM", name=provider)
        spec = msgspec.structs.replace(plain.spec, provider=ExtensionProvider(name=provider))
        return msgspec.structs.replace(plain, spec=spec)

    def found(*policies: AuthorizationPolicy, **config: Any) -> list[str]:
        configs = (InjectorConfig(revision="default", **config),)
        seen = port_probes(port_probe(mesh=DENIED))
        facts = mesh(
            authorization_policies=policies, port_probes=seen, injector_configs=configs
        ).authorization
        return [each.problem for each in facts.policy_violations]

    assert found(custom("a"), custom("b")) == ["several-providers"]
    assert found(custom("a"), custom("b"), several_providers=True) == []
    assert found(custom("a")) == []


@pytest.mark.parametrize(("revision", "denied"), [("1-30", False), ("1-31", True)])
def test_a_policy_counts_only_for_pods_of_the_revision_that_reads_it(
    revision: str, denied: bool
) -> None:
    policy = labeled(authorization(US, action="DENY"), "1-31")
    seen = port_probes(port_probe(mesh=DENIED if denied else LET_IN))
    web = sidecar(ip="10.0.0.1", ports=(HTTP,), annotations=Annotations(revision=revision))

    facts = mesh(
        pods=(istiod(), web), authorization_policies=(policy,), port_probes=seen
    ).authorization

    assert facts.policy_violations == []


DISABLED_PORT: dict[str, Any] = {
    "peer_authentications": (peer(selects={"app": "x"}, namespace="shop", mode="DISABLE"), peer()),
    "pods": (
        istiod(),
        sidecar(ip="10.0.0.1", ports=(HTTP,), labels={"app": "x"}),
        sidecar("web-2", ip="10.0.0.2", ports=(HTTP,)),
    ),
    "port_probes": port_probes(port_probe(mesh=REFUSED), port_probe("shop/web-2", mesh=DENIED)),
}


# --- what was not compared ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mesh_attempt", "why"),
    [(SILENT, "silent"), (REFUSED, "Connection reset by peer"), (None, "")],
)
def test_a_port_with_a_policy_that_gives_no_answer(mesh_attempt: Attempt | None, why: str) -> None:
    probes = port_probes(port_probe(mesh=mesh_attempt))
    facts = mesh(authorization_policies=(authorization(CLIENT),), port_probes=probes)

    with pytest.raises(CouldNotVerify, match=r"Pod shop/web-1 port 8080 did not answer") as raised:
        _ = facts.authorization.policy_violations
    assert why in str(raised.value)
    assert "AuthorizationPolicy shop/policy was not compared" in str(raised.value)


def test_a_port_without_an_answer_that_no_policy_is_for() -> None:
    probes = port_probes(port_probe(mesh=REFUSED))
    elsewhere = authorization(CLIENT, selects={"app": "other"})

    for changes in (
        {"authorization_policies": (elsewhere,)},
        # DP004 expects that no sidecar answers there
        {"authorization_policies": (authorization(CLIENT),), **DISABLED_PORT},
    ):
        facts = mesh(**{"port_probes": probes, **changes})
        assert facts.authorization.policy_violations == []


def test_policies_of_ports_that_say_nothing() -> None:
    of_tcp = sidecar(ip="10.0.0.1", ports=(ContainerPort(container_port=8080),))
    policies = (authorization(CLIENT),)
    unknown = mesh(authorization_policies=policies, pods=(istiod(), of_tcp)).authorization
    with pytest.raises(NotApplicable, match="none of 1 ports is known to be HTTP or TCP"):
        _ = unknown.policy_violations

    # a server that speaks first does so before its sidecar evaluates policies
    banner = port_probes(port_probe(mesh=shown("answered")))
    first = mesh(authorization_policies=policies, pods=(istiod(), of_tcp), port_probes=banner)
    with pytest.raises(NotApplicable, match="none of 1 ports is known to be HTTP or TCP"):
        _ = first.authorization.policy_violations

    unsigned = port_probes(port_probe(mesh=None), unsigned="no CA", identity="")
    accepted = expecting(accepted_unverified=("CA",))
    external = mesh(authorization_policies=policies, port_probes=unsigned, **accepted)
    with pytest.raises(NotApplicable, match="no port was probed with a mesh certificate"):
        _ = external.authorization.policy_violations
