"""The plugin for krew: its manifest follows krew's rules, and its script runs meshgate."""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT

NAME = r"^[a-z0-9](-?[a-z0-9]+)*$"
# the rules of krew's own validation (pkg/index/validation and pkg/index/types)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "krew.googlecontainertools.github.com/v1alpha2"},
        "kind": {"const": "Plugin"},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": {"type": "string", "pattern": NAME}},
        },
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["version", "shortDescription", "platforms"],
            "properties": {
                "version": {"type": "string", "pattern": r"^v\d+\.\d+\.\d+$"},
                "homepage": {"type": "string", "pattern": "^https://"},
                "shortDescription": {"type": "string", "minLength": 1, "maxLength": 60},
                "description": {"type": "string", "minLength": 1},
                "caveats": {"type": "string", "minLength": 1},
                "platforms": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["uri", "sha256", "bin", "selector"],
                        "properties": {
                            "uri": {"type": "string", "pattern": r"^https://.+\.(tar\.gz|zip)$"},
                            "sha256": {"type": "string", "pattern": "^[a-f0-9]{64}$"},
                            "bin": {"type": "string", "pattern": "^[^/.]"},
                            "selector": {"type": "object", "minProperties": 1},
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that `make krew` writes."""
    folder = tmp_path_factory.mktemp("krew")
    subprocess.run([sys.executable, ROOT / "ci/krew.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def manifest(plugin: Path) -> dict[str, Any]:
    """Return its manifest."""
    found: dict[str, Any] = yaml.safe_load((plugin / "meshgate.yaml").read_text())
    return found


def test_the_manifest_is_valid(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["metadata"]["name"] == "meshgate"


def test_it_names_the_archive_that_was_written(manifest: dict[str, Any], plugin: Path) -> None:
    (platform,) = manifest["spec"]["platforms"]
    packed = (plugin / platform["uri"].rpartition("/")[2]).read_bytes()

    assert platform["sha256"] == hashlib.sha256(packed).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert set(tar.getnames()) == {platform["bin"], "LICENSE"}
        assert tar.getmember(platform["bin"]).mode & 0o111


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("meshgate", "meshgate demo"),
        ("uvx", "uvx meshgate=={} demo"),
        ("pipx", "pipx run meshgate=={} demo"),
    ],
)
def test_the_script_runs_what_is_installed(
    manifest: dict[str, Any], plugin: Path, tmp_path: Path, program: str, words: str
) -> None:
    with tarfile.open(plugin / "kubectl-meshgate.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    fake = tmp_path / "bin" / program
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
    fake.chmod(0o755)

    done = subprocess.run(
        [tmp_path / "kubectl-meshgate", "demo"],
        env={"PATH": f"{fake.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    version = manifest["spec"]["version"].removeprefix("v")
    assert re.sub(r"\s+", " ", done.stdout).strip() == words.format(version)
