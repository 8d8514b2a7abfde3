"""The part of Argo Rollouts that runs analyses, as a process of the node."""

from pathlib import Path

from labkit import guests
from labkit.node import Node
from labkit.steps import step

_READY = "http://127.0.0.1:18092/healthz"


def up(node: Node, place: Path) -> None:
    """Start it, unless it runs."""
    if guests.answers(node, _READY):
        return
    with step("Argo Rollouts"):
        crds = place / "crds"
        node.kubectl("apply", "--server-side", "-f", crds)
        node.kubectl("wait", "--for=create", "crd/analysisruns.argoproj.io", "--timeout=120s")
        node.kubectl("wait", "--for=condition=Established", "-f", crds, "--timeout=120s")
        guests.start(
            node,
            "rollouts-controller",
            [
                place / "bin/rollouts-controller",
                f"--kubeconfig={node.lab.kubeconfig}",
                "--controllers=analysis",
                "--leader-elect=false",
                "--metricsPort=18091",
                "--healthzPort=18092",
            ],
            ready=_READY,
        )
