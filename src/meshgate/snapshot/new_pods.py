"""The pods that a restart would create: templates after injection, as far as they are judged."""

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector, Metadata


class Capabilities(Base, frozen=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class Profile(Base, frozen=True):
    """A seccomp or AppArmor profile."""

    type: str = ""


class SeLinux(Base, frozen=True):
    type: str = ""
    user: str = ""
    role: str = ""


class Windows(Base, frozen=True):
    host_process: bool = False


class Sysctl(Base, frozen=True):
    name: str


class SecurityContext(Base, frozen=True):
    """The fields of a pod's and a container's securityContext that Pod Security is about."""

    privileged: bool = False
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    run_as_user: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None
    proc_mount: str = ""
    se_linux_options: SeLinux | None = None
    windows_options: Windows | None = None
    sysctls: tuple[Sysctl, ...] = ()


class Toleration(Base, frozen=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class NodeRequirement(Base, frozen=True):
    """One row of a node affinity: also `Gt` and `Lt`, with one number."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeTerm(Base, frozen=True):
    """A term of a required node affinity: all rows must hold, and of several terms one."""

    match_expressions: tuple[NodeRequirement, ...] = ()
    match_fields: tuple[NodeRequirement, ...] = ()


class Apart(Base, frozen=True):
    """A term of a required pod anti-affinity: no such pod may be in the same topology.

    `namespaces`: of those pods; empty for the new pod's own.
    """

    topology_key: str
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()


class Spread(Base, frozen=True):
    """A topology spread constraint whose whenUnsatisfiable is DoNotSchedule.

    Attributes:
        max_skew: by how many more of the pods a domain may have than the one with the fewest.
        topology_key: the label of nodes whose values are the domains.
        min_domains: with fewer domains the fewest counts as 0.
        label_selector: the pods that count; none without it.
        match_label_keys: labels of the new pod that these pods have too.
        node_affinity_policy: `Honor` if only nodes count that match the pod's node affinity.
        node_taints_policy: `Honor` if only nodes count whose taints the pod tolerates.
    """

    topology_key: str
    max_skew: int = 1
    min_domains: int = 0
    label_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"


class NewContainer(Base, frozen=True):
    """A container of the pod that would be created.

    Attributes:
        init: whether it is an init container; `sidecar`: one that keeps running.
        injected: whether the injector adds it.
        requests: resource to quantity; `limits` likewise.
        ports: `PORT/PROTOCOL`; `host_ports`: those on the node.
        probes: kind of probe to its handler (`httpGet /app-health/app/readyz`).
        hooks: its lifecycle hooks (`postStart`).
        hosts: hosts that probes and hooks name.
        variables: the names of its environment variables.
    """

    name: str
    image: str = ""
    init: bool = False
    sidecar: bool = False
    injected: bool = False
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    security: SecurityContext | None = None
    ports: tuple[str, ...] = ()
    host_ports: tuple[int, ...] = ()
    probes: dict[str, str] = {}
    hooks: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


class NewPod(Base, frozen=True):
    """The pod that a restart of one workload would create.

    Attributes:
        workload: `Kind namespace/name`.
        replicas: how many of them; 0 for a DaemonSet, and for a Job that creates another pod only
            if one fails.
        surge: how many more than that may exist during a rollout; `unavailable`: how many fewer.
        webhook: the injector that was called, `MutatingWebhookConfiguration NAME`.
        injected: whether it added the proxy.
        refused: why it refused the pod, in its words.
        error: why it did not answer.
        admission: what the API server answered to a dry run; empty if it accepts the pod.
        requests, limits: of the whole pod, which replace the sum of its containers.
        node_terms: its required node affinity; empty if it has none.
        apart: its required pod anti-affinity.
        spread: its topology spread constraints with DoNotSchedule.
        labels: its labels, if it has such constraints.
        constraints: what else keeps it from nodes, and is not evaluated (`podAffinity`).
    """

    workload: str
    replicas: int = 0
    surge: int = 0
    unavailable: int = 0
    webhook: str = ""
    injected: bool = False
    refused: str = ""
    error: str = ""
    admission: str = ""
    host_network: bool = False
    host_pid: bool = msgspec.field(default=False, name="hostPID")
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    security: SecurityContext | None = None
    volumes: tuple[str, ...] = ()
    priority_class: str = ""
    terminating: bool = False
    overhead: dict[str, str] = {}
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    node_terms: tuple[NodeTerm, ...] = ()
    apart: tuple[Apart, ...] = ()
    spread: tuple[Spread, ...] = ()
    labels: dict[str, str] = {}
    constraints: tuple[str, ...] = ()
    containers: tuple[NewContainer, ...] = ()


class NewPods(Base, frozen=True):
    """All of them.

    Attributes:
        pods: one for each workload that an injector injects or refuses.
        others: `Kind namespace/name` of the other workloads.
        dry_run: whether the API server was called for each pod.
        skipped_reason: why there are none.
    """

    pods: tuple[NewPod, ...] = ()
    others: tuple[str, ...] = ()
    dry_run: bool = False
    skipped_reason: str = ""


class LimitRangeItem(Base, frozen=True):
    type: str = ""
    default: dict[str, str] = {}
    default_request: dict[str, str] = {}
    min: dict[str, str] = {}
    max: dict[str, str] = {}
    max_limit_request_ratio: dict[str, str] = {}


class ScopeRequirement(Base, frozen=True):
    scope_name: str
    operator: str = ""
    values: tuple[str, ...] = ()


class ScopeSelector(Base, frozen=True):
    match_expressions: tuple[ScopeRequirement, ...] = ()


class LimitRangeSpec(Base, frozen=True):
    limits: tuple[LimitRangeItem, ...] = ()


class LimitRange(Base, frozen=True):
    metadata: Metadata
    spec: LimitRangeSpec = LimitRangeSpec()


class ResourceQuotaSpec(Base, frozen=True):
    hard: dict[str, str] = {}
    scopes: tuple[str, ...] = ()
    scope_selector: ScopeSelector | None = None


class ResourceQuotaStatus(Base, frozen=True):
    used: dict[str, str] = {}


class ResourceQuota(Base, frozen=True):
    metadata: Metadata
    spec: ResourceQuotaSpec = ResourceQuotaSpec()
    status: ResourceQuotaStatus = ResourceQuotaStatus()
