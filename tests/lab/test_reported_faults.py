"""Faults that users of Istio reported in public, and unusual meshes that are healthy.

The objects of each are in `cases/`, with the report that they stand for.  A fault has to close the
gate and name its object; a healthy mesh must not close it.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.gates import Gates
from tests.lab.harness import NEW, OLD, Lab, Stage, lab_of, until, until_answered

CASES = Path(__file__).parent / "cases"
GATEWAY = "deployment/istio-ingressgateway"
EGRESS = "deployment/istio-egressgateway"

Act = Callable[[Lab], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """One report: the file in `cases/`, where it shows, and how the gate has to end.

    `stages` are the stages to run; `names` are words of one failure line (none for a healthy
    mesh); `warns` are words of one warning.  `before` and `after` act before and after the file is
    applied; `after` returns when the proxies have the change.
    """

    name: str
    stages: tuple[str, ...]
    names: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    before: Act | None = None
    after: Act | None = None
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


# --- what has to happen around the files ----------------------------------------------------------


def answers(words: str, url: str) -> Act:
    """Wait until the classic gateway answers so."""
    return lambda lab: until_answered(lab, words, url)


def wildcard_certificate(lab: Lab) -> None:
    """Make the certificate for *.example.com that the Gateway names."""
    folder = "/var/lib/meshgate"
    lab.verb(
        *("node", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
        *("ec_paramgen_curve:P-256", "-nodes", "-days", "90", "-subj", "/CN=*.example.com"),
        *("-addext", "subjectAltName=DNS:*.example.com"),
        *("-keyout", f"{folder}/wild.key", "-out", f"{folder}/wild.crt"),
    )
    pair = {
        f"tls.{kind}": lab.verb("node", "cat", f"{folder}/wild.{kind}") for kind in ("crt", "key")
    }
    metadata = {"name": "wild-cert", "namespace": "istio-ingress"}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    lab.apply({**secret, "metadata": metadata, "stringData": pair})


def never_inject_jobs(lab: Lab) -> None:
    """Let the injector pass over the pods of Jobs, and wait until it does."""
    injector = lab.get("configmap", "istio-sidecar-injector", "-n", "istio-system")
    rule = "neverInjectSelector:\n- matchExpressions:\n"
    rule += "  - {key: batch.kubernetes.io/job-name, operator: Exists}\n"
    config, count = re.subn(
        r"(?m)^neverInjectSelector:[ \t]*(\[\])?\n([ \t]+\[\][ \t]*\n)?",
        lambda _: rule,
        injector["data"]["config"],
    )
    assert count == 1
    data = {"data": {"config": config}}
    where = ("istio-sidecar-injector", "-n", "istio-system")
    lab.kubectl("patch", "configmap", *where, "--type=merge", "-p", json.dumps(data))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "sample",
            "namespace": "shop",
            "labels": {"batch.kubernetes.io/job-name": "sample"},
        },
        "spec": {"containers": [{"name": "app", "image": "docker.io/lab/app:1"}]},
    }
    dry_run = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    until(lambda: "istio-proxy" not in lab.kubectl(*dry_run, input=json.dumps(pod)))


def rolled_out(workload: str, namespace: str) -> Act:
    """Wait until every pod of a workload is Ready."""
    where = ("-n", namespace, "--timeout=120s")
    return lambda lab: lab.kubectl("rollout", "status", workload, *where)


def egress_answers(lab: Lab) -> None:
    """Wait until the vendor is reached through the egress gateway."""
    rolled_out(EGRESS, "istio-ingress")(lab)
    call = ("labapp", "get", "-s", "192.0.2.10:80", "http://vendor.example.com/")
    client = ("kubectl", "exec", "-n", "shop", "deployment/client", "-c", "app", "--")
    until(lambda: '"app":"batch"' in lab.run(*client, *call).stdout)


def restart_payments(lab: Lab) -> None:
    """Restart the workload whose new pods are rejected, and wait for the rejection."""
    where = ("deployment/api", "-n", "payments")
    lab.kubectl("rollout", "restart", *where)
    lab.kubectl("wait", *where, "--for=condition=ReplicaFailure", "--timeout=60s")


def has_failed(deployment: str, namespace: str) -> Act:
    """Wait until Kubernetes says that it cannot create the pods."""
    where = (f"deployment/{deployment}", "-n", namespace)
    return lambda lab: lab.kubectl(
        "wait", *where, "--for=condition=ReplicaFailure", "--timeout=60s"
    )


# --- the cases ------------------------------------------------------------------------------------

CLOSES = (
    Case("pod-security-baseline", ("controlplane",), ("payments", "api")),
    Case(
        "pod-security-baseline",
        ("dataplane",),
        ("Deployment payments/api",),
        after=restart_payments,
    ),
    Case(
        "full-quota",
        ("controlplane",),
        ("CP018", "payments", "ResourceQuota payments/full"),
        after=lambda lab: until(
            lambda: "used" in lab.get("resourcequota", "full", "-n", "payments")["status"]
        ),
    ),
    Case(
        "rejected-annotation",
        ("controlplane",),
        ("CP018", "Deployment shop/reports", "annotation"),
    ),
    Case(
        "rejected-annotation",
        ("dataplane",),
        ("Deployment shop/reports",),
        after=has_failed("reports", "shop"),
    ),
    Case(
        "validator-of-a-removed-revision",
        ("controlplane",),
        ("CP007", "istiod-default-validator", "istiod-1-27-2"),
    ),
    Case("wasm-module-unreachable", ("controlplane",), ("CP023", "WasmPlugin shop/auth")),
    Case(
        "ingress-without-endpoints",
        ("ingress",),
        ("IG007", "Ingress shop/retired", "503 UH"),
        after=answers("HTTP/1.1 503", "http://retired.example.com/"),
    ),
    Case(
        "gateways-that-share-a-host",
        ("ingress",),
        ("IG007", "VirtualService shop/b-tickets-admin", "a-tickets"),
        # the answer of the other team's backend
        after=answers('"app":"web"', "http://shared.example.com/tickets/admin"),
    ),
    Case(
        "route-of-an-older-route",
        ("ingress",),
        ("IG007", "HTTPRoute shop/api-of-another-team", "HTTPRoute shop/api "),
    ),
    Case(
        "http-rule-on-a-tcp-port",
        ("dataplane",),
        ("DP007", "ledger", "port 9000 is TCP", "shop/no-admin"),
    ),
    Case("unreachable-jwks", ("controlplane",), ("RequestAuthentication shop/web-login",)),
    Case("cni-left-behind", ("controlplane",), ("DaemonSet istio-system/istio-cni-node",)),
    Case(
        "missing-ext-authz-provider",
        ("ingress",),
        ("AuthorizationPolicy istio-ingress/login", "oauth2-proxy"),
        after=answers("HTTP/1.1 403", "http://shop.example.com/"),
    ),
    Case(
        "missing-ext-authz-provider",
        ("controlplane",),
        ("CP021", "AuthorizationPolicy istio-ingress/login", "oauth2-proxy"),
    ),
    Case("gateway-of-a-removed-revision", ("ingress",), ("IG003", "Gateway shop/edge")),
    Case(
        "shadowed-route",
        ("ingress",),
        ("VirtualService shop/b-catalog-admin", "a-catalog"),
        after=answers("HTTP/1.1 200", "http://catalog.example.com/catalog/admin"),
    ),
    Case(
        "wildcard-certificate",
        ("ingress",),
        ("IG005", "Gateway istio-ingress/wild", "reports.eu.example.com"),
        before=wildcard_certificate,
        after=answers("HTTP/1.1 200", "https://reports.eu.example.com/"),
    ),
    Case(
        "tcp-listener-without-endpoints",
        ("ingress",),
        ("VirtualService shop/ledger-edge",),
    ),
    Case(
        "incomplete-destination-host",
        ("ingress",),
        ("IG007", "VirtualService shop/dots", "503"),
        after=answers("HTTP/1.1 503", "http://dots.example.com/"),
    ),
    Case(
        "incomplete-destination-host",
        ("controlplane",),
        ("CP006", "VirtualService shop/dots", "IST0101"),
    ),
    Case(
        "rate-limit-for-a-virtual-host",
        ("dataplane",),
        ("RA001", "EnvoyFilter istio-ingress/busy", "matches nothing"),
    ),
    Case("canary-subset-with-traffic", ("controlplane",), ("shop/web-rollout", "IST0173")),
    # since 1.30.1 the status of the route has the reason
    Case("header-with-a-line-break", ("ingress",), ("IG003", "HTTPRoute shop/csp")),
    Case(
        "retry-after-from-a-script",
        ("dataplane",),
        ("RA005", "EnvoyFilter istio-system/retry-from-reset", "without Retry-After"),
        options=("--probe-pair=docker.io/lab/python:1", "--probe-deadline=120"),
    ),
)

OPENS = (
    Case(
        "dotted-gateway-reference",
        ("controlplane", "ingress"),
        after=answers("HTTP/1.1 200", "http://oldstyle.example.com/"),
    ),
    Case(
        "job-that-is-never-injected",
        ("dataplane",),
        before=never_inject_jobs,
        after=lambda lab: lab.kubectl(
            *("wait", "pod", "-n", "shop", "-l", "app=nightly-export"),
            *("--for=condition=Ready", "--timeout=60s"),
        ),
    ),
    Case(
        "route-by-scheme",
        ("ingress",),
        after=answers("HTTP/1.1 200", "https://api.example.com/pay"),
    ),
    Case("wildcard-destination-rule", ("dataplane",)),
    Case(
        "port-with-its-own-tls",
        ("dataplane",),
        warns=("DP004", "8201"),
        after=rolled_out("statefulset/vault", "payments"),
    ),
)


@pytest.fixture
def gates(lab: Lab, tmp_path: Path) -> Gates:
    """The gates of the newest release."""
    return Gates(lab, tmp_path)


@contextmanager
def put_in(lab: Lab, case: Case) -> Iterator[None]:
    """The case's objects, for the length of the block."""
    if case.before:
        case.before(lab)
    file = CASES / f"{case.name}.yaml"
    lab.kubectl("apply", "-f", str(file))
    try:
        if case.after:
            case.after(lab)
        yield
    finally:
        # first of all: while it stands, no object of Istio can be changed
        lab.kubectl("delete", "validatingwebhookconfiguration", *left_over(file))


def left_over(file: Path) -> list[str]:
    """The names of the validators in a file, and what makes it no error if there are none."""
    objects = [each for each in yaml.safe_load_all(file.read_text()) if each]
    names = [
        each["metadata"]["name"]
        for each in objects
        if each["kind"] == "ValidatingWebhookConfiguration"
    ]
    return [*(names or ["none"]), "--ignore-not-found"]


def run(gates: Gates, stage: str, *words: str) -> Stage:
    """One stage, with what a gate of the newest release has."""
    match stage:
        case "controlplane":
            return gates.controlplane(NEW, *words)
        case "ingress":
            return gates.ingress(*words)
    return gates.dataplane(NEW, *words, pair=False)


def line(stage: Stage, begins: tuple[str, ...], words: tuple[str, ...]) -> list[str]:
    """The lines that begin so and have all these words."""
    return [
        each
        for each in stage.output.splitlines()
        if each.startswith(begins) and all(word in each for word in words)
    ]


def named(cases: tuple[Case, ...]) -> list[Any]:
    """The cases as parameters."""
    return [pytest.param(case, id=f"{case}-{case.stages[0]}") for case in cases]


@pytest.mark.parametrize("case", named(CLOSES))
def test_a_reported_fault_closes_the_gate(lab: Lab, gates: Gates, case: Case) -> None:
    with put_in(lab, case):
        (found,) = [run(gates, stage, "--settle=20", *case.options) for stage in case.stages]

    assert found.exit == 1, found.output
    assert line(found, ("FAIL",), case.names), found.output


@pytest.mark.parametrize("case", named(OPENS))
def test_an_unusual_mesh_that_is_healthy(lab: Lab, gates: Gates, case: Case) -> None:
    with put_in(lab, case):
        found = {stage: run(gates, stage, "--settle=60", *case.options) for stage in case.stages}

    for stage in found.values():
        assert stage.exit == 0, stage.output
        assert not case.warns or line(stage, ("WARN",), case.warns), stage.output


def test_every_gate_opens_on_an_unusual_estate_with_a_second_revision(
    lab: Lab, gates: Gates
) -> None:
    egress_answers(lab)
    for url in ("http://tickets.example.com/", "http://store.example.com/account/profile"):
        until_answered(lab, "HTTP/1.1 200", url)
    lab.kubectl("create", "job", "report-now", "-n", "shop", "--from=cronjob/report")
    lab.kubectl("wait", "job/report-now", "-n", "shop", "--for=condition=Complete", "--timeout=90s")
    lab.verb("revision", NEW, "--tag", "canary")

    gates.all_open(NEW)


def test_a_control_plane_that_would_start_with_another_mesh_config(lab: Lab, gates: Gates) -> None:
    def edit(words: str) -> None:
        config = lab.get("configmap", "istio", "-n", "istio-system")["data"]["mesh"]
        data = {"data": {"mesh": f"{config.rstrip()}\n{words}\n"}}
        where = ("istio", "-n", "istio-system")
        lab.kubectl("patch", "configmap", *where, "--type=merge", "-p", json.dumps(data))

    def effective() -> str:
        ask = ("pilot-discovery", "request", "GET", "/debug/mesh")
        return lab.kubectl("exec", "-n", "istio-system", "deployment/istiod", "--", *ask)

    edit("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    until(lambda: "ALLOW_ANY" not in effective(), timeout=150)  # it omits the default of the enum
    edit("connectTimeout: 10")  # no duration: istiod ignores the whole file from now on
    log = ("logs", "-n", "istio-system", "deployment/istiod", "--since=10m")
    until(lambda: "invalid mesh config" in lab.kubectl(*log).lower(), timeout=150)
    before = run(gates, "controlplane", "--settle=0")
    lab.kubectl("rollout", "restart", "deployment/istiod", "-n", "istio-system")
    rolled_out("deployment/istiod", "istio-system")(lab)
    assert "ALLOW_ANY" in effective()
    after = run(gates, "controlplane")

    for found in (before, after):
        assert found.exit == 1, found.output
        assert line(found, ("FAIL",), ("ConfigMap istio-system/istio",)), found.output


# --- cases that need an upgrade -------------------------------------------------------------------


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[Gates]:
    """The gates of a mesh of the release before the newest, which the test upgrades."""
    with lab_of(OLD, tmp_path / "runs") as lab:
        yield Gates(lab, tmp_path)


def test_a_bare_pod_is_not_reached_by_a_restart(upgraded: Gates) -> None:
    lab = upgraded.lab
    lab.kubectl("apply", "-f", str(CASES / "bare-pod.yaml"))
    lab.kubectl("wait", "pod/debug-shell", "-n", "shop", "--for=condition=Ready", "--timeout=60s")

    before = upgraded.precheck(NEW)
    lab.verb("upgrade", NEW, "--restart")
    after = upgraded.dataplane(NEW)

    assert before.exit == 0, before.output
    assert line(before, ("WARN",), ("PC009", "Pod shop/debug-shell")), before.output
    assert after.exit == 1, after.output
    assert line(after, ("FAIL",), ("DP002", "Pod shop/debug-shell", OLD)), after.output


def follow_tag(lab: Lab) -> None:
    """Let the classic gateway follow the tag `prod`, which points to the revision that runs."""
    tag = ("istioctl", "tag", "set", "prod", "--revision", "default")
    done = lab.run(*tag, "--overwrite", "--skip-confirmation")
    assert done.returncode == 0, done.stderr
    lab.kubectl("label", "namespace", "istio-ingress", "istio-injection-")
    labels = {"spec": {"template": {"metadata": {"labels": {"istio.io/rev": "prod"}}}}}
    where = (GATEWAY, "-n", "istio-ingress")
    lab.kubectl("patch", *where, "--type=merge", "-p", json.dumps(labels))
    rolled_out(GATEWAY, "istio-ingress")(lab)


def test_a_gateway_that_was_left_behind_its_tag(upgraded: Gates) -> None:
    lab = upgraded.lab
    follow_tag(lab)
    lab.verb("revision", NEW, "--tag", "prod")

    found = upgraded.ingress("--settle=10")

    assert found.exit == 1, found.output
    pod = lab.pod("istio-ingress", "istio-ingressgateway")
    assert line(found, ("FAIL",), ("IG001", f"Pod istio-ingress/{pod}", OLD, NEW)), found.output


def test_gateways_that_moved_to_the_new_revision_with_their_namespace(upgraded: Gates) -> None:
    lab = upgraded.lab
    lab.verb("revision", NEW)
    revision = f"istio.io/rev={NEW.replace('.', '-')}"
    lab.kubectl("label", "namespace", "istio-ingress", "istio-injection-", revision)
    for gateway in (GATEWAY, EGRESS):
        lab.kubectl("rollout", "restart", gateway, "-n", "istio-ingress")
        rolled_out(gateway, "istio-ingress")(lab)

    found = upgraded.ingress()

    assert found.exit == 0, found.output


@pytest.mark.every_release
def test_a_header_with_a_line_break_is_not_in_an_older_envoy(tmp_path: Path) -> None:
    # needs 1.28.7, 1.29.3 or older
    with lab_of("1.29.1", tmp_path / "runs") as lab:
        lab.kubectl("apply", "-f", str(CASES / "header-with-a-line-break.yaml"))
        gateway = ("-k", "-s", f"{lab_address(lab)}:80", "http://api.example.com/csp")
        until(lambda: "404" in lab.run("labapp", "get", *gateway).stdout)
        found = Gates(lab, tmp_path).ingress("--settle=20")

    assert found.exit == 1, found.output
    assert line(found, ("FAIL",), ("HTTPRoute shop/csp",)), found.output


def lab_address(lab: Lab) -> str:
    """The address of the Gateway API gateway's Service."""
    return str(lab.get("service", "shop-istio", "-n", "shop")["spec"]["clusterIP"])


@pytest.mark.every_release
def test_a_crd_for_which_the_target_would_wait_forever(tmp_path: Path) -> None:
    # needs a target of 1.29: later releases read TLSRoute v1; `lab reset` does not remove CRDs
    with lab_of("1.28.2", tmp_path / "runs") as lab:
        alpha = "PILOT_ENABLE_ALPHA_GATEWAY_API=true"
        lab.kubectl("set", "env", "deployment/istiod", "-n", "istio-system", alpha)
        rolled_out("deployment/istiod", "istio-system")(lab)
        lab.kubectl("apply", "-f", str(CASES / "tlsroute-v1-only.yaml"))
        found = Gates(lab, tmp_path).precheck("1.29.1")

    assert found.exit == 1, found.output
    assert line(found, ("FAIL PC007",), ("tlsroutes.gateway.networking.k8s.io",)), found.output
