"""Admission, the CA and revisions on a real mesh: each fault closes the gate for its own reason."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.harness import Lab, Stage

Run = Callable[..., Stage]

pytestmark = pytest.mark.usefixtures("recovers")

SYSTEM = ("-n", "istio-system")


def failure(stage: Stage, begins: str) -> str:
    """The one line of the output that begins so; the whole output where there is none."""
    lines = [line for line in stage.failures if line.startswith(begins)]
    assert lines, stage.output
    return lines[0]


def copy(lab: Lab, kind: str, name: str, new: str, **labels: str) -> dict[str, Any]:
    """A webhook configuration under another name; only the test changes it."""
    found = lab.get(kind, name)
    kept = {**found["metadata"]["labels"], **labels}
    found["metadata"] = {"name": new, "labels": kept}
    return dict(found)


def root(common_name: str, *, days: int = 3650, age: int = 0) -> str:
    """A self-signed CA, as PEM; its key is forgotten at once."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begins = datetime.now(UTC) - timedelta(days=age)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_a_verifier_in_the_cluster_proves_every_claim(verifier: str, controlplane: Run) -> None:
    stage = controlplane(identity=verifier)

    assert stage.exit == 0, stage.output
    assert "pass CP010 " in stage.output
    # the lab has no DaemonSet of Istio, no remote cluster, no extension provider, no WasmPlugin, no
    # ambient mode, no watch and no baseline
    not_there = [f"CP0{number}" for number in (16, 19, 20, 21, 23, 25, 26, 27, 28, 29, 30)]
    passed_over = [line for line in stage.verdict if line.startswith("n/a")]
    assert [line.split()[1] for line in passed_over] == not_there, stage.output


def test_a_laptop_without_a_token_reports_why_the_ca_was_not_called(controlplane: Run) -> None:
    stage = controlplane()

    assert stage.exit == 0, stage.output
    assert "n/a  CP010 " in stage.output
    assert "no token of audience istio-ca" in stage.output


def test_a_laptop_with_a_token_calls_the_ca(lab: Lab, controlplane: Run, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(lab.kubectl("create", "token", "default", *SYSTEM, "--audience=istio-ca"))

    stage = controlplane(f"--istiod-token-file={token}", "--istiod-access=port-forward")

    assert stage.exit == 0, stage.output
    assert "pass CP010 " in stage.output


# --- CP007 --------------------------------------------------------------------------------------


def test_a_ca_bundle_that_does_not_verify_what_is_served(lab: Lab, controlplane: Run) -> None:
    foreign = base64.b64encode(root("another CA").encode()).decode()
    wrong = copy(
        lab,
        "validatingwebhookconfiguration",
        "istio-validator-istio-system",
        "istio-validator-ghost-istio-system",
        **{"istio.io/rev": "ghost"},
    )
    for webhook in wrong["webhooks"]:
        webhook["clientConfig"]["caBundle"] = foreign
        webhook["objectSelector"] = {"matchLabels": {"istio.io/rev": "ghost"}}
    lab.apply(wrong)

    stage = controlplane("--settle=8")

    assert stage.exit == 1
    line = failure(
        stage, "FAIL CP007 ValidatingWebhookConfiguration istio-validator-ghost-istio-system: "
    )
    assert "its caBundle does not verify the certificate of istiod-" in line
    assert "istiod.istio-system.svc" in line


def test_a_webhook_whose_service_does_not_exist(lab: Lab, controlplane: Run) -> None:
    wrong = copy(
        lab,
        "mutatingwebhookconfiguration",
        "istio-revision-tag-default",
        "istio-sidecar-injector-ghost",
        **{"istio.io/rev": "ghost", "istio.io/tag": ""},
    )
    for webhook in wrong["webhooks"]:
        webhook["clientConfig"]["service"]["name"] = "istiod-ghost"
        webhook["namespaceSelector"] = {"matchLabels": {"istio.io/rev": "ghost"}}
    lab.apply(wrong)

    stage = controlplane("--settle=60")

    assert stage.exit == 1
    assert "calls Service istio-system/istiod-ghost, which does not exist" in failure(
        stage, "FAIL CP007 MutatingWebhookConfiguration istio-sidecar-injector-ghost: "
    )


def test_a_validator_that_stays_on_ignore(lab: Lab, controlplane: Run) -> None:
    wrong = copy(
        lab,
        "validatingwebhookconfiguration",
        "istio-validator-istio-system",
        "istio-validator-ghost-istio-system",
        **{"istio.io/rev": "ghost"},
    )
    for webhook in wrong["webhooks"]:
        webhook["failurePolicy"] = "Ignore"
        webhook["objectSelector"] = {"matchLabels": {"istio.io/rev": "ghost"}}
    lab.apply(wrong)

    stage = controlplane("--settle=5")

    assert stage.exit == 1
    assert "has failurePolicy Ignore" in failure(
        stage, "FAIL CP007 ValidatingWebhookConfiguration istio-validator-ghost-istio-system: "
    )


def test_a_ca_bundle_that_istiod_restores_is_waited_for(lab: Lab, controlplane: Run) -> None:
    lab.kubectl(
        *("patch", "mutatingwebhookconfiguration", "istio-revision-tag-default", "--type=json"),
        "-p",
        json.dumps([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]),
    )

    stage = controlplane()

    assert stage.exit == 0, stage.output


# --- CP008 --------------------------------------------------------------------------------------


def test_a_namespace_that_no_webhook_selects(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("label", "namespace", "payments", "istio-injection-", "istio.io/rev=ghost")

    stage = controlplane()

    assert stage.exit == 1
    line = failure(stage, "FAIL CP008 Namespace payments: ")
    assert "istio.io/rev=ghost: no webhook selects its pods" in line
    assert "existing revisions and tags: default" in line


def test_two_webhooks_that_inject_the_same_pod(lab: Lab, controlplane: Run) -> None:
    lab.apply(
        copy(
            lab,
            "mutatingwebhookconfiguration",
            "istio-revision-tag-default",
            "istio-revision-tag-again",
            **{"istio.io/tag": "again"},
        )
    )

    stage = controlplane()

    assert stage.exit == 1
    line = failure(stage, "FAIL CP008 Namespace shop: ")
    assert "2 webhooks inject the same pod" in line
    assert "istio-revision-tag-again and istio-revision-tag-default" in line


# --- CP009 --------------------------------------------------------------------------------------


def test_a_validator_that_accepts_everything(lab: Lab, controlplane: Run) -> None:
    lab.kubectl(
        *("patch", "validatingwebhookconfiguration", "istiod-default-validator", "--type=json"),
        "-p",
        json.dumps(
            [
                {
                    "op": "replace",
                    "path": "/webhooks/0/clientConfig/service/path",
                    "value": "/inject",
                }
            ]
        ),
    )

    stage = controlplane("--settle=5")

    assert stage.exit == 1
    failure(stage, "FAIL CP009 ValidatingWebhookConfiguration istiod-default-validator: ")


# --- CP010 --------------------------------------------------------------------------------------


def test_an_istiod_that_does_not_sign(verifier: str, lab: Lab, controlplane: Run) -> None:
    lab.kubectl("set", "env", "deployment/istiod", *SYSTEM, "MAX_WORKLOAD_CERT_TTL=30m")
    lab.kubectl("rollout", "status", "deployment/istiod", *SYSTEM, "--timeout=120s")

    # alone: it is reported immediately, while the proxies still come back to the new istiod
    stage = controlplane("--settle=60", "-k", "the_ca_signs", identity=verifier)

    assert stage.exit == 1
    assert "does not sign certificates" in failure(stage, "FAIL CP010 Pod istio-system/istiod-")


# --- CP011 --------------------------------------------------------------------------------------


def test_a_namespace_that_trusts_another_root(lab: Lab, controlplane: Run) -> None:
    # a namespace without pods: what is immutable the kubelet reads once for those that it has
    named = {"name": "other-root", "labels": {"istio-injection": "enabled"}}
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": named})
    where = ("configmap", "istio-ca-root-cert", "-n", "other-root")
    lab.kubectl("wait", *where, "--for=create", "--timeout=60s")
    # immutable, so that istiod cannot put it right
    patch = {"data": {"root-cert.pem": root("another CA")}, "immutable": True}
    lab.kubectl("patch", *where, "--type=merge", "-p", json.dumps(patch))

    stage = controlplane("--settle=5")

    assert stage.exit == 1
    assert "contains other roots than istio-system/istio-ca-root-cert" in failure(
        stage, "FAIL CP011 ConfigMap other-root/istio-ca-root-cert: "
    )


@pytest.mark.parametrize(
    ("age", "exit", "word"),
    [pytest.param(96, 1, "FAIL", id="3% left"), pytest.param(89, 0, "WARN", id="10% left")],
)
def test_a_root_that_is_about_to_end(
    lab: Lab, controlplane: Run, age: int, exit: int, word: str
) -> None:
    where = ("configmap", "istio-ca-root-cert")
    both = lab.get(*where, *SYSTEM)["data"]["root-cert.pem"] + root("old CA", days=99, age=age)
    patch = json.dumps({"data": {"root-cert.pem": both}, "immutable": True})
    namespaces = ("istio-system", "istio-ingress", "istio-verification-probes", "shop", "payments")
    for namespace in namespaces:
        lab.kubectl("patch", *where, "-n", namespace, "--type=merge", "-p", patch)
    try:
        stage = controlplane()
    finally:
        for namespace in namespaces:
            lab.kubectl("delete", *where, "-n", namespace)

    assert stage.exit == exit, stage.output
    assert f"{word} CP011 ConfigMap istio-system/istio-ca-root-cert: CN=old CA expires on" in (
        stage.output
    )


# --- CP012 --------------------------------------------------------------------------------------


def test_a_tag_that_points_to_a_revision_that_is_gone(lab: Lab, controlplane: Run) -> None:
    tag = copy(
        lab,
        "mutatingwebhookconfiguration",
        "istio-revision-tag-default",
        "istio-revision-tag-prod",
        **{"istio.io/tag": "prod", "istio.io/rev": "1-0"},
    )
    del tag["webhooks"][1:]
    tag["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"istio.io/rev": "prod"}}
    lab.apply(tag)
    lab.kubectl("label", "namespace", "payments", "istio-injection-", "istio.io/rev=prod")

    stage = controlplane()

    assert stage.exit == 1
    assert stage.first.startswith(
        "FAIL CP012 MutatingWebhookConfiguration istio-revision-tag-prod: tag prod points to "
        "revision 1-0, which has no istiod"
    ), stage.output
    failure(stage, "FAIL CP012 Namespace payments: its label selects revision 1-0 through tag prod")
    assert "WARN CP012 Namespace payments: 1 pods run a proxy of revision default" in stage.output


def test_a_namespace_with_both_labels(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("label", "namespace", "payments", "istio.io/rev=default")

    stage = controlplane()

    assert stage.exit == 0, stage.output
    assert (
        "WARN CP012 Namespace payments: has the labels istio-injection=enabled and "
        "istio.io/rev=default" in stage.output
    )
