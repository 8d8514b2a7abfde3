"""Whether gateways are rolled out, and of the right version."""

from typing import Any

import pytest

from meshgate.facts.ingress.rollout import GatewayRollout
from meshgate.verdict import Finding, NotApplicable
from tests import builders
from tests import ingress_builders as build


def rollout(**changes: Any) -> GatewayRollout:
    return build.mesh(**changes).gateway_rollout


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_a_mesh_without_gateways() -> None:
    with pytest.raises(NotApplicable, match="no Gateway exists"):
        _ = rollout(gateways=()).unfinished


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
