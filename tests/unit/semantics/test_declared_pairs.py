"""The file of declared pairs, the pods that get their requests, and the proposed pairs."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.declared_pairs import read_pairs, targets, write_pairs
from meshgate.semantics.meshes import own_mesh
from meshgate.semantics.pair_proposals import Proposals
from meshgate.snapshot.declared_pairs import DeclaredPair
from meshgate.snapshot.istio import (
    AuthorizationFrom,
    AuthorizationOperation,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationSource,
    AuthorizationTo,
)
from meshgate.snapshot.kubernetes import Pod
from tests.support import ambient_builders
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


def test_a_request_goes_to_every_running_pod_whose_sidecar_captures_the_port() -> None:
    other = sidecar("web-2", labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.2")
    pending = sidecar("web-3", labels={"app": "web"}, ports=(HTTP,))
    stranger = sidecar("api-1", labels={"app": "api"}, ports=(HTTP,), ip="10.0.0.4")
    pods = (WEB, other, pending, stranger)

    found = targets(declared_pair(), pods, (service(),), 0)

    assert [(each.pod.metadata.name, each.number) for each in found.ports] == [
        ("web-1", 8080),
        ("web-2", 8080),
    ]
    assert len(targets(declared_pair(), pods, (service(),), 1).ports) == 1


@pytest.mark.parametrize(
    ("pair", "pods", "reason"),
    [
        (declared_pair(service="shop/api"), (WEB,), "Service shop/api does not exist"),
        (declared_pair(port=81), (WEB,), "has no port 81 (it has 80)"),
        (declared_pair(), (), "has no running pod whose sidecar captures the port"),
    ],
)
def test_a_request_without_a_target_says_why(
    pair: DeclaredPair, pods: tuple[Pod, ...], reason: str
) -> None:
    found = targets(pair, pods, (service(),), 0)

    assert not found.ports
    assert reason in found.missing


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
    seen = snapshot(pods=tuple(pods))
    found = Proposals(pods, (service(),), policies, own_mesh(seen, "istio-system")).pairs
    return [f"{each.key} {each.expect}" for each in found]


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
    pods = (WEB, other)
    own = own_mesh(snapshot(pods=pods), "istio-system")

    found = Proposals(pods, (service(),), policies, own).pairs

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
