"""Stage A on a real mesh that is about to be upgraded: silent if nothing is wrong,
and naming each fault.  The faults do not hide each other, so a test adds many at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.harness import NEW, OLD, Lab, Stage, lab_of, until

MINOR = NEW.rpartition(".")[0]
_MAJOR, _MINOR = map(int, OLD.split(".")[:2])
OLD_ONLY = rf"^{_MAJOR}\.{_MINOR}.*"
OLDER, SKIPPING = f"{_MAJOR}.{_MINOR - 1}.99", f"{_MAJOR}.{_MINOR + 2}.0"

ROUTES = "httproutes.gateway.networking.k8s.io"

Run = Callable[..., Stage]


@pytest.fixture(scope="module")
def lab(old: Lab) -> Lab:
    """The mesh that is about to be upgraded."""
    return old


@pytest.fixture
def precheck(lab: Lab) -> Run:
    """Runs stage A for an upgrade to the new version, unless the test names another target."""

    def run(*words: str, target: str = NEW) -> Stage:
        asked = (f"--target-version={target}", f"--istioctl=istioctl-{NEW}", "--settle=20")
        return lab.pytest("-m", "precheck", *asked, *words)

    return run


def test_a_healthy_mesh_is_ready_for_the_next_minor_version(precheck: Run) -> None:
    stage = precheck()

    assert stage.exit == 0, stage.output
    assert _unexpected_warnings(stage) == []
    # there is no ambient mode, and pulls and the shadow are not requested
    passed_over = [line for line in stage.output.splitlines() if line.startswith("n/a")]
    assert [line.split()[1] for line in passed_over] == [
        "PC015",
        "PC016",
        "PC019",
        "PC101",
        "PC102",
        "PC103",
        "PC104",
    ], stage.output
    # messages about permissions to install Istio fail nothing, and are counted
    assert "IST0141) are omitted" in stage.output


def test_the_file_runs_by_itself(lab: Lab) -> None:
    done = lab.run(".venv/bin/python", "verification/verify_precheck.py", "--settle=0")

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_downgrade_is_refused_and_so_are_proxies_that_are_ahead(lab: Lab, precheck: Run) -> None:
    stage = precheck(target=OLDER)

    assert stage.exit == 1
    assert stage.first.startswith(
        f"FAIL PC002 Deployment istio-system/istiod: runs {OLD}, and {OLDER} is older "
        "(expected a patch, or the next minor version)"
    ), stage.output
    web = lab.pod("shop", "web")
    assert _line(stage, f"FAIL PC004 Pod shop/{web}: its proxy runs {OLD}, newer than the target")


def test_two_minor_versions_at_once_are_refused(lab: Lab, precheck: Run) -> None:
    stage = precheck(target=SKIPPING)

    # no meshgate knows the release after the newest: what fails is what follows from the number
    assert stage.exit == 1, stage.output
    web = lab.pod("shop", "web")
    assert _line(stage, f"FAIL PC004 Pod shop/{web}: its proxy runs {OLD}, 2 minor versions behind")
    assert _line(stage, "UNKNOWN PC002", f"does not know Istio {SKIPPING.rpartition('.')[0]}")
    assert _line(stage, "UNKNOWN PC001", f"istioctl has the version {NEW}")


def test_an_unknown_target_could_not_be_verified(precheck: Run) -> None:
    stage = precheck("-k", "kubernetes", target="1.99.0")

    assert stage.exit == 10
    assert stage.first.startswith("UNKNOWN PC003"), stage.output
    assert "does not contain Istio 1.99" in stage.first


def test_a_target_past_its_end_of_life(precheck: Run, tmp_path: Path) -> None:
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(
        'source = "a test"\ndate = 2026-01-01\nskew = 1\n'
        f'[release."{MINOR}"]\nkubernetes = ["1.31", "1.33"]\nend_of_life = 2026-01-02\n'
    )

    stage = precheck(f"--support-matrix={matrix}")

    assert stage.exit == 1
    assert stage.first.startswith(
        f"FAIL PC003 Kubernetes 1.34: Istio {MINOR} does not support it (expected 1.31 to 1.33, by"
    ), stage.output
    assert _line(stage, f"WARN PC003 Istio {MINOR}: has reached its end of life on 2026-01-02")


def test_faults_are_named_until_they_are_fixed(lab: Lab, precheck: Run) -> None:
    lab.apply(*_wrong(lab))
    lab.kubectl("label", "namespace", "payments", "istio-injection-")
    api = lab.pod("payments", "api")
    _serve_routes(lab, served=False)
    try:
        stage = precheck()
    finally:
        _serve_routes(lab, served=True)
        lab.verb("reset")

    assert stage.exit == 1
    for words in (
        f"FAIL PC006 EnvoyFilter shop/old-only: its proxyVersion {OLD_ONLY} matches the running",
        f"FAIL PC007 CustomResourceDefinition {ROUTES}: serves v1beta1, and istiod {NEW} watches",
        "FAIL PC008 Namespace shop: 2 webhook configurations inject its pods: "
        "istio-revision-tag-default and left-",
        "FAIL PC008 MutatingWebhookConfiguration istio-revision-tag-prod: the tag prod points to",
        f"FAIL PC009 Pod payments/{api}: has a sidecar, and no webhook would inject one again",
    ):
        assert _line(stage, words)
    assert precheck().exit == 0


def test_risks_are_warnings(lab: Lab, precheck: Run) -> None:
    lab.apply(*_fragile())
    lab.kubectl("label", "namespace", "shop", "istio.io/rev=default")
    lab.kubectl("rollout", "pause", "deployment/api", "-n", "payments")
    lab.kubectl("patch", "statefulset/cache", "-n", "shop", "-p", _ON_DELETE)
    lab.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller"),
        *("-f", "-"),
        input=json.dumps(_applied_by_argo(lab)),
    )
    lab.kubectl(
        *("wait", "pdb/web", "-n", "shop", "--timeout=120s"),
        "--for=jsonpath={.status.expectedPods}=1",
    )
    try:
        stage = precheck()
    finally:
        lab.verb("reset")

    assert stage.exit == 0, stage.output
    for words in (
        "WARN PC006 EnvoyFilter shop/deprecated: uses the deprecated filter name envoy.lua",
        "WARN PC008 Namespace shop: has the labels istio-injection and istio.io/rev=default",
        "WARN PC008 MutatingWebhookConfiguration applied: argocd-controller manages caBundle",
        "WARN PC009 Deployment payments/api: its rollout is paused",
        "WARN PC009 StatefulSet shop/cache: its update strategy is OnDelete: a pod",
        "WARN PC009 PodDisruptionBudget shop/web: allows no disruption",
    ):
        assert _line(stage, words)
    fixed = precheck()
    assert fixed.exit == 0, fixed.output
    assert _unexpected_warnings(fixed) == []


def test_a_pattern_that_only_go_supports_is_matched_as_istiod_does(lab: Lab, precheck: Run) -> None:
    lab.apply(_filter("posix", f"^1[[:punct:]]{_MINOR}"))
    try:
        stage = precheck()
    finally:
        lab.verb("reset")

    assert stage.exit == 1, stage.output
    assert _line(
        stage,
        f"FAIL PC006 EnvoyFilter shop/posix: its proxyVersion ^1[[:punct:]]{_MINOR} matches the",
    )


@pytest.mark.every_release
def test_what_1_29_changed_is_named(tmp_path: Path) -> None:
    # needs an upgrade from 1.28: these changes are of 1.29
    with lab_of("1.28.2", tmp_path) as lab:
        lab.apply(*_changed_by_1_29())
        options = ("--target-version=1.29.1", "--istioctl=istioctl-1.29.1", "--settle=20")
        stage = lab.pytest("-m", "precheck", *options)

    assert stage.exit == 1, stage.output
    for words in (
        "FAIL PC005 Deployment shop/annotated: its pods carry sidecar.istio.io/statsCompression",
        "WARN PC005 Pod legacy/kiali: reads istiod's debug endpoints from outside istio-system",
        "WARN PC005 DestinationRule shop/pool: limits a connection pool",
    ):
        assert _line(stage, words)


# --- the faults ----------------------------------------------------------------------------------

_ON_DELETE = '{"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}'


def _unexpected_warnings(stage: Stage) -> list[str]:
    """Return every warning except that the target lacks a fix that the running release has."""
    warnings = [each for each in stage.output.splitlines() if each.startswith("WARN ")]
    return [each for each in warnings if f"which {NEW} lacks" not in each]


def _line(stage: Stage, begins: str, holds: str = "") -> str:
    """The one line of a run that begins so."""
    found = [each for each in stage.output.splitlines() if each.startswith(begins)]
    assert len(found) == 1, f"{begins}\n{stage.output}"
    assert holds in found[0]
    return found[0]


def _serve_routes(lab: Lab, *, served: bool) -> None:
    versions = lab.get("crd", ROUTES)["spec"]["versions"]
    (index,) = [number for number, each in enumerate(versions) if each["name"] == "v1"]
    change = [{"op": "replace", "path": f"/spec/versions/{index}/served", "value": served}]
    lab.kubectl("patch", "crd", ROUTES, "--type=json", "-p", json.dumps(change))
    kind, _, group = ROUTES.partition(".")
    listed = ("kubectl", "get", "--raw", f"/apis/{group}/v1/{kind}")
    until(lambda: (lab.run(*listed).returncode == 0) == served)


def _wrong(lab: Lab) -> list[dict[str, Any]]:
    return [
        _filter("old-only", OLD_ONLY),
        _injector(lab, "left-over"),
        _injector(lab, "istio-revision-tag-prod", tag="prod"),
    ]


def _injector(lab: Lab, name: str, tag: str = "") -> dict[str, Any]:
    """Another configuration like the one that injects: a second one, or a tag's that leads away."""
    # istioctl gives the injecting to the tag "default", and leaves the injector to select nothing
    found: dict[str, Any] = lab.get("mutatingwebhookconfiguration", "istio-revision-tag-default")
    labels = {"istio.io/rev": "gone", "istio.io/tag": tag} if tag else {}
    found["metadata"] = {"name": name, "labels": labels}
    for webhook in found["webhooks"] if tag else []:
        webhook["namespaceSelector"] = {"matchLabels": {"istio.io/rev": tag}}
    return found


def _applied_by_argo(lab: Lab) -> dict[str, Any]:
    """An injector of which Argo CD's manager holds all fields; it selects nothing."""
    found = _injector(lab, "applied")
    for webhook in found["webhooks"]:
        webhook["namespaceSelector"] = {"matchLabels": {"nobody": "has-this"}}
    return found


def _fragile() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        },
        _filter("deprecated", "", name="envoy.lua"),
    ]


def _filter(name_of: str, pattern: str, name: str = "envoy.filters.http.lua") -> dict[str, Any]:
    """An EnvoyFilter that would add a filter to pods that do not exist."""
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name_of, "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": "nobody"}},
            "configPatches": [
                {
                    "applyTo": "HTTP_FILTER",
                    "match": {"proxy": {"proxyVersion": pattern}} if pattern else {},
                    "patch": {
                        "operation": "INSERT_FIRST",
                        "value": {
                            "name": name,
                            "typed_config": {
                                "@type": "type.googleapis.com/"
                                "envoy.extensions.filters.http.lua.v3.Lua"
                            },
                        },
                    },
                }
            ],
        },
    }


def _changed_by_1_29() -> list[dict[str, Any]]:
    """An annotation that 1.29 removed, a reader of debug endpoints, a limited connection pool."""
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "annotated", "namespace": "shop"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "annotated"}},
                "template": {
                    "metadata": {
                        "labels": {"app": "annotated"},
                        "annotations": {"sidecar.istio.io/statsCompression": "gzip"},
                    },
                    "spec": {"containers": [{"name": "app", "image": "none"}]},
                },
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "pool", "namespace": "shop"},
            "spec": {
                "host": "orders.shop.svc.cluster.local",
                "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "kiali", "namespace": "legacy", "labels": {"app": "kiali"}},
            "spec": {"containers": [{"name": "kiali", "image": "none"}]},
        },
    ]
