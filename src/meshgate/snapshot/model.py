"""The evidence of one capture: frozen structs that hold only the fields that facts use.

The types are the first line of redaction: a field that is not named here (environment values,
arguments, foreign annotations, Secret data) is never decoded, so it cannot reach a file or a log.
Times are timezone-aware UTC.  Kubernetes structs follow the API's own field names.
"""

from datetime import date, datetime

import msgspec

SCHEMA = 1


class Base(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Frozen, with the API's camelCase names on the wire; defaults are left out of the file."""


# --- Kubernetes ---------------------------------------------------------------------------------


class Annotations(Base, frozen=True):
    """The annotations that a claim reads; all others are dropped when decoding."""

    revision: str | None = msgspec.field(default=None, name="istio.io/rev")
    injection_status: str | None = msgspec.field(default=None, name="sidecar.istio.io/status")


class Metadata(Base, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: Annotations = Annotations()
    generation: int = 0
    deletion_timestamp: datetime | None = None


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


class ContainerState(Base, frozen=True):
    waiting: Waiting | None = None
    running: dict[str, str] | None = None
    terminated: Terminated | None = None


class ContainerStatus(Base, frozen=True):
    name: str
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()


class Container(Base, frozen=True):
    name: str
    image: str = ""


class PodSpec(Base, frozen=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


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


class PodTemplate(Base, frozen=True):
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


class WorkloadSelector(Base, frozen=True):
    labels: dict[str, str] = {}


class EnvoyFilterSpec(Base, frozen=True):
    workload_selector: WorkloadSelector | None = None


class EnvoyFilter(Base, frozen=True):
    metadata: Metadata
    spec: EnvoyFilterSpec = EnvoyFilterSpec()


# --- Kubernetes: what stands between the API server and istiod's webhooks ----------------------


class Requirement(Base, frozen=True):
    """One row of a label selector's `matchExpressions`."""

    key: str
    operator: str
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


class WebhookClientConfig(Base, frozen=True):
    service: ServiceReference | None = None
    url: str = ""
    ca_bundle: bytes = b""


class Webhook(Base, frozen=True):
    name: str
    client_config: WebhookClientConfig
    failure_policy: str = ""
    namespace_selector: LabelSelector = LabelSelector()
    object_selector: LabelSelector = LabelSelector()


class WebhookConfiguration(Base, frozen=True):
    """Mutating or validating: they have the same fields as far as they are read here."""

    metadata: Metadata
    webhooks: tuple[Webhook, ...] = ()


class ServicePort(Base, frozen=True):
    port: int
    name: str = ""


class ServiceSpec(Base, frozen=True):
    ports: tuple[ServicePort, ...] = ()


class Service(Base, frozen=True):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


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


# --- istiod -------------------------------------------------------------------------------------


class SyncState(Base, frozen=True):
    """What istiod last sent for one xDS type, and what the proxy said to it."""

    sent: str = ""
    acked: str = ""
    sent_time: datetime | None = None
    last_error: str = ""


class ProxySync(Base, frozen=True):
    """One proxy's line of `/debug/syncz`: `proxy` is `pod.namespace`; keys of `resources` are
    xDS type URLs.  (pilot/pkg/xds/debug.go, SyncStatus)"""

    proxy: str
    proxy_type: str = ""
    istio_version: str = msgspec.field(default="", name="istio_version")
    cluster_id: str = msgspec.field(default="", name="cluster_id")
    resources: dict[str, SyncState] = {}


class IstiodReading(Base, frozen=True):
    """What one replica said of itself.

    `at` is the replica's own clock (its HTTP Date), so that ages need no agreement of clocks.
    `error` says that it did not answer, `denied` that it answered and refused us.
    """

    pod: str
    version: str = ""
    at: datetime | None = None
    proxies: tuple[ProxySync, ...] = ()
    error: str = ""
    denied: str = ""


# --- istiod's webhooks and its CA, as probes saw them --------------------------------------------


class Certificate(Base, frozen=True):
    """The public facts of one certificate."""

    subject: str
    not_before: datetime
    not_after: datetime
    sans: tuple[str, ...] = ()


class Handshake(Base, frozen=True):
    """One TLS handshake with an endpoint of a webhook's service, as the API server makes it.

    `bundle` is the fingerprint of the caBundle that it was verified against.  `error` says why the
    endpoint did not answer; `distrust` that it answered, and why what it served is not trusted.
    """

    pod: str
    server_name: str
    bundle: str
    served: Certificate | None = None
    error: str = ""
    distrust: str = ""


class Review(Base, frozen=True):
    """One AdmissionReview that was posted to a webhook's path, and what came back.

    `sample` says what was asked about: `pod`, or a `valid` or `invalid` Istio resource.  `message`
    is the webhook's own; `containers` are those that its patch would add.
    """

    pod: str
    server_name: str
    bundle: str
    path: str
    sample: str
    namespace: str = ""
    allowed: bool = False
    message: str = ""
    containers: tuple[Container, ...] = ()
    error: str = ""


class Admission(Base, frozen=True):
    """What istiod's webhooks answered; nothing was created to learn it."""

    handshakes: tuple[Handshake, ...] = ()
    reviews: tuple[Review, ...] = ()


class Signature(Base, frozen=True):
    """What the CA of one replica made of a signing request.

    `chain` is the leaf and what was sent with it.  `error` says that there was no answer, `denied`
    that we were refused, `message` that the CA failed, `distrust` why the chain is not good.
    """

    pod: str
    chain: tuple[Certificate, ...] = ()
    error: str = ""
    denied: str = ""
    message: str = ""
    distrust: str = ""


class Signing(Base, frozen=True):
    """Who asked the CA to be signed (`system:serviceaccount:…`), or why it was not asked."""

    identity: str = ""
    not_asked: str = ""
    signatures: tuple[Signature, ...] = ()


# --- istioctl -----------------------------------------------------------------------------------


class AnalysisMessage(Base, frozen=True):
    """One message of `istioctl analyze -o json`; level is Info, Warning or Error."""

    code: str
    level: str
    message: str
    origin: str = ""
    documentation_url: str = ""


class Analysis(Base, frozen=True):
    """A run of analyze: its version, what it said, and what it asked for and was not given."""

    istioctl_version: str
    messages: tuple[AnalysisMessage, ...] = ()
    refused: tuple[str, ...] = ()


# --- the capture --------------------------------------------------------------------------------


class Gap(Base, frozen=True):
    """Something that could not be read, and what would mend that; `heals` if time alone may."""

    item: str
    why: str
    remedy: str = ""
    heals: bool = False


class Waiver(Base, frozen=True):
    """Findings that somebody knows of and answers for, until a day; both patterns are globs."""

    check: str
    subject: str
    reason: str
    until: date
    seen: str = "*"


class Expectations(Base, frozen=True):
    """What the person asked for, as far as a verdict depends on it; kept so that a replay agrees.

    `stale_after`: seconds for which a proxy may leave a push unanswered.
    `known`: the keys (verdict.py) of the findings of the baseline, None where there is none.
    """

    istio_namespace: str = "istio-system"
    target_version: str | None = None
    stale_after: float = 30.0
    waivers: tuple[Waiver, ...] = ()
    known: tuple[str, ...] | None = None


class Snapshot(Base, frozen=True):
    """Everything that one verdict rests on.

    `read` names the items that were read in full; an item is in `read`, or in a gap, or was not
    asked for.  `unanswered_since` maps `proxy|type URL` to when a push was first seen unanswered
    in this run, `started` is when the run first looked: together they age what is STALE.
    """

    meshgate_version: str
    taken: datetime
    started: datetime
    source: str
    expectations: Expectations = Expectations()
    kubernetes_version: str = ""
    read: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    pods: tuple[Pod, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    envoy_filters: tuple[EnvoyFilter, ...] = ()
    istiod: tuple[IstiodReading, ...] = ()
    unanswered_since: dict[str, datetime] = {}
    analysis: Analysis | None = None
    mutating_webhooks: tuple[WebhookConfiguration, ...] = ()
    validating_webhooks: tuple[WebhookConfiguration, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    root_certificates: tuple[RootCertificate, ...] = ()
    admission: Admission | None = None
    signing: Signing | None = None

    def __repr__(self) -> str:
        # A failing test prints its fixtures: one line, never the mesh.
        return f"<Snapshot of {self.source} at {self.taken:%Y-%m-%dT%H:%M:%SZ}>"
