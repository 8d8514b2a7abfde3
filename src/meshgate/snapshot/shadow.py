"""What the target's istiod would send, and whether the target's Envoy would take it."""

from meshgate.snapshot.base import Base


class Refusal(Base, frozen=True):
    """What the target's Envoy does not take of one configuration, in its own words.

    `part` is the listener or cluster, `culprits` are the objects that bring it alone.
    """

    part: str
    words: str
    culprits: tuple[str, ...] = ()


class Change(Base, frozen=True):
    """One difference between what the running istiod gives a proxy and what the target would.

    `kind` is removed, added, changed or reordered.  Values are shown only where they can be no
    secret.  `brought_by` is the object that names what was removed.
    """

    kind: str
    type: str
    resource: str
    path: str
    before: str = ""
    after: str = ""
    brought_by: str = ""


class ProxyClass(Base, frozen=True):
    """Proxies that are equal in everything that istiod reads; the first represents all.

    `resources` counts what was compared; `error` says why nothing could be.
    """

    proxies: tuple[str, ...]
    resources: int = 0
    refusals: tuple[Refusal, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""


class Injection(Base, frozen=True):
    """What the target's injector makes of a sample pod in a namespace, beside today's.

    `refused` says why it would inject nothing, `error` why that could not be compared.
    """

    namespace: str
    changes: tuple[Change, ...] = ()
    refused: str = ""
    error: str = ""


class TemplateReview(Base, frozen=True):
    """What the target's injector answers to the pod template of one workload.

    Attributes:
        workload: `Kind namespace/name`.
        refused: why it rejects the pod; empty if it accepts it.
        error: why the injector did not answer.
    """

    workload: str
    refused: str = ""
    error: str = ""


class Shadow(Base, frozen=True):
    """One look at an upgrade before it is applied; `refused` is what the target was not allowed.

    `skipped_reason` says why there was none.  `cut` are objects that were recorded without what
    looks like a credential, so that they could not be tried as they are.
    """

    version: str = ""
    classes: tuple[ProxyClass, ...] = ()
    refused: tuple[str, ...] = ()
    skipped_reason: str = ""
    injections: tuple[Injection, ...] = ()
    # None: by a meshgate that sent no templates
    templates: tuple[TemplateReview, ...] | None = None
    cut: tuple[str, ...] = ()
