"""Export the last verdict of each stage to Prometheus: a text file, or a Pushgateway."""

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile

from meshgate.report.short import Short


def push_metrics(verdict: Short, at: datetime, target: str, cluster: str = "") -> None:
    """Write or push the metrics of a run.

    Args:
        verdict: The verdict, with the gate of each stage.
        at: When it was evaluated, in UTC.
        target: A file, or the URL of a Pushgateway.
        cluster: The cluster's name, or empty.

    Raises:
        OSError: If the file or the Pushgateway does not accept them.
    """
    if target.startswith(("http://", "https://")):
        # one group per stage: a run of one stage keeps the metrics of the others
        for stage in verdict.stages:
            found = registry(verdict, at, [stage], cluster)
            group = {"stage": stage} | ({"cluster": cluster} if cluster else {})
            pushadd_to_gateway(target, "meshgate", found, group, timeout=10)
    else:
        write_to_textfile(target, registry(verdict, at, verdict.stages, cluster))


def registry(
    verdict: Short, at: datetime, stages: Iterable[str], cluster: str
) -> CollectorRegistry:
    """Return the metrics of these stages; the label `cluster` is there if the cluster has a name.

    Args:
        verdict: The verdict, with the gate of each stage.
        at: When it was evaluated, in UTC.
        stages: The stages to export.
        cluster: The cluster's name, or empty.

    Returns:
        The registry with three gauges.
    """
    labels = {"cluster": cluster} if cluster else {}
    found = CollectorRegistry()
    for name, help, value in (
        ("meshgate_gate_open", "1 if the gate of the stage is open", None),
        ("meshgate_exit_code", "exit code of the stage's last run", verdict.exit),
        ("meshgate_verdict_timestamp_seconds", "time of the stage's last verdict", at.timestamp()),
    ):
        gauge = Gauge(name, help, [*labels, "stage"], registry=found)
        for stage in stages:
            gauge.labels(**labels, stage=stage).set(
                verdict.stages[stage] if value is None else value
            )
    return found
