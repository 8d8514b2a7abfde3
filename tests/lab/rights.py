"""The ServiceAccount of the hook Jobs, with exactly the rights that are printed for it."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from meshgate.collect.rights import PROBES, REPORTS
from tests.lab.harness import Lab

NAMESPACE = "istio-system"
VERIFIER = f"{NAMESPACE}/istio-verification-sa"


def grant(lab: Lab, *options: str) -> None:
    """Makes it, and gives it what it needs; `options` are those of `meshgate rbac`."""
    account = {"name": "istio-verification-sa", "namespace": NAMESPACE}
    lab.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        _binding("ClusterRole"),
        _binding("Role", NAMESPACE),
        _binding("Role", REPORTS, "istio-verification-reports"),
        _binding("Role", PROBES, "istio-verification-probes"),
        *(
            _binding("Role", each["metadata"]["namespace"], each["metadata"]["name"])
            for each in _items(*options)
            if each["kind"] == "Role" and "-token-" in each["metadata"]["name"]
        ),
        # the namespaces are the lab's own, whatever a test makes of them
        *(each for each in _items(*options) if each["kind"] != "Namespace"),
    )


class Request(NamedTuple):
    """One request of the verifier, or of a program behind its read-only view, in the audit log."""

    program: str
    verb: str
    group: str
    resource: str
    code: int


def requests(lab: Lab) -> list[Request]:
    """Return every request that the API server answered the verifier, oldest first."""
    events = map(json.loads, lab.verb("node", "cat", "/var/log/audit/audit.log").splitlines())
    return [
        Request(
            event.get("userAgent", ""),
            event["verb"],
            event.get("objectRef", {}).get("apiGroup", ""),
            event.get("objectRef", {}).get("resource", event["requestURI"]),
            event.get("responseStatus", {}).get("code", 0),
        )
        for event in events
    ]


def granted(*options: str) -> set[tuple[str, str]]:
    """Return each (API group, resource) that the generated ClusterRole lets the verifier read."""
    return {
        (group, resource)
        for rule in _items(*options)[0]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@cache
def _printed(*options: str) -> str:
    return subprocess.run(
        [Path(sys.executable).with_name("meshgate"), "rbac", *options],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def reader() -> dict[str, Any]:
    """The ClusterRole, as it is printed."""
    return _items()[0]


def _items(*options: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(_printed(*options))["items"]
    return items


def _binding(kind: str, namespace: str = "", name: str = "istio-verification") -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": kind,
            "name": name,
        },
        "subjects": [
            {"kind": "ServiceAccount", "name": "istio-verification-sa", "namespace": NAMESPACE}
        ],
    }
