"""Everything that an upgrade can be simulated with without a cluster."""

from typing import Any

from meshgate.snapshot.base import Base

# Annotations that say which file of a repository an object comes from: set by people, and by
# kustomize with `buildMetadata: [originAnnotations]`.
SOURCE_ANNOTATIONS = ("meshgate/source", "config.kubernetes.io/origin")


class Listed(Base, frozen=True):
    """The objects of one resource as the API server has them, without unused fields.

    `kind` is the kind of each object.
    """

    kind: str
    objects: tuple[Any, ...] = ()


class Given(Base, frozen=True):
    """One resource that a proxy receives today; `body` is its key in `bodies`."""

    type: str
    name: str
    body: str


class OfflineBundle(Base, frozen=True):
    """What the target's istiod reads, and what the running istiod sends.

    `listed` is by group and resource, `/pods`.  `connected` are all proxies of today; of each class
    that istiod cannot distinguish the first is in `given`, or in `not_given` with the reason.
    `bodies` has each resource once.  `injected` is by namespace, and so is `not_injected`.  What
    looked like a credential is left out; `cut` names the objects that it was in.
    """

    listed: dict[str, Listed] = {}
    connected: tuple[str, ...] = ()
    given: dict[str, tuple[Given, ...]] = {}
    not_given: dict[str, str] = {}
    bodies: dict[str, Any] = {}
    injected: dict[str, Any] = {}
    not_injected: dict[str, str] = {}
    cut: tuple[str, ...] = ()
