"""What runs now: what an upgrade is compared with."""

from collections.abc import Callable, Iterator
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
    """What the running istiods give: to the proxies that are connected, to pods of `enrolled`."""

    @property
    def proxies(self) -> frozenset[str]:
        """Every connected proxy, `pod.namespace`."""

    @property
    def injection_enabled(self) -> tuple[str, ...]:
        """Every namespace whose labels ask for sidecars."""

    def given(self, proxy: str) -> Resources:
        """A proxy's resources; raises Unreadable."""

    def injected(self, namespace: str) -> Shape:
        """What the injector makes of a sample pod there; raises Unreadable."""


class LiveRunningMesh(msgspec.Struct, frozen=True):
    """The running istiods themselves."""

    sessions: dict[str, istiod.Session]
    turn: Lock  # one connection for each replica: who asks waits for who has asked
    namespaces: dict[str, Namespace]
    webhooks: Webhooks
    dial: Callable[[Backend], Any]

    @property
    def proxies(self) -> frozenset[str]:
        return frozenset(self.sessions)

    @property
    def injection_enabled(self) -> tuple[str, ...]:
        return tuple(self.namespaces)

    def given(self, proxy: str) -> Resources:
        with self.turn:
            answer = self.sessions[proxy].get(istiod.config_dump_path(proxy))
        if answer.status != 200:
            raise ReadError(
                f"the running istiod does not tell {proxy}: {answer.status}",
                "run in istiod's own namespace with a token of audience istio-ca",
            )
        return resources(msgspec.json.decode(answer.body))

    def injected(self, namespace: str) -> Shape:
        hooks = self.webhooks.selecting(self.namespaces[namespace])
        backends = self.webhooks.backends(hooks[0]) if hooks else []
        if not backends:
            raise ReadError("no injector that runs is called for it", "see CP007")
        try:
            return shape(admission.injected(hooks[0], backends[0], namespace, self.dial))
        except (HTTPException, OSError, ValueError) as error:
            raise ReadError(f"the running injector does not answer: {error}", "") from error


@contextmanager
def asked(
    transport: istiod.Transport, found: Items, istio_namespace: str
) -> Iterator[LiveRunningMesh]:
    """The running istiods, asked while the block runs; raises Unreadable.

    Args:
        found: the items that the capture has read (the group `running`).
    """
    readings: dict[str, IstiodReading] = {each.pod: each for each in found.istiod}
    if why := [
        f"{each.pod}: {each.error or each.denied}"
        for each in readings.values()
        if each.error or each.denied
    ]:
        raise ReadError(f"istiod cannot be asked: {why[0]}", "see CP002")
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
            {each.metadata.name: each for each in injection_enabled(found.namespaces)},
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
