"""Istio's webhook configurations: which there are, what they select, and who serves them.

Works on lists rather than on Evidence: a probe plans by it what it asks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from meshgate.semantics.certificates import fingerprint
from meshgate.semantics.selectors import selects
from meshgate.snapshot.kubernetes import (
    EndpointSlice,
    Namespace,
    Service,
    ServiceReference,
    Webhook,
    WebhookConfiguration,
)

INJECTOR = "sidecar-injector.istio.io"
VALIDATOR = "validation.istio.io"

# A pod that asks for nothing by itself: whether it is injected is its namespace's word alone.
SAMPLE_LABELS = {"app": "meshgate-sample"}

# istiod injects nothing here, whatever the label says (pkg/kube/inject, IgnoredNamespaces)
IGNORED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


class Backend(NamedTuple):
    """One endpoint of a webhook's service; `pod` is its address where no pod stands behind it."""

    namespace: str
    pod: str
    address: str
    port: int


class Hook(NamedTuple):
    """One webhook, and the configuration that it stands in."""

    kind: str
    configuration: WebhookConfiguration
    webhook: Webhook

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.configuration.metadata.name}"

    @property
    def revision(self) -> str:
        """The revision whose istiod serves it."""
        return self.configuration.metadata.labels.get("istio.io/rev", "")

    @property
    def tag(self) -> str:
        """The revision tag that it stands for, if any."""
        return self.configuration.metadata.labels.get("istio.io/tag", "")

    @property
    def bundle(self) -> str:
        return fingerprint(self.webhook.client_config.ca_bundle)

    @property
    def service(self) -> ServiceReference | None:
        return self.webhook.client_config.service

    @property
    def server_name(self) -> str:
        """The name that the API server expects in the certificate."""
        return f"{self.service.name}.{self.service.namespace}.svc" if self.service else ""

    @property
    def path(self) -> str:
        """The path that its calls go to."""
        return (self.service.path if self.service else "") or "/"

    def selects(self, namespace: Namespace, labels: Mapping[str, str] = SAMPLE_LABELS) -> bool:
        """Whether the API server calls it for a pod with these labels in that namespace."""
        return selects(self.webhook.namespace_selector, namespace.metadata.labels) and selects(
            self.webhook.object_selector, labels
        )


class Webhooks:
    """All webhooks of Istio."""

    def __init__(
        self,
        mutating: Iterable[WebhookConfiguration],
        validating: Iterable[WebhookConfiguration],
        services: Iterable[Service],
        slices: Iterable[EndpointSlice],
    ) -> None:
        self.injectors = list(_hooks("MutatingWebhookConfiguration", mutating, INJECTOR))
        self.validators = list(_hooks("ValidatingWebhookConfiguration", validating, VALIDATOR))
        self._services = {(each.metadata.namespace, each.metadata.name): each for each in services}
        self._slices = list(slices)

    @property
    def all(self) -> list[Hook]:
        return [*self.injectors, *self.validators]

    def service_of(self, hook: Hook) -> Service | None:
        """The Service that it points to, if that exists."""
        target = hook.service
        return self._services.get((target.namespace, target.name)) if target else None

    def backends(self, hook: Hook) -> list[Backend]:
        """The ready endpoints that its calls reach, by pod."""
        target, service = hook.service, self.service_of(hook)
        if target is None or service is None:
            return []
        names = {port.name for port in service.spec.ports if port.port == target.port}
        return sorted(
            {
                Backend(
                    target.namespace,
                    endpoint.target_ref.name if endpoint.target_ref else endpoint.addresses[0],
                    endpoint.addresses[0],
                    port.port,
                )
                for each in self._slices
                if each.metadata.namespace == target.namespace
                and each.metadata.labels.get("kubernetes.io/service-name") == target.name
                for endpoint in each.endpoints or ()
                # the API's own reading: not said means ready
                if endpoint.addresses and endpoint.conditions.ready is not False
                for port in each.ports or ()
                if port.name in names
            }
        )

    def selecting(
        self, namespace: Namespace, labels: Mapping[str, str] = SAMPLE_LABELS
    ) -> list[Hook]:
        """The injectors that the API server would call for a pod with these labels there."""
        return [hook for hook in self.injectors if hook.selects(namespace, labels)]


def injection_enabled(namespaces: Iterable[Namespace]) -> list[Namespace]:
    """Namespaces whose labels ask for sidecars: `istio-injection` first, then `istio.io/rev`."""
    return [each for each in namespaces if _asks(each)]


def _asks(namespace: Namespace) -> bool:
    labels = namespace.metadata.labels
    if namespace.metadata.name in IGNORED or namespace.metadata.deletion_timestamp is not None:
        return False
    if labels.get("istio.io/dataplane-mode") == "ambient":
        return False
    if injection := labels.get("istio-injection"):
        return injection == "enabled"
    return bool(labels.get("istio.io/rev"))


def _hooks(kind: str, configurations: Iterable[WebhookConfiguration], name: str) -> Iterator[Hook]:
    for configuration in sorted(configurations, key=lambda each: each.metadata.name):
        for webhook in configuration.webhooks:
            if webhook.name == name or webhook.name.endswith(f".{name}"):
                yield Hook(kind, configuration, webhook)
