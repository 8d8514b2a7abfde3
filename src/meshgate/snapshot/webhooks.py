"""Webhook configurations, and who manages the fields that istiod sets too."""

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector, Metadata, ServiceReference


class OwnedConfig(Base, frozen=True):
    ca_bundle: dict[str, str] | None = msgspec.field(default=None, name="f:caBundle")


class OwnedWebhook(Base, frozen=True):
    client_config: OwnedConfig = msgspec.field(default=OwnedConfig(), name="f:clientConfig")
    failure_policy: dict[str, str] | None = msgspec.field(default=None, name="f:failurePolicy")


class OwnedFields(Base, frozen=True):
    webhooks: dict[str, OwnedWebhook] = msgspec.field(default={}, name="f:webhooks")


class ManagedFields(Base, frozen=True):
    """Who manages fields of a webhook configuration, and which of the two that istiod sets too."""

    manager: str = ""
    fields: OwnedFields = msgspec.field(default=OwnedFields(), name="fieldsV1")


class WebhookMetadata(Metadata, frozen=True):
    managed_fields: tuple[ManagedFields, ...] = ()


class WebhookClientConfig(Base, frozen=True):
    service: ServiceReference | None = None
    url: str = ""
    ca_bundle: bytes = b""


class WebhookRule(Base, frozen=True):
    """Which requests the API server asks a webhook about."""

    operations: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


class Webhook(Base, frozen=True):
    name: str
    client_config: WebhookClientConfig
    failure_policy: str = ""
    namespace_selector: LabelSelector = LabelSelector()
    object_selector: LabelSelector = LabelSelector()
    rules: tuple[WebhookRule, ...] = ()


class WebhookConfiguration(Base, frozen=True):
    """Mutating or validating: they have the same fields as far as they are read here."""

    metadata: WebhookMetadata
    webhooks: tuple[Webhook, ...] = ()
