"""Prometheus and Alertmanager in the lab's network, with the labels of a usual Istio installation.

The lab's Envoy lacks Istio's filter that counts istio_*: Prometheus gives Envoy's own statistics of
clusters those names.  A pod has them if its template is annotated with
`sidecar.istio.io/statsInclusionPrefixes: cluster.inbound` (`cluster.outbound` for a gateway).
"""

import json
import shutil
from pathlib import Path
from typing import Any

from labkit import guests
from labkit.build import Monitoring
from labkit.node import Node
from labkit.steps import step

PROMETHEUS, ALERTMANAGER = "172.30.0.2:19090", "172.30.0.2:19093"

_EVERY = "1s"  # scrapes and rules
_RENAMED = {
    "envoy_cluster_upstream_rq": "istio_requests_total",
    "envoy_cluster_upstream_rq_time_bucket": "istio_request_duration_milliseconds_bucket",
}
# the labels of a classic gateway, and of one that istiod deploys
_GATEWAY_LABELS = ["istio", "gateway_networking_k8s_io_gateway_name"]


def up(node: Node, parts: Monitoring, rules: Path | None) -> None:
    """Start both unless they run, and use these rules."""
    place = node.lab.path / "prometheus"
    place.mkdir(exist_ok=True)
    (place / "rules.yaml").unlink(missing_ok=True)
    if rules:
        shutil.copyfile(rules, place / "rules.yaml")
    (place / "prometheus.yaml").write_text(json.dumps(_configuration(node)))
    (place / "alertmanager.yaml").write_text(
        json.dumps({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]})
    )
    node.lab.link(
        {
            "prometheus": parts.prometheus / "bin/prometheus",
            "promtool": parts.prometheus / "bin/promtool",
            "alertmanager": parts.alertmanager / "bin/alertmanager",
        }
    )
    with step("Alertmanager"):
        guests.start(
            node,
            "alertmanager",
            [
                node.lab.bin / "alertmanager",
                f"--config.file={place}/alertmanager.yaml",
                f"--storage.path={place}/alerts",
                f"--web.listen-address={ALERTMANAGER}",
                "--cluster.listen-address=",  # one replica
            ],
            ready=f"http://{ALERTMANAGER}/-/ready",
        )
    with step("Prometheus"):
        guests.start(
            node,
            "prometheus",
            [
                node.lab.bin / "prometheus",
                f"--config.file={place}/prometheus.yaml",
                f"--storage.tsdb.path={place}/data",
                f"--web.listen-address={PROMETHEUS}",
                "--config.auto-reload",
                f"--config.auto-reload-interval={_EVERY}",
            ],
            ready=f"http://{PROMETHEUS}/-/ready",
        )


def _configuration(node: Node) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": _EVERY, "evaluation_interval": _EVERY},
        "rule_files": ["rules*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ALERTMANAGER]}]}]},
        "scrape_configs": [
            _proxies(node, "sidecars", "drop", "destination", "inbound"),
            _proxies(node, "gateways", "keep", "source", "outbound"),
        ],
    }


def _proxies(node: Node, name: str, gateways: str, reporter: str, direction: str) -> dict[str, Any]:
    """Return the scrape job of the proxies of one kind.

    Args:
        node: the lab.
        name: the job.
        gateways: whether to `keep` or to `drop` gateways.
        reporter: `destination` or `source`, whose workload the proxy's is.
        direction: `inbound` or `outbound`, the clusters whose requests are counted.

    Returns:
        The job.
    """
    pod = "__meta_kubernetes_pod"
    return {
        "job_name": name,
        "metrics_path": "/stats/prometheus",
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(node.lab.kubeconfig)}],
        "relabel_configs": [
            _relabel([f"{pod}_phase"], "Running", action="keep"),
            _relabel([f"{pod}_container_port_name"], ".*-envoy-prom", action="keep"),
            _relabel([f"{pod}_label_{each}" for each in _GATEWAY_LABELS], ".*[^;].*", gateways),
            _relabel([f"{pod}_ip"], "(.+)", target_label="__address__", replacement="$1:15090"),
            _relabel([f"{pod}_name"], target_label="pod"),
            _relabel(["__meta_kubernetes_namespace"], target_label="namespace"),
            _relabel(
                ["__meta_kubernetes_namespace"], target_label=f"{reporter}_workload_namespace"
            ),
            _relabel([f"{pod}_controller_name"], target_label=f"{reporter}_workload"),
            # a ReplicaSet has the hash of the pod template behind the Deployment's name
            _relabel(
                [f"{pod}_controller_kind", f"{pod}_controller_name"],
                "ReplicaSet;(.+)-[^-]+",
                target_label=f"{reporter}_workload",
                replacement="$1",
            ),
            _relabel([], target_label="reporter", replacement=reporter),
        ],
        "metric_relabel_configs": [
            _relabel(["__name__"], "|".join(_RENAMED), action="keep"),
            _relabel(["cluster_name"], rf"{direction}\|.*", action="keep"),
            # the same requests again, by the class of their status
            _relabel(["response_code_class"], ".+", action="drop"),
            *(
                _relabel(["__name__"], envoy, target_label="__name__", replacement=istio)
                for envoy, istio in _RENAMED.items()
            ),
        ],
    }


def _relabel(
    labels: list[str], regex: str = "(.*)", action: str = "replace", **more: str
) -> dict[str, Any]:
    return {"source_labels": labels, "regex": regex, "action": action, **more}
