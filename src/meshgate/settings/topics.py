"""The settings, by topic.  Their order is the order of the reference page.

A criterion without a value (None) keeps what a recording was judged by.
"""

from dataclasses import dataclass, field

from meshgate.settings import values
from meshgate.settings.definition import setting
from meshgate.settings.probing import Ingress, Probes, Simulation, Traffic
from meshgate.snapshot.model import AMBIENT, EXTERNAL_CA, ISTIOD, WEBHOOKS


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is read, for how long, and with what it is compared."""

    snapshot: str | None = setting(
        None, "--snapshot", "replay this snapshot; no cluster is contacted", metavar="FILE"
    )
    save_snapshot: str | None = setting(
        None,
        "--save-snapshot",
        "file for the evidence of a live run (snapshot.json.gz in {reports.reports})",
        metavar="FILE",
    )
    deadline: float | None = setting(
        None,
        "--deadline",
        "end of the whole run: what is not read by then is UNKNOWN; keep it below the Job's "
        "activeDeadlineSeconds",
        metavar="SECONDS",
        parse=values.seconds,
    )
    settle: float = setting(
        120.0,
        "--settle",
        "how long to wait for transient findings to resolve, over all checks",
        metavar="SECONDS",
        parse=values.seconds,
    )
    baseline: str | None = setting(
        None,
        "--baseline",
        "snapshot from before the upgrade, a file or configmap://NAMESPACE/NAME: a finding that it "
        "has too is only a warning",
        metavar="PLACE",
    )
    save_baseline: str | None = setting(
        None,
        "--save-baseline",
        "read what all stages read, and save it there for the later stages",
        metavar="PLACE",
        aliases=("--keep-baseline",),
    )
    fail_on_baseline_findings: bool = setting(
        False,
        "--fail-on-baseline-findings",
        "findings that the baseline has too fail like new ones",
        aliases=("--old-findings-fail",),
    )
    watch: str | None = setting(
        None,
        "--watch",
        "what `meshgate watch` saved: a file or configmap://NAMESPACE/NAME",
        metavar="PLACE",
    )
    only: tuple[str, ...] = setting(
        (),
        "--check",
        "run only the checks with these ids, separated by commas; globs are allowed (CP004,DP*)",
        metavar="ID",
        repeated=True,
    )
    skip: tuple[str, ...] = setting(
        (),
        "--skip",
        "do not run the checks with these ids; globs are allowed",
        metavar="ID",
        repeated=True,
    )
    checks: tuple[str, ...] = setting(
        (),
        "--checks",
        "directory with custom checks, which run in addition to the built-in ones",
        metavar="DIR",
        repeated=True,
    )
    dry_run: bool = setting(
        False,
        "--dry-run",
        "print every request that would be sent through the gateways, and verify nothing",
    )


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach the cluster and its istiods."""

    kubeconfig: str | None = setting(
        None, "--kubeconfig", "kubeconfig to use instead of the default one", metavar="FILE"
    )
    context: str | None = setting(
        None, "--context", "context of the kubeconfig to use", metavar="NAME"
    )
    cluster_name: str = setting(
        "",
        "--cluster-name",
        "name of the cluster in reports, metrics and annotations (the kubeconfig's context)",
        metavar="NAME",
    )
    istiod_access: str = setting(
        "auto",
        "--istiod-access",
        "auto: direct from inside the cluster, port-forward from outside",
        choices=("auto", "direct", "port-forward"),
    )
    istiod_token_file: str | None = setting(
        None,
        "--istiod-token-file",
        "token with audience istio-ca, for direct access",
        metavar="FILE",
    )
    istioctl: str = setting(
        "istioctl", "--istioctl", "istioctl of the target version", metavar="PROGRAM"
    )
    request_timeout: float = setting(
        30.0,
        "--request-timeout",
        "total time of one request to the API server or istiod",
        metavar="SECONDS",
        parse=values.seconds,
    )
    analyze_timeout: float = setting(
        60.0,
        "--analyze-timeout",
        "total time of one run of istioctl",
        metavar="SECONDS",
        parse=values.seconds,
    )
    window: float = setting(
        5.0,
        "--window",
        "how long istiod's metrics are observed in each capture",
        metavar="SECONDS",
        parse=values.seconds,
    )


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What the mesh is judged by; it is saved in the snapshot for a replay."""

    istio_namespace: str | None = setting(
        None, "--istio-namespace", "namespace of istiod (istio-system)", metavar="NAME"
    )
    target_version: str | None = setting(
        None,
        "--target-version",
        "version that must run; X.Y accepts any patch release",
        metavar="X.Y[.Z]",
        parse=values.version,
        command_aliases=("--target",),
    )
    allow_rollback: bool | None = setting(
        None, "--allow-rollback", "accept a target that is one minor version older"
    )
    support_matrix: str | None = setting(
        None,
        "--support-matrix",
        "Kubernetes versions and end of life of Istio releases (TOML), instead of the built-in "
        "ones",
        metavar="FILE",
    )
    stale_after: float | None = setting(
        None,
        "--stale-after",
        "how long a proxy may leave a push without an answer (30)",
        metavar="SECONDS",
        parse=values.seconds,
    )
    failure_threshold: str | None = setting(
        None,
        "--failure-threshold",
        "lowest level of an istioctl analyze message that fails (Error)",
        choices=("Error", "Warning"),
    )
    require_mtls: str | None = setting(
        None,
        "--require-mtls",
        "strict: a port that accepts plaintext fails",
        choices=("strict",),
    )
    accept_unverified: tuple[str, ...] = setting(
        (),
        "--accept-unverified",
        "accept that meshgate cannot verify this part of the mesh; every report says so",
        choices=(EXTERNAL_CA, AMBIENT, ISTIOD, WEBHOOKS),
        repeated=True,
    )
    loss_budget: tuple[str, ...] = setting(
        (),
        "--loss-budget",
        "number of requests of a watch to a Service, or through a Gateway, that may be lost; the "
        "name may be a glob (0)",
        metavar="NAMESPACE/NAME=N",
        parse=values.loss_budget,
        repeated=True,
    )
    waivers: str | None = setting(
        None,
        "--waivers",
        "known findings to accept, each with a reason and an expiry date (TOML)",
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class Reports:
    """Where the verdict is written and published."""

    reports: str | None = setting(
        None, "--reports", "directory of all reports (reports)", metavar="DIR"
    )
    html: str | None = setting(
        None,
        "--html",
        "file for the page of the run (index.html in {reports.reports})",
        metavar="FILE",
    )
    json: str | None = setting(
        None,
        "--json",
        "file for the verdict as JSON (verdict.json in {reports.reports})",
        metavar="FILE",
    )
    job: str | None = setting(
        None,
        "--job",
        "Job of this run, which gets the verdict as annotations and an Event",
        metavar="NAMESPACE/NAME[@UID]",
        parse=values.job,
    )
    report_to: str = setting(
        "",
        "--report-to",
        "where reports outlive the pod: configmap://NAMESPACE/NAME, or a URL of fsspec",
        metavar="PLACE",
    )
    keep_reports: int = setting(
        5,
        "--keep-reports",
        "number of runs whose reports are kept there",
        metavar="N",
        parse=values.count,
    )
    report_url: str = setting(
        "",
        "--report-url",
        "how people reach the report: a link in Argo CD, with {job} and {run} filled in",
        metavar="URL",
    )
    end_watch: str | None = setting(
        None,
        "--end-watch",
        "Pod of `meshgate watch` that is deleted if the gate is open: the upgrade is complete",
        metavar="NAMESPACE/NAME",
        parse=values.job,
    )
    metrics: str = setting(
        "",
        "--metrics",
        "where the verdict goes for Prometheus: a textfile, or a Pushgateway",
        metavar="FILE|URL",
    )


TOPICS: dict[str, type] = {
    "run": Run,
    "access": Access,
    "criteria": Criteria,
    "probes": Probes,
    "ingress": Ingress,
    "simulation": Simulation,
    "traffic": Traffic,
    "reports": Reports,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one run; a field for each topic."""

    run: Run = field(default_factory=Run)
    access: Access = field(default_factory=Access)
    criteria: Criteria = field(default_factory=Criteria)
    probes: Probes = field(default_factory=Probes)
    ingress: Ingress = field(default_factory=Ingress)
    simulation: Simulation = field(default_factory=Simulation)
    traffic: Traffic = field(default_factory=Traffic)
    reports: Reports = field(default_factory=Reports)
