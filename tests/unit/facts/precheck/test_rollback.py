"""Whether the previous release could run again: what is foreseen, what is so now, what is lost."""

from typing import Any

import pytest

from meshgate.facts.precheck.rollback import Rollback
from meshgate.snapshot.gateway_api import Route
from meshgate.snapshot.kubernetes import Metadata, RootCertificate, RootData
from meshgate.snapshot.model import Before
from meshgate.snapshot.shadow import ProxyClass, Refusal, Shadow
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import AT, expecting, mesh, reading, sync
from tests.support.upgrade_builders import definition, settings
from tests.support.webhook_builders import issued

GROUP = "gateway.networking.k8s.io"
ALPHA = settings(variables={"PILOT_ENABLE_ALPHA_GATEWAY_API": "true"})
ROUTES = (Route(metadata=Metadata(name="web", namespace="shop")),)
OLD, NEW = issued("the old root"), issued("the new root")


def upgraded(
    before: str = "1.30.4", now: str = "1.31.0", *, roots: str = "", **changes: Any
) -> Rollback:
    """A mesh that ran `before` in its baseline, and runs `now`, the target."""
    baseline = Before(taken=AT, istiod_versions=(before,), roots=roots)
    changes.setdefault("istiod", (reading(version=now, proxies=[sync(version=now)]),))
    return mesh(**changes, **expecting(target_version="1.31.0", before=baseline)).rollback


def running(version: str, target: str, **changes: Any) -> Rollback:
    """A mesh before its upgrade."""
    proxies = [sync(version=version)]
    return mesh(
        istiod=(reading(version=version, proxies=proxies),),
        **changes,
        **expecting(target_version=target),
    ).rollback


def bundle(*roots: str) -> tuple[RootCertificate, ...]:
    metadata = Metadata(name="istio-ca-root-cert", namespace="istio-system")
    return (RootCertificate(metadata=metadata, data=RootData(pem="".join(roots))),)


# --- stage A --------------------------------------------------------------------------------------


def test_one_minor_version_can_be_rolled_back() -> None:
    assert running("1.30.4", "1.31.0").foreseen == []
    assert running("1.31.0", "1.31.1").foreseen == []


def test_two_minor_versions_cannot() -> None:
    (found,) = running("1.29.2", "1.31.0").foreseen

    assert found.subject == "Istio 1.29"
    assert "does not support proxies of 1.31.0" in found.seen


def test_a_bundle_that_only_one_of_both_releases_reads_is_foreseen() -> None:
    crd = definition(f"tlsroutes.{GROUP}", "v1alpha2", bundle="v1.4.1")

    (found,) = running(
        "1.29.2", "1.30.4", definitions=(crd,), settings=(ALPHA,), tls_routes=ROUTES
    ).foreseen

    assert found.problem == "bundles-apart"
    assert "needs bundle version 1.5.0 or newer, and istiod 1.29.2 reads only" in found.seen
    unused = running("1.29.2", "1.30.4", definitions=(crd,), settings=(ALPHA,))
    assert unused.foreseen == []
    unread = running("1.29.2", "1.30.4", definitions=(crd,), tls_routes=ROUTES)
    assert unread.foreseen == []


def test_without_an_older_release_there_is_nothing_to_roll_back_to() -> None:
    with pytest.raises(NotApplicable, match="older than the target"):
        _ = running("1.31.0", "1.31.0").foreseen
    with pytest.raises(NotApplicable, match="--baseline"):
        _ = running("1.31.0", "1.31.0").obstacles
    with pytest.raises(NotApplicable, match="older than the target"):
        _ = upgraded(before="1.31.0").obstacles


def test_an_unknown_release_is_not_judged() -> None:
    with pytest.raises(CouldNotVerify, match=r"does not know Istio 1\.27"):
        _ = running("1.27.0", "1.28.2", definitions=(definition("x"),)).foreseen


# --- stage B --------------------------------------------------------------------------------------


def test_an_upgraded_mesh_can_be_rolled_back_and_names_the_proxies_to_restart() -> None:
    found = upgraded(roots=OLD.pem, root_certificates=bundle(NEW.pem, OLD.pem))

    assert found.obstacles == []
    (proxies,) = found.losses
    assert "1 of 1 run 1.31 or newer and would be newer than istiod 1.30.4" in proxies.seen


def test_old_proxies_are_no_loss() -> None:
    old = (reading(version="1.31.0", proxies=[sync(version="1.30.4")]),)

    assert upgraded(istiod=old).losses == []


def test_a_root_of_the_baseline_that_is_gone_is_an_obstacle() -> None:
    (found,) = upgraded(roots=OLD.pem, root_certificates=bundle(NEW.pem)).obstacles

    assert found.subject == "ConfigMap istio-system/istio-ca-root-cert"
    assert "'CN=the old root'" in found.seen
    assert upgraded(root_certificates=bundle(NEW.pem)).obstacles == []  # none was recorded


def test_a_crd_that_no_longer_serves_what_the_previous_istiod_watches_is_an_obstacle() -> None:
    crd = definition(f"httproutes.{GROUP}", "v2")

    (found,) = upgraded(definitions=(crd,)).obstacles

    assert found.problem == "rollback-crd"
    assert "istiod 1.30.4 watches v1: it would never become ready" in found.seen
    assert "cannot be downgraded" not in found.seen


def test_a_crd_whose_objects_are_stored_in_a_new_version_cannot_be_downgraded() -> None:
    crd = definition(f"httproutes.{GROUP}", "v2", stored=("v2",))

    (found,) = upgraded(definitions=(crd,)).obstacles

    assert "objects are stored as v2, so the CRD cannot be downgraded" in found.seen


def test_objects_that_only_the_new_release_reads_are_a_loss() -> None:
    crd = definition(f"tcproutes.{GROUP}", "v1", "v1alpha2", bundle="v1.6.0")
    old = (reading(version="1.31.0", proxies=[sync(version="1.30.4")]),)

    (found,) = upgraded(istiod=old, definitions=(crd,), tcp_routes=ROUTES).losses

    assert found.problem == "rollback-ignores"
    assert "has 1 objects, which istiod 1.30.4 ignores" in found.seen
    assert upgraded(istiod=old, definitions=(crd,)).losses == []


# --- the simulation -------------------------------------------------------------------------------


def simulated(version: str, *refusals: Refusal, **more: Any) -> Rollback:
    classes = (ProxyClass(proxies=("web-1.shop",), resources=3, refusals=refusals),)
    return upgraded(shadow=Shadow(version=version, classes=classes, **more))


def test_what_the_previous_release_rejects_is_an_obstacle() -> None:
    refusal = Refusal(part="listener 0.0.0.0_8080", words="unknown field")

    (found,) = simulated("1.30.4", refusal).rejected

    assert "unknown field" in found.seen
    assert simulated("1.30.4").rejected == []


def test_without_a_simulated_rollback_nothing_is_said() -> None:
    with pytest.raises(NotApplicable, match="--shadow-rollback"):
        _ = upgraded(shadow=Shadow(skipped_reason="no programs")).rejected
    with pytest.raises(NotApplicable, match="--shadow-rollback"):
        _ = simulated("1.31.0").rejected


def test_a_simulation_of_another_release_is_no_evidence() -> None:
    with pytest.raises(CouldNotVerify, match=r"used istiod 1\.28\.2"):
        _ = simulated("1.28.2").rejected
