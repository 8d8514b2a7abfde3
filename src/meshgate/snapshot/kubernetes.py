"""Kubernetes objects, with the API's own field names and only the fields that facts use."""

from datetime import datetime
from typing import Literal

import msgspec

from meshgate.snapshot.base import Base, Present


class Annotations(Base, frozen=True):
    """The annotations that a claim reads; all others are dropped when decoding."""

    revision: str | None = msgspec.field(default=None, name="istio.io/rev")
    injection_status: str | None = msgspec.field(default=None, name="sidecar.istio.io/status")
    inject: str | None = msgspec.field(default=None, name="sidecar.istio.io/inject")
    templates: str | None = msgspec.field(default=None, name="inject.istio.io/templates")
    proxy_image: str | None = msgspec.field(default=None, name="sidecar.istio.io/proxyImage")
    interception: str | None = msgspec.field(default=None, name="sidecar.istio.io/interceptionMode")
    captured_ports: str | None = msgspec.field(
        default=None, name="traffic.sidecar.istio.io/includeInboundPorts"
    )
    bypassing_ports: str | None = msgspec.field(
        default=None, name="traffic.sidecar.istio.io/excludeInboundPorts"
    )
    ambient: str | None = msgspec.field(default=None, name="ambient.istio.io/redirection")
    dry_run: str | None = msgspec.field(default=None, name="istio.io/dry-run")
    export_to: str | None = msgspec.field(default=None, name="networking.istio.io/exportTo")
    ingress_class: str | None = msgspec.field(default=None, name="kubernetes.io/ingress.class")
    service_account: str | None = msgspec.field(
        default=None, name="gateway.istio.io/service-account"
    )
    rollouts: str | None = msgspec.field(default=None, name="deployment.kubernetes.io/revision")


class Owner(Base, frozen=True):
    """The owner reference of an object; a controller creates it again."""

    kind: str
    name: str
    controller: bool = False


class Metadata(Base, frozen=True):
    name: str
    uid: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: Annotations = Annotations()
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: tuple[Owner, ...] = ()


class Condition(Base, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class Namespace(Base, frozen=True):
    metadata: Metadata


class Waiting(Base, frozen=True):
    reason: str = ""
    message: str = ""


class Terminated(Base, frozen=True):
    reason: str = ""
    exit_code: int = 0
    finished_at: datetime | None = None


class ContainerState(Base, frozen=True):
    waiting: Waiting | None = None
    running: Present | None = None
    terminated: Terminated | None = None


class ContainerStatus(Base, frozen=True):
    name: str
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Limits(Base, frozen=True):
    memory: str = ""
    cpu: str = ""


class Resources(Base, frozen=True):
    limits: Limits = Limits()
    requests: Limits = Limits()


class ContainerPort(Base, frozen=True):
    container_port: int
    host_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class Container(Base, frozen=True):
    name: str
    image: str = ""
    resources: Resources = Resources()
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(Base, frozen=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = "default"
    node_name: str = ""
    host_network: bool = False
    priority: int = 0


class PodStatus(Base, frozen=True):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Base, frozen=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class TemplateMetadata(Base, frozen=True):
    labels: dict[str, str] = {}
    annotations: Annotations = Annotations()


class PodTemplate(Base, frozen=True):
    metadata: TemplateMetadata = TemplateMetadata()
    spec: PodSpec = PodSpec()


class DeploymentSpec(Base, frozen=True):
    replicas: int = 1
    paused: bool = False
    template: PodTemplate = PodTemplate()


class DeploymentStatus(Base, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Base, frozen=True):
    metadata: Metadata
    spec: DeploymentSpec
    status: DeploymentStatus = DeploymentStatus()


Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]


class Requirement(Base, frozen=True):
    """One row of a label selector's `matchExpressions`."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class LabelSelector(Base, frozen=True):
    """All rows must hold; one without rows selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class ServiceReference(Base, frozen=True):
    name: str
    namespace: str
    path: str = ""
    port: int = 443


class ServicePort(Base, frozen=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(Base, frozen=True):
    ports: tuple[ServicePort, ...] = ()
    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")


class Ingress(Base, frozen=True):
    """One address of a LoadBalancer."""

    ip: str = ""
    hostname: str = ""


class LoadBalancer(Base, frozen=True):
    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(Base, frozen=True):
    load_balancer: LoadBalancer = LoadBalancer()


class Service(Base, frozen=True):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(Base, frozen=True):
    ready: bool | None = None


class TargetReference(Base, frozen=True):
    kind: str = ""
    name: str = ""


class Endpoint(Base, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetReference | None = None


class EndpointPort(Base, frozen=True):
    name: str = ""
    port: int = 0


class EndpointSlice(Base, frozen=True):
    metadata: Metadata
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class RootData(Base, frozen=True):
    pem: str = msgspec.field(default="", name="root-cert.pem")


class RootCertificate(Base, frozen=True):
    """A namespace's `istio-ca-root-cert`: what its workloads trust."""

    metadata: Metadata
    data: RootData = RootData()


class RollingUpdate(Base, frozen=True):
    """`partition`: the pods of a StatefulSet with a lower number are not replaced."""

    partition: int = 0


class UpdateStrategy(Base, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class ControllerSpec(Base, frozen=True):
    replicas: int = 1
    template: PodTemplate = PodTemplate()
    update_strategy: UpdateStrategy = UpdateStrategy()


class ControllerStatus(Base, frozen=True):
    """How many pods there are: the first three fields of a StatefulSet, the rest of a DaemonSet."""

    observed_generation: int = 0
    replicas: int = 0
    available_replicas: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0


class Controller(Base, frozen=True):
    """A StatefulSet or DaemonSet; snapshots of the first release have no `status`."""

    metadata: Metadata
    spec: ControllerSpec = ControllerSpec()
    status: ControllerStatus | None = None


class JobSpec(Base, frozen=True):
    suspend: bool = False
    template: PodTemplate = PodTemplate()


class JobStatus(Base, frozen=True):
    active: int = 0
    conditions: tuple[Condition, ...] = ()


class Job(Base, frozen=True):
    metadata: Metadata
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class InvolvedObject(Base, frozen=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""


class Event(Base, frozen=True):
    """An Event of the API server, which keeps it for an hour by default."""

    metadata: Metadata
    involved_object: InvolvedObject = InvolvedObject()
    message: str = ""
    last_timestamp: datetime | None = None


class NetworkPolicySpec(Base, frozen=True):
    pod_selector: LabelSelector = LabelSelector()
    policy_types: tuple[str, ...] = ()


class NetworkPolicy(Base, frozen=True):
    """The pods that it selects, for which it may drop connections; its rules are not read."""

    metadata: Metadata
    spec: NetworkPolicySpec = NetworkPolicySpec()
