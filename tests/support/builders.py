"""Small meshes in a line or two: healthy unless a test changes it.

Every builder gives the model's own structs, so a test states only what it is about; `as_api` turns
them into what an API server answers.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.base import Present
from meshgate.snapshot.declared_pairs import PairAnswers
from meshgate.snapshot.hbone import TunnelProbes
from meshgate.snapshot.image_pulls import ImagePulls
from meshgate.snapshot.ingress import Ingress
from meshgate.snapshot.istio import EnvoyFilter, EnvoyFilterSpec, WorkloadSelector
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from meshgate.snapshot.istiod import Conflicts, IstiodMetrics, IstiodReading, ProxySync, SyncState
from meshgate.snapshot.items import ITEMS
from meshgate.snapshot.kubernetes import (
    Annotations,
    Condition,
    Container,
    ContainerPort,
    ContainerState,
    ContainerStatus,
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    Metadata,
    Owner,
    Pod,
    PodSpec,
    PodStatus,
    PodTemplate,
    Terminated,
    Waiting,
)
from meshgate.snapshot.model import Expectations, Gap, Snapshot
from meshgate.snapshot.new_pods import NewPods
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.retry_after import (
    GivenConfig,
    HeaderRule,
    RetryFilter,
    RetryFilters,
    RetryPatch,
)
from meshgate.snapshot.traffic_metrics import TrafficMetrics
from meshgate.snapshot.upgrade import IstioCrd
from tests.support import mtls_builders, upgrade_builders, webhook_builders

AT = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
VERSION = "1.29.1"
IMAGE = f"example.test/istio/pilot:{VERSION}"

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
HTTP = ContainerPort(container_port=8080, name="http")

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def after(seconds: float) -> datetime:
    """So long after AT, when every snapshot is taken; negative for before."""
    return AT + timedelta(seconds=seconds)


# --- Kubernetes ---------------------------------------------------------------------------------


def running(name: str) -> ContainerStatus:
    """A container that runs and is ready."""
    state = ContainerState(running=Present())
    return ContainerStatus(name=name, ready=True, state=state)


def waiting(name: str, reason: str, message: str = "") -> ContainerStatus:
    """A container that waits."""
    return ContainerStatus(
        name=name, state=ContainerState(waiting=Waiting(reason=reason, message=message))
    )


def terminated(name: str, exit_code: int = 0) -> ContainerStatus:
    """A container that ended."""
    state = ContainerState(terminated=Terminated(reason="Completed", exit_code=exit_code))
    return ContainerStatus(name=name, state=state)


def pod(
    name: str,
    namespace: str = "shop",
    *,
    containers: Iterable[ContainerStatus] = (),
    init: Iterable[ContainerStatus] = (),
    phase: str = "Running",
    ready: bool = True,
    deleted: bool = False,
    labels: dict[str, str] | None = None,
    ip: str = "",
    conditions: Iterable[Condition] = (),
    ports: Iterable[ContainerPort] = (),
    annotations: Annotations | None = None,
    owner: Owner | None = None,
    host_network: bool = False,
) -> Pod:
    """A pod whose containers are those that its statuses name; `ports` are the first one's."""
    containers, init = tuple(containers), tuple(init)
    verdict = Condition(type="Ready", status="True" if ready else "False")
    return Pod(
        metadata=Metadata(
            name=name,
            namespace=namespace,
            labels=labels or {},
            annotations=annotations or Annotations(),
            deletion_timestamp=AT if deleted else None,
            owner_references=(owner,) if owner else (),
        ),
        spec=PodSpec(
            containers=tuple(
                Container(name=each.name, ports=() if number else tuple(ports))
                for number, each in enumerate(containers)
            ),
            init_containers=tuple(Container(name=each.name) for each in init),
            host_network=host_network,
        ),
        status=PodStatus(
            phase=phase,
            pod_ip=ip,
            conditions=(*conditions, verdict),
            container_statuses=containers,
            init_container_statuses=init,
        ),
    )


def sidecar(
    name: str = "web-1",
    namespace: str = "shop",
    *,
    proxy: ContainerStatus | None = None,
    native: bool = False,
    **of_the_pod: Any,
) -> Pod:
    """An app with a sidecar, classic (a container) or native (an init container)."""
    proxy = proxy or running("istio-proxy")
    containers = [running("app")] if native else [running("app"), proxy]
    init = [terminated("istio-init"), proxy] if native else [terminated("istio-init")]
    return pod(name, namespace, containers=containers, init=init, **of_the_pod)


def istiod(
    name: str = "istiod-1",
    *,
    discovery: ContainerStatus | None = None,
    revision: str = "default",
    namespace: str = "istio-system",
    **of_the_pod: Any,
) -> Pod:
    """A replica of istiod."""
    return pod(
        name,
        namespace,
        containers=[discovery or running("discovery")],
        labels={"app": "istiod", "istio.io/rev": revision},
        **of_the_pod,
    )


def deployment(
    replicas: int = 1,
    *,
    updated: int | None = None,
    available: int | None = None,
    existing: int | None = None,
    generation: int = 1,
    observed: int = 1,
    paused: bool = False,
    gave_up: bool = False,
    image: str = IMAGE,
    name: str = "istiod",
    namespace: str = "istio-system",
    revision: str = "default",
) -> Deployment:
    """A Deployment of istiod; what is left open is as a complete rollout has it."""
    progressing = Condition(
        type="Progressing",
        status="False" if gave_up else "True",
        reason="ProgressDeadlineExceeded" if gave_up else "NewReplicaSetAvailable",
    )
    available = replicas if available is None else available
    return Deployment(
        metadata=Metadata(
            name=name,
            namespace=namespace,
            labels={"app": "istiod", "istio.io/rev": revision},
            generation=generation,
        ),
        spec=DeploymentSpec(
            replicas=replicas,
            paused=paused,
            template=PodTemplate(
                spec=PodSpec(containers=(Container(name="discovery", image=image),))
            ),
        ),
        status=DeploymentStatus(
            observed_generation=observed,
            replicas=replicas if existing is None else existing,
            updated_replicas=replicas if updated is None else updated,
            ready_replicas=available,
            available_replicas=available,
            conditions=(progressing,),
        ),
    )


def envoy_filter(
    name: str, namespace: str = "shop", *, selects: dict[str, str] | None = None
) -> EnvoyFilter:
    """An EnvoyFilter, for a whole namespace or for what it selects."""
    selector = None if selects is None else WorkloadSelector(labels=selects)
    return EnvoyFilter(
        metadata=Metadata(name=name, namespace=namespace),
        spec=EnvoyFilterSpec(workload_selector=selector),
    )


def as_api(objects: Iterable[msgspec.Struct], more: str = "") -> dict[str, Any]:
    """A page of a list as an API server answers it; `more` is its continue token."""
    return {
        "kind": "List",
        "metadata": {"resourceVersion": "1", **({"continue": more} if more else {})},
        "items": [msgspec.to_builtins(each) for each in objects],
    }


# --- istiod and istioctl ------------------------------------------------------------------------


def pushed(
    *, answered: bool = True, error: str = "", sent_at: datetime | None = AT, nonce: str = "n2"
) -> SyncState:
    """What was sent of one type, and what the proxy said to it."""
    return SyncState(
        sent=nonce, acked=nonce if answered else "n1", sent_time=sent_at, last_error=error
    )


NOT_SENT = SyncState()


def sync(proxy: str = "web-1.shop", *, version: str = VERSION, **types: SyncState) -> ProxySync:
    """A connected proxy: in sync unless `listener` or `cluster` say otherwise."""
    return ProxySync(
        proxy=proxy,
        proxy_type="sidecar",
        istio_version=version,
        cluster_id="Kubernetes",
        resources={
            LISTENER: types.get("listener", pushed()),
            CLUSTER: types.get("cluster", pushed()),
        },
    )


def reading(
    replica: str = "istiod-1",
    proxies: Iterable[ProxySync] = (),
    *,
    version: str = f"{VERSION}-6991a379e1fc-Clean",
    error: str = "",
    denied: str = "",
) -> IstiodReading:
    """What one replica of istiod said."""
    return IstiodReading(
        pod=replica,
        version=version if not (error or denied) else "",
        at=AT,
        proxies=tuple(proxies),
        error=error,
        denied=denied,
    )


def numbers(
    replica: str = "istiod-1",
    *,
    before: dict[str, float] | None = None,
    after: dict[str, float] | None = None,
    **seen: Any,
) -> IstiodMetrics:
    """What one replica counted: nothing within the window, unless told otherwise."""
    runtime = {"process_start_time_seconds": 1.0, "go_memstats_sys_bytes": 100 * 2.0**20}
    whole = {**runtime, "pilot_info": 1.0}
    before = {**whole, **(before or {})}
    said = {"before": before, "after": {**before, **(after or {})}, "conflicts": Conflicts()}
    return IstiodMetrics(pod=replica, seconds=5.0, **{**said, **seen})


def message(
    code: str, level: str = "Error", text: str = "is wrong", origin: str = "VirtualService shop/web"
) -> AnalysisMessage:
    """A message of analyze."""
    return AnalysisMessage(
        code=code,
        level=level,
        message=text,
        origin=origin,
        documentation_url=f"https://istio.io/v1.29/{code.lower()}/?ref=istioctl-analyze",
    )


# --- Retry-After --------------------------------------------------------------------------------

LUA = HeaderRule(kind="lua", value="11", code="c0de")


def retry_patch(
    *places: HeaderRule, context: str = "SIDECAR_INBOUND", version: str = "", number: int = 1
) -> RetryPatch:
    """A patch that adds LUA, unless other places are named."""
    return RetryPatch(
        number=number,
        apply_to="HTTP_FILTER",
        context=context,
        places=places or (LUA,),
        proxy_version=version,
    )


def retry_filter(
    *patches: RetryPatch, name: str = "retry-after", namespace: str = "shop", **more: Any
) -> RetryFilter:
    """An EnvoyFilter with one patch, unless others are named."""
    return RetryFilter(name=name, namespace=namespace, patches=patches or (retry_patch(),), **more)


def given(proxy: str = "web-1.shop", *places: HeaderRule, **trouble: str) -> GivenConfig:
    """What istiod gives to a proxy: LUA in its inbound listener, unless other places are named."""
    inbound = msgspec.structs.replace(LUA, side="INBOUND")
    return GivenConfig(proxy=proxy, places=places or (inbound,), **trouble)


# --- snapshots ----------------------------------------------------------------------------------


# those of the release that istiod runs
CRDS = (
    IstioCrd(
        name="envoyfilters.networking.istio.io", fields=("spec.configPatches.match.waypoint",)
    ),
    IstioCrd(name="telemetries.telemetry.istio.io", fields=("spec.tracing.customTags.formatter",)),
)


def snapshot(**changes: Any) -> Snapshot:
    """One istiod, one sidecar that follows it, and nothing wrong for stage B; with changes."""
    healthy: dict[str, Any] = {
        "meshgate_version": "0.0.0",
        "taken": AT,
        "started": AT,
        "source": "context test",
        "kubernetes_version": "v1.34.4",
        "read": tuple(sorted(ITEMS)),
        **webhook_builders.HEALTHY,
        "ingress": Ingress(),
        **mtls_builders.HEALTHY,
        "pods": (istiod(), sidecar(ip="10.0.0.1", ports=(HTTP,))),
        "deployments": (deployment(),),
        "istiod": (reading(proxies=[sync()]),),
        "istiod_metrics": (numbers(),),
        "analysis": Analysis(istioctl_version=VERSION),
        "retry_filters": RetryFilters(seen=1, filters=(retry_filter(),), given=(given(),)),
        "pair": Pair(skipped_reason="no probe pair was asked for"),
        "new_pods": NewPods(),
        "ambient_probes": TunnelProbes(),
        "waypoint_probes": TunnelProbes(),
        "istio_crds": CRDS,
        "pair_answers": PairAnswers(skipped_reason="no file of pairs was given"),
        "image_pulls": ImagePulls(skipped_reason="no image was to be pulled"),
        "traffic_metrics": TrafficMetrics(skipped_reason="no Prometheus was given"),
        **upgrade_builders.HEALTHY,
    }
    return Snapshot(**{**healthy, **changes})


def without(item: str, *, why: str = "no right to it", transient: bool = False) -> Snapshot:
    """A snapshot that is healthy as far as it goes, and could not read one item."""
    return snapshot(
        read=tuple(sorted(ITEMS - {item})),
        gaps=(Gap(item=item, why=why, remedy="grant it", transient=transient),),
        **{item: None if item == "analysis" else ()},
    )


def mesh(**changes: Any) -> Mesh:
    """The facts of a snapshot that is healthy but for these changes."""
    return Mesh(snapshot(**changes))


def expecting(**expectations: Any) -> dict[str, Any]:
    """What the person asked for, as a change to a snapshot."""
    return {"expectations": Expectations(**expectations)}
