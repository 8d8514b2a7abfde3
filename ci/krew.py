"""Write the plugin for krew into dist/krew: an archive, and the manifest with its checksum.

The archive is reproducible.
"""

import gzip
import hashlib
import io
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "packaging/krew"
SCRIPT, MANIFEST, ARCHIVE = "kubectl-meshgate", "meshgate.yaml", "kubectl-meshgate.tar.gz"


def archive(version: str) -> bytes:
    """Return a tar.gz with the script for this version, and the license."""
    files = {
        SCRIPT: (SOURCE / SCRIPT).read_text().replace("=VERSION", f"={version}"),
        "LICENSE": (ROOT / "LICENSE").read_text(),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if name == SCRIPT else 0o644
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)


def manifest(version: str, packed: bytes) -> str:
    """Return the manifest with the version and the checksum of the archive."""
    text = (SOURCE / MANIFEST).read_text().replace("vVERSION", f"v{version}")
    return text.replace("0" * 64, hashlib.sha256(packed).hexdigest())


def main(folder: Path) -> None:
    """Write both files."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    packed = archive(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARCHIVE).write_bytes(packed)
    (folder / MANIFEST).write_text(manifest(version, packed))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist/krew")
