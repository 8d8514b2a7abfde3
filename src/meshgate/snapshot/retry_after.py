"""What adds or honors Retry-After: EnvoyFilters, what istiod makes of them, and the wire."""

from datetime import datetime

from meshgate.snapshot.base import Base


class HeaderRule(Base, frozen=True):
    """One place of a configuration that adds Retry-After to an answer, or honors it.

    `kind` is `local reply`, `rate limit`, `header` or `lua`, or `back-off` where a retry waits for
    what an upstream asked.  `value` is what will be sent, empty where that is not fixed.  `code` is
    the fingerprint of a script; nothing else of it is kept.  `side` is INBOUND or OUTBOUND, as far
    as the place says.  `statuses` are those to whose answers a script always adds it: empty where
    that depends on anything but the status.
    """

    kind: str
    value: str = ""
    code: str = ""
    side: str = ""
    statuses: tuple[int, ...] = ()


class RetryPatch(Base, frozen=True):
    """A patch of an EnvoyFilter that is about Retry-After; `number` counts from 1."""

    number: int
    apply_to: str
    context: str
    places: tuple[HeaderRule, ...]
    proxy_version: str = ""


class RetryFilter(Base, frozen=True):
    """An EnvoyFilter with such patches; `gateways` are the names of its targetRefs.

    `revision` is its label istio.io/rev: only the istiod of that revision reads it.
    """

    name: str
    namespace: str
    patches: tuple[RetryPatch, ...]
    selector: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    revision: str = ""


class GivenConfig(Base, frozen=True):
    """The places in the configuration that istiod gives to one proxy (`pod.namespace`).

    `error` says that istiod did not answer, `denied` that it refused us.
    """

    proxy: str
    places: tuple[HeaderRule, ...] = ()
    error: str = ""
    denied: str = ""


class RetryFilters(Base, frozen=True):
    """All of it; `seen` is how many EnvoyFilters there are, whatever they are about."""

    seen: int = 0
    filters: tuple[RetryFilter, ...] = ()
    given: tuple[GivenConfig, ...] = ()


class Burst(Base, frozen=True):
    """Requests to one target, one after the other, until it said 429 or 503, or enough was sent.

    `statuses` are those before the last, by how often they came; `retry_after` is every such
    header of the last answer.  `error` says why the last request was not answered.
    """

    target: str
    at: datetime
    status: int = 0
    statuses: dict[int, int] = {}
    retry_after: tuple[str, ...] = ()
    error: str = ""
