"""Real upgrades, each to the next minor release: every gate, before and after.

`make test-lab` runs those to the newest release, `make test-lab-all` all of them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshgate.collect.rights import PROBES
from tests.lab.gates import Gates
from tests.lab.harness import UPGRADES, Lab, Stage, lab_of
from tests.lab.test_access import lost_virtual_service

# what keeps workloads behind
ON_DELETE = '{"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}'
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
}

every_upgrade = pytest.mark.parametrize(
    ("old", "new"),
    [
        *(pytest.param(*pair, marks=pytest.mark.every_release) for pair in UPGRADES[:-1]),
        pytest.param(*UPGRADES[-1]),
    ],
)


@pytest.fixture
def lab(old: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A mesh of the release `old`, one for each test: the test upgrades it."""
    with lab_of(old, tmp_path_factory.mktemp("upgrade")) as lab:
        yield lab


@pytest.fixture
def gates(lab: Lab, tmp_path: Path) -> Gates:
    """Its gates."""
    return Gates(lab, tmp_path)


@every_upgrade
def test_an_upgrade_in_place(lab: Lab, gates: Gates, old: str, new: str, tmp_path: Path) -> None:
    lab.apply(BUDGET)
    lab.kubectl("patch", "statefulset", "cache", "-n", "shop", "-p", ON_DELETE)
    gates.all_open(old)
    saved = tmp_path / "before.json.gz"
    ready = gates.precheck(new, f"--save-baseline={saved}")
    assert ready.exit == 0, ready.output
    baseline = f"--baseline={saved}"

    early = gates.controlplane(new, "--settle=10", baseline)
    assert early.exit == 1, early.output
    assert f"runs istiod {old}" in early.first
    assert new in early.first

    lab.verb("upgrade", new)
    after = gates.controlplane(new, baseline)
    assert after.exit == 0, after.output
    # the workloads are not restarted yet: expected between these stages, so only a warning
    assert "IST0158" in after.output
    # the gates of a second sync keep what the upgrade is compared with
    before = saved.read_bytes()
    second = gates.precheck(new, f"--save-baseline={saved}")
    assert f"{saved} was not replaced: istiod already runs" in unwrapped_text(second)
    assert saved.read_bytes() == before
    # the baseline excuses none of what the restart has to change
    for behind in (gates.dataplane(new, baseline), gates.dataplane(new)):
        assert behind.exit == 1, behind.output
        assert checks(behind) == {"DP002"}, behind.output
        assert f"its sidecar is {old}: Deployment api was not restarted since" in behind.output
        assert "StatefulSet cache has the update strategy OnDelete" in behind.output
        assert "PodDisruptionBudget shop/web allows no disruption" in behind.output
    gateways = gates.ingress("--settle=10", baseline)
    assert gateways.exit == 1, gateways.output
    assert checks(gateways) == {"IG001"}, gateways.output
    assert f"its proxy is {old}" in gateways.first

    lab.verb("upgrade", new, "--restart")
    arrived = gates.ingress(baseline)
    assert arrived.exit == 0, arrived.output
    # the pod of the StatefulSet still waits for somebody to delete it
    left = gates.dataplane(new, baseline)
    assert len(left.failures) == 1, left.output
    assert "DP002 Pod shop/cache-0" in left.first
    assert f"its sidecar is {old}: StatefulSet cache" in left.first
    lab.kubectl("delete", "pod", "cache-0", "-n", "shop")

    restarted = gates.dataplane(new, baseline)
    assert restarted.exit == 0, restarted.output
    last = gates.controlplane(new, baseline)
    assert last.exit == 0, last.output
    assert "IST0158" not in last.output
    gates.all_open(new)
    again = gates.precheck(new)
    assert again.exit == 0, again.output
    _a_late_baseline_excuses_nothing(lab, gates, new, tmp_path)


def _a_late_baseline_excuses_nothing(lab: Lab, gates: Gates, new: str, tmp_path: Path) -> None:
    late = tmp_path / "late.json.gz"
    lab.apply(lost_virtual_service())
    broken = gates.controlplane(new, f"--save-baseline={late}")
    assert broken.exit == 1, broken.output
    same = gates.controlplane(new, f"--baseline={late}")
    assert same.exit == 1, same.output
    assert f"the baseline excuses nothing: istiod already ran {new}" in unwrapped_text(same)
    # a change of another kind, and no upgrade: this is what was there before it
    lab.kubectl("rollout", "restart", "deployment/istiod", "-n", "istio-system")
    lab.kubectl("rollout", "status", "deployment/istiod", "-n", "istio-system", "--timeout=180s")
    other = gates.controlplane(new, f"--baseline={late}")
    assert other.exit == 0, other.output
    assert "pre-existing (in the baseline)" in other.output


def unwrapped_text(stage: Stage) -> str:
    """What was printed, without its line breaks."""
    return " ".join(stage.output.split())


@every_upgrade
def test_an_upgrade_by_revision_with_a_tag(
    lab: Lab, gates: Gates, old: str, new: str, tmp_path: Path
) -> None:
    saved = tmp_path / "before.json.gz"
    ready = gates.precheck(new, f"--save-baseline={saved}")
    assert ready.exit == 0, ready.output
    baseline = f"--baseline={saved}"

    lab.verb("revision", new, "--tag", "prod")
    # both istiods run: the new one is what the gate judges, the old one still has its workloads
    before = gates.controlplane(new, baseline)
    assert before.exit == 0, before.output

    for namespace in ("shop", "payments", PROBES):
        lab.kubectl("label", "namespace", namespace, "istio-injection-", "istio.io/rev=prod")
    between = gates.controlplane(new, "--settle=30", baseline)
    assert between.exit == 0, between.output
    # the workloads are of the old revision until their own stage: only a warning
    assert "WARN CP012 Namespace shop: " in between.output
    behind = gates.dataplane(new, baseline)
    assert behind.exit == 1, behind.output
    assert f"its sidecar is {old}: Deployment api was not restarted since" in behind.output
    # new pods are of the new revision already, and talk to the old ones
    assert "pass DP008" in behind.output, behind.output
    assert "pass DP009" in behind.output, behind.output

    for namespace in ("shop", "payments"):
        restart(lab, namespace)
    # the canary: these namespaces are upgraded, the gateways of istio-ingress are not
    canary = gates.controlplane(new, baseline)
    assert canary.exit == 0, canary.output
    assert "WARN CP012" not in canary.output
    forgotten = gates.dataplane(new, baseline)
    assert forgotten.exit == 1, forgotten.output
    assert checks(forgotten) == {"DP002"}, forgotten.output
    assert len(forgotten.failures) == 2, forgotten.output
    for line in forgotten.failures:
        assert line.startswith("FAIL DP002 Pod istio-ingress/"), line

    lab.kubectl("label", "namespace", "istio-ingress", "istio-injection-", "istio.io/rev=prod")
    restart(lab, "istio-ingress")
    upgraded = gates.dataplane(new, baseline)
    assert upgraded.exit == 0, upgraded.output
    assert "WARN DP009" not in upgraded.output
    gateways = gates.ingress(baseline)
    assert gateways.exit == 0, gateways.output
    gates.all_open(new)


def checks(stage: Stage) -> set[str]:
    """The checks that closed the gate."""
    return {line.split()[1] for line in stage.failures}


def restart(lab: Lab, namespace: str) -> None:
    """Restart every workload of a namespace, and wait for each."""
    for kind in ("deployment", "statefulset"):
        for each in lab.get(kind, "-n", namespace)["items"]:
            name = f"{kind}/{each['metadata']['name']}"
            lab.kubectl("rollout", "restart", name, "-n", namespace)
            lab.kubectl("rollout", "status", name, "-n", namespace, "--timeout=180s")
