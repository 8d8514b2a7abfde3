"""Real upgrades, 1.28.2 to 1.29.1: the gate says right away what is so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshgate.collect.rights import PROBES
from tests.lab.harness import NEW, OLD, Lab, Stage, lab_of
from tests.lab.rights import VERIFIER, grant
from tests.lab.test_pair import IMAGE

# what keeps workloads behind
ON_DELETE = '{"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}'
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
}


@pytest.fixture
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A mesh of the old version for each test: it is upgraded."""
    with lab_of(OLD, tmp_path_factory.mktemp("upgrade")) as lab:
        yield lab


def test_an_upgrade_in_place(old: Lab, tmp_path: Path) -> None:
    grant(old)
    old.apply(BUDGET)
    old.kubectl(*("patch", "statefulset", "cache", "-n", "shop", "-p", ON_DELETE))
    before = old.pytest("-m", "controlplane", f"--target-version={OLD}", "--settle=30")
    assert before.exit == 0, before.output

    baseline = tmp_path / "before.json.gz"
    ready = old.pytest(
        *("-m", "precheck", f"--target-version={NEW}", f"--istioctl=istioctl-{NEW}"),
        *("--settle=30", f"--keep-baseline={baseline}"),
    )
    assert ready.exit == 0, ready.output
    way_in = old.pytest("-m", "ingress", "--settle=30")
    assert way_in.exit == 0, way_in.output

    early = old.pytest("-m", "controlplane", f"--target-version={NEW}", "--settle=10")
    assert early.exit == 1, early.output
    assert f"runs {OLD} (expected {NEW})" in early.first

    old.verb("upgrade", NEW)
    after = old.pytest(
        *("-m", "controlplane", f"--target-version={NEW}", "--settle=90"),
        f"--baseline={baseline}",
    )
    assert after.exit == 0, after.output
    # the workloads are not restarted yet: expected between the stages, told and not fatal
    assert "IST0158" in after.output

    behind = dataplane(old)
    assert behind.exit == 1, behind.output
    assert "its sidecar is 1.28.2: Deployment api was not restarted since" in behind.first
    assert "StatefulSet cache has the update strategy OnDelete" in behind.output
    assert "PodDisruptionBudget shop/web allows no disruption" in behind.output
    # the old sidecars are sound all the same
    assert {line.split()[1] for line in behind.failures} == {"DP002"}, behind.output
    same = f"--baseline={way_in.reports}/snapshot.json.gz"
    gateways = old.pytest("-m", "ingress", "--settle=10", same)
    assert gateways.exit == 1, gateways.output
    assert f"its proxy is {OLD} (expected {NEW}, like istiod)" in gateways.first

    old.verb("upgrade", NEW, "--restart")
    arrived = old.pytest("-m", "ingress", "--settle=60", same)
    assert arrived.exit == 0, arrived.output
    assert "n/a  IG008 " not in arrived.output
    done = old.pytest("-m", "controlplane", f"--target-version={NEW}", "--settle=60")
    assert done.exit == 0, done.output
    # the pod that nobody restarts is left
    assert "(pod names: [cache-0])" in done.output

    left = dataplane(old)
    assert len(left.failures) == 1, left.output
    assert left.first.startswith(
        "FAIL DP002 Pod shop/cache-0: its sidecar is 1.28.2: StatefulSet cache"
    )
    old.kubectl("delete", "pod", "cache-0", "-n", "shop")
    restarted = dataplane(old)
    assert restarted.exit == 0, restarted.output
    last = old.pytest("-m", "controlplane", f"--target-version={NEW}", "--settle=60")
    assert last.exit == 0, last.output
    assert "IST0158" not in last.output


def dataplane(lab: Lab) -> Stage:
    """Stage D as the verifier in the cluster, from outside and with the probe pair."""
    # an old sidecar does not heal: the one look at it has to wait for the pair
    probes = (f"--probe-pair={IMAGE}", "--probe-deadline=120")
    return lab.pytest(
        *("-m", "dataplane", f"--target-version={NEW}", "--settle=60", *probes),
        identity=VERIFIER,
    )


def test_an_upgrade_by_revision_with_a_tag(old: Lab) -> None:
    ready = old.pytest(
        "-m", "precheck", f"--target-version={NEW}", f"--istioctl=istioctl-{NEW}", "--settle=30"
    )
    assert ready.exit == 0, ready.output

    old.verb("revision", NEW, "--tag", "prod")
    grant(old)
    before = old.pytest("-m", "controlplane", "--settle=60")
    assert before.exit == 0, before.output

    for namespace in ("shop", "payments", PROBES):
        old.kubectl("label", "namespace", namespace, "istio-injection-", "istio.io/rev=prod")
    between = old.pytest("-m", "controlplane", "--settle=30")
    assert between.exit == 0, between.output
    # the workloads are of the old revision until their own stage: told and not fatal
    assert "WARN CP012 Namespace shop: " in between.output
    behind = dataplane(old)
    assert behind.exit == 1, behind.output
    assert "its sidecar is 1.28.2: Deployment api was not restarted since" in behind.first
    # what is made now is of the new revision already, and speaks with the old
    assert "pass DP008" in behind.output, behind.output
    assert "pass DP009" in behind.output, behind.output

    for namespace in ("shop", "payments"):
        for kind in ("deployment", "statefulset"):
            old.kubectl("rollout", "restart", kind, "-n", namespace)
            for each in old.get(kind, "-n", namespace)["items"]:
                name = f"{kind}/{each['metadata']['name']}"
                old.kubectl("rollout", "status", name, "-n", namespace, "--timeout=180s")
    after = old.pytest("-m", "controlplane", "--settle=90")
    assert after.exit == 0, after.output
    assert "WARN CP012" not in after.output
    restarted = dataplane(old)
    assert restarted.exit == 0, restarted.output
    assert "WARN DP009" not in restarted.output
