"""The target's programs from its images, read from a registry; no container is started."""

import hashlib
import platform
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshgate.collect.errors import ReadError
from meshgate.collect.temporary import temporary_folder

PROGRAMS = {"pilot-discovery": "docker.io/istio/pilot", "envoy": "docker.io/istio/proxyv2"}
_FOLDER = "usr/local/bin"

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The registry of names that begin with docker.io.
_DOCKER = {"docker.io": "registry-1.docker.io"}


def fetch(image: str, program: str, folder: Path) -> Path:
    """Write a program of an image into a folder, and return its path.

    Args:
        image: the name with tag or digest.
        program: the name of the program in `/usr/local/bin`.
        folder: is created; a program that is there already is not read again.

    Returns:
        The path of the program.

    Raises:
        ReadError: the registry does not respond, or the image does not contain the program.
        OSError: the folder cannot be written.
    """
    target = folder / program
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with _explained(image):
        registry = _Registry(image)
        for digest in reversed(registry.layers()):
            with temporary_folder(folder) as temporary:
                layer = temporary / "layer"
                registry.download(digest, layer)
                found = temporary / program
                if _extract(layer, f"{_FOLDER}/{program}", found):
                    found.chmod(0o755)
                    return found.replace(target)
    raise ReadError(f"the image {image} contains no /{_FOLDER}/{program}", "check the image's name")


@contextmanager
def _explained(image: str) -> Iterator[None]:
    import requests  # noqa: PLC0415 - with the client

    try:
        yield
    except (requests.RequestException, tarfile.TarError, ValueError, KeyError, EOFError) as error:
        raise ReadError(
            f"cannot read the image {image}: {error}",
            "check its name and the login of the registry, or pass the programs with --programs",
        ) from error


class _Registry:
    """The registry of one image."""

    def __init__(self, image: str) -> None:
        from oras.container import Container  # noqa: PLC0415 - only where images are read
        from oras.provider import Registry  # noqa: PLC0415

        host, _, rest = image.partition("/")
        name = f"{_DOCKER.get(host, host)}/{rest}"
        local = host.partition(":")[0] in ("localhost", "127.0.0.1")
        self._client = Registry(insecure=local)
        self._image = Container(name)
        self._client.auth.load_configs(self._image)

    def layers(self) -> list[str]:
        """Return the digests of the layers for this machine, the lowest first."""
        manifest = self._manifest(self._image.digest or self._image.tag)
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            manifest = self._manifest(_of_this_machine(manifest))
        return [each["digest"] for each in manifest["layers"]]

    def _manifest(self, reference: str) -> Any:
        url = f"{self._client.prefix}://{self._image.manifest_url(reference)}"
        answer = self._client.do_request(
            url, headers={"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}
        )
        answer.raise_for_status()
        if reference.startswith("sha256:"):
            _check(hashlib.sha256(answer.content).hexdigest(), reference)
        return answer.json()

    def download(self, digest: str, file: Path) -> None:
        """Write a layer into a file; raise ValueError if its content has another digest."""
        seen = hashlib.sha256()
        with (
            self._client.get_blob(self._image, digest, stream=True) as answer,
            file.open("wb") as out,
        ):
            answer.raise_for_status()
            for chunk in answer.iter_content(1024 * 1024):
                seen.update(chunk)
                out.write(chunk)
        _check(seen.hexdigest(), digest)


def _check(found: str, digest: str) -> None:
    if digest != f"sha256:{found}":
        raise ValueError(f"the content of {digest} has the digest sha256:{found}")


def _of_this_machine(index: Any) -> str:
    machine = platform.machine()
    wanted = "linux", _ARCHITECTURES.get(machine, machine)
    for each in index["manifests"]:
        found = each.get("platform") or {}
        if (found.get("os"), found.get("architecture")) == wanted:
            return str(each["digest"])
    raise ValueError(f"it has no variant for {'/'.join(wanted)}")


def _extract(layer: Path, name: str, target: Path) -> bool:
    """Write a file of a layer.

    Args:
        layer: an archive.
        name: the path of the file in it.
        target: where the file is written.

    Returns:
        Whether the layer contains it.
    """
    with tarfile.open(layer, "r:*") as archive:
        for member in archive:
            if member.isfile() and member.name.removeprefix("./").lstrip("/") == name:
                content = archive.extractfile(member)
                if content is None:
                    return False
                with content, target.open("wb") as out:
                    while chunk := content.read(1024 * 1024):
                        out.write(chunk)
                return True
    return False
