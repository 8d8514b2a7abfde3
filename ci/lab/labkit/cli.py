"""The verbs of `lab`."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from labkit import (
    argocd,
    enter,
    gates,
    golden,
    health,
    lock,
    mesh,
    node,
    paths,
    prometheus,
    rollouts,
    signals,
)
from labkit.build import build, build_argocd, build_monitoring, build_rollouts
from labkit.node import Node
from labkit.paths import LabDir
from labkit.steps import LabError, locked, step, tail
from labkit.versions import versions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb of the command line; return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that cleanup runs
    args = _parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], None] = args.verb
    try:
        if verb is not _lock and os.geteuid() != 0:
            raise LabError("the lab needs root, for namespaces, mounts and containers")
        verb(args)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description="A real Kubernetes with a real Istio in namespaces of this machine."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function: Callable[[argparse.Namespace], None], name: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(verb=function)
        sub.add_argument("--name", default="default", help="name of the lab (default: %(default)s)")
        return sub

    known = sorted(versions().istio)
    verb(_build, "build")
    sub = verb(_up, "up")
    sub.add_argument("--istio", default=versions().default_istio, choices=known)
    sub.add_argument("--istiod-replicas", type=int, default=1, metavar="N")
    sub.add_argument("--revision", default="", help="install istiod as this revision")
    sub.add_argument(
        "--dual-stack", action="store_true", help="IPv6 as well as IPv4, also in Istio"
    )
    sub.add_argument("--ambient", action="store_true", help="ambient mode as well as sidecars")
    sub.add_argument(
        "--keep", action="store_true", help="keep a lab that fails to start, for inspection"
    )
    sub = verb(_exec, "exec")
    sub.add_argument("--as", dest="account", metavar="NAMESPACE/SERVICEACCOUNT",
                     help="with the tokens and DNS of a pod of this ServiceAccount")  # fmt: skip
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    verb(_shell, "shell")
    sub = verb(_node, "node")
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    verb(_reset, "reset")
    for function, name in ((_freeze, "freeze"), (_thaw, "thaw")):
        verb(function, name).add_argument("pod", metavar="NAMESPACE/POD")
    sub = verb(_upgrade, "upgrade")
    sub.add_argument("istio", choices=known)
    sub.add_argument("--restart", action="store_true", help="restart the workloads too")
    sub = verb(_target, "target")
    sub.add_argument("istio", choices=known)
    sub.add_argument("folder", type=Path, metavar="DIR")
    sub = verb(_revision, "revision")
    sub.add_argument("istio", choices=known)
    sub.add_argument("--tag", help="revision tag to point to it")
    verb(_save, "save")
    sub = verb(_image, "image")
    sub.add_argument("--istio", default=versions().default_istio, choices=known)
    sub.add_argument("--layout", type=Path, help="write an OCI layout there and push nothing")
    sub.add_argument("--no-cache", action="store_true", help="build every layer again")
    verb(_argocd, "argocd")
    verb(_rollouts, "rollouts")
    sub = verb(_prometheus, "prometheus")
    sub.add_argument("--rules", type=Path, help="file with Prometheus' alerting rules")
    verb(_crash, "crash")
    verb(_status, "status")
    verb(_list, "list")
    verb(_down, "down")
    verb(_lock, "lock")
    return parser


def _build(args: argparse.Namespace) -> None:
    """Build and cache every program, root filesystem and image."""
    build()


def _up(args: argparse.Namespace) -> None:
    """Start a lab and wait until every pod is Ready."""
    start = time.monotonic()
    lab = LabDir(args.name)
    wanted = mesh.Installed(
        args.istio, args.revision, args.istiod_replicas, args.dual_stack, args.ambient
    )
    addresses = node.TWO_FAMILIES if args.dual_stack else node.ONE_FAMILY
    if args.ambient and not versions().istio_release(args.istio).ambient:
        raise LabError(f"versions.toml does not name Istio {args.istio} as one with ambient mode")
    with locked(lab.lock):
        if Node.find(lab):
            raise LabError(f"lab {lab.name!r} is already up; use lab reset or lab down")
        built = build()
        node.down(lab)  # remains of a lab that died
        try:
            running = node.up(
                lab, built.node_root, built.programs.kubernetes, built.image_store, addresses
            )
            mesh.install(running, built, wanted)
            golden.save(running)
        except BaseException:
            if not args.keep:
                node.down(lab)
            raise
    print(f"lab {lab.name!r} is up, in {time.monotonic() - start:.1f} s")


def _exec(args: argparse.Namespace) -> None:
    """Run a command in the lab's network, with this machine's files."""
    command = _command(args)
    running = Node.get(LabDir(args.name))
    if args.account:
        enter.as_pod(running, args.account, command)
    enter.outside(running, command)


def _shell(args: argparse.Namespace) -> None:
    """An interactive shell in the lab's network."""
    running = Node.get(LabDir(args.name))
    enter.outside(running, [os.environ.get("SHELL", "/bin/bash")])


def _node(args: argparse.Namespace) -> None:
    """Run a command in the node itself: its files, its processes."""
    enter.inside(Node.get(LabDir(args.name)), _command(args))


def _command(args: argparse.Namespace) -> list[str]:
    command: list[str] = args.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise LabError("no command given")
    return command


def _reset(args: argparse.Namespace) -> None:
    """Restore the saved healthy state."""
    with _changing(args) as running:
        golden.restore(running)


def _save(args: argparse.Namespace) -> None:
    """Make the current state the one that `reset` restores."""
    with _changing(args) as running:
        golden.save(running)


def _freeze(args: argparse.Namespace) -> None:
    """Suspend the Envoy of a pod (SIGSTOP)."""
    signals.freeze(Node.get(LabDir(args.name)), args.pod)


def _thaw(args: argparse.Namespace) -> None:
    """Resume the Envoy of a pod."""
    signals.thaw(Node.get(LabDir(args.name)), args.pod)


def _crash(args: argparse.Namespace) -> None:
    """Kill every process of the node, as a power failure does; the node restarts by itself."""
    signals.crash(Node.get(LabDir(args.name)))


def _upgrade(args: argparse.Namespace) -> None:
    """Upgrade the Gateway API bundle, and then Istio in place."""
    with _changing(args) as running:
        mesh.upgrade(running, build(), args.istio, restart=args.restart)
        golden.save(running)


def _target(args: argparse.Namespace) -> None:
    """Write what `meshgate shadow` needs of a release: two programs and the manifests."""
    mesh.write_target(Node.get(LabDir(args.name)), build(), args.istio, args.folder)


def _revision(args: argparse.Namespace) -> None:
    """Install a second istiod as a revision."""
    with _changing(args) as running:
        mesh.add_revision(running, build(), args.istio, args.tag)
        golden.save(running)


def _image(args: argparse.Namespace) -> None:
    """Build meshgate's image, push it to a registry in the lab, print its name there."""
    image = gates.build_image(args.istio, cached=not args.no_cache)
    if args.layout:
        gates.export(image, args.layout)
        return
    with _changing(args) as running:
        print(f"image: {gates.push(running, image)}")


def _argocd(args: argparse.Namespace) -> None:
    """Start Argo CD in the lab, with a git repository and Istio's charts."""
    parts = build_argocd()
    with _changing(args) as running:
        argocd.up(running, build(), parts)
        golden.save(running)
        print(f"repository: {argocd.repository(running)}")
        print(f"charts: {argocd.CHARTS}")
        print(f"server: {argocd.SERVER}")


def _rollouts(args: argparse.Namespace) -> None:
    """Start the analysis controller of Argo Rollouts in the lab."""
    place = build_rollouts()
    with _changing(args) as running:
        rollouts.up(running, place)
        golden.save(running)


def _prometheus(args: argparse.Namespace) -> None:
    """Start Prometheus and Alertmanager in the lab, or replace their rules."""
    parts = build_monitoring()
    with _changing(args) as running:
        prometheus.up(running, parts, args.rules)
        print(f"prometheus: http://{prometheus.PROMETHEUS}")
        print(f"alertmanager: http://{prometheus.ALERTMANAGER}")


def _status(args: argparse.Namespace) -> None:
    """Print what runs and what is not healthy."""
    running = Node.get(LabDir(args.name))
    print(_one_line(running))
    if complaints := health.of(running):
        raise LabError("not healthy:\n" + tail("\n".join(complaints)))


def _list(args: argparse.Namespace) -> None:
    """List the labs of this machine."""
    for lab in paths.all_labs():
        running = Node.find(lab)
        print(_one_line(running) if running else f"{lab.name}: not up; lab down --name {lab.name}")


def _one_line(running: Node) -> str:
    try:
        installed = mesh.Installed.load(running.lab)
    except OSError:
        return f"{running.lab.name}: starting, or kept after a failure"
    revision = f", revision {installed.revision}" if installed.revision else ""
    return f"{running.lab.name}: up, Istio {installed.istio}{revision}"


def _down(args: argparse.Namespace) -> None:
    """Remove a lab: processes, cgroups, files."""
    lab = LabDir(args.name)
    with locked(lab.lock), step(f"remove lab {lab.name!r}"):
        node.down(lab)


def _lock(args: argparse.Namespace) -> None:
    """Write go/*/go.mod and go.sum from versions.toml (needs the Go module proxy)."""
    lock.write()


@contextmanager
def _changing(args: argparse.Namespace) -> Iterator[Node]:
    """Lock the lab for the block, and print how long the change took."""
    start = time.monotonic()
    lab = LabDir(args.name)
    with locked(lab.lock):
        yield Node.get(lab)
    print(f"done in {time.monotonic() - start:.1f} s")
