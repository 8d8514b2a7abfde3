"""Schemas for kubeconform, of the very releases that the lab runs: from the sources of Kubernetes
and of Argo CD, as go.sum vouches for them."""

import json
import os
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

Schema = dict[str, Any]

_VERSIONS = tomllib.loads((ROOT / "ci/lab/versions.toml").read_text())
_ARGOCD = f"argocd-{_VERSIONS['default_argocd']}"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = "{{ .ResourceKind }}{{ .KindSuffix }}.json"  # of the files, in kubeconform's words
_GROUPS = ("api__v1", "apis__batch__v1", "apis__rbac.authorization.k8s.io__v1")
_METADATA = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


# CRDs of the tools in hooks/adapters and hooks/monitoring, from Go modules that the checksum
# database verifies.
_ADAPTERS = {
    "github.com/argoproj/argo-rollouts@v1.10.2": "manifests/crds/analysis-template-crd.yaml",
    "github.com/fluxcd/kustomize-controller@v1.10.1": "config/crd/bases/*_kustomizations.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/*_prometheusrules.yaml"
    ),
}


def write(folder: Path) -> None:
    """Write a file for each kind of the groups that the chart has objects of, and of Argo CD."""
    _write(folder, (*_kubernetes(), *_argo_cd()))


def write_adapters(folder: Path) -> None:
    """Write a file for each kind of the other tools."""
    for module, pattern in _ADAPTERS.items():
        _write(folder, _crds(_sources("kubernetes", module).glob(pattern)))


def _write(folder: Path, schemas: Iterable[tuple[str, str, str, Schema]]) -> None:
    for group, version, kind, schema in schemas:
        suffix = f"{group.split('.')[0]}-{version}" if group else version
        (folder / f"{kind}-{suffix}.json".lower()).write_text(json.dumps(schema))


def _kubernetes() -> Iterator[tuple[str, str, str, Schema]]:
    for file in _GROUPS:
        components = _components(file)
        for name, schema in components["schemas"].items():
            kinds = schema.get("x-kubernetes-group-version-kind", [])
            if len(kinds) == 1:  # what has more (DeleteOptions) is no object
                whole = {"$ref": f"#/components/schemas/{name}", "components": components}
                yield (*(kinds[0][word] for word in ("group", "version", "kind")), whole)


def _argo_cd() -> Iterator[tuple[str, str, str, Schema]]:
    crds = _sources(_ARGOCD, "github.com/argoproj/argo-cd/v3") / "manifests/crds"
    yield from _crds(crds.glob("*-crd.yaml"))


def _crds(files: Iterable[Path]) -> Iterator[tuple[str, str, str, Schema]]:
    """Yield group, version, kind and schema of every version of CRDs."""
    components = _components(_GROUPS[0])
    for file in files:
        spec = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = _METADATA
            names = (spec["group"], version["name"], spec["names"]["kind"])
            yield (*names, {**schema, "components": components})


def _components(file: str) -> Schema:
    place = _sources("kubernetes", "k8s.io/kubernetes") / "api/openapi-spec/v3"
    found: Schema = _strict(json.loads((place / f"{file}_openapi.json").read_text())["components"])
    return found


def _sources(lab: str, module: str) -> Path:
    """Where a module is unpacked; downloaded, if it is not there."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=ROOT / "ci/lab/go" / lab,
        env={**os.environ, "GOTOOLCHAIN": "auto"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"these tests need Go: {done.stderr}{done.stdout}"
    return Path(json.loads(done.stdout)["Dir"])


def _strict(schema: Any) -> Any:
    """The same, where an object has no other fields than those that are named."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(each) for name, each in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        any_other = found.get("x-kubernetes-preserve-unknown-fields", False)
        found.setdefault("additionalProperties", any_other)
    return found
