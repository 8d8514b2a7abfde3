"""Whether gateways are rolled out, and of the right version."""

from typing import Any

import pytest
from msgspec.structs import replace

from meshgate.facts.ingress.rollout import GatewayRollout
from meshgate.snapshot.kubernetes import Annotations, Owner, Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support import builders
from tests.support import ingress_builders as build


def rollout(**changes: Any) -> GatewayRollout:
    return build.mesh(**changes).gateway_rollout


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_a_mesh_without_gateways() -> None:
    with pytest.raises(NotApplicable, match="no Gateway exists"):
        _ = rollout(gateways=(), pods=(builders.istiod(),)).unfinished


def test_a_gateway_of_kubernetes_ingress_alone_has_a_version_too() -> None:
    assert rollout(gateways=()).unfinished == []
    old = build.gateway_pod(version="1.26.0")
    (finding,) = rollout(gateways=(), pods=(builders.istiod(), old)).unfinished
    assert finding.problem == "wrong-version"


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"deployments": (build.gateway_deployment(2, updated=1),)}, "1 of 2 replicas are updated"),
        ({"deployments": (build.gateway_deployment(0),)}, "is scaled to 0 replicas"),
        (
            {"deployments": (), "pods": ()},
            "no pod and no Deployment matches its selector istio=front",
        ),
        (
            {"pods": (builders.istiod(), build.gateway_pod(version="1.28.2"))},
            "Pod ways/front-1: its proxy is 1.28.2 (expected 1.29.1, the version of its istiod)",
        ),
        (
            {"pods": (builders.istiod(), build.gateway_pod(ready=False))},
            "Pod ways/front-1: is Running and not Ready",
        ),
    ],
)
def test_a_gateway_that_is_not_complete(lists: dict[str, Any], words: str) -> None:
    assert words in told(rollout(**lists).unfinished)


def test_a_gateway_pod_that_no_gateway_selects_has_a_version_as_well() -> None:
    def egress(version: str, **changes: Any) -> Pod:
        pod = build.gateway_pod(version=version, labels={"istio": "egress"}, **changes)
        return replace(pod, metadata=replace(pod.metadata, name="egress-1"))

    def found(*pods: Pod) -> list[Finding]:
        return rollout(pods=(builders.istiod(), build.gateway_pod(), *pods)).unfinished

    (old,) = found(egress("1.26.0"))
    assert (old.subject, old.problem) == ("Pod ways/egress-1", "wrong-version")
    assert found(egress(builders.VERSION)) == []
    # nothing leads to it: whether it is Ready is its owner's business
    assert found(egress(builders.VERSION, ready=False)) == []
    # another mesh's
    other = builders.istiod("b-1", namespace="istio-system-b", revision="mesh-b")
    assert found(other, egress("1.26.0", annotations=Annotations(revision="mesh-b"))) == []


def test_an_old_deployment_at_zero_beside_the_gateways_replicas() -> None:
    """A canary upgrade of a gateway: two Deployments with the same labels, the old one at 0."""
    one = build.gateway_deployment(0)
    old = replace(one, metadata=replace(one.metadata, name="front-old"))
    istiod = builders.deployment()

    assert rollout(deployments=(istiod, build.gateway_deployment(), old)).unfinished == []
    # a DaemonSet's pods
    pod = build.gateway_pod(owner=Owner(kind="DaemonSet", name="front", controller=True))
    assert rollout(deployments=(istiod, old), pods=(builders.istiod(), pod)).unfinished == []
    # nothing else serves the gateway
    both = (istiod, one, old)
    found = rollout(deployments=both, pods=(builders.istiod(),)).unfinished
    assert [each.problem for each in found] == ["scaled-to-zero", "scaled-to-zero"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"istiod": (builders.reading(error="timed out"),)}, "no istiod replica of revision def"),
        (
            {"pods": (builders.istiod(revision="1-30"), build.gateway_pod(version="1.20.0"))},
            "no istiod replica of revision default reports its version",
        ),
        (
            {
                "pods": (builders.istiod(), builders.istiod("istiod-2"), build.gateway_pod()),
                "istiod": (builders.reading(), builders.reading("istiod-2", version="1.30.4")),
            },
            "istiod replicas of revision default report different versions: 1.29.1, 1.30.4",
        ),
    ],
)
def test_a_version_without_one_of_istiod_to_compare_with(changes: dict[str, Any], why: str) -> None:
    changes = {"mutating_webhooks": (), **changes}

    with pytest.raises(CouldNotVerify, match=f"Pod ways/front-1 was not verified: {why}"):
        _ = rollout(**changes).unfinished


def test_a_gateway_follows_the_istiod_that_it_is_connected_to() -> None:
    """A proxy that is in the gateway's own template says nothing of its revision."""
    there = builders.sync("front-1.ways", version="1.28.2")
    changes: dict[str, Any] = {
        "mutating_webhooks": (),
        "pods": (builders.istiod(revision="1-29"), build.gateway_pod()),
    }

    (finding,) = rollout(**changes, istiod=(builders.reading(proxies=[there]),)).unfinished
    assert finding.seen == "its proxy is 1.28.2"
    there = builders.sync("front-1.ways")
    assert rollout(**changes, istiod=(builders.reading(proxies=[there]),)).unfinished == []


def test_a_proxy_of_another_cluster_with_the_same_name() -> None:
    own = [builders.sync(f"web-{number}.shop") for number in (1, 2)]
    other = replace(builders.sync("front-1.ways"), cluster_id="other")
    pods = (
        builders.istiod(),
        *(builders.sidecar(f"web-{number}") for number in (1, 2)),
        build.gateway_pod(version="1.20.0"),
    )

    (finding,) = rollout(pods=pods, istiod=(builders.reading(proxies=[*own, other]),)).unfinished

    assert finding.seen == "its proxy is 1.20.0"
