"""Writes go/*/go.mod and go.sum from versions.toml: one module for each project, with its programs
as tools, so that `go install tool` builds what go.sum vouches for."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from labkit.paths import SOURCE
from labkit.steps import run, step
from labkit.versions import versions

_ISTIO = ("istioctl/cmd/istioctl", "pilot/cmd/pilot-agent", "pilot/cmd/pilot-discovery")
_KUBERNETES = (
    "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubeadm",
    "kubectl", "kubelet",
)  # fmt: skip
# Some of what Istio needs of this project is not in the checksum database.
# GOTOOLCHAIN: Argo CD needs a newer Go than the host may have; the module proxy serves it.
_ENV = {
    **os.environ,
    "GONOSUMDB": "github.com/openshift/*",
    "GOFLAGS": "-mod=mod",
    "GOTOOLCHAIN": "auto",
}


@dataclass(frozen=True)
class _Module:
    """One folder below go/."""

    folder: str
    path: str
    version: str
    programs: tuple[str, ...]
    replace: tuple[str, ...] = ()


def write() -> None:
    """Write them all."""
    for module in _modules():
        with step(f"lock {module.folder}"):
            _write(module)


def _modules() -> list[_Module]:
    v = versions()
    kubernetes = tuple(f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES)
    istio = tuple(f"istio.io/istio/{name}" for name in _ISTIO)
    etcd, coredns = "go.etcd.io/etcd/server/v3", "github.com/coredns/coredns"
    argocd, helm = "github.com/argoproj/argo-cd/v3", "helm.sh/helm/v3"
    prometheus, alertmanager = (
        f"github.com/prometheus/{name}" for name in ("prometheus", "alertmanager")
    )
    return [
        _Module("kubernetes", "k8s.io/kubernetes", f"v{v.kubernetes}", kubernetes),
        _Module("etcd", etcd, f"v{v.etcd}", (etcd,)),
        _Module("coredns", coredns, f"v{v.coredns}", (coredns,)),
        *(
            _Module(f"argocd-{a.version}", argocd, f"v{a.version}", (f"{argocd}/cmd",), a.replace)
            for a in v.argocd.values()
        ),
        _Module(
            "rollouts",
            "github.com/argoproj/argo-rollouts",
            f"v{v.rollouts}",
            ("github.com/argoproj/argo-rollouts/cmd/rollouts-controller",),
        ),
        _Module(
            "prometheus",
            prometheus,
            f"v{v.prometheus}",
            (f"{prometheus}/cmd/prometheus", f"{prometheus}/cmd/promtool"),
        ),
        _Module(
            "alertmanager",
            alertmanager,
            f"v{v.alertmanager}",
            (f"{alertmanager}/cmd/alertmanager",),
        ),
        _Module("helm", helm, f"v{v.helm}", (f"{helm}/cmd/helm",)),
        *(
            _Module(f"istio-{i.version}", "istio.io/istio", i.module_version, istio, i.replace)
            for i in v.istio.values()
        ),
    ]


def _write(module: _Module) -> None:
    download = ["go", "mod", "download", "-json", f"{module.path}@{module.version}"]
    upstream = Path(json.loads(run(download, env=_ENV, cwd=SOURCE))["GoMod"]).read_text()
    (go,) = re.findall(r"^go .*$", upstream, re.MULTILINE)
    tools = "".join(f"\t{program}\n" for program in module.programs)
    replaces = [
        *_upstream_replaces(upstream),
        *_staging_replaces(upstream, module.version),
        *module.replace,
    ]
    parts = [
        f"module lab/{module.folder}",
        go,
        f"require {module.path} {module.version}",
        f"tool (\n{tools})",
        "replace (\n" + "".join(f"\t{line}\n" for line in replaces) + ")" if replaces else "",
    ]
    folder = SOURCE / "go" / module.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text("\n\n".join(parts) + "\n")
    (folder / "go.sum").unlink(missing_ok=True)
    run(["go", "mod", "tidy"], env=_ENV, cwd=folder)


def _upstream_replaces(upstream: str) -> list[str]:
    """A module's own replacements do not count where it is a dependency: say them again."""
    lines = re.findall(r"^(?:replace )?\s*([^\s(]+(?: v\S+)? => [^\s.].*)$", upstream, re.MULTILINE)
    return [str(line) for line in lines]


def _staging_replaces(upstream: str, version: str) -> list[str]:
    """Kubernetes requires its own libraries at v0.0.0, and means v0.MINOR.PATCH."""
    names = re.findall(r"^\s+(k8s\.io/[a-z0-9.-]+) v0\.0\.0$", upstream, re.MULTILINE)
    return [f"{name} => {name} v0.{version.removeprefix('v1.')}" for name in names]
