"""Where an item is from: a list of the API server, or a reader."""

import msgspec


class Listed(msgspec.Struct, frozen=True):
    """An item that is the list of one Kubernetes kind.

    Attributes:
        group: the API group, empty for the core API.
        resource: the plural name in the API's paths.
        versions: the API versions that the type decodes, the preferred one first.
        optional: whether a cluster may lack the kind (its CRD is not installed).
        only: a field selector, where a few of many objects are enough.
    """

    group: str
    resource: str
    versions: tuple[str, ...] = ("v1",)
    optional: bool = False
    only: str = ""


class Source(msgspec.Struct, frozen=True):
    """An item that a reader produces.

    Attributes:
        reader: the function, as `module:function` below `meshgate.collect`.
        requires: the items (or `@group`) that must have been read in full.
        after: the items that the reader waits for where they are read too.
        cleans_up: whether it removes what it created, and gets time for that after the deadline.
    """

    reader: str
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    cleans_up: bool = False
