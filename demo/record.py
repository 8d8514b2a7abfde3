"""Records both demos anew, from a lab of their own: `make demo-record`.

    .venv/bin/python demo/record.py [LAB]

One upgrade from 1.28.2 to 1.29.1, looked at twice as a hook Job looks: with faults put in and the
workloads not restarted yet (broken), and once all is mended and restarted (healthy).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
OLD, NEW = "1.28.2", "1.29.1"
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
    """One lab, by its own program."""

    def __init__(self, name: str, target: str) -> None:
        self._name = name
        self._target = target

    def verb(self, verb: str, *words: str) -> None:
        """One of its verbs; what it prints is shown."""
        self._run(verb, *words, check=True)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Creates or changes objects."""
        text = "\n".join(map(json.dumps, objects))
        self._run("exec", "kubectl", "apply", "-f", "-", check=True, input=text)

    def record(self, file: str, *options: str) -> int:
        """Every stage, taken as the verifier in the cluster; its exit code."""
        words = (
            "--target-version=" + NEW,
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
    """The ServiceAccount of a hook Job, with exactly the rights that `meshgate rbac` prints."""
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
    """Both recordings; fails when they are not what the demos say that they are."""
    with tempfile.TemporaryDirectory(prefix="meshgate-") as target:
        record(Lab(sys.argv[1] if len(sys.argv) > 1 else "demo", target), target)


def record(lab: Lab, target: str) -> None:
    """The upgrade, in this lab; `target` is where the new version's programs are put."""
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
            f"not what the demos are to show: broken ended with {broken}, "
            f"healthy with {healthy}; neither recording may be kept"
        )


if __name__ == "__main__":
    main()
