"""Programs from images: verified by digest, from the right layer and for this machine."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.images import fetch
from tests.conftest import Serve
from tests.support.fakes import Answer, Request, answer

NAME = "istio/pilot"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def layer(**files: bytes) -> bytes:
    """A layer with these programs in /usr/local/bin."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(f"usr/local/bin/{name}")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return content.getvalue()


def digest(content: bytes) -> str:
    """The digest of content, as registries name it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """A registry with one image of these layers, for this machine and another one."""

    def __init__(self, *layers: bytes) -> None:
        self.blobs = {digest(each): each for each in layers}
        manifest = json.dumps(
            {"mediaType": MANIFEST, "layers": [{"digest": digest(each)} for each in layers]}
        ).encode()
        index = json.dumps(
            {
                "mediaType": INDEX,
                "manifests": [
                    {"digest": "sha256:0", "platform": {"os": "linux", "architecture": "s390x"}},
                    {
                        "digest": digest(manifest),
                        "platform": {"os": "linux", "architecture": MACHINE},
                    },
                ],
            }
        ).encode()
        self.manifests = {"1.31.0": index, digest(manifest): manifest}
        self.asked: list[str] = []

    def answers(self) -> dict[str, Any]:
        """What it answers, by path."""

        def found(content: bytes) -> Any:
            def reply(request: Request) -> Answer:
                self.asked.append(request.path)
                return Answer(200, content)

            return reply

        return {
            **{f"/v2/{NAME}/manifests/{name}": found(it) for name, it in self.manifests.items()},
            **{f"/v2/{NAME}/blobs/{name}": found(content) for name, content in self.blobs.items()},
        }


def image(url: str, tag: str = "1.31.0") -> str:
    """The name of the image in that registry."""
    return f"{url.removeprefix('http://')}/{NAME}:{tag}"


def test_the_program_of_the_highest_layer_is_written_once(serve: Serve, tmp_path: Path) -> None:
    registry = Registry(layer(envoy=b"old"), layer(envoy=b"new"), layer(other=b""))
    name = image(serve(registry.answers()).url)

    program = fetch(name, "envoy", tmp_path / "programs")
    asked = len(registry.asked)
    again = fetch(name, "envoy", tmp_path / "programs")

    assert program == again == tmp_path / "programs/envoy"
    assert program.read_bytes() == b"new"
    assert program.stat().st_mode & 0o111
    assert len(registry.asked) == asked
    assert [each.name for each in (tmp_path / "programs").iterdir()] == ["envoy"]


def test_a_layer_that_was_changed_is_not_used(serve: Serve, tmp_path: Path) -> None:
    registry = Registry(layer(envoy=b"right"))
    registry.blobs = dict.fromkeys(registry.blobs, layer(envoy=b"wrong"))

    with pytest.raises(ReadError, match="has the digest"):
        fetch(image(serve(registry.answers()).url), "envoy", tmp_path)

    assert not (tmp_path / "envoy").exists()


def test_an_image_without_the_program_is_named(serve: Serve, tmp_path: Path) -> None:
    name = image(serve(Registry(layer(other=b"")).answers()).url)

    with pytest.raises(ReadError, match="contains no /usr/local/bin/envoy") as raised:
        fetch(name, "envoy", tmp_path)

    assert name in raised.value.why


def test_an_image_that_is_not_there_is_named(serve: Serve, tmp_path: Path) -> None:
    name = image(serve({}).url, "9.9.9")

    with pytest.raises(ReadError, match="cannot read the image"):
        fetch(name, "envoy", tmp_path)


def test_an_image_for_other_machines_is_not_used(serve: Serve, tmp_path: Path) -> None:
    url = serve({f"/v2/{NAME}/manifests/1": answer({"mediaType": INDEX, "manifests": []})}).url

    with pytest.raises(ReadError, match=f"no variant for linux/{MACHINE}"):
        fetch(image(url, "1"), "envoy", tmp_path)
