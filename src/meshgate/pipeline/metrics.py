"""The last verdict of each stage for Prometheus: a textfile, or a Pushgateway."""

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile

from meshgate.report.short import Short


def push_metrics(verdict: Short, at: datetime, target: str) -> None:
    """Writes `target`, a file or a Pushgateway's URL; raises OSError."""
    if target.startswith(("http://", "https://")):
        # a group a stage: a run of one leaves what the others said
        for stage in verdict.stages:
            registry = _registry(verdict, at, [stage])
            pushadd_to_gateway(target, "meshgate", registry, {"stage": stage}, timeout=10)
    else:
        write_to_textfile(target, _registry(verdict, at, verdict.stages))


def _registry(verdict: Short, at: datetime, stages: Iterable[str]) -> CollectorRegistry:
    registry = CollectorRegistry()
    for name, help, value in (
        ("meshgate_gate_open", "1 if the stage's gate opened", None),
        ("meshgate_exit_code", "what the stage's run ended with", verdict.exit),
        ("meshgate_verdict_timestamp_seconds", "when the stage was judged", at.timestamp()),
    ):
        gauge = Gauge(name, help, ["stage"], registry=registry)
        for stage in stages:
            gauge.labels(stage).set(verdict.stages[stage] if value is None else value)
    return registry
