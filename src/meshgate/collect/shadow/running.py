"""The running mesh, which the simulation of an upgrade is compared with."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from threading import Lock
from typing import Any, Protocol

import msgspec

from meshgate.collect import istiod
from meshgate.collect.errors import ReadError
from meshgate.probe import admission
from meshgate.semantics.config_diff import Resources, resources
from meshgate.semantics.injection import Shape, shape
from meshgate.semantics.webhooks import Backend, Webhooks, injection_enabled
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Namespace


class RunningMesh(Protocol):
    """What the running istiods send to connected proxies, and inject into pods."""

    @property
    def proxies(self) -> frozenset[str]:
        """Return every connected proxy, `pod.namespace`."""

    @property
    def injection_enabled(self) -> tuple[str, ...]:
        """Return every injection-enabled namespace."""

    def injects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether an injector handles pods with these labels in a namespace."""

    def given(self, proxy: str) -> Resources:
        """Return the configuration of a proxy (`pod.namespace`); raise ReadError if unavailable."""

    def injected(self, namespace: str) -> Shape:
        """Return the shape of an injected sample pod in a namespace.

        Raise ReadError if the injector does not respond.
        """


class LiveRunningMesh(msgspec.Struct, frozen=True):
    """The running istiods.

    Attributes:
        sessions: the connection to the istiod of each proxy (`pod.namespace`).
        turn: a lock, since each replica has one connection that only one request may use.
        enabled: the injection-enabled namespaces.
        namespaces: all namespaces by name.
        webhooks: Istio's webhooks.
        dial: connects to a webhook's backend.
    """

    sessions: dict[str, istiod.Session]
    turn: Lock
    enabled: tuple[str, ...]
    namespaces: dict[str, Namespace]
    webhooks: Webhooks
    dial: Callable[[Backend], Any]

    @property
    def proxies(self) -> frozenset[str]:
        return frozenset(self.sessions)

    @property
    def injection_enabled(self) -> tuple[str, ...]:
        return self.enabled

    def injects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        found = self.namespaces.get(namespace)
        return found is not None and bool(self.webhooks.selecting(found, labels))

    def given(self, proxy: str) -> Resources:
        with self.turn:
            answer = self.sessions[proxy].get(istiod.config_dump_path(proxy))
        if answer.status != 200:
            raise ReadError(
                f"the running istiod returns no configuration of {proxy}: HTTP {answer.status}",
                "run meshgate in istiod's namespace with a token of audience istio-ca",
            )
        return resources(msgspec.json.decode(answer.body))

    def injected(self, namespace: str) -> Shape:
        hooks = self.webhooks.selecting(self.namespaces[namespace])
        backends = self.webhooks.backends(hooks[0]) if hooks else []
        if not backends:
            raise ReadError(
                f"no running injector handles pods of {namespace}",
                "see the findings of check CP007",
            )
        try:
            return shape(admission.injected(hooks[0], backends[0], namespace, self.dial))
        except (HTTPException, OSError, ValueError) as error:
            raise ReadError(f"the running injector does not respond: {error}", "") from error


@contextmanager
def asked(
    transport: istiod.Transport, found: Items, istio_namespace: str
) -> Iterator[LiveRunningMesh]:
    """Connect to the running istiods while the block runs.

    Args:
        transport: the way to istiod's pods.
        found: the items that the capture has read (the group `running`).
        istio_namespace: the namespace of istiod.

    Returns:
        The running mesh, usable inside the block.

    Raises:
        ReadError: an istiod could not be read.
    """
    readings: dict[str, IstiodReading] = {each.pod: each for each in found.istiod}
    if why := [
        f"{each.pod}: {each.error or each.denied}"
        for each in readings.values()
        if each.error or each.denied
    ]:
        raise ReadError(f"cannot read from istiod: {why[0]}", "see the findings of check CP002")
    opened: list[istiod.Session] = []
    try:
        sessions: dict[str, istiod.Session] = {}
        for pod in found.pods:
            if pod.metadata.namespace == istio_namespace and pod.metadata.name in readings:
                opened.append(transport.session(pod))
                for proxy in readings[pod.metadata.name].proxies:
                    sessions[proxy.proxy] = opened[-1]
        yield LiveRunningMesh(
            sessions,
            Lock(),
            tuple(each.metadata.name for each in injection_enabled(found.namespaces)),
            {each.metadata.name: each for each in found.namespaces},
            Webhooks(
                mutating=found.mutating_webhooks,
                validating=found.validating_webhooks,
                services=found.services,
                slices=found.endpoint_slices,
            ),
            transport.dial,
        )
    finally:
        for session in opened:
            session.close()
