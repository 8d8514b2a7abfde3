"""The ServiceAccount of the hook Jobs, with exactly the rights that are printed for it."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.lab.harness import Lab

NAMESPACE = "istio-system"
VERIFIER = f"{NAMESPACE}/istio-verification-sa"


def grant(lab: Lab, *options: str) -> None:
    """Makes it, and gives it what it needs; `options` are those of `meshgate rbac`."""
    account = {"name": "istio-verification-sa", "namespace": NAMESPACE}
    lab.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        _binding("ClusterRole"),
        _binding("Role") | {"metadata": {"name": "istio-verification", "namespace": NAMESPACE}},
        *roles(*options),
    )


@cache
def _printed(*options: str) -> str:
    return subprocess.run(
        [Path(sys.executable).with_name("meshgate"), "rbac", *options],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def roles(*options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ClusterRole that reads, and the Role that keeps baselines, as they are printed."""
    reads, writes = json.loads(_printed(*options))["items"]
    return reads, writes


def _binding(kind: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": "istio-verification"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": kind,
            "name": "istio-verification",
        },
        "subjects": [
            {"kind": "ServiceAccount", "name": "istio-verification-sa", "namespace": NAMESPACE}
        ],
    }
