"""What an injector does with a pod that its webhook selects, by its own configuration."""

from collections.abc import Iterable

from meshgate.semantics.selectors import selects
from meshgate.semantics.webhooks import Hook
from meshgate.semantics.workloads import Port, injected_revision
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import LabelSelector, Metadata, Pod, TemplateMetadata

_INJECT = "sidecar.istio.io/inject"


def excludes(config: InjectorConfig | None, pod: Pod) -> str:
    """Return why an injector does not inject a pod, by its configuration; empty if it does.

    As istiod decides it (pkg/kube/inject, injectRequired, from 1.29 to 1.31): the pod's own choice,
    which is `true` or `false`, then neverInjectSelector, alwaysInjectSelector and the policy.
    """
    if config is None or _choice(pod.metadata) == "true":
        return ""
    if any(_matches(each, pod) for each in config.never):
        return "neverInjectSelector"
    if any(_matches(each, pod) for each in config.always):
        return ""
    return "policy: disabled" if config.policy == "disabled" else ""


def declined(metadata: Metadata | TemplateMetadata) -> bool:
    """Return whether a pod declines injection itself; its label comes before its annotation."""
    return _choice(metadata) == "false"


def _choice(metadata: Metadata | TemplateMetadata) -> str | None:
    return metadata.labels.get(_INJECT, metadata.annotations.inject)


def _matches(selector: LabelSelector, pod: Pod) -> bool:
    empty = not selector.match_labels and not selector.match_expressions
    return not empty and selects(selector, pod.metadata.labels)


def of_hooks(hooks: Iterable[Hook], configs: Iterable[InjectorConfig]) -> InjectorConfig | None:
    """Return the configuration of the first injector among these that has one."""
    by_revision = {each.revision: each for each in configs}
    found = (by_revision.get(hook.revision or "default") for hook in hooks)
    return next((each for each in found if each is not None), None)


def bypass(port: Port, configs: Iterable[InjectorConfig]) -> str:
    """Return why a port bypasses its sidecar by the injector's values; empty if it does not.

    An annotation of the pod replaces the value.
    """
    revision = injected_revision(port.pod) or "default"
    config = next((each for each in configs if each.revision == revision), None)
    annotations = port.pod.metadata.annotations
    if config is None:
        return ""
    if annotations.bypassing_ports is None and _lists(config.excluded_ports, port.number):
        return f"the injector's value global.proxy.excludeInboundPorts: {config.excluded_ports}"
    included = config.included_ports
    limited = annotations.captured_ports is None and included not in ("", "*")
    if limited and not _lists(included, port.number):
        return f"the injector's value global.proxy.includeInboundPorts: {included}"
    return ""


def _lists(ports: str, port: int) -> bool:
    return str(port) in (each.strip() for each in ports.split(","))
