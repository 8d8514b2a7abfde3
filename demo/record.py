"""Records both demos again, in a lab that it starts and removes: `make demo-record`.

    .venv/bin/python demo/record.py [LAB]

One upgrade from 1.30.4 to 1.31.0, verified twice as a hook Job verifies it: with faults added and
the workloads not restarted yet (broken), and after the faults are fixed and the workloads restarted
(healthy).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
OLD, NEW = "1.30.4", "1.31.0"
NAMESPACE, ACCOUNT, ROLES = "istio-system", "istio-verification-sa", "istio-verification"

FAULTS: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "lost", "namespace": "shop"},
        "spec": {
            "hosts": ["lost.example.com"],
            "gateways": ["shop/missing"],
            "http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}],
        },
    },
    {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "unknown-filter", "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": "web"}},
            "configPatches": [
                {
                    "applyTo": "HTTP_FILTER",
                    "match": {
                        "context": "SIDECAR_INBOUND",
                        "listener": {
                            "filterChain": {
                                "filter": {"name": "envoy.filters.network.http_connection_manager"}
                            }
                        },
                    },
                    "patch": {
                        "operation": "INSERT_BEFORE",
                        "value": {
                            "name": "not.a.filter",
                            "typed_config": {
                                "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                                "type_url": "no.such.Type",
                            },
                        },
                    },
                }
            ],
        },
    },
)


class Lab:
    """One lab, driven by its command."""

    def __init__(self, name: str, target: str) -> None:
        self._name = name
        self._target = target

    def verb(self, verb: str, *words: str) -> None:
        """Run one verb; its output is shown."""
        self._run(verb, *words, check=True)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        text = "\n".join(map(json.dumps, objects))
        self._run("exec", "kubectl", "apply", "-f", "-", check=True, input=text)

    def record(self, file: str, *options: str) -> int:
        """Run every stage as the verifier in the cluster; return the exit code."""
        words = (
            "--target-version=" + NEW,
            "--cluster-name=demo",
            f"--shadow-istiod={self._target}/pilot-discovery",
            f"--shadow-envoy={self._target}/envoy",
            f"--shadow-manifests={self._target}/istiod.yaml",
            "--settle=60",
            f"--save-snapshot={ROOT / 'demo' / file}",
            *options,
        )
        account = ("--as", f"{NAMESPACE}/{ACCOUNT}")
        return self._run("exec", *account, str(BIN / "pytest"), *words, check=False)

    def _run(self, verb: str, *words: str, check: bool, input: str | None = None) -> int:
        command = [str(ROOT / "ci/lab/lab"), verb, "--name", self._name, *words]
        return subprocess.run(command, check=check, cwd=ROOT, input=input, text=True).returncode


def verifier() -> list[dict[str, Any]]:
    """Return the ServiceAccount of a hook Job with the roles that `meshgate rbac` generates."""
    printed = subprocess.run(
        [BIN / "meshgate", "rbac", "--shadow"], check=True, cwd=ROOT, capture_output=True, text=True
    )
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}
    group = "rbac.authorization.k8s.io"
    items = json.loads(printed.stdout)["items"]
    bindings = [
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{role['kind']}Binding",
            "metadata": role["metadata"],
            "roleRef": {"apiGroup": group, "kind": role["kind"], "name": role["metadata"]["name"]},
            "subjects": [account],
        }
        for role in items
        if role["kind"].endswith("Role")
    ]
    metadata = {"name": ACCOUNT, "namespace": NAMESPACE}
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, *items, *bindings]


def main() -> None:
    """Record both; fail if a recording does not have the verdict that its demo shows."""
    with tempfile.TemporaryDirectory(prefix="meshgate-") as target:
        record(Lab(sys.argv[1] if len(sys.argv) > 1 else "demo", target), target)


def record(lab: Lab, target: str) -> None:
    """Upgrade this lab and record; `target` is the folder for the new release's programs."""
    lab.verb("up", "--istio", OLD)
    try:
        lab.verb("target", NEW, target)
        lab.apply(*verifier())
        lab.verb("save")
        lab.verb("upgrade", NEW)
        lab.apply(*FAULTS)
        lab.verb("exec", "kubectl", "cordon", "node")
        lab.verb(
            *("exec", "kubectl", "scale", "deployment/istiod", "-n", NAMESPACE, "--replicas=2")
        )
        broken = lab.record("broken.json.gz")
        lab.verb("exec", "kubectl", "uncordon", "node")
        lab.verb("reset")
        lab.verb("upgrade", NEW, "--restart")
        healthy = lab.record("healthy.json.gz", "--probe-pair=docker.io/lab/python:1")
    finally:
        lab.verb("down")
    if (broken, healthy) != (1, 0):
        raise SystemExit(
            f"wrong verdicts: broken ended with {broken} (expected 1), healthy with {healthy} "
            "(expected 0); discard both recordings"
        )


if __name__ == "__main__":
    main()
