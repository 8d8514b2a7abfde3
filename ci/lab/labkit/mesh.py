"""What runs on the node: CoreDNS, the Gateway API, Istio, and the sample estate."""

import json
import re
import shutil
import string
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from labkit import ambient
from labkit.build import Built
from labkit.health import wait_healthy
from labkit.node import Node
from labkit.paths import SOURCE, LabDir
from labkit.steps import LabError, poll, run, step
from labkit.versions import versions

MANIFESTS = SOURCE / "manifests"
_GATEWAYS = "gateways.gateway.networking.k8s.io"
ESTATE = ("istio-ingress", "shop", "payments", "legacy")
AMBIENT_ESTATE = ("library", "gallery")


@dataclass(frozen=True)
class Installed:
    """The options of the last installation or upgrade of Istio."""

    istio: str
    revision: str = ""
    replicas: int = 1
    dual_stack: bool = False
    ambient: bool = False

    @classmethod
    def load(cls, lab: LabDir) -> "Installed":
        """Read them from the lab's folder."""
        return cls(**json.loads((lab.path / "mesh.json").read_text()))

    def save(self, lab: LabDir) -> None:
        """Write them to the lab's folder."""
        (lab.path / "mesh.json").write_text(json.dumps(asdict(self)))


def install(node: Node, built: Built, wanted: Installed) -> None:
    """Install everything on an empty node."""
    link_programs(node.lab, built, wanted.istio)
    with step("CoreDNS"):
        _apply(node, MANIFESTS / "coredns.yaml")
    install_gateway_api(node, built, wanted.istio)
    if wanted.ambient:
        ambient.import_images(node, built)
    _install_istio(node, built, wanted)
    if wanted.revision:
        _set_tag(node, wanted, "default")
    with step("the sample estate"):
        istiod = f"istiod-{wanted.revision}" if wanted.revision else "istiod"
        _apply(node, *sorted((MANIFESTS / "estate").glob("*.yaml")), istiod=istiod)
        _make_certificate(node)
    if wanted.ambient:
        with step("the sample estate in ambient mode"):
            _apply(node, *sorted((MANIFESTS / "ambient").glob("*.yaml")))
    wanted.save(node.lab)
    wait_healthy(node)


def upgrade(node: Node, built: Built, version: str, *, restart: bool) -> None:
    """Upgrade Istio in place; with `restart`, restart the workloads too."""
    wanted = replace(Installed.load(node.lab), istio=version)
    link_programs(node.lab, built, version)
    install_gateway_api(node, built, version)
    _install_istio(node, built, wanted)
    wanted.save(node.lab)
    with step("wait for istiod to upgrade its managed gateways"):
        poll("gateways of the new version", lambda: _old_gateways(node, version), timeout=120)
    if restart:
        with step("restart the estate"):
            for namespace in (*ESTATE, *(AMBIENT_ESTATE if wanted.ambient else ())):
                node.kubectl("rollout", "restart", "deployment,statefulset", "-n", namespace)
    wait_healthy(node)


def _old_gateways(node: Node, version: str) -> str:
    """Return a line for every managed gateway whose image is not of this version."""
    made = node.items("deployments", "--all-namespaces", "-lgateway.networking.k8s.io/gateway-name")
    return "\n".join(
        f"{each['metadata']['namespace']}/{each['metadata']['name']} has {container['image']}"
        for each in made
        for container in each["spec"]["template"]["spec"]["containers"]
        if not container["image"].endswith(f":{version}")
    )


def add_revision(node: Node, built: Built, version: str, tag: str | None) -> None:
    """Install a second control plane, and point a tag to it."""
    revision = versions().istio_release(version).revision
    wanted = replace(Installed.load(node.lab), istio=version, revision=revision)
    install_gateway_api(node, built, version)
    _install_istio(node, built, wanted)
    if tag:
        _set_tag(node, wanted, tag)
    wait_healthy(node)


def install_gateway_api(node: Node, built: Built, istio: str) -> None:
    """Install the Gateway API bundle that this Istio release is built with, or upgrade to it.

    An older bundle never replaces a newer one: the bundle's own admission policy forbids that.
    """
    crds = built.programs.istio[istio] / "gateway-api"
    wanted = _bundle_version((crds / "gateway.networking.k8s.io_gateways.yaml").read_text())
    installed = node.items("crds", f"--field-selector=metadata.name={_GATEWAYS}")
    served = max((_bundle_version(json.dumps(each)) for each in installed), default=(0, 0, 0))
    if served < wanted:
        with step(f"Gateway API {'.'.join(map(str, wanted))}"):
            node.kubectl("apply", "--server-side", "--force-conflicts", "--filename", crds)


def _bundle_version(crd: str) -> tuple[int, int, int]:
    """Return the version of the bundle that a CRD, as YAML or JSON, belongs to."""
    found = re.search(r'/bundle-version"?: "?v(\d+)\.(\d+)\.(\d+)', crd)
    if not found:
        raise LabError("the CRD of the Gateway API names no bundle version")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def link_programs(lab: LabDir, built: Built, istio: str) -> None:
    """Link the programs that `lab exec` has in its PATH."""
    programs = built.programs
    links = {
        "kubectl": programs.kubernetes / "bin/kubectl",
        "labapp": programs.app / "bin/labapp",
        "istioctl": programs.istio[istio] / "bin/istioctl",
    }
    for version, place in programs.istio.items():
        links[f"istioctl-{version}"] = place / "bin/istioctl"
    lab.link(links)


def _make_certificate(node: Node) -> None:
    """Create a self-signed certificate for all hosts, in the namespaces of the gateways."""
    place = node.lab.shared
    hosts = ("shop", "limited", "api", "partners", "secure")
    names = ",".join(f"DNS:{host}.example.com" for host in hosts)
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365"
    files = ["-keyout", "/var/lib/meshgate/tls.key", "-out", "/var/lib/meshgate/tls.crt"]
    subject = ["-subj", "/CN=shop.example.com", "-addext", f"subjectAltName={names}"]
    run(node.inside([*request.split(), *subject, *files]))
    pair = [f"--cert={place / 'tls.crt'}", f"--key={place / 'tls.key'}"]
    for namespace in ("istio-ingress", "shop"):
        node.kubectl("create", "secret", "tls", "shop-cert", f"--namespace={namespace}", *pair)
    # the CA that partners need a certificate of is this certificate, so nobody has one
    keys = {"tls.crt": "tls.crt", "tls.key": "tls.key", "ca.crt": "tls.crt"}
    files = [f"--from-file={key}={place / file}" for key, file in keys.items()]
    where = "--namespace=istio-ingress"
    node.kubectl("create", "secret", "generic", "partners-cert", where, *files)


def _install_istio(node: Node, built: Built, wanted: Installed) -> None:
    """Install Istio, or upgrade in place what is there under this revision."""
    with step(" ".join(["istioctl install", wanted.istio, wanted.revision]).strip()):
        node.run(
            f"istioctl-{wanted.istio}", "install", "--skip-confirmation",
            "--readiness-timeout=120s", *_chosen(built, wanted),
            timeout=300,
        )  # fmt: skip


def _chosen(built: Built, wanted: Installed) -> list[str | Path]:
    """Return the options of istioctl for this installation."""
    settings = {"tag": wanted.istio, "components.pilot.k8s.replicaCount": wanted.replicas}
    if wanted.revision:
        settings["revision"] = wanted.revision
    files = [
        MANIFESTS / "iop.yaml",
        *([MANIFESTS / "dual-stack.yaml"] if wanted.dual_stack else []),
        *([MANIFESTS / "ambient.yaml"] if wanted.ambient else []),
    ]
    return [
        *("--manifests", built.programs.istio[wanted.istio] / "manifests"),
        *(word for file in files for word in ("--filename", file)),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    ]


def write_target(node: Node, built: Built, version: str, folder: Path) -> None:
    """Write the programs of a release, and the manifests that would be applied."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(built.programs.istio[version] / "bin/pilot-discovery", folder)
    shutil.copy(built.programs.envoy[version] / "envoy", folder)
    (folder / "envoy").chmod(0o755)
    wanted = replace(Installed.load(node.lab), istio=version, revision="")
    command = [f"istioctl-{version}", "manifest", "generate", *_chosen(built, wanted)]
    (folder / "istiod.yaml").write_text(node.run(*command))


def _set_tag(node: Node, installed: Installed, tag: str) -> None:
    with step(f"point tag {tag} to revision {installed.revision}"):
        command = ["tag", "set", tag, "--revision", installed.revision]
        node.run(f"istioctl-{installed.istio}", *command, "--overwrite", "--skip-confirmation")


def _apply(node: Node, *files: Path, istiod: str = "istiod") -> None:
    text = "\n---\n".join(file.read_text() for file in files)
    filled = string.Template(text).safe_substitute(coredns=versions().coredns, istiod=istiod)
    node.kubectl("apply", "--filename=-", stdin=filled)
