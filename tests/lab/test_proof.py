"""Who may call whom, and whether a restart has room, on a real mesh."""

import sys
from pathlib import Path
from typing import Any

from meshgate.semantics.declared_pairs import read_pairs
from tests.lab.harness import NEW, Lab, Stage, until
from tests.lab.rights import VERIFIER, grant

MESHGATE = str(Path(sys.executable).with_name("meshgate"))


def only_the_client_may_get(namespace: str, app: str, *, http: bool = True) -> dict[str, Any]:
    """A policy that allows shop/client, for GET only where the port is HTTP."""
    to = [{"operation": {"methods": ["GET"], "paths": ["/healthz", "/status/*"]}}]
    rule: dict[str, Any] = {
        "from": [{"source": {"principals": ["cluster.local/ns/shop/sa/client"]}}]
    }
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"{app}-clients", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "rules": [rule | ({"to": to} if http else {})],
        },
    }


def declared(lab: Lab, file: Path, *, unsigned: str = "") -> Stage:
    """DP017 with a file of pairs, by a verifier that may request the tokens of its callers.

    Args:
        lab: the lab.
        file: the pairs.
        unsigned: a caller whose token it may not request.

    Returns:
        The run.
    """
    callers = {each.caller for each in read_pairs(file.read_text())} - {unsigned}
    grant(lab, *(word for each in sorted(callers) for word in ("--token-of", each)))
    only = ("-m", "dataplane", "--check=DP017", "--settle=30", f"--pairs={file}")
    return lab.pytest(*only, identity=VERIFIER)


# --- declared pairs -----------------------------------------------------------------------------


def test_the_generated_pairs_hold(lab: Lab, tmp_path: Path) -> None:
    lab.apply(only_the_client_may_get("payments", "api"))

    printed = lab.run(MESHGATE, "pairs")
    assert printed.returncode == 0, printed.stderr
    file = tmp_path / "pairs.yaml"
    file.write_text(printed.stdout)
    pairs = {each.caller: each.expect for each in read_pairs(printed.stdout)}
    denied = next(caller for caller, expect in pairs.items() if expect == "denied")
    assert pairs["shop/client"] == "allowed", printed.stdout
    stage = declared(lab, file)

    assert stage.exit == 0, stage.output
    assert any(line.startswith("pass DP017 ") for line in stage.verdict), stage.output
    # without the policy, the callers that it denied are admitted
    lab.kubectl("delete", "authorizationpolicy", "api-clients", "-n", "payments")
    admitted = declared(lab, file)
    assert admitted.exit == 1, admitted.output
    words = f"answers 200 by its application to the request of {denied} to payments/api:80 GET"
    assert words in admitted.output, admitted.output


def test_who_refused_a_request_is_known(lab: Lab, tmp_path: Path) -> None:
    """A 403 of Envoy's RBAC filter, one of the application, and a connection that is closed."""
    lab.apply(
        only_the_client_may_get("payments", "api"),
        only_the_client_may_get("shop", "ledger", http=False),
    )
    file = tmp_path / "pairs.yaml"

    def failures(*rows: str) -> list[str]:
        file.write_text("pairs:\n" + "".join(f"  - {{ {row} }}\n" for row in rows))
        return declared(lab, file).failures

    api, ledger = "payments/api:80 GET", "shop/ledger:9000 GET /"
    as_declared = (
        f'from: shop/client, to: "{api} /status/403", expect: 403',
        f'from: shop/client, to: "{api} /status/503", expect: allowed',
        f'from: shop/web, to: "{api} /status/403", expect: denied',
    )
    assert failures(*as_declared) == []

    by_the_application, by_the_policy = failures(
        f'from: shop/client, to: "{api} /status/403", expect: denied',
        f'from: shop/web, to: "{api} /status/403", expect: 403',
    )
    assert "answers 403 by its application" in by_the_application
    assert "denies by an AuthorizationPolicy (403, RBAC: access denied)" in by_the_policy
    (closed,) = failures(f'from: shop/web, to: "{ledger}", expect: allowed')
    assert closed.startswith("FAIL DP017 Pod shop/ledger-")
    assert "closes the connection without an answer" in closed


def test_a_caller_whose_token_may_not_be_requested_is_unknown(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "pairs.yaml"
    row = 'from: legacy/batch, to: "payments/api:80 GET /healthz", expect: denied'
    file.write_text(f"pairs:\n  - {{ {row} }}\n")

    stage = declared(lab, file, unsigned="legacy/batch")

    assert stage.exit == 10, stage.output
    assert stage.first.startswith("UNKNOWN DP017 "), stage.output
    assert "no certificate for ServiceAccount legacy/batch" in stage.first


# --- capacity -----------------------------------------------------------------------------------


def precheck(lab: Lab, *words: str) -> Stage:
    grant(lab)
    checks = ("-m", "precheck", f"--target-version={NEW}", "--settle=5")
    return lab.pytest(*checks, *words, identity=VERIFIER)


def test_a_healthy_mesh_has_room_and_images(lab: Lab) -> None:
    stage = precheck(
        lab, "--check=PC009,PC018,PC019", f"--probe-image=docker.io/istio/proxyv2:{NEW}"
    )

    assert stage.exit == 0, stage.output
    for check in ("PC018", "PC019"):
        assert any(line.startswith(f"pass {check} ") for line in stage.verdict), stage.output


def test_a_restart_that_has_no_room(lab: Lab) -> None:
    (node,) = lab.get("nodes")["items"]
    memory = int(node["status"]["allocatable"]["memory"].removesuffix("Ki"))
    container = {
        "name": "app",
        "image": "docker.io/lab/app:1",
        "imagePullPolicy": "Never",
        "args": ["http"],
        "resources": {"requests": {"memory": f"{memory * 6 // 10}Ki"}},
    }
    labels = {"app": "large"}
    lab.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "large", "namespace": "shop"},
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        },
    )
    lab.kubectl("rollout", "status", "deployment/large", "-n", "shop", "--timeout=120s")
    until(lambda: _disruptions(lab) == 0)

    stage = precheck(lab, "--check=PC009,PC018,PC019", "--probe-image=localhost:1/lab/absent:1")

    assert stage.exit == 1, stage.output
    no_room, not_pulled = stage.failures
    assert no_room.startswith("FAIL PC018 Deployment shop/large: its rolling restart creates a pod")
    assert "memory:" in no_room
    assert not_pulled.startswith("FAIL PC019 Node ")
    assert "cannot pull the image localhost:1/lab/absent:1" in not_pulled
    # a restart through the API ignores budgets; a node that is drained for it does not
    assert "WARN PC009 PodDisruptionBudget shop/web: allows no disruption" in stage.output


def _disruptions(lab: Lab) -> int:
    budget = lab.get("poddisruptionbudgets", "web", "-n", "shop")
    return int(budget.get("status", {}).get("disruptionsAllowed", -1))
