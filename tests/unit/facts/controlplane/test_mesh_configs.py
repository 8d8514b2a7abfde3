"""What istiod uses: mesh config, extension providers, remote clusters."""

from typing import Any

import pytest

from meshgate.facts.controlplane.mesh_configs import MeshConfigs
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    ExtensionProvider,
)
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.mesh_config import EffectiveConfig, MeshConfig
from meshgate.snapshot.telemetry import ProviderUse, Telemetry, TelemetrySpec
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import mesh

WHERE = Metadata(name="login", namespace="shop")


def configs(
    *effective: EffectiveConfig, unparsable: tuple[str, ...] = (), **items: Any
) -> MeshConfigs:
    """A revision whose replicas use this."""
    config = MeshConfig(
        revision="default",
        config_map="ConfigMap istio-system/istio",
        unparsable=unparsable,
        effective=effective,
    )
    return mesh(mesh_configs=(config,), **items).mesh_configs


def custom(provider: str = "oauth2") -> dict[str, Any]:
    """A CUSTOM policy."""
    spec = AuthorizationPolicySpec(action="CUSTOM", provider=ExtensionProvider(name=provider))
    return {"authorization_policies": (AuthorizationPolicy(metadata=WHERE, spec=spec),)}


def test_a_field_that_cannot_be_parsed_is_permanent() -> None:
    (found,) = configs(unparsable=("connectTimeout: is a number, not a duration",)).unused

    assert found.subject == "ConfigMap istio-system/istio"
    assert found.seen.startswith("its field connectTimeout is a number, not a duration")
    assert not found.transient


def test_a_value_that_istiod_does_not_use_may_be_read_later() -> None:
    (found,) = configs(EffectiveConfig(pod="istiod-1", different=("rootNamespace",))).unused

    assert found.about == (("field", "rootNamespace"),)
    assert found.transient


def test_a_replica_that_says_nothing_is_unknown() -> None:
    with pytest.raises(CouldNotVerify, match="istiod-1 does not show"):
        _ = configs(EffectiveConfig(pod="istiod-1", error="timed out")).unused


def test_without_a_mesh_config_it_does_not_apply() -> None:
    with pytest.raises(NotApplicable):
        _ = mesh(mesh_configs=()).mesh_configs.unused


@pytest.mark.parametrize(
    ("status", "transient"), [("timeout", False), ("closed", False), ("syncing", True)]
)
def test_a_remote_cluster_that_is_not_synced(status: str, transient: bool) -> None:
    clusters = {"eu-1": "synced", "eu-2": status}

    (found,) = configs(EffectiveConfig(pod="istiod-1", clusters=clusters)).unsynced

    assert (found.subject, found.transient) == ("Cluster eu-2", transient)


def test_a_mesh_of_one_cluster_has_no_remote_cluster() -> None:
    with pytest.raises(NotApplicable):
        _ = configs(EffectiveConfig(pod="istiod-1")).unsynced


def test_a_custom_policy_needs_its_provider_in_every_replica() -> None:
    has = EffectiveConfig(pod="istiod-1", providers=("oauth2",))
    lacks = EffectiveConfig(pod="istiod-2", providers=("prometheus",))

    assert configs(has, **custom()).missing_providers == []
    (found,) = configs(has, lacks, **custom()).missing_providers
    assert found.subject == "AuthorizationPolicy shop/login"
    assert "its provider oauth2 is not in the mesh config" in found.seen


def test_a_telemetry_without_its_provider_is_a_warning() -> None:
    spec = TelemetrySpec(tracing=(ProviderUse(providers=(ExtensionProvider(name="otel"),)),))
    found = configs(
        EffectiveConfig(pod="istiod-1"), telemetries=(Telemetry(metadata=WHERE, spec=spec),)
    )

    assert found.missing_providers == []
    assert [each.subject for each in found.missing_telemetry_providers] == ["Telemetry shop/login"]


def test_where_nothing_names_a_provider_it_does_not_apply() -> None:
    with pytest.raises(NotApplicable):
        _ = configs(EffectiveConfig(pod="istiod-1")).missing_providers
