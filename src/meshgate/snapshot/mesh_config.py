"""The mesh config of each revision: its ConfigMap, and what istiod uses of it."""

from meshgate.snapshot.base import Base


class EffectiveConfig(Base, frozen=True):
    """What one replica of istiod uses, compared with its ConfigMap.

    Attributes:
        pod: the replica.
        different: the fields of the ConfigMap to which istiod has another value, as dotted paths.
        providers: the names of its extension providers.
        clusters: the remote clusters that it reads, by ID, with their status (`synced`).
        error: why it did not answer; `denied`: that it refused, and the remedy.
    """

    pod: str
    different: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    clusters: dict[str, str] = {}
    error: str = ""
    denied: str = ""


class MeshConfig(Base, frozen=True):
    """The mesh config of one revision, without the values that only the mesh's owners know.

    Attributes:
        revision: the revision whose istiod uses it.
        config_map: `ConfigMap namespace/name`.
        unparsable: the fields that istiod cannot parse or rejects, each with the reason.
        effective: what each replica uses.
    """

    revision: str
    config_map: str
    unparsable: tuple[str, ...] = ()
    effective: tuple[EffectiveConfig, ...] = ()
