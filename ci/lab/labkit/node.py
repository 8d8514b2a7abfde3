"""The node: a set of namespaces whose PID 1 is node/init.sh. Starts, enters and ends them."""

import json
import os
import shutil
import signal
import string
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.paths import SOURCE, LabDir
from labkit.steps import LabError, poll, run, step, tail
from labkit.versions import versions

_NAMESPACES = ("--net", "--pid", "--mount", "--uts", "--ipc")
_PROXIES = {f"{kind}_proxy" for kind in ("http", "https", "all", "no", "ftp")}
_CGROUPS = Path("/sys/fs/cgroup")
_INIT = SOURCE / "node" / "init.sh"


@dataclass(frozen=True)
class Process:
    """A process that is still the same one: pids are used again, start times are not."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has this pid now."""
        return cls(pid, _start_time(pid))

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.started != "" and _start_time(self.pid) == self.started

    def kill(self, number: int) -> None:
        """Send it a signal, unless its pid is another's by now."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _start_time(pid: int) -> str:
    """Boot and clock tick in which it started, or nothing if it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "" if state in "ZX" else f"{boot}/{rest[18]}"


@dataclass(frozen=True)
class Node:
    """A running node, and how to run something in it."""

    lab: LabDir
    init: Process

    @classmethod
    def find(cls, lab: LabDir) -> "Node | None":
        """The lab's node if it is up."""
        with suppress(OSError, ValueError, TypeError):
            node = cls(lab, Process(**json.loads((lab.path / "node.json").read_text())))
            if node.init.alive:
                return node
        return None

    @classmethod
    def get(cls, lab: LabDir) -> "Node":
        """The lab's node, which must be up."""
        if node := cls.find(lab):
            return node
        raise LabError(f"lab {lab.name!r} is not up; start it with: lab up --name {lab.name}")

    @property
    def env(self) -> dict[str, str]:
        """The caller's environment, with the cluster in it and without proxies."""
        env = {k: v for k, v in os.environ.items() if k.lower() not in _PROXIES}
        env["KUBECONFIG"] = str(self.lab.kubeconfig)
        env["KUBECACHEDIR"] = str(self.lab.path / "kube-cache")  # all labs have one address
        env["PATH"] = f"{self.lab.bin}:{env.get('PATH', os.defpath)}"
        return env

    def outside(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """A command in the node's network, but with the host's files."""
        return ["nsenter", "-t", str(self.init.pid), "--net", "--uts", "--", *argv]

    def among(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """The same, as one of the node's processes: the kernel ends it with the node."""
        enter = ["nsenter", "-t", str(self.init.pid), "--net", "--uts", "--ipc", "--pid", "--"]
        return [*enter, *argv]

    def inside(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """A command in all of the node's namespaces."""
        pid = str(self.init.pid)
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        kubeconfig = "KUBECONFIG=/etc/kubernetes/admin.conf"
        enter = ["nsenter", "-t", pid, *_NAMESPACES, "--root", "--wd=/", "--"]
        return [*enter, "env", "-i", path, kubeconfig, "HOME=/root", "TERM=xterm", *argv]

    def run(self, *argv: str | Path, stdin: str | None = None, timeout: float = 120) -> str:
        """Run it in the node's network and return what it printed."""
        env = {**self.env, "HOME": str(self.lab.path)}  # istioctl keeps a cache there
        return run(self.outside(argv), env=env, stdin=stdin, timeout=timeout)

    def kubectl(self, *argv: str | Path, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl as the cluster's administrator."""
        return self.run("kubectl", *argv, stdin=stdin, timeout=timeout)

    def items(self, *argv: str) -> list[dict[str, Any]]:
        """The objects that a `kubectl get` finds."""
        found = json.loads(self.kubectl("get", *argv, "--output=json"))
        items: list[dict[str, Any]] = found["items"]
        return items

    def processes(self) -> Iterator[tuple[Process, str]]:
        """Every process of the lab's containers, with the path of its cgroup."""
        mark = f"/{self.lab.cgroup}/"
        for pid in _pids():
            with suppress(OSError):
                cgroups = Path(f"/proc/{pid}/cgroup").read_text()
                if mark in cgroups:
                    yield Process.of(pid), cgroups


@dataclass(frozen=True)
class Addresses:
    """Whose they are, IPv4 first; `ranges` and `routes` are the pods', as the CNI has them."""

    node: str = "172.30.0.2/24"
    pods: str = "10.244.0.0/16"
    services: str = "10.96.0.0/16"
    ranges: str = '[{"subnet": "10.244.0.0/24"}]'
    routes: str = '{"dst": "0.0.0.0/0"}'


ONE_FAMILY = Addresses()
TWO_FAMILIES = Addresses(
    node=f"{ONE_FAMILY.node},fd00:172:30::2/64",
    pods=f"{ONE_FAMILY.pods},fd00:10:244::/56",
    services=f"{ONE_FAMILY.services},fd00:10:96::/112",
    ranges=ONE_FAMILY.ranges + ', [{"subnet": "fd00:10:244::/64"}]',
    routes=ONE_FAMILY.routes + ', {"dst": "::/0"}',
)


def up(
    lab: LabDir, node_root: Path, kubernetes: Path, image_store: Path, addresses: Addresses
) -> Node:
    """Start the node and wait until Kubernetes calls it Ready."""
    lab.path.mkdir(mode=0o700, parents=True)  # it holds the cluster's keys
    with step("copy the image store"):
        _copy_image_store(image_store / "containerd", lab.var / "lib" / "containerd")
    init = _start(lab.path, lab.name, "node", node_root, kubernetes, addresses)
    (lab.path / "node.json").write_text(json.dumps(init.__dict__))
    _follow(lab.path, init, until="ready")
    return Node(lab, init)


def import_images(layout: Path, node_root: Path, kubernetes: Path, place: Path) -> None:
    """Leave in place/containerd a containerd root that has the images of the layout."""
    scratch = place / "scratch"
    (scratch / "config").mkdir(parents=True)
    layout.rename(scratch / "config" / "layout")
    name = f"import-{os.getpid()}"
    init = _start(scratch, name, "import", node_root, kubernetes)
    try:
        _follow(scratch, init, until=None)
    finally:
        _end(init)
        _remove_cgroups(f"meshgate-{name}")
    (scratch / "var/lib/containerd").rename(place / "containerd")
    shutil.rmtree(scratch)


def down(lab: LabDir) -> None:
    """Kill every process, then remove cgroups and files."""
    if node := Node.find(lab):
        _end(node.init)
    _remove_cgroups(lab.cgroup)
    if lab.path.exists():
        shutil.rmtree(lab.path)


def _end(init: Process) -> None:
    """Kill PID 1 of the namespaces, with which the kernel kills all others in them.

    What `lab exec` started is only in the network namespace, and is killed after it.
    """
    guests = _guests(init) if init.alive else []
    init.kill(signal.SIGKILL)
    poll("the node to end", lambda: "alive" if init.alive else "", timeout=30, every=0.05)
    for guest in guests:
        guest.kill(signal.SIGKILL)


def _guests(init: Process) -> list[Process]:
    network = _network(init.pid)
    if network in ("", _network(os.getpid())):  # never the processes of the network we are in
        return []
    return [Process.of(pid) for pid in _pids() if _network(pid) == network]


def _network(pid: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return ""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _remove_cgroups(name: str) -> None:
    """Bottom up; a cgroup stays busy until its last process is quite gone."""

    def left() -> str:
        tops = [d for d in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")) if d.is_dir()]
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)
        return "\n".join(str(top) for top in tops if top.exists())

    poll("cgroups to go", left, timeout=30, every=0.1)


def _copy_image_store(store: Path, into: Path) -> None:
    """Content and unpacked layers never change, so links do; only the databases are copied."""
    into.parent.mkdir(parents=True, exist_ok=True)
    run(["cp", "--archive", "--link", store, into])
    for database in into.rglob("*.db"):
        data = database.read_bytes()
        database.unlink()
        database.write_bytes(data)


def _start(
    place: Path,
    name: str,
    mode: str,
    node_root: Path,
    kubernetes: Path,
    addresses: Addresses = ONE_FAMILY,
) -> Process:
    _write_config(place / "config", f"meshgate-{name}", addresses)
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "MODE": mode,
        "NAME": name,
        "DIR": str(place),
        "ROOTFS": str(node_root),
        "PROGRAMS": str(kubernetes / "bin"),
        "NODE_ADDRESSES": addresses.node,
        "PODS": addresses.pods,
        "HOST_NETNS": os.readlink("/proc/self/ns/net"),
    }
    with (place / "init.log").open("wb") as log:
        parent = subprocess.Popen(
            ["unshare", *_NAMESPACES, "--fork", "--kill-child=SIGKILL", "bash", _INIT],
            env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    return _only_child(parent)


def _only_child(parent: subprocess.Popen[bytes]) -> Process:
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while parent.poll() is None:
        with suppress(OSError):
            if pids := children.read_text().split():
                return Process.of(int(pids[0]))
        time.sleep(0.01)
    raise LabError("unshare: this machine does not allow new namespaces")


def _write_config(into: Path, cgroup: str, addresses: Addresses) -> None:
    into.mkdir(parents=True, exist_ok=True)
    values = {
        "pause": versions().pause,
        "kubernetes": versions().kubernetes,
        "cgroup": cgroup,
        **asdict(addresses),
    }
    (into / "cni").mkdir(exist_ok=True)
    for name in ("audit.yaml", "containerd.toml", "kubeadm.yaml", "cni/10-lab.conflist"):
        text = string.Template((SOURCE / "node" / name).read_text())
        (into / name).write_text(text.substitute(values))


def _follow(place: Path, init: Process, until: str | None) -> None:
    """Show the phases that init.sh reports, each with its time, until that one or its end."""
    with (place / "init.log").open() as log:
        phases = _phases(log, init)
        phase = next(phases, None)
        while phase and phase != until:
            with step(phase):
                phase = next(phases, None)
    if until and phase != until:
        raise LabError(f"the node did not start\n{tail((place / 'init.log').read_text())}")


def _phases(log: Iterator[str], init: Process) -> Iterator[str]:
    while True:
        alive = init.alive
        for line in log:
            if line.startswith("phase: "):
                yield line.removeprefix("phase: ").strip()
        if not alive:
            return
        time.sleep(0.05)
