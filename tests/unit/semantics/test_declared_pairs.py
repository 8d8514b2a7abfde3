"""The file of declared pairs, and the pairs that are proposed."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from meshgate.semantics.declared_pairs import read_pairs, write_pairs
from meshgate.semantics.meshes import own_mesh
from meshgate.semantics.pair_proposals import Proposals
from meshgate.semantics.pair_targets import PairTargets
from meshgate.snapshot.declared_pairs import DeclaredPair, PairWaypoint
from meshgate.snapshot.istio import (
    AuthorizationFrom,
    AuthorizationOperation,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationSource,
    AuthorizationTo,
    TargetRef,
)
from meshgate.snapshot.kubernetes import Pod, Service
from tests.support import ambient_builders
from tests.support.ambient_builders import SHOP
from tests.support.builders import HTTP, pod, running, sidecar, snapshot
from tests.support.mtls_builders import authorization, declared_pair, service

WEB = sidecar("web-1", labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.1")


def file(
    caller: str = "shop/client", to: str = "shop/web:80 GET /healthz", expect: Any = 200
) -> str:
    return f'pairs: [{{from: "{caller}", to: "{to}", expect: {expect}}}]'


def test_a_pair_is_a_caller_a_request_and_what_is_expected() -> None:
    assert read_pairs(file()) == (declared_pair(),)
    assert read_pairs(file(expect="denied"))[0].expect == "denied"
    assert read_pairs(file(expect="allowed"))[0].expect == "allowed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (file(caller="client"), "`from` must be a ServiceAccount"),
        (file(to="shop/web GET /"), "`to` must be NAMESPACE/SERVICE:PORT METHOD /PATH"),
        (file(to="shop/web:80"), "`to` must be"),
        (file(to="shop/web:0 GET /"), "`to` must be"),
        (file(to="shop/web:80 get /"), "`to` must be"),
        (file(expect=99), "`expect` must be"),
        (file(expect="refused"), "`expect` must be"),
        (file(to="shop/web:80 GET /?password=hunter2hunter2"), "looks like a credential"),
        (file()[:-1] + "," + file().partition("[")[2], "it is declared twice"),
        ("pairs: [{from: a/b, to: c, expect: 200, note: x}]", "unknown field"),
        ("[]", "Expected"),
    ],
)
def test_an_invalid_pair_is_named_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        read_pairs(text)

    assert reason in str(error.value)
    assert "hunter2" not in str(error.value)


def test_what_is_written_is_read_again() -> None:
    pairs = (declared_pair(), declared_pair("legacy/batch", "denied"))

    assert read_pairs(write_pairs(pairs)) == pairs
    assert read_pairs(write_pairs(())) == ()


# --- proposals ----------------------------------------------------------------------------------


def rule(principal: str = "", **operation: Any) -> AuthorizationRule:
    """A rule for one principal, or for everyone, about an operation, or about everything."""
    source = AuthorizationSource(principals=(f"cluster.local/ns/{principal}",))
    to = AuthorizationTo(operation=AuthorizationOperation(**operation))
    return AuthorizationRule(
        from_=(AuthorizationFrom(source=source),) if principal else (),
        to=(to,) if operation else (),
    )


def proposed(*policies: AuthorizationPolicy, callers: tuple[str, ...] = ("client",)) -> list[str]:
    """The pairs for a mesh with the Service web, as `caller request expected`.

    The callers have no port: many clients have none.
    """
    pods = [WEB]
    for name in callers:
        other = sidecar(f"{name}-1", ip="10.0.0.9")
        spec = msgspec.structs.replace(other.spec, service_account_name=name)
        pods.append(msgspec.structs.replace(other, spec=spec))
    return [f"{each.key} {each.expect}" for each in pairs(pods, policies)]


def pairs(
    pods: Iterable[Pod],
    policies: Iterable[AuthorizationPolicy],
    services: Iterable[Service] = (service(),),
    *waypoints: PairWaypoint,
) -> tuple[DeclaredPair, ...]:
    """The pairs that are proposed for pods, Services, policies and waypoints."""
    pods, services = tuple(pods), tuple(services)
    own = own_mesh(snapshot(pods=pods), "istio-system")
    targets = PairTargets(pods, services, (SHOP,), waypoints)
    return Proposals(pods, services, policies, own, targets).pairs


def test_a_policy_that_allows_one_caller_gives_a_pair_for_it_and_for_others() -> None:
    policy = authorization(rule("shop/sa/client", methods=("GET",), paths=("/healthz", "/x/*")))

    assert proposed(policy) == [
        "shop/client shop/web:80 GET /healthz allowed",
        "shop/default shop/web:80 GET /healthz denied",
    ]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (ambient_builders.app("job-1", "batch"), ["batch/default"]),
        (sidecar("job-1", "batch"), ["batch/default"]),
        (pod("job-1", "batch", containers=[running("app")]), []),
        (ambient_builders.waypoint("job-1", "batch"), []),
        (sidecar("job-1", "batch", deleted=True), []),
    ],
    ids=["in ambient mode", "sidecar", "outside the mesh", "a waypoint", "leaving"],
)
def test_who_has_an_identity_is_a_caller(other: Pod, expected: list[str]) -> None:
    policies = (authorization(rule("shop/sa/client")),)

    found = pairs((WEB, other), policies)

    assert [each.caller for each in found] == [*expected, "shop/default"]


def test_without_a_policy_nothing_is_proposed() -> None:
    assert proposed() == []


def test_what_a_policy_leaves_undecided_is_not_proposed() -> None:
    undecided = authorization(rule(hosts=("web.example.com",)))

    assert proposed(undecided) == []


def test_a_policy_only_for_unsafe_methods_gives_no_request() -> None:
    assert proposed(authorization(rule("shop/sa/client", methods=("POST",)))) == []


def test_of_many_callers_three_are_proposed() -> None:
    policy = authorization(rule("shop/sa/client"))
    names = tuple(f"other-{number}" for number in range(9))

    found = proposed(policy, callers=("client", *names))

    assert len([each for each in found if each.endswith(" denied")]) == 3


def test_a_policy_that_is_only_logged_counts_for_nothing() -> None:
    policy = authorization(rule("shop/sa/client"))
    annotations = msgspec.structs.replace(policy.metadata.annotations, dry_run="true")
    metadata = msgspec.structs.replace(policy.metadata, annotations=annotations)

    assert proposed(msgspec.structs.replace(policy, metadata=metadata)) == []


# --- proposals in ambient mode ------------------------------------------------------------------

AMBIENT_WEB = ambient_builders.app("web-1", labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.1")
OF_WAYPOINT = PairWaypoint(name="shop/waypoint", of_class="istio-waypoint", admits=("shop",))
WAYPOINT = ambient_builders.waypoint(ip="10.0.0.8")
SERVICE = service()


def account(name: str, found: Pod) -> Pod:
    """The pod, with another ServiceAccount."""
    spec = msgspec.structs.replace(found.spec, service_account_name=name)
    return msgspec.structs.replace(found, spec=spec)


PODS = (
    account("web", AMBIENT_WEB),
    account("client", ambient_builders.app("client-1", ip="10.0.0.2")),
    account("other", ambient_builders.app("other-1", ip="10.0.0.3")),
    account("waypoint", WAYPOINT),
)


def targeting(
    found: AuthorizationPolicy, kind: str = "Service", name: str = "web"
) -> AuthorizationPolicy:
    """The policy, for a Service, a Gateway or a class of them."""
    refs = (TargetRef(kind=kind, name=name),)
    return msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, target_refs=refs)
    )


def behind_waypoint(address: str = "10.96.0.9") -> Service:
    """The Service web, whose labels select the waypoint."""
    found = service()
    labels = {"istio.io/use-waypoint": "waypoint"}
    return msgspec.structs.replace(
        found,
        metadata=msgspec.structs.replace(found.metadata, labels=labels),
        spec=msgspec.structs.replace(found.spec, cluster_ips=(address,)),
    )


def in_ambient(
    *policies: AuthorizationPolicy,
    of: Service = SERVICE,
    pods: tuple[Pod, ...] = PODS,
    waypoints: tuple[PairWaypoint, ...] = (OF_WAYPOINT,),
) -> list[str]:
    """The pairs for a Service in ambient mode, as `caller METHOD path expected`."""
    found = pairs(pods, policies, (of,), *waypoints)
    return [f"{each.caller} {each.method} {each.path} {each.expect}" for each in found]


def test_ztunnel_allows_who_a_policy_of_layer_4_names() -> None:
    assert in_ambient(authorization(rule("shop/sa/client"))) == [
        "shop/client GET / allowed",
        "shop/other GET / denied",
        "shop/web GET / denied",
    ]


def test_ztunnel_denies_everyone_where_a_rule_is_about_http() -> None:
    policy = authorization(rule("shop/sa/client", methods=("GET",), paths=("/healthz",)))

    assert in_ambient(policy) == [
        "shop/client GET /healthz denied",
        "shop/other GET /healthz denied",
        "shop/web GET /healthz denied",
    ]


@pytest.mark.parametrize(
    ("kind", "name", "namespace"),
    [
        ("Service", "web", "shop"),
        ("Gateway", "waypoint", "shop"),
        ("GatewayClass", "istio-waypoint", "istio-system"),
    ],
)
def test_a_waypoint_enforces_the_policies_that_target_it(
    kind: str, name: str, namespace: str
) -> None:
    policy = authorization(rule("shop/sa/client", methods=("GET",)), namespace=namespace)

    assert in_ambient(targeting(policy, kind, name), of=behind_waypoint()) == [
        "shop/client GET / allowed",
        "shop/other GET / denied",
        "shop/web GET / denied",
    ]


def test_a_policy_of_another_service_or_without_a_target_is_not_the_waypoints() -> None:
    policy = authorization(rule("shop/sa/client", methods=("GET",)))

    assert in_ambient(targeting(policy, name="api"), of=behind_waypoint()) == []
    assert in_ambient(policy, of=behind_waypoint()) == []


def test_who_the_waypoint_allows_is_not_proposed_where_the_pod_denies_the_waypoint() -> None:
    at_waypoint = targeting(authorization(rule("shop/sa/client")))
    at_pod = authorization(rule("shop/sa/web"), name="at-pod")
    also = authorization(rule("shop/sa/waypoint"), name="also")
    denied = ["shop/other GET / denied", "shop/web GET / denied"]

    assert in_ambient(at_waypoint, at_pod, of=behind_waypoint()) == denied
    assert in_ambient(at_waypoint, at_pod, also, of=behind_waypoint()) == [
        "shop/client GET / allowed",
        *denied,
    ]


def test_a_headless_service_is_reached_without_the_waypoint_of_services() -> None:
    policy = authorization(rule("shop/sa/client"))
    for_service = targeting(authorization(rule("shop/sa/other"), name="for-service"))

    found = in_ambient(policy, for_service, of=behind_waypoint("None"))

    assert "shop/client GET / allowed" in found
    assert "shop/other GET / denied" in found


def test_nothing_is_proposed_for_a_service_whose_waypoint_cannot_be_used() -> None:
    policy = targeting(authorization(rule("shop/sa/client")))

    assert in_ambient(policy, of=behind_waypoint(), waypoints=()) == []
    assert in_ambient(policy, of=behind_waypoint(), pods=PODS[:-1]) == []


def test_a_pair_holds_for_sidecars_and_for_ambient_mode_or_is_not_proposed() -> None:
    """The rule about GET allows the client at the sidecar, and nobody at ztunnel."""
    beside = account("web", sidecar("web-2", labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.4"))
    policy = authorization(rule("shop/sa/client", methods=("GET",)))

    assert in_ambient(policy, pods=(*PODS, beside)) == [
        "shop/other GET / denied",
        "shop/web GET / denied",
    ]
