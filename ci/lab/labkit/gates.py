"""The project's own image: built with buildah from its Dockerfile, pushed to a registry in the lab,
from which the node pulls it as it would anywhere. Bases and wheels are made here, as nothing can be
pulled from outside."""

import json
import subprocess
import tomllib
from pathlib import Path

from labkit import guests, paths
from labkit.build import Ingredients, build_ingredients, build_services, host_program
from labkit.node import Node
from labkit.steps import locked, run, step

REGISTRY = "localhost:5000"  # a name for which containerd speaks plain HTTP by itself

_BASE, _ISTIOCTL = "localhost/meshgate-base", "localhost/istioctl"


def build_image(istio: str, *, cached: bool = True) -> str:
    """Build it with the istioctl of that Istio release, in buildah's storage, and return its name.

    Without `cached`, every layer of the project is built again.
    """
    host_program("buildah")
    made = build_ingredients(istio)
    image = f"localhost/meshgate:{_version()}-istio{istio}"
    with locked(paths.cache() / "image.lock"), step("build the image"):
        _layer(_BASE, made.base, "COPY . /")
        _layer(f"{_ISTIOCTL}:{istio}", made.istioctl, "COPY istioctl /usr/local/bin/istioctl")
        cache = [] if cached else ["--no-cache"]
        options = [*_build_options(made, istio), *cache]
        run(_buildah("build", *options, "--tag", image, paths.PROJECT))
    return image


def export(image: str, layout: Path) -> None:
    """Write the image to that folder, as an OCI layout."""
    run(_buildah("push", image, f"oci:{layout}:lab"))


def push(node: Node, image: str) -> str:
    """Push it to the lab's registry; return its name there, with the digest."""
    digest_file = node.lab.path / "image.digest"
    start_registry(node)
    with step("push the image"):
        target = f"docker://{REGISTRY}/meshgate:{image.rpartition(':')[2]}"
        options = ["--tls-verify=false", f"--digestfile={digest_file}"]
        node.run(*_buildah("push", *options, image, target), timeout=600)
    return f"{REGISTRY}/meshgate@{digest_file.read_text().strip()}"


def start_registry(node: Node) -> None:
    """Start a registry, which runs until the lab is down."""
    program = build_services() / "usr/bin/docker-registry"
    place = node.lab.path / "registry"
    place.mkdir(exist_ok=True)
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(place)}},
        "http": {"addr": REGISTRY},
    }
    config = place / "config.yml"
    config.write_text(json.dumps(settings))
    guests.start(node, "registry", [program, "serve", config], ready=f"http://{REGISTRY}/v2/")


def _layer(name: str, context: Path, instruction: str) -> None:
    file = f"FROM scratch\n{instruction}\n"
    run(_buildah("build", *_SAME_BYTES, "--file", "-", "--tag", name, context), stdin=file)


def _build_options(made: Ingredients, istio: str) -> list[str]:
    arguments = {
        "BASE": _BASE,
        "ISTIOCTL": f"{_ISTIOCTL}:{istio}",
        "PIP_OPTIONS": "--no-index --find-links=/wheels",
        "ISTIO": istio,
        "VERSION": _version(),
        "REVISION": _revision(),
    }
    words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    return [*_SAME_BYTES, "--isolation=chroot", f"--volume={made.wheels}:/wheels:ro", *words]


_SAME_BYTES = ["--layers", "--pull-never", "--timestamp=0", "--quiet"]


def _version() -> str:
    """Return meshgate's version, as pyproject.toml has it."""
    project: dict[str, str] = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())[
        "project"
    ]
    return project["version"]


def _revision() -> str:
    command = ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _buildah(*words: str | Path) -> list[str | Path]:
    storage = paths.home() / "buildah"
    places = [f"--root={storage}", f"--runroot={storage}-run", "--storage-driver=overlay"]
    return ["buildah", *places, *words]
