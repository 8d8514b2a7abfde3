"""Who may have brought what a proxy is given: by namespace and labels, and by the names it gives.

The look itself needs the target's programs: it is proven in the lab.
"""

from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow.candidates import Candidate, candidates
from meshgate.collect.shadow.proxies import Proxy
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import answer, refusal

WEB = Proxy("web-1", "shop", {"app": "web"}, "sidecar~192.0.2.1~web-1.shop~x", "web.shop", {}, {})


def suspect(namespace: str, **labels: str) -> Candidate:
    """An EnvoyFilter for the pods with these labels."""
    key = ("networking.istio.io", "envoyfilters", namespace, "a")
    return Candidate(key, f"EnvoyFilter {namespace}/a", labels, frozenset())


@pytest.mark.parametrize(
    ("suspect", "reaches"),
    [
        (suspect("shop"), True),
        (suspect("shop", app="web"), True),
        (suspect("shop", app="api"), False),
        (suspect("other"), False),
        (suspect("istio-system"), True),
        (suspect("istio-system", app="api"), False),
    ],
)
def test_it_reaches_its_namespace_and_the_root_reaches_all(
    suspect: Candidate, reaches: bool
) -> None:
    assert suspect.reaches(WEB, "istio-system") is reaches


def test_a_suspect_is_known_by_the_names_that_it_gives(serve: Serve, tmp_path: Path) -> None:
    patch: dict[str, Any] = {
        "name": "own.lua",
        "typed_config": {"headers": [{"header": {"key": "x-own", "value": "hidden"}}]},
    }
    filter = {
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": "web"}},
            "configPatches": [{"patch": {"operation": "INSERT_FIRST", "value": patch}}],
        },
    }
    policy = {
        "metadata": {"name": "b", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "api"}}},
    }
    missing = refusal(404, "no such kind")
    api = serve(
        {
            "/apis/networking.istio.io/v1alpha3/envoyfilters": answer({"items": [filter]}),
            "/apis/security.istio.io/v1/authorizationpolicies": answer({"items": [policy]}),
            "/apis/extensions.istio.io/v1alpha1/wasmplugins": missing,
            "/apis/telemetry.istio.io/v1/telemetries": missing,
        }
    )
    cluster = Cluster(config=str(fakes.kubeconfig(tmp_path / "config", api.url)), patience=0.0)

    found = candidates(cluster)

    assert [(each.subject, each.labels) for each in found] == [
        ("EnvoyFilter shop/a", {"app": "web"}),
        ("AuthorizationPolicy shop/b", {"app": "api"}),
    ]
    assert found[0].names == {"own.lua", "x-own"}
