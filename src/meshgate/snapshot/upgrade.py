"""What an upgrade meets: how istiod is set, what will be restarted, which APIs are served."""

from datetime import date

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector, Metadata


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One minor version of Istio: the Kubernetes minors that it supports, first and last."""

    kubernetes: tuple[str, str]
    end_of_life: date | None = None


class Support(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which releases there are; `skew`: by how many minors a proxy may be behind istiod."""

    source: str
    date: date
    skew: int
    release: dict[str, Release]


class Provider(Base, frozen=True):
    """An extension provider of the mesh: its name and its kind (`opentelemetry`)."""

    name: str
    kind: str


class Settings(Base, frozen=True):
    """How one istiod is set, as far as a change of a release is about it.

    `variables`, `proxy_metadata` and `cni` hold those of the names looked for that are set: their
    value where it is `true` or `false`, else nothing.  `tracers` are the kinds of tracing that the
    mesh turns on; `networks` says whether it has any; `compatibility` is the profile.
    """

    deployment: str
    variables: dict[str, str] = {}
    proxy_metadata: dict[str, str] = {}
    cni: dict[str, str] = {}
    providers: tuple[Provider, ...] = ()
    tracers: tuple[str, ...] = ()
    networks: bool = False
    compatibility: str = ""


class Workload(Base, frozen=True):
    """A Deployment, StatefulSet or DaemonSet; `annotations` are those of its template looked for.

    `proxied` says that the template itself brings a proxy, which then is nobody's to inject.
    """

    kind: str
    namespace: str
    name: str
    selector: LabelSelector | None = None
    annotations: tuple[str, ...] = ()
    paused: bool = False
    strategy: str = ""
    proxied: bool = False


class NodeInfo(Base, frozen=True):
    kubelet_version: str = ""


class NodeStatus(Base, frozen=True):
    node_info: NodeInfo = NodeInfo()


class Node(Base, frozen=True):
    metadata: Metadata
    status: NodeStatus = NodeStatus()


class BundleAnnotations(Base, frozen=True):
    bundle: str = msgspec.field(default="", name="gateway.networking.k8s.io/bundle-version")


class DefinitionMetadata(Base, frozen=True):
    name: str
    annotations: BundleAnnotations = BundleAnnotations()


class DefinitionVersion(Base, frozen=True):
    name: str
    served: bool = False


class DefinitionSpec(Base, frozen=True):
    versions: tuple[DefinitionVersion, ...] = ()


class Definition(Base, frozen=True):
    """A CustomResourceDefinition."""

    metadata: DefinitionMetadata
    spec: DefinitionSpec = DefinitionSpec()
