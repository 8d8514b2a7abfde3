"""Without permission no gate opens: lost clusters, bad tokens, and each permission removed."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgate.catalogue import checks
from meshgate.collect.plan import ALSO_READ, ANALYZE_READS
from meshgate.collect.rights import REPORTS
from meshgate.snapshot.items import KINDS, closure
from tests.lab.harness import Lab, Stage
from tests.lab.rights import reader

Run = Callable[..., Stage]

pytestmark = pytest.mark.usefixtures("recovers")

BASELINE = f"configmap://{REPORTS}/meshgate-baseline"


def test_the_generated_roles_are_sufficient(verifier: str, controlplane: Run) -> None:
    stage = controlplane(identity=verifier)

    assert stage.exit == 0, stage.output


def _needs() -> dict[tuple[str, str], str]:
    """For each right, as (API group, resource), a stage that cannot do without it."""
    everywhere = (*ANALYZE_READS, *ALSO_READ)
    stage_of = {(group, name): "controlplane" for group, names in everywhere for name in names}
    for row in checks().values():
        for item in closure(row.reads) & KINDS.keys():
            stage_of.setdefault((KINDS[item].group, KINDS[item].resource), row.stage)
    return stage_of


def test_a_missing_permission_closes_the_gate(verifier: str, lab: Lab, controlplane: Run) -> None:
    needs = _needs()
    granted = {
        (rule["apiGroups"][0], name) for rule in reader()["rules"] for name in rule["resources"]
    }
    assert granted == needs.keys()

    for (group, resource), stage_of_it in sorted(needs.items()):
        role = reader()
        for rule in role["rules"]:
            if rule["apiGroups"] == [group]:
                rule["resources"].remove(resource)
        role["rules"] = [rule for rule in role["rules"] if rule["resources"]]
        lab.apply(role)

        stage = controlplane("-m", stage_of_it, identity=verifier)

        right = f"list {resource}" + (f".{group}" if group else "")
        assert stage.exit == 10, f"without {right}:\n{stage.output}"
        assert right in stage.first, f"without {right}:\n{stage.output}"


def test_a_baseline_outlives_its_job(verifier: str, lab: Lab, controlplane: Run) -> None:
    lab.apply(lost_virtual_service())
    before = controlplane(f"--save-baseline={BASELINE}", identity=verifier)
    assert before.exit == 1, before.output

    after = controlplane(f"--baseline={BASELINE}", identity=verifier)
    strict = controlplane(
        f"--baseline={BASELINE}", "--fail-on-baseline-findings", identity=verifier
    )
    replay = lab.pytest("-m", "controlplane", f"--snapshot={after.reports}/snapshot.json.gz")

    assert after.exit == 0, after.output
    assert "VirtualService shop/lost: [pre-existing (in the baseline)] IST0101" in after.output
    assert replay.exit == 0, replay.output
    assert strict.exit == 1, strict.output


def test_a_baseline_that_may_not_be_saved(verifier: str, lab: Lab, controlplane: Run) -> None:
    lab.kubectl("delete", "role", "istio-verification-reports", "-n", REPORTS)

    stage = controlplane(f"--save-baseline={BASELINE}", identity=verifier)

    assert stage.exit == 4, stage.output
    assert f"no right to create and update configmaps in {REPORTS}" in stage.output


def test_a_baseline_that_is_not_there(verifier: str, controlplane: Run) -> None:
    stage = controlplane(f"--baseline={BASELINE}", identity=verifier)

    assert stage.exit == 4, stage.output
    assert f"there is no snapshot in {BASELINE}" in stage.output


def lost_virtual_service() -> dict[str, Any]:
    """A VirtualService that istioctl analyze rejects."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "lost", "namespace": "shop"},
        "spec": {
            "hosts": ["lost.example.com"],
            "gateways": ["shop/missing"],
            "http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}],
        },
    }


def test_a_cluster_that_does_not_answer(lab: Lab, controlplane: Run, tmp_path: Path) -> None:
    kubeconfig = _kubeconfig(lab, tmp_path, server="https://172.30.0.2:1")

    stage = controlplane(f"--kubeconfig={kubeconfig}", "--settle=120")

    assert stage.exit == 10
    assert "cannot reach the API server 172.30.0.2:1" in stage.first, stage.output


def test_a_kubeconfig_that_does_not_exist(controlplane: Run, tmp_path: Path) -> None:
    stage = controlplane(f"--kubeconfig={tmp_path}/missing")

    assert stage.exit == 4
    assert "no cluster to look at" in stage.output


def test_a_token_that_is_expired(
    verifier: str, lab: Lab, controlplane: Run, tmp_path: Path
) -> None:
    token = lab.kubectl("create", "token", "istio-verification-sa", "-n", "istio-system").strip()
    # signed again, unchanged, it is accepted: so what is refused below is its age alone
    current = _kubeconfig(lab, tmp_path, token=_signed(lab, token))
    lab.kubectl(f"--kubeconfig={current}", "auth", "whoami")
    kubeconfig = _kubeconfig(
        lab, tmp_path, token=_signed(lab, token, iat=1_700_000_000, exp=1_700_003_600)
    )

    stage = controlplane(f"--kubeconfig={kubeconfig}", "--istiod-access=direct")

    assert stage.exit == 10
    assert "does not accept our credentials (401" in stage.first, stage.output
    assert token not in stage.output


def test_a_token_that_was_withdrawn(
    verifier: str, lab: Lab, controlplane: Run, tmp_path: Path
) -> None:
    token = lab.kubectl("create", "token", "istio-verification-sa", "-n", "istio-system").strip()
    lab.kubectl("delete", "serviceaccount", "istio-verification-sa", "-n", "istio-system")
    kubeconfig = _kubeconfig(lab, tmp_path, token=token)

    stage = controlplane(f"--kubeconfig={kubeconfig}")

    assert stage.exit == 10
    assert "does not accept our credentials (401" in stage.first, stage.output
    assert token not in stage.output


def test_a_token_of_another_audience(
    verifier: str, lab: Lab, controlplane: Run, tmp_path: Path
) -> None:
    token = lab.kubectl(
        "create", "token", "istio-verification-sa", "-n", "istio-system", "--audience=somebody-else"
    ).strip()
    file = tmp_path / "token"
    file.write_text(token)

    stage = controlplane("--istiod-access=direct", f"--istiod-token-file={file}", identity=verifier)

    assert stage.exit == 10
    assert "istiod does not accept our token (401" in stage.first, stage.output


def test_a_namespace_that_istiod_does_not_trust(
    lab: Lab, verifier: str, controlplane: Run, tmp_path: Path
) -> None:
    token = lab.kubectl("create", "token", "default", "-n", "legacy", "--audience=istio-ca").strip()
    file = tmp_path / "token"
    file.write_text(token)

    stage = controlplane("--istiod-access=direct", f"--istiod-token-file={file}", identity=verifier)

    assert stage.exit == 10
    assert "istiod does not let us read /debug/syncz (403" in stage.first, stage.output


def test_no_secret_is_saved(verifier: str, lab: Lab, controlplane: Run) -> None:
    secret = lab.get("secret", "-n", "istio-ingress", "shop-cert")
    stage = controlplane(identity=verifier)

    kept = subprocess.run(
        ["zcat", f"{stage.reports}/snapshot.json.gz"], capture_output=True, text=True, check=True
    ).stdout
    seen = kept + stage.output + (stage.reports / "index.html").read_text()
    for value in secret["data"].values():
        assert value not in seen
        assert base64.b64decode(value).decode() not in seen
    assert "PRIVATE KEY" not in seen


def _signed(lab: Lab, token: str, **changed: int) -> str:
    """The same token with some claims changed, signed by the cluster's own key."""
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= changed
    signed = f"{header}.{_base64url(json.dumps(claims).encode())}"
    sign = "openssl dgst -sha256 -sign /etc/kubernetes/pki/sa.key | base64 -w0"
    signature = base64.b64decode(lab.verb("node", "sh", "-c", sign, input=signed))
    return f"{signed}.{_base64url(_raw(signature))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw(der: bytes) -> bytes:
    """An ES256 signature as JWTs have it: r and s, 32 bytes each, without DER around them."""
    length = der[3]
    r, s = der[4 : 4 + length], der[6 + length :]
    return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (r, s))


def _kubeconfig(
    lab: Lab, folder: Path, *, server: str | None = None, token: str | None = None
) -> Path:
    """The administrator's kubeconfig, led elsewhere or given to somebody else."""
    config = json.loads(lab.kubectl("config", "view", "--raw", "-o", "json"))
    if server:
        config["clusters"][0]["cluster"]["server"] = server
    if token:
        config["users"][0]["user"] = {"token": token}
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file
