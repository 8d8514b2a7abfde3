"""What an upgrade meets: how istiod is set, what will be restarted, which APIs are served."""

from datetime import date

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Condition, LabelSelector, Metadata


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
    """How one istiod is configured, as far as a rule of the release ledger depends on it.

    Attributes:
        deployment: `Deployment namespace/name`.
        variables: environment variables of istiod that the ledger tracks, with their value if it
            is `true` or `false`, else with an empty value.
        proxy_metadata: the same for `defaultConfig.proxyMetadata` of the mesh config.
        cni: the same for the ConfigMap of the CNI agent.
        providers: the extension providers of the mesh config.
        tracers: kinds of tracing that the mesh config turns on.
        networks: whether the mesh config names networks.
        compatibility: `compatibilityVersion` of the chart.
        mesh: tracked fields of the mesh config that are set, as dotted paths.
        excluded_namespaces: namespaces that the CNI plugin excludes.
        hub: the registry of the chart's images, if it is one that shuts down.
        native_nftables: whether `global.nativeNftables` is true.
    """

    deployment: str
    variables: dict[str, str] = {}
    proxy_metadata: dict[str, str] = {}
    cni: dict[str, str] = {}
    providers: tuple[Provider, ...] = ()
    tracers: tuple[str, ...] = ()
    networks: bool = False
    compatibility: str = ""
    mesh: tuple[str, ...] = ()
    excluded_namespaces: tuple[str, ...] = ()
    hub: str = ""
    native_nftables: bool = False


class Workload(Base, frozen=True):
    """A Deployment, StatefulSet or DaemonSet.

    Attributes:
        annotations: the names of its pod template's annotations that the ledger tracks.
        values: the values of those that are port numbers, switches, quantities or interface names.
        proxied: whether the template contains the proxy itself, so that no webhook injects it.
        partition: StatefulSet: pods with a lower ordinal are not updated.
        replicas: the desired number of pods; None for a DaemonSet.
        images: images of its template in registries that shut down.
    """

    kind: str
    namespace: str
    name: str
    selector: LabelSelector | None = None
    annotations: tuple[str, ...] = ()
    values: dict[str, str] = {}
    paused: bool = False
    strategy: str = ""
    proxied: bool = False
    partition: int = 0
    replicas: int | None = None
    images: tuple[str, ...] = ()


class NodeInfo(Base, frozen=True):
    kubelet_version: str = ""


class NodeStatus(Base, frozen=True):
    """`allocatable`: resource to quantity, what pods may request in total."""

    node_info: NodeInfo = NodeInfo()
    allocatable: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class Taint(Base, frozen=True):
    key: str
    value: str = ""
    effect: str = ""


class NodeSpec(Base, frozen=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class Node(Base, frozen=True):
    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class IstioCrd(Base, frozen=True):
    """One of Istio's own CRDs: which of the fields that the ledger tracks it has (dotted paths)."""

    name: str
    fields: tuple[str, ...] = ()


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


class DefinitionStatus(Base, frozen=True):
    """`stored_versions`: the API versions that objects in etcd may have."""

    stored_versions: tuple[str, ...] = ()


class Definition(Base, frozen=True):
    """A CustomResourceDefinition."""

    metadata: DefinitionMetadata
    spec: DefinitionSpec = DefinitionSpec()
    status: DefinitionStatus = DefinitionStatus()


class DisruptionBudgetSpec(Base, frozen=True):
    selector: LabelSelector | None = None


class DisruptionBudgetStatus(Base, frozen=True):
    disruptions_allowed: int = 0
    expected_pods: int = 0


class DisruptionBudget(Base, frozen=True):
    metadata: Metadata
    spec: DisruptionBudgetSpec = DisruptionBudgetSpec()
    status: DisruptionBudgetStatus = DisruptionBudgetStatus()
