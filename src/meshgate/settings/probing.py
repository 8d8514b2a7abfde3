"""Settings of what is probed and simulated: workloads, gateways, the upgrade."""

from dataclasses import dataclass

from meshgate.settings import values
from meshgate.settings.definition import setting
from meshgate.snapshot.ingress import VANTAGES


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Connections to workloads, and the pods that stage D creates."""

    exclude_port: tuple[str, ...] = setting(
        (),
        "--exclude-port",
        "ports not to connect to, as a glob (legacy/*:*, *:9090)",
        metavar="NAMESPACE/WORKLOAD:PORT",
        parse=values.port_pattern,
        repeated=True,
    )
    sample: int | None = setting(
        None,
        "--sample",
        "connect to N ports of each workload; 0 for all",
        metavar="N",
        parse=values.count,
    )
    shard: str | None = setting(
        None,
        "--shard",
        "connect only to this share of the ports, 0/N to (N-1)/N",
        metavar="I/N",
        parse=values.shard,
    )
    probe_rate: float = setting(
        500.0,
        "--probe-rate",
        "connections per second to workloads; 0 for no limit",
        metavar="N",
        parse=values.rate,
    )
    probe_pair: str = setting(
        "",
        "--probe-pair",
        "create two pods of this image that call each other and Services; it needs Python",
        metavar="IMAGE",
    )
    probe_namespace: str = setting(
        "istio-verification-probes",
        "--probe-namespace",
        "namespace of these pods, labeled for injection",
        metavar="NAME",
    )
    probe_call: tuple[str, ...] = setting(
        (),
        "--probe-call",
        "http://SERVICE.NAMESPACE[:PORT]/PATH that they call with OPTIONS and that must answer",
        metavar="URL",
        parse=values.service_url,
        repeated=True,
    )
    probe_sample: int = setting(
        3,
        "--probe-sample",
        "number of other HTTP Services that they call; these only warn",
        metavar="N",
        parse=values.count,
    )
    probe_deadline: float = setting(
        60.0,
        "--probe-deadline",
        "total time of these pods, in each capture",
        metavar="SECONDS",
        parse=values.seconds,
    )
    probe_image: tuple[str, ...] = setting(
        (),
        "--probe-image",
        "image of the target that every node must be able to pull; creates one pod per node",
        metavar="IMAGE",
        repeated=True,
    )
    probe_image_deadline: float = setting(
        180.0,
        "--probe-image-deadline",
        "total time of these pulls, in each capture",
        metavar="SECONDS",
        parse=values.seconds,
    )
    pairs: str | None = setting(
        None,
        "--pairs",
        "declared requests between workloads, and whether they must be allowed or denied (YAML)",
        metavar="FILE",
    )
    dry_run_pods: bool = setting(
        False,
        "--dry-run-pods",
        "also create each workload's pod as a dry run, so that policy engines are asked; needs the "
        "right to create pods",
    )
    require_retry_after: bool | None = setting(
        None,
        "--require-retry-after",
        "fail if no EnvoyFilter adds Retry-After",
    )
    retry_after_target: tuple[str, ...] = setting(
        (),
        "--retry-after-target",
        "URL that must answer a short burst of GET requests with 429 or 503 and Retry-After",
        metavar="URL[ via HOST:PORT]",
        parse=values.target,
        repeated=True,
    )
    retry_after_burst: int = setting(
        20,
        "--retry-after-burst",
        "maximum number of requests to each of these URLs",
        metavar="N",
        parse=values.count,
    )


@dataclass(frozen=True, kw_only=True)
class Ingress:
    """Requests through the gateways."""

    urls: tuple[str, ...] = setting(
        (),
        "--ingress-url",
        "address that clients outside the cluster use",
        metavar="[NS/SERVICE=]URL",
        repeated=True,
    )
    vantage: tuple[str, ...] = setting(
        (),
        "--vantage",
        "where requests must have been sent from (inside, and what the other options add)",
        choices=VANTAGES,
        repeated=True,
    )
    resolver: str = setting(
        "",
        "--ingress-resolver",
        "DNS server that resolves the public names for requests from outside",
        metavar="ADDRESS[:PORT]",
    )
    prober: str = setting(
        "",
        "--ingress-prober",
        "remote prober with the API of Prometheus' blackbox exporter",
        metavar="URL",
    )
    identity: str | None = setting(
        None,
        "--ingress-client-cert",
        "client certificate for mutual TLS listeners: certificate, chain and key (PEM)",
        metavar="FILE",
    )
    expect: str | None = setting(
        None,
        "--expect",
        "declared requests and the answers that they must get (YAML)",
        metavar="FILE",
    )
    ca: str | None = setting(
        None,
        "--ingress-ca",
        "root certificates that the gateways' certificates must chain to (PEM)",
        metavar="FILE",
    )
    proxy_protocol: bool = setting(
        False, "--ingress-proxy-protocol", "send the PROXY protocol header to the gateways"
    )
    proxy_protocol_services: tuple[str, ...] = setting(
        (),
        "--ingress-proxy-protocol-service",
        "Service whose gateway expects the PROXY protocol header, where others do not",
        metavar="NS/SERVICE",
        repeated=True,
    )
    rate: float = setting(
        200.0, "--ingress-rate", "requests per second", metavar="N", parse=values.rate
    )
    limit: int = setting(
        5000, "--ingress-limit", "maximum number of requests", metavar="N", parse=values.count
    )
    deadline: float = setting(
        60.0,
        "--ingress-deadline",
        "total time of all requests, in each capture",
        metavar="SECONDS",
        parse=values.seconds,
    )
    timeout: float = setting(
        5.0,
        "--ingress-timeout",
        "total time of one request",
        metavar="SECONDS",
        parse=values.seconds,
    )


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The shadow upgrade: the target's programs, and their limits."""

    istiod: str = setting(
        "",
        "--shadow-istiod",
        "the target's pilot-discovery",
        metavar="PROGRAM",
        command_aliases=("--istiod",),
    )
    envoy: str = setting(
        "",
        "--shadow-envoy",
        "the target's envoy",
        metavar="PROGRAM",
        command_aliases=("--envoy",),
    )
    manifests: str = setting(
        "",
        "--shadow-manifests",
        "the target's istiod as `helm template` renders it",
        metavar="FILE",
        command_aliases=("--manifests",),
    )
    timeout: float = setting(
        60.0,
        "--shadow-step-timeout",
        "total time of a single step",
        metavar="SECONDS",
        parse=values.seconds,
        aliases=("--shadow-timeout",),
        command_aliases=("--ready-timeout",),
    )
    deadline: float = setting(
        900.0,
        "--shadow-deadline",
        "total time of the shadow upgrade",
        metavar="SECONDS",
        parse=values.seconds,
        command_aliases=("--deadline",),
    )
    classes: int = setting(
        500,
        "--shadow-classes",
        "maximum number of classes of proxies",
        metavar="N",
        parse=values.count,
        command_aliases=("--classes",),
    )
    memory: int = setting(
        2048,
        "--shadow-memory",
        "MiB that each program may use; 0 for no limit",
        metavar="MIB",
        parse=values.count,
        command_aliases=("--memory",),
    )
    require: bool | None = setting(
        None,
        "--require-shadow",
        "the checks of the shadow upgrade are UNKNOWN without its programs",
    )
    rollback: bool = setting(
        False,
        "--shadow-rollback",
        "simulate a rollback: the programs are those of the release that ran before the upgrade",
    )
    allow_removal: tuple[str, ...] = setting(
        (),
        "--allow-removal",
        "glob over `TYPE RESOURCE PATH` that proxies may lose by the upgrade",
        metavar="GLOB",
        repeated=True,
        aliases=("--accept-loss",),
        command_aliases=("--accept",),
    )


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Errors, durations and alerts before the upgrade and after it."""

    prometheus: str = setting(
        "",
        "--prometheus",
        "Prometheus with Istio's standard metrics, to compare with the time before the baseline",
        metavar="URL",
        parse=values.http_url,
    )
    labels: tuple[str, ...] = setting(
        (),
        "--prometheus-label",
        "label of the series and alerts to read, for a Prometheus or Thanos of several clusters",
        metavar="NAME=VALUE",
        parse=values.label,
        repeated=True,
    )
    proxies: float = setting(
        0.0,
        "--proxy-metrics",
        "without {traffic.prometheus}: how long to count the requests of workloads, by two "
        "readings of the proxies of up to 3 pods of each; also when the baseline is saved",
        metavar="SECONDS",
        parse=values.seconds,
    )
    window: float = setting(
        900.0,
        "--traffic-window",
        "length of the window in Prometheus before the baseline, and of the one that ends now",
        metavar="SECONDS",
        parse=values.seconds,
    )
    requests: int = setting(
        1000,
        "--traffic-requests",
        "number of requests in each window below which a workload is not judged",
        metavar="N",
        parse=values.count,
    )
    errors: float = setting(
        0.01,
        "--traffic-errors",
        "share by which errors may increase (0.01: one percentage point)",
        metavar="SHARE",
        parse=values.share,
    )
    slower: float = setting(
        0.5,
        "--traffic-slower",
        "share by which p95 and p99 may increase (0.5: half as long again)",
        metavar="SHARE",
        parse=values.rate,
    )
    confidence: float = setting(
        0.95,
        "--traffic-confidence",
        "confidence that errors did not increase by more; below it the check is UNKNOWN",
        metavar="SHARE",
        parse=values.share,
    )
