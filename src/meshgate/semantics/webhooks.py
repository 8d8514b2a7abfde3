"""Istio's webhook configurations: which exist, what they select, and which pods serve them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from meshgate.semantics.certificates import fingerprint
from meshgate.semantics.meshes import OwnMesh
from meshgate.semantics.selectors import selects
from meshgate.semantics.workloads import is_ambient, is_injectable
from meshgate.snapshot.kubernetes import EndpointSlice, Namespace, Pod, Service, ServiceReference
from meshgate.snapshot.webhooks import Webhook, WebhookConfiguration, WebhookRule

INJECTOR = "sidecar-injector.istio.io"
VALIDATOR = "validation.istio.io"

# The labels of a pod that does not choose: its namespace decides whether it is injected.
SAMPLE_LABELS = {"app": "meshgate-sample"}

# The labels of a pod that choose a sidecar, whatever its namespace chooses.
OPT_IN_LABELS = ("sidecar.istio.io/inject", "istio.io/rev")

# istiod injects nothing here, whatever the labels are (pkg/kube/inject, IgnoredNamespaces)
IGNORED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


class Backend(NamedTuple):
    """One endpoint of a webhook's Service; `pod` is its address if it is not a pod's."""

    namespace: str
    pod: str
    address: str
    port: int


class Hook(NamedTuple):
    """One webhook, and the configuration that contains it."""

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
        """The revision tag that it implements; empty for a revision's own webhook."""
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
        """The path of its calls."""
        return (self.service.path if self.service else "") or "/"

    def selects(self, namespace: Namespace, labels: Mapping[str, str] = SAMPLE_LABELS) -> bool:
        """Whether the API server calls it for a pod with these labels in that namespace."""
        return selects(self.webhook.namespace_selector, namespace.metadata.labels) and selects(
            self.webhook.object_selector, labels
        )


class Webhooks:
    """Istio's webhooks of one mesh.

    Args:
        mutating: the cluster's MutatingWebhookConfigurations.
        validating: the cluster's ValidatingWebhookConfigurations.
        services: the cluster's Services.
        slices: the cluster's EndpointSlices.
        own: the mesh; without it every webhook in the cluster belongs to it.
    """

    def __init__(
        self,
        mutating: Iterable[WebhookConfiguration],
        validating: Iterable[WebhookConfiguration],
        services: Iterable[Service],
        slices: Iterable[EndpointSlice],
        own: OwnMesh | None = None,
    ) -> None:
        injectors = list(_hooks("MutatingWebhookConfiguration", mutating, INJECTOR))
        validators = list(_hooks("ValidatingWebhookConfiguration", validating, VALIDATOR))
        self._own = own
        self.injectors = [hook for hook in injectors if self._is_own(hook)]
        self.validators = [hook for hook in validators if self._is_own(hook)]
        self._others = [hook for hook in injectors if not self._is_own(hook)]
        self._services = {(each.metadata.namespace, each.metadata.name): each for each in services}
        self._slices = list(slices)

    def _is_own(self, hook: Hook) -> bool:
        namespace = hook.service.namespace if hook.service else ""
        return self._own is None or self._own.serves(hook.revision, namespace)

    @property
    def all(self) -> list[Hook]:
        return [*self.injectors, *self.validators]

    def service_of(self, hook: Hook) -> Service | None:
        """Return the Service of its clientConfig; None if that does not exist."""
        target = hook.service
        return self._services.get((target.namespace, target.name)) if target else None

    def backends(self, hook: Hook) -> list[Backend]:
        """Return the ready endpoints of its Service, by pod."""
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
                # as the API defines it: without a condition an endpoint is ready
                if endpoint.addresses and endpoint.conditions.ready is not False
                for port in each.ports or ()
                if port.name in names
            }
        )

    def selecting(
        self, namespace: Namespace, labels: Mapping[str, str] = SAMPLE_LABELS
    ) -> list[Hook]:
        """Return the injectors that the API server would call for a pod with these labels there."""
        return [hook for hook in self.injectors if hook.selects(namespace, labels)]

    def injection_enabled(self, namespaces: Iterable[Namespace]) -> list[Namespace]:
        """Return the namespaces whose labels enable injection, without those of other meshes."""
        return [
            each
            for each in injection_enabled(namespaces)
            if self.selecting(each) or not self._is_foreign(each)
        ]

    def _is_foreign(self, namespace: Namespace) -> bool:
        labels = namespace.metadata.labels
        # istio-injection wins over istio.io/rev
        named = "" if "istio-injection" in labels else labels.get("istio.io/rev", "")
        foreign = self._own.foreign_revisions if self._own else frozenset()
        return named in foreign or any(hook.selects(namespace) for hook in self._others)

    def opted_in(
        self, namespaces: Iterable[Namespace], pods: Iterable[Pod]
    ) -> list[tuple[Namespace, dict[str, str]]]:
        """Return the choices that active pods make themselves in namespaces that make none.

        Returns:
            Each namespace with the labels of such a choice; equal choices once.
        """
        enabled = {each.metadata.name for each in injection_enabled(namespaces)}
        undecided = {
            each.metadata.name: each
            for each in namespaces
            if each.metadata.name not in enabled | IGNORED
            and each.metadata.deletion_timestamp is None
        }
        found: dict[tuple[str, tuple[tuple[str, str], ...]], None] = {}
        for pod in pods:
            labels = pod.metadata.labels
            choice = tuple((key, labels[key]) for key in OPT_IN_LABELS if key in labels)
            chosen = labels.get(OPT_IN_LABELS[0]) == "true" or (
                OPT_IN_LABELS[1] in labels and labels.get(OPT_IN_LABELS[0]) != "false"
            )
            if pod.metadata.namespace in undecided and chosen and is_injectable(pod):
                found[pod.metadata.namespace, choice] = None
        return [
            (undecided[namespace], {**SAMPLE_LABELS, **dict(choice)})
            for namespace, choice in sorted(found)
            if not any(
                hook.selects(undecided[namespace], {**SAMPLE_LABELS, **dict(choice)})
                for hook in self._others
            )
        ]


def changing_pods(mutating: Iterable[WebhookConfiguration], namespace: Namespace) -> list[str]:
    """Return the other webhooks that may change a new pod of a namespace, by configuration.

    Their object selectors do not count: another webhook may set the labels that they select by.

    Args:
        mutating: the cluster's MutatingWebhookConfigurations.
        namespace: of the pod.

    Returns:
        `MutatingWebhookConfiguration NAME` for each; Istio's injectors are not among them.
    """
    return [
        f"MutatingWebhookConfiguration {configuration.metadata.name}"
        for configuration in sorted(mutating, key=lambda each: each.metadata.name)
        if any(
            not webhook.name.endswith(INJECTOR)
            and selects(webhook.namespace_selector, namespace.metadata.labels)
            and any(_is_about_new_pods(rule) for rule in webhook.rules)
            for webhook in configuration.webhooks
        )
    ]


def _is_about_new_pods(rule: WebhookRule) -> bool:
    return (
        bool({"*", "CREATE"}.intersection(rule.operations))
        and bool({"*", ""}.intersection(rule.api_groups))
        and bool({"*", "*/*", "pods", "pods/*"}.intersection(rule.resources))
    )


def injection_enabled(namespaces: Iterable[Namespace]) -> list[Namespace]:
    """Return the namespaces that enable injection: `istio-injection`, else `istio.io/rev`."""
    return [each for each in namespaces if _enabled(each)]


def _enabled(namespace: Namespace) -> bool:
    labels = namespace.metadata.labels
    if namespace.metadata.name in IGNORED or namespace.metadata.deletion_timestamp is not None:
        return False
    if is_ambient(namespace):
        return False
    if injection := labels.get("istio-injection"):
        return injection == "enabled"
    return bool(labels.get("istio.io/rev"))


def _hooks(kind: str, configurations: Iterable[WebhookConfiguration], name: str) -> Iterator[Hook]:
    for configuration in sorted(configurations, key=lambda each: each.metadata.name):
        for webhook in configuration.webhooks:
            if webhook.name == name or webhook.name.endswith(f".{name}"):
                yield Hook(kind, configuration, webhook)
