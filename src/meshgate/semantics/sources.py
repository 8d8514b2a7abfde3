"""Where an object of a mesh comes from: a file in a repository."""

from collections.abc import Mapping
from typing import Any

import yaml

from meshgate.snapshot.offline_bundle import SOURCE_ANNOTATIONS, OfflineBundle

_SOURCE, _ORIGIN = SOURCE_ANNOTATIONS


def source(annotations: Mapping[str, str]) -> str:
    """Return the file that an object's annotations name; empty if they name none.

    `meshgate/source` has the path itself.  kustomize's annotation is YAML with a path, and for a
    file of another repository with that and its revision.
    """
    if own := annotations.get(_SOURCE, "").strip():
        return own
    try:
        origin = yaml.safe_load(annotations.get(_ORIGIN, ""))
    except yaml.YAMLError:
        return ""
    if not isinstance(origin, dict) or not isinstance(path := origin.get("path"), str):
        return ""
    repository, revision = origin.get("repo", ""), origin.get("ref", "")
    return f"{repository}/{path}{f'@{revision}' if revision else ''}" if repository else path


def sources(bundle: OfflineBundle) -> dict[str, str]:
    """Return the file of each recorded object that names one, by `Kind namespace/name`."""
    found: dict[str, str] = {}
    for listed in bundle.listed.values():
        for each in listed.objects:
            metadata: dict[str, Any] = each["metadata"]
            if file := source(metadata.get("annotations") or {}):
                namespace = metadata.get("namespace", "")
                name = f"{namespace}/{metadata['name']}" if namespace else metadata["name"]
                found[f"{listed.kind} {name}"] = file
    return found
