"""A real Argo CD beside the mesh: controllers of Applications, ApplicationSets and notifications,
repo-server, commit server, API server (without the UI's pages) and redis, as processes of the node;
a git repository for it, to which the
host can commit; and Istio's charts of every version that the lab has, served as the Helm repository
that people take them from.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from labkit import guests, images
from labkit.build import ArgoCD, Built, host_program
from labkit.node import Node
from labkit.paths import SOURCE
from labkit.steps import run, step

SERVER = "127.0.0.1:18080"
CHARTS = "http://127.0.0.1:18090"

_TO_REDIS = "--redis=127.0.0.1:6379"
_REPO_SERVER, _COMMIT_SERVER = "127.0.0.1:18081", "127.0.0.1:18088"
# The repo-server runs this for every commit; its own one calls gpg. No commit of the lab is signed.
_UNSIGNED = "#!/bin/sh\n"
# Where Istio's sources have the charts that are published as base, istiod and gateway.
_CHARTS = ("base", "istio-control/istio-discovery", "gateway")


def up(node: Node, built: Built, parts: ArgoCD) -> None:
    """Start it, unless it runs."""
    node.lab.link({"argocd": parts.argocd / "bin/cmd", "helm": parts.helm / "bin/helm"})
    wrapper = node.lab.bin / "git-verify-wrapper.sh"
    wrapper.write_text(_UNSIGNED)
    wrapper.chmod(0o755)
    if guests.answers(node, f"http://{SERVER}/api/version"):
        return
    host_program("git")
    _make_repository(node)
    with step("Istio's charts"):
        _serve_charts(node, built)
    with step("Argo CD's CRDs and settings"):
        node.kubectl("apply", "--server-side", "-f", parts.argocd / "crds")
        # first that there are conditions at all: kubectl calls it an error when there are none yet
        for wanted in ("jsonpath={.status.conditions[0]}", "condition=Established"):
            crds = ("crd/appprojects.argoproj.io", "crd/applications.argoproj.io")
            node.kubectl("wait", f"--for={wanted}", "--timeout=120s", *crds)
        node.kubectl("apply", "-f", SOURCE / "manifests/argocd.yaml")
    with step("start Argo CD"):
        _start(node, parts)


def repository(node: Node) -> Path:
    """Where the git repository is; Applications name it by file://."""
    return node.lab.path / "git"


def _start(node: Node, parts: ArgoCD) -> None:
    redis = ["/usr/bin/redis-server", "--bind", "127.0.0.1", "--appendonly", "no", "--save"]
    guests.start(node, "redis", ["chroot", parts.services, *redis, ""])
    repo_server = ["--port=18081", "--metrics-port=18084", "--address=127.0.0.1", "--disable-tls"]
    repo_server += ["--client-ca-path="]  # the default contradicts --disable-tls
    fresh = "--revision-cache-expiration=5s"  # commits are seen within seconds
    _component(
        node,
        "repo-server",
        [*repo_server, fresh, _TO_REDIS],
        ready="http://127.0.0.1:18084/metrics",
    )
    commit_server = ["--port=18088", "--address=127.0.0.1"]
    metrics = ["--metrics-port=18089", "--metrics-address=127.0.0.1"]
    ready = "http://127.0.0.1:18089/metrics"
    _component(node, "commit-server", [*commit_server, *metrics], ready=ready)
    cluster = ["--namespace=argocd", f"--kubeconfig={node.lab.kubeconfig}"]
    clients = [*cluster, f"--repo-server={_REPO_SERVER}", "--repo-server-plaintext", _TO_REDIS]
    hydrator = ["--hydrator-enabled", f"--commit-server={_COMMIT_SERVER}"]
    controller = ["--metrics-port=18082", "--app-resync=30", "--app-resync-jitter=0", *hydrator]
    ready = "http://127.0.0.1:18082/metrics"
    _component(node, "application-controller", [*clients, *controller], ready=ready)
    server = ["--port=18080", "--metrics-port=18083", "--address=127.0.0.1"]
    open_to_all = ["--insecure", "--disable-auth"]  # only reachable from the lab
    ready = f"http://{SERVER}/api/version"
    _component(node, "server", [*clients, *server, *open_to_all], ready=ready)
    sets = ["--metrics-addr=127.0.0.1:18085", "--probe-addr=127.0.0.1:18086"]
    sets += ["--webhook-addr=127.0.0.1:18087", "--enable-progressive-syncs"]
    sets += [f"--argocd-repo-server={_REPO_SERVER}", "--repo-server-plaintext"]
    ready = "http://127.0.0.1:18085/metrics"
    _component(node, "applicationset-controller", [*cluster, *sets], ready=ready)
    notified = ["--metrics-port=18094", f"--argocd-repo-server={_REPO_SERVER}"]
    notified += ["--argocd-repo-server-plaintext"]
    ready = "http://127.0.0.1:18094/metrics"
    _component(node, "notifications", [*cluster, *notified], ready=ready)


def _component(node: Node, name: str, words: list[str], ready: str) -> None:
    """Start one component; the environment selects which one the binary is."""
    place = node.lab.path / "guests" / name
    for folder in ("ssh", "tls", "gpg", "plugins"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    env = {
        "ARGOCD_BINARY_NAME": f"argocd-{name}",
        "ARGOCD_FAKE_IN_CLUSTER": "true",  # https://kubernetes.default.svc is the kubeconfig's
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_SSH_DATA_PATH": str(place / "ssh"),
        "ARGOCD_TLS_DATA_PATH": str(place / "tls"),
        "ARGOCD_GNUPGHOME": str(place / "gpg"),
        "ARGOCD_GPG_DATA_PATH": str(place / "gpg"),
        "ARGOCD_PLUGINSOCKFILEPATH": str(place / "plugins"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    logs = ["--loglevel=info", "--logformat=text"]
    argv: list[str | Path] = [node.lab.bin / "argocd", *words, *logs]
    guests.start(node, name, argv, env=env, ready=ready)


def _serve_charts(node: Node, built: Built) -> None:
    place = node.lab.path / "charts"
    helm = node.lab.bin / "helm"
    for version, istio in built.programs.istio.items():
        for chart in _CHARTS:
            stamp = [f"--version={version}", f"--app-version={version}"]
            with tempfile.TemporaryDirectory() as folder:
                source = _stamped(istio / "manifests/charts" / chart, Path(folder), version)
                run([helm, "package", source, *stamp, f"--destination={place}"])
    run([helm, "repo", "index", place])
    serve = ["-m", "http.server", "--bind=127.0.0.1", f"--directory={place}", "18090"]
    guests.start(node, "charts", [sys.executable, *serve], ready=f"{CHARTS}/index.yaml")


def _stamped(chart: Path, folder: Path, version: str) -> Path:
    """Copy a chart with the images of that version as its defaults, as Istio publishes it."""
    copy = Path(shutil.copytree(chart, folder / chart.name, copy_function=shutil.copyfile))
    values = (copy / "values.yaml").read_text()
    values = re.sub(r'(?m)^( +hub:) [^"\s]+$', rf"\1 {images.ISTIO_HUB}", values)
    values = re.sub(r"(?m)^( +tag:) latest$", rf'\1 "{version}"', values)
    (copy / "values.yaml").write_text(values)
    return copy


def _make_repository(node: Node) -> None:
    place = repository(node)
    run(["git", "init", "--quiet", "--initial-branch=main", place])
    for name, value in (("user.name", "lab"), ("user.email", "lab@example.com")):
        run(["git", "-C", place, "config", name, value])
    run(["git", "-C", place, "commit", "--quiet", "--allow-empty", "--message=Begin"])
