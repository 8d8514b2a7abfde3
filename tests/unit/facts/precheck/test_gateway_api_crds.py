"""The CRDs that istiod of the target watches: blocking, ignored, or fine."""

from typing import Any

import pytest

from meshgate.facts.precheck.gateway_api_crds import GatewayApi
from meshgate.snapshot.gateway_api import Route
from meshgate.snapshot.kubernetes import Metadata
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import expecting, mesh, reading
from tests.support.upgrade_builders import definition, settings

GROUP = "gateway.networking.k8s.io"
ALPHA = settings(variables={"PILOT_ENABLE_ALPHA_GATEWAY_API": "true"})
ROUTES = (Route(metadata=Metadata(name="web", namespace="shop")),)


def crds(target: str, *found: Any, start: str = "", **changes: Any) -> GatewayApi:
    """The CRDs of a mesh that is about to be upgraded."""
    return mesh(
        definitions=found,
        istiod=(reading(version=start or target),),
        **changes,
        **expecting(target_version=target),
    ).gateway_api


@pytest.mark.parametrize(
    ("target", "served", "blocked"),
    [
        ("1.29.1", ["v1"], 0),
        ("1.29.1", ["v1beta1"], 1),
        ("1.29", ["v1beta1"], 1),
        ("1.28.2", ["v1beta1"], 0),
        ("1.28.2", ["v1"], 1),
        ("1.31.0", ["v1", "v1beta1"], 0),
    ],
)
def test_a_watched_version_that_is_not_served_blocks_istiod(
    target: str, served: list[str], blocked: int
) -> None:
    found = crds(target, definition(f"httproutes.{GROUP}", *served)).unread

    assert [each.problem for each in found] == ["crd-version-not-served"] * blocked
    assert all("istiod never becomes ready" in each.seen for each in found)


def test_tls_routes_of_bundle_1_5_block_istiod_1_29_with_alpha_kinds() -> None:
    crd = definition(f"tlsroutes.{GROUP}", "v1", bundle="v1.5.0")

    (found,) = crds("1.29.1", crd, settings=(ALPHA,)).unread

    assert found.subject == f"CustomResourceDefinition tlsroutes.{GROUP}"
    assert "PILOT_ENABLE_ALPHA_GATEWAY_API=false" in found.remedy
    with pytest.raises(NotApplicable):  # it does not watch them without the flag
        crds("1.29.1", crd).unread  # noqa: B018
    assert crds("1.29.2", crd, settings=(ALPHA,)).unread == []  # it ignores such bundles


def test_udp_routes_of_bundle_1_6_block_istiod_1_31_with_alpha_kinds() -> None:
    crd = definition(f"udproutes.{GROUP}", "v1", bundle="v1.6.0")

    (found,) = crds("1.31.0", crd, settings=(ALPHA,)).unread

    assert found.subject == f"CustomResourceDefinition udproutes.{GROUP}"
    with pytest.raises(NotApplicable):
        crds("1.31.0", crd).unread  # noqa: B018


@pytest.mark.parametrize(("bundle", "old"), [("v1.0.0", 1), ("", 1), ("v1.1.0", 0), ("v1.4.0", 0)])
def test_a_bundle_that_is_ignored_and_unused_is_a_warning(bundle: str, old: int) -> None:
    seen = crds("1.29.1", definition(f"grpcroutes.{GROUP}", "v1", bundle=bundle))

    assert [each.problem for each in seen.old] == ["crd-ignored"] * old
    assert seen.unread == []


def test_objects_that_the_target_ignores_and_the_running_release_reads_fail() -> None:
    crd = definition(f"tlsroutes.{GROUP}", "v1alpha2", bundle="v1.4.0")
    steps: dict[str, Any] = {"start": "1.29.1", "settings": (ALPHA,)}

    (found,) = crds("1.30.4", crd, **steps, tls_routes=ROUTES).unread
    unused = crds("1.30.4", crd, **steps)
    never_read = crds("1.30.4", crd, start="1.29.1", tls_routes=ROUTES)

    assert (found.problem, found.expected) == ("crd-ignored", "bundle version 1.5.0 or newer")
    assert (unused.unread, len(unused.old)) == ([], 1)
    assert (never_read.unread, len(never_read.old)) == ([], 1)


def test_a_rollback_can_ignore_newer_bundles() -> None:
    crd = definition(f"tlsroutes.{GROUP}", "v1", "v1alpha2", bundle="v1.5.0")

    (found,) = crds("1.29.2", crd, start="1.30.4", settings=(ALPHA,), tls_routes=ROUTES).unread

    assert found.expected == "bundle version 1.4.1 or older"


def test_without_such_crds_the_check_does_not_apply() -> None:
    with pytest.raises(NotApplicable):
        crds("1.29.1", definition("others.example.com", "v1")).unread  # noqa: B018


def test_an_unknown_release_is_unknown() -> None:
    with pytest.raises(CouldNotVerify, match="does not know Istio"):
        crds("1.32.0", definition(f"gateways.{GROUP}", "v1")).unread  # noqa: B018
