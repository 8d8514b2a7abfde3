"""Writes the container images of a lab as one OCI layout, with nothing but tarfile.

The same inputs give the same bytes: no times, no owners, sorted entries.
"""

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from labkit.steps import LabError
from labkit.versions import versions

ISTIO_HUB = "docker.io/istio"
APP_IMAGE = "docker.io/lab/app:1"
PROBER_IMAGE = "docker.io/lab/prober:1"
PYTHON_IMAGE = "docker.io/lab/python:1"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nistio-proxy:x:1337:1337::/home/istio-proxy:/bin/sh\n"
_GROUP = b"root:x:0:\nistio-proxy:x:1337:\n"
_APPLETS = ("cat", "env", "grep", "id", "ip", "ls", "netstat", "ps", "sh", "sleep", "vi")


@dataclass(frozen=True)
class Programs:
    """Where the files that go into images are."""

    kubernetes: Path
    etcd: Path
    coredns: Path
    istio: dict[str, Path]
    envoy: dict[str, Path]
    app: Path
    proxy_base: Path
    prober_base: Path
    python_base: Path


@dataclass(frozen=True)
class Entry:
    """One file, folder or symbolic link of a layer."""

    path: str
    content: Path | bytes | None = None
    link: str = ""
    mode: int = 0o755


@dataclass(frozen=True)
class Image:
    """A name, layers from the bottom up, and how it is run."""

    ref: str
    layers: list[list[Entry]]
    entrypoint: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    user: str = ""


# what each of Istio's images has that is not distroless
_COPY = Entry("bin/cp", link="busybox")


def recipe(programs: Programs) -> str:
    """Changes whenever an image does."""
    return f"{programs}{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


def all_images(programs: Programs) -> list[Image]:
    """Every image that a lab needs."""
    v = versions()
    kubernetes = [
        Image(f"registry.k8s.io/{name}:v{v.kubernetes}", [[_program(programs.kubernetes, name)]])
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    etcd = [Entry("usr/local/bin/etcd", programs.etcd / "bin/server")]
    pause = [Entry("pause", programs.app / "bin/pause")]
    coredns = [_program(programs.coredns, "coredns")]
    base = _base_layer(programs.proxy_base / "base.tar")
    app = [_program(programs.app, "labapp"), *_busybox(base)]
    return [
        *kubernetes,
        Image(f"registry.k8s.io/etcd:{v.etcd_image_tag}", [etcd]),
        Image(f"registry.k8s.io/pause:{v.pause}", [pause], ["/pause"]),
        Image(f"registry.k8s.io/coredns/coredns:v{v.coredns}", [coredns], ["coredns"]),
        Image(APP_IMAGE, [app], ["labapp"]),
        Image(PROBER_IMAGE, [list(_tree(programs.prober_base))], ["prometheus-blackbox-exporter"]),
        Image(PYTHON_IMAGE, [list(_tree(programs.python_base))]),
        *(_pilot(version, place, base) for version, place in programs.istio.items()),
        *(_proxy(version, programs, base) for version in programs.istio),
    ]


def _program(place: Path, name: str) -> Entry:
    return Entry(f"usr/local/bin/{name}", place / "bin" / name)


def _pilot(version: str, place: Path, base: list[Entry]) -> Image:
    tools = [entry for entry in _busybox(base) if entry.path == "bin/busybox"]
    programs = [_program(place, "pilot-discovery"), *tools, _COPY]
    layer = [*_users(), *programs, Entry("tmp", mode=0o1777)]
    ref = f"{ISTIO_HUB}/pilot:{version}"
    return Image(ref, [layer], ["pilot-discovery"], user="1337:1337")


def _proxy(version: str, programs: Programs, base: list[Entry]) -> Image:
    place = programs.istio[version]
    layer = [
        *_users(),
        *_iptables_links(),
        _COPY,
        _program(place, "pilot-agent"),
        Entry("usr/local/bin/envoy", programs.envoy[version] / "envoy"),
        Entry(
            "var/lib/istio/envoy/envoy_bootstrap_tmpl.json",
            _stock_bootstrap((place / "envoy_bootstrap.json").read_text()),
            mode=0o644,
        ),
    ]
    env = [f"ISTIO_META_ISTIO_VERSION={version}", "ISTIO_META_ISTIO_PROXY_SHA=stock-envoy"]
    return Image(f"{ISTIO_HUB}/proxyv2:{version}", [base, layer], ["pilot-agent"], env)


def _stock_bootstrap(template: str) -> bytes:
    """Return a bootstrap without the extension of waypoints that only Istio's Envoy has."""
    extension = r"\{\{- if \.metadata_discovery \}\}.*?\{\{- end \}\}\n"
    kept, count = re.subn(extension, "", template, count=1, flags=re.DOTALL)
    if not count:
        raise LabError("Istio's Envoy bootstrap has no section metadata_discovery")
    return kept.encode()


def ambient_images(programs: Programs, ambient: dict[str, Path]) -> list[Image]:
    """Return the images that only a mesh in ambient mode needs, under Istio's names.

    Args:
        programs: what the other images are made of.
        ambient: for each release, the folder with install-cni, istio-cni and ztunnel.

    Returns:
        An image of the CNI agent, and one of the simulated ztunnel, for each release.
    """
    base = _base_layer(programs.proxy_base / "base.tar")
    found = []
    for version, place in ambient.items():
        agent = [
            *_users(), *_iptables_links(), _program(place, "install-cni"),
            Entry("opt/cni/bin/istio-cni", place / "bin/istio-cni"),
        ]  # fmt: skip
        ztunnel = [_program(place, "ztunnel"), Entry("tmp", mode=0o1777)]
        env = [f"ISTIO_META_ISTIO_VERSION={version}"]
        found += [
            Image(f"{ISTIO_HUB}/install-cni:{version}", [base, agent], ["install-cni"]),
            Image(f"{ISTIO_HUB}/ztunnel:{version}", [ztunnel], ["ztunnel"], env),
        ]
    return found


def _users() -> list[Entry]:
    return [Entry("etc/passwd", _PASSWD, mode=0o644), Entry("etc/group", _GROUP, mode=0o644)]


def _iptables_links() -> Iterator[Entry]:
    """What the package's postinst would have linked: it is only unpacked, never configured."""
    for family in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            yield Entry(f"usr/sbin/{family}{suffix}", link="xtables-nft-multi")


def _base_layer(archive: Path) -> list[Entry]:
    """Debian's files, without device nodes and without the mirror's address."""
    with tarfile.open(archive) as tar:
        return [
            _copied(tar, member)
            for member in tar
            if not member.isdev() and not member.name.startswith(("./dev", "./etc/apt"))
        ]


def _copied(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    name = member.name.removeprefix("./")
    if member.issym():
        return Entry(name, link=member.linkname)
    file = tar.extractfile(member)  # follows hard links; None for a folder
    return Entry(name, file.read() if file else None, mode=member.mode)


def _tree(folder: Path) -> Iterator[Entry]:
    """What is under a folder; links stay links."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                yield Entry(name, link=str(path.readlink()))
            else:
                content = path if path.is_file() else None
                yield Entry(name, content, mode=stat.S_IMODE(path.stat().st_mode))


def _busybox(base: list[Entry]) -> list[Entry]:
    """For looking around in a pod; but a static libc cannot look names up: use labapp for that."""
    binary = next(entry for entry in base if entry.path == "bin/busybox")
    return [binary, *(Entry(f"bin/{name}", link="busybox") for name in _APPLETS)]


# --- the layout on disk -----------------------------------------------------------------------


def write_layout(images: Iterable[Image], into: Path) -> None:
    """Write the images as an OCI image layout; equal layers are stored once."""
    blobs = into / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    index = {"schemaVersion": 2, "manifests": [_write_image(i, blobs) for i in images]}
    (into / "index.json").write_text(json.dumps(index))
    (into / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _write_image(image: Image, blobs: Path) -> dict[str, object]:
    kind = "application/vnd.oci.image"
    layers = [_write_layer(entries, blobs, f"{kind}.layer.v1.tar") for entries in image.layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint or None,
            "Env": [_PATH, *image.env],
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _write_json(config, blobs, f"{kind}.config.v1+json"),
        "layers": layers,
    }
    return {
        **_write_json(manifest, blobs, f"{kind}.manifest.v1+json"),
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"io.containerd.image.name": image.ref},
    }


def _write_json(content: object, blobs: Path, media_type: str) -> dict[str, object]:
    data = json.dumps(content, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


class _HashingFile(io.RawIOBase):
    """Writes to a file and hashes what passes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)


def _write_layer(entries: list[Entry], blobs: Path, media_type: str) -> dict[str, object]:
    partial = blobs / "partial"
    with partial.open("wb") as file:
        sink = _HashingFile(file)
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for entry in _with_parents(entries):
                _add(tar, entry)
    digest = sink.digest.hexdigest()
    partial.rename(blobs / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": sink.size}


def _with_parents(entries: list[Entry]) -> list[Entry]:
    by_path = {entry.path.rstrip("/"): entry for entry in entries}
    for path in list(by_path):
        for parent in PurePosixPath(path).parents:
            by_path.setdefault(str(parent), Entry(str(parent)))
    by_path.pop(".", None)
    by_path.pop("", None)
    return [by_path[path] for path in sorted(by_path)]


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode = entry.mode
    if entry.link:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(info)
    elif entry.content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif isinstance(entry.content, bytes):
        info.size = len(entry.content)
        tar.addfile(info, io.BytesIO(entry.content))
    else:
        info.size = entry.content.stat().st_size
        with entry.content.open("rb") as file:
            tar.addfile(info, file)
