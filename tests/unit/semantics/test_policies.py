"""PeerAuthentications are merged as istiod merges them, surprises included."""

import pytest

from meshgate.semantics.policies import DEFAULT, Mode, Policies
from meshgate.snapshot.istio import PeerAuthentication
from meshgate.snapshot.kubernetes import Annotations
from tests.support.builders import after, pod
from tests.support.mtls_builders import labeled, peer

WEB = {"app": "web"}


def mode(*policies: PeerAuthentication, namespace: str = "shop", port: int = 8080) -> Mode:
    """What counts for a port of web."""
    return Policies(policies, "istio-system").mode(pod("web-1", namespace, labels=WEB), port)


def test_without_a_policy_plaintext_is_taken() -> None:
    assert mode() == DEFAULT
    assert DEFAULT.mode == "PERMISSIVE"


@pytest.mark.parametrize(
    ("policies", "expected", "says"),
    [
        ([peer("STRICT")], "STRICT", "istio-system/default"),
        ([peer("STRICT"), peer("PERMISSIVE", "shop")], "PERMISSIVE", "shop/default"),
        (
            [peer("STRICT"), peer("PERMISSIVE", "shop"), peer("DISABLE", "shop", selects=WEB)],
            "DISABLE",
            "shop/default",
        ),
        ([peer("STRICT"), peer("DISABLE", "elsewhere")], "STRICT", "istio-system/default"),
        ([peer("STRICT"), peer("DISABLE", "shop", selects={"app": "x"})], "STRICT", "istio-system"),
    ],
    ids=["mesh", "namespace", "workload", "another namespace", "another workload"],
)
def test_the_nearest_scope_counts(
    policies: list[PeerAuthentication], expected: str, says: str
) -> None:
    found = mode(*policies)

    assert found.mode == expected
    assert says in found.policy


def test_unset_inherits() -> None:
    assert mode(peer("STRICT"), peer("UNSET", "shop"), peer("", "shop", selects=WEB)).mode == (
        "STRICT"
    )


def test_the_oldest_of_one_scope_counts_and_a_tie_is_settled_by_the_name() -> None:
    old = peer("STRICT", "shop", "z", created=after(-60))
    new = peer("DISABLE", "shop", "a", created=after(0))
    tie = peer("PERMISSIVE", "shop", "y", created=after(-60))

    assert mode(new, old).mode == "STRICT"
    assert mode(new, old, tie).mode == "PERMISSIVE"


def test_a_selector_in_the_root_namespace_counts_nowhere() -> None:
    rooted = peer("DISABLE", "istio-system", selects=WEB)

    assert mode(rooted, peer("STRICT")).mode == "STRICT"
    assert mode(rooted, peer("STRICT"), namespace="istio-system").mode == "STRICT"


def test_an_empty_selector_is_none() -> None:
    assert mode(peer("STRICT", "shop", selects={})).mode == "STRICT"


def test_a_port_counts_only_in_the_workloads_own_policy() -> None:
    of_the_namespace = peer("STRICT", "shop", ports={8080: "DISABLE"})
    own = peer("", "shop", "own", selects=WEB, ports={8080: "DISABLE", 9090: "UNSET"})

    assert mode(of_the_namespace).mode == "STRICT"
    assert mode(of_the_namespace, own) == Mode("DISABLE", "PeerAuthentication shop/own, port 8080")
    assert mode(of_the_namespace, own, port=9090).mode == "STRICT"
    assert mode(of_the_namespace, own, port=7070).mode == "STRICT"


def test_a_port_that_is_unset_inherits_the_workloads_mode() -> None:
    own = peer("DISABLE", "shop", "own", selects=WEB, ports={8080: "UNSET"})

    assert mode(peer("STRICT"), own).mode == "DISABLE"


def test_a_policy_counts_only_for_pods_of_the_revision_that_reads_it() -> None:
    old = labeled(peer("PERMISSIVE", "shop", "old", created=after(-60)), "1-30")
    new = labeled(peer("STRICT", "shop", "new", created=after(0)), "1-31")
    policies = Policies([old, new, peer("DISABLE")], "istio-system")

    def of(revision: str) -> str:
        return policies.mode(pod("web-1", annotations=Annotations(revision=revision)), 8080).mode

    assert [of("1-30"), of("1-31"), of("1-32")] == ["PERMISSIVE", "STRICT", "DISABLE"]
    # nothing says which revision it belongs to
    assert policies.mode(pod("web-1"), 8080).mode == "PERMISSIVE"
