"""Signals to processes of the lab. A suspended Envoy is a proxy that exists and never answers."""

import signal
from pathlib import Path

from labkit.node import Node, Process
from labkit.steps import LabError


def freeze(node: Node, pod: str) -> None:
    """Suspend the pod's Envoy."""
    for process in _envoys(node, pod):
        process.kill(signal.SIGSTOP)
        print(f"envoy of {pod} is suspended (pid {process.pid})")


def thaw(node: Node, pod: str) -> None:
    """Resume the pod's Envoy."""
    for process in _envoys(node, pod):
        process.kill(signal.SIGCONT)
        print(f"envoy of {pod} is resumed (pid {process.pid})")


def thaw_all(node: Node) -> list[str]:
    """Resume every suspended process of the lab; return a line for each."""
    stopped = [process for process, _ in node.processes() if _state(process) == "T"]
    for process in stopped:
        process.kill(signal.SIGCONT)
    return [f"continue process {process.pid} ({_name(process)})" for process in stopped]


def end_pod(node: Node, uid: str) -> None:
    """Kill all processes of a pod, as the kubelet does when its grace period is over."""
    for process, cgroups in node.processes():
        if uid in cgroups:
            process.kill(signal.SIGKILL)


def crash(node: Node) -> None:
    """Kill every process of the node except PID 1, which starts them again."""
    running = [process for process, _ in node.processes() if process != node.init]
    for process in running:
        process.kill(signal.SIGKILL)
    print(f"{len(running)} processes were killed")


def _envoys(node: Node, pod: str) -> list[Process]:
    namespace, _, name = pod.partition("/")
    if not name:
        raise LabError(f"{pod!r} is not NAMESPACE/POD")
    query = ["get", "pod", f"--namespace={namespace}", name, "--output=jsonpath={.metadata.uid}"]
    uid = node.kubectl(*query)
    found = [p for p, cgroups in node.processes() if uid in cgroups and _name(p) == "envoy"]
    if not found:
        raise LabError(f"no envoy runs in {pod}")
    return found


def _name(process: Process) -> str:
    return Path(f"/proc/{process.pid}/comm").read_text().strip()


def _state(process: Process) -> str:
    """Return the letter of its state; nothing if it has ended meanwhile."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]
