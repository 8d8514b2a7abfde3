"""Changes between releases: only those on the way, and only for whom they concern."""

from typing import Any

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.facts.precheck.release_changes import LOOKS, Change, known
from meshgate.semantics.versions import Version
from meshgate.snapshot.istio import (
    DestinationRule,
    DestinationRuleSpec,
    HttpRoute,
    Present,
    ServiceEntry,
    ServiceEntrySpec,
    TrafficPolicy,
    VirtualService,
    VirtualServiceSpec,
)
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.upgrade import Provider
from meshgate.verdict import Finding
from tests.builders import expecting, istiod, mesh, pod, reading, running, sync
from tests.upgrade_builders import definition, node, settings, workload


def upgraded(start: str, target: str, **changes: Any) -> Mesh:
    """A mesh of one version that is about to be upgraded to another."""
    answer = reading(version=start, proxies=[sync(version=start)])
    return mesh(**{"istiod": (answer,), **changes}, **expecting(target_version=target))


def at() -> Metadata:
    return Metadata(name="web", namespace="shop")


ZTUNNEL = pod(
    "ztunnel-1", "istio-system", containers=[running("istio-proxy")], labels={"app": "ztunnel"}
)
ROUTE = HttpRoute(mirror=Present())
POOL = TrafficPolicy(connection_pool=Present())

# each change: from, to, what of the mesh is concerned, whom the finding names
CONCERNED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "opencensus": (
        *("1.24.0", "1.25.0"),
        {"settings": (settings(providers=(Provider(name="old", kind="opencensus"),)),)},
        "Deployment istio-system/istiod",
    ),
    "internal-addresses": (
        *("1.24.0", "1.25.0"),
        {"settings": (settings(networks=True),)},
        "Deployment istio-system/istiod",
    ),
    "ambient-dns": (
        "1.24.0",
        "1.25.0",
        {"pods": (istiod(), ZTUNNEL)},
        "Pod istio-system/ztunnel-1",
    ),
    "lightstep": (
        *("1.26.0", "1.27.0"),
        {"settings": (settings(tracers=("lightstep",)),)},
        "Deployment istio-system/istiod",
    ),
    "native-sidecars": ("1.26.0", "1.27.0", {"nodes": (node("v1.33.0"),)}, "1 Nodes"),
    "auto-sni": (
        *("1.25.0", "1.26.0"),
        {"settings": (settings(variables={"ENABLE_AUTO_SNI": "true"}),)},
        "Deployment istio-system/istiod",
    ),
    "inference-pool": (
        *("1.27.0", "1.28.0"),
        {"definitions": (definition("inferencepools.inference.networking.x-k8s.io", "v1alpha2"),)},
        "CustomResourceDefinition inferencepools.inference.networking.x-k8s.io",
    ),
    "backend-tls-policy": (
        *("1.27.0", "1.28.0"),
        {"definitions": (definition("backendtlspolicies.gateway.networking.k8s.io", "v1alpha3"),)},
        "CustomResourceDefinition backendtlspolicies.gateway.networking.k8s.io",
    ),
    "metric-rotation": (
        *("1.27.0", "1.28.0"),
        {"settings": (settings(variables={"METRIC_ROTATION_INTERVAL": ""}),)},
        "Deployment istio-system/istiod",
    ),
    "metric-rotation-of-proxies": (
        *("1.27.0", "1.28.0"),
        {"settings": (settings(proxy_metadata={"METRIC_ROTATION_INTERVAL": ""}),)},
        "Deployment istio-system/istiod",
    ),
    "passthrough-entries": (
        *("1.27.0", "1.28.0"),
        {
            "pods": (istiod(), ZTUNNEL),
            "service_entries": (
                ServiceEntry(metadata=at(), spec=ServiceEntrySpec(resolution="NONE")),
            ),
        },
        "ServiceEntry shop/web",
    ),
    "shadow-suffix": (
        *("1.27.0", "1.28.0"),
        {
            "virtual_services": (
                VirtualService(metadata=at(), spec=VirtualServiceSpec(http=(ROUTE,))),
            )
        },
        "VirtualService shop/web",
    ),
    "gateway-spans": (
        *("1.27.0", "1.28.0"),
        {"settings": (settings(tracers=("zipkin",)),)},
        "Deployment istio-system/istiod",
    ),
    "profile-1-24": (
        *("1.27.0", "1.28.0"),
        {"settings": (settings(compatibility="1.24"),)},
        "Deployment istio-system/istiod",
    ),
    "debug-endpoints": (
        *("1.28.2", "1.29.1"),
        {"pods": (istiod(), pod("kiali-1", "observe", labels={"app": "kiali"}))},
        "Pod observe/kiali-1",
    ),
    "stats-compression": (
        *("1.28.2", "1.29.1"),
        {"workloads": (workload(annotations=("sidecar.istio.io/statsCompression",)),)},
        "Deployment shop/web",
    ),
    "remaining-metrics": (
        *("1.28.2", "1.29.1"),
        {
            "destination_rules": (
                DestinationRule(metadata=at(), spec=DestinationRuleSpec(traffic_policy=POOL)),
            )
        },
        "DestinationRule shop/web",
    ),
    "ambient-reconcile": (
        *("1.28.2", "1.29.1"),
        {"pods": (istiod(), ZTUNNEL)},
        "Pod istio-system/ztunnel-1",
    ),
    "dry-run-policies": (
        *("1.28.2", "1.29.1"),
        {
            "pods": (istiod(), ZTUNNEL),
            "istiod": (
                reading(
                    version="1.28.2",
                    proxies=[sync("ztunnel-1.istio-system", version="1.28.2")],
                ),
            ),
            "settings": (
                settings(variables={"AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY": "true"}),
            ),
        },
        "Pod istio-system/ztunnel-1",
    ),
}


def told(seen: Mesh, change: Change) -> list[Finding]:
    """The findings that end with what this change says."""
    found = [*seen.changes.removed, *seen.changes.turned]
    return [each for each in found if each.seen.endswith(change.what)]


def test_every_row_has_a_look_and_a_case() -> None:
    assert {change.look for change in known().values()} == LOOKS.keys()
    assert known().keys() == CONCERNED.keys()


@pytest.mark.parametrize("row", CONCERNED)
def test_whom_a_change_concerns_is_named(row: str) -> None:
    start, target, concerned, subject = CONCERNED[row]

    found = told(upgraded(start, target, **concerned), known()[row])

    assert subject in {each.subject for each in found}


@pytest.mark.parametrize("row", CONCERNED)
def test_a_change_that_is_behind_concerns_nobody(row: str) -> None:
    _, target, concerned, _ = CONCERNED[row]
    concerned = {item: seen for item, seen in concerned.items() if item != "istiod"}

    assert told(upgraded(target, target, **concerned), known()[row]) == []


@pytest.mark.parametrize("row", [name for name, change in known().items() if change.unless])
def test_whoever_has_chosen_is_told_nothing(row: str) -> None:
    start, target, concerned, _ = CONCERNED[row]
    (chosen, *_) = known()[row].unless
    (before,) = concerned.get("settings", (settings(),))
    after = settings(variables={chosen: "false"}, networks=before.networks, tracers=before.tracers)

    found = told(upgraded(start, target, **{**concerned, "settings": (after,)}), known()[row])

    assert found == []


def test_a_mesh_without_any_of_it_hears_of_native_sidecars_alone() -> None:
    seen = upgraded("1.24.0", "1.30.0")

    assert seen.changes.removed == []
    assert [each.subject for each in seen.changes.turned] == ["1 Nodes"]


@pytest.mark.parametrize(
    ("version", "holds"),
    [
        ("1.26.9", False),
        ("1.27.5", False),
        ("1.27.6", True),
        ("1.28.2", False),
        ("1.28.4", True),
        ("1.29.0-rc.0", True),
        ("1.30.0", True),
    ],
)
def test_a_backport_counts_for_its_own_minor(version: str, holds: bool) -> None:
    change = Change(since=("1.27.6", "1.28.4", "1.29.0"), what="", look="", do="")
    parsed = Version.parse(version)
    assert parsed is not None

    assert change.holds(parsed) is holds
