"""Webhooks, tags and managers that are in each other's way."""

import msgspec
import pytest

from meshgate.snapshot.kubernetes import ServiceReference
from meshgate.snapshot.webhooks import (
    ManagedFields,
    OwnedConfig,
    OwnedFields,
    OwnedWebhook,
    WebhookConfiguration,
    WebhookMetadata,
)
from meshgate.verdict import NotApplicable
from tests.support.builders import deployment, mesh
from tests.support.webhook_builders import injector, namespace, validator


def managed(
    configuration: WebhookConfiguration, manager: str, owned: OwnedWebhook
) -> WebhookConfiguration:
    """The configuration with one more manager."""
    metadata: WebhookMetadata = msgspec.structs.replace(
        configuration.metadata,
        managed_fields=(ManagedFields(manager=manager, fields=OwnedFields(webhooks={"k": owned})),),
    )
    return msgspec.structs.replace(configuration, metadata=metadata)


def test_a_healthy_mesh_has_no_conflict() -> None:
    found = mesh().ownership

    assert (found.conflicts, found.ambiguous, found.contested) == ([], [], [])


def test_two_configurations_that_want_one_namespace_are_named() -> None:
    (found,) = mesh(mutating_webhooks=(injector(), injector("left-over"))).ownership.conflicts

    assert found.subject == "Namespace shop"
    assert found.seen == (
        "2 webhook configurations inject its pods: istio-sidecar-injector and left-over"
    )
    assert found.problem == "injected-twice"


def test_a_tag_that_is_called_like_a_revision() -> None:
    tag = injector("istio-revision-tag-canary", tag="canary", revision="default")
    canary = deployment(name="istiod-canary", revision="canary")
    seen = mesh(
        namespaces=(), mutating_webhooks=(tag,), deployments=(deployment(), canary)
    ).ownership

    assert [each.seen for each in seen.conflicts] == ["the tag canary has the name of a revision"]


def test_a_tag_that_leads_nowhere() -> None:
    tag = injector("istio-revision-tag-prod", tag="prod", revision="gone")
    (found,) = mesh(namespaces=(), mutating_webhooks=(tag,)).ownership.conflicts

    assert found.seen == "the tag prod points to the revision gone, which has no istiod"


def test_both_labels_are_warned_of() -> None:
    (found,) = mesh(namespaces=(namespace(injection="enabled", rev="x"),)).ownership.ambiguous

    assert found.subject == "Namespace shop"


@pytest.mark.parametrize("manager", ["argocd-controller", "argocd-application-controller"])
def test_fields_that_argo_holds_are_warned_of(manager: str) -> None:
    bundle = OwnedWebhook(client_config=OwnedConfig(ca_bundle={}))
    policy = OwnedWebhook(failure_policy={})
    seen = mesh(
        mutating_webhooks=(managed(injector(), manager, bundle),),
        validating_webhooks=(managed(validator(), manager, policy),),
    ).ownership

    assert [each.seen.split(", ")[0] for each in seen.contested] == [
        f"{manager} manages caBundle of its webhooks",
        f"{manager} manages failurePolicy of its webhooks",
    ]


def test_others_and_the_injectors_policy_are_not() -> None:
    both = OwnedWebhook(client_config=OwnedConfig(ca_bundle={}), failure_policy={})
    seen = mesh(
        mutating_webhooks=(
            managed(injector(), "argocd-controller", OwnedWebhook(failure_policy={})),
        ),
        validating_webhooks=(managed(validator(), "pilot-discovery", both),),
    ).ownership

    assert seen.contested == []


def test_without_webhooks_it_is_a_first_installation() -> None:
    with pytest.raises(NotApplicable, match="a first installation"):
        mesh(mutating_webhooks=(), validating_webhooks=()).ownership.conflicts  # noqa: B018


def test_a_tag_of_another_control_plane_is_not_judged() -> None:
    tag = injector("istio-revision-tag-prod", tag="prod", revision="gone")
    webhooks = tuple(
        msgspec.structs.replace(
            each,
            client_config=msgspec.structs.replace(
                each.client_config, service=ServiceReference(name="istiod", namespace="mesh-b")
            ),
        )
        for each in tag.webhooks
    )
    other = msgspec.structs.replace(tag, webhooks=webhooks)

    assert mesh(namespaces=(), mutating_webhooks=(other,)).ownership.conflicts == []
    # in a remote cluster no istiod can be looked up
    remote = mesh(namespaces=(), mutating_webhooks=(tag,), deployments=())
    assert remote.ownership.conflicts == []
