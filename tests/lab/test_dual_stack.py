"""Stage C with IPv6 as well: each address family is probed and reported separately."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meshgate.snapshot.store import load
from tests.lab.harness import NEW, Lab, Stage, lab_of
from tests.lab.rights import VERIFIER, grant

GATEWAY = ("service", "istio-ingressgateway", "-n", "istio-ingress")
OUTSIDE = "fd00:172:30::7"


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of both families: $MESHGATE_LAB_DUAL, or one for this module."""
    folder = tmp_path_factory.mktemp("runs")
    with lab_of(NEW, folder, "--dual-stack", named="MESHGATE_LAB_DUAL") as lab:
        lab.verb("reset")
        yield lab


@contextmanager
def firewall(lab: Lab) -> Iterator[None]:
    """Nothing leads to the classic gateway's port by IPv6 while the block runs."""
    rule = ("OUTPUT", "-p", "tcp", "--dport", "8080", "-j", "REJECT")
    lab.verb("node", "ip6tables", "-I", *rule)
    try:
        yield
    finally:
        lab.verb("node", "ip6tables", "-D", *rule)


def test_both_families_are_probed_and_a_broken_one_is_named(dual: Lab) -> None:
    grant(dual)

    def ingress(*words: str) -> Stage:
        return dual.pytest("-m", "ingress", *words, identity=VERIFIER)

    families = {"type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack"}
    dual.kubectl("patch", *GATEWAY, "-p", json.dumps({"spec": families}))
    address = {"status": {"loadBalancer": {"ingress": [{"ip": OUTSIDE}]}}}
    dual.kubectl("patch", *GATEWAY, "--subresource=status", "-p", json.dumps(address))
    service = dual.get(*GATEWAY)["spec"]
    _, six = service["clusterIPs"]

    both = ingress("--settle=30", "--vantage=inside", "--vantage=outside")
    planned = ingress("--dry-run").output
    with firewall(dual):
        four_alone = ingress("--settle=2")

    assert both.exit == 0, both.output
    sent = load(both.reports / "snapshot.json.gz").ingress
    assert sent is not None
    entrypoint = "Service istio-ingress/istio-ingressgateway"
    answered = {each.request.service for each in sent.exchanges if each.status == 200}
    assert {entrypoint, f"{entrypoint} ({six})"} <= answered
    assert f"GET http://shop.example.com:80/ by {OUTSIDE}:80 (outside)" in planned
    assert four_alone.exit == 1, four_alone.output
    lost = [line for line in four_alone.failures if line.startswith("FAIL IG004 ")]
    assert any(
        f"no connection from inside by {entrypoint} ({six}) port 80" in line for line in lost
    )
    assert not any(f"from inside by {entrypoint} port 80" in line for line in lost)
