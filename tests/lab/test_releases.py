"""Every older release: all stages on a healthy mesh, and one fault for each stage.

The newest release has the full set of faults in the other files.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.gates import Gates
from tests.lab.harness import UPGRADES, Lab, Stage, lab_of, until_answered
from tests.lab.rights import VERIFIER, granted, requests
from tests.lab.test_mtls import rule
from tests.lab.test_shadow import shadow

pytestmark = [
    pytest.mark.every_release,
    pytest.mark.parametrize(("release", "target"), UPGRADES, scope="module"),
]

LUA = {
    "name": "envoy.filters.http.lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": "function envoy_on_request(handle) end"},
    },
}
LOST = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "lost", "namespace": "shop"},
    "spec": {
        "hosts": ["lost.example.com"],
        "gateways": ["shop/missing"],
        "http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}],
    },
}


@pytest.fixture(scope="module")
def mesh(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One mesh of the release for all tests here."""
    with lab_of(release, tmp_path_factory.mktemp("release")) as lab:
        yield lab


@pytest.fixture
def gates(mesh: Lab, tmp_path: Path) -> Gates:
    """The gates of that mesh, which is healthy."""
    mesh.verb("reset")
    return Gates(mesh, tmp_path)


def test_a_healthy_mesh_opens_every_gate(gates: Gates, release: str, target: str) -> None:
    ready = gates.precheck(target)

    assert ready.exit == 0, ready.output
    gates.all_open(release)


def test_the_generated_roles_allow_every_request(
    gates: Gates, release: str, target: str, tmp_path: Path
) -> None:
    earlier = len(requests(gates.lab))

    # istioctl and istiod of both releases
    ready = gates.precheck(target)
    analyzed = gates.controlplane(release)
    same = shadow(gates.lab, release, tmp_path, identity=VERIFIER)

    assert ready.exit == 0, ready.output
    assert analyzed.exit == 0, analyzed.output
    assert same.returncode == 0, same.stdout + same.stderr
    made = requests(gates.lab)[earlier:]
    assert [each for each in made if each.code == 403] == []
    for program, roles in (("istioctl", ()), ("pilot-discovery", ("--shadow",))):
        read = {
            (each.group, each.resource)
            for each in made
            if each.program.startswith(program) and not each.resource.startswith("/")
        }
        assert ("networking.istio.io", "envoyfilters") in read, {each.program for each in made}
        assert read - granted(*roles) == set()


def test_a_fault_closes_stage_a(gates: Gates, release: str, target: str) -> None:
    gates.lab.apply(
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "old-only", "namespace": "shop"},
            "spec": {
                "configPatches": [
                    {
                        "applyTo": "HTTP_FILTER",
                        "match": {"proxy": {"proxyVersion": f"^{re.escape(release)}$"}},
                        "patch": {"operation": "INSERT_FIRST", "value": LUA},
                    }
                ]
            },
        }
    )

    closed(gates.precheck(target, "--settle=10"), "PC006", "EnvoyFilter shop/old-only")


@pytest.mark.usefixtures("target")
def test_a_fault_closes_stage_b(gates: Gates, release: str) -> None:
    gates.lab.apply(LOST)

    closed(gates.controlplane(release, "--settle=10"), "CP006", "VirtualService shop/lost")


@pytest.mark.usefixtures("release", "target")
def test_a_fault_closes_stage_c(gates: Gates) -> None:
    gates.lab.kubectl("scale", "deployment/orders", "-n", "shop", "--replicas=0")
    until_answered(gates.lab, "HTTP/1.1 503", "http://shop.example.com/orders/")

    closed(gates.ingress("--settle=5"), "IG007", "VirtualService shop/shop")


@pytest.mark.usefixtures("target")
def test_a_fault_closes_stage_d(gates: Gates, release: str) -> None:
    gates.lab.apply(rule("plain", "orders", tls={"mode": "DISABLE"}))

    stage = gates.dataplane(release, "--settle=5", pair=False)

    closed(stage, "DP006", "DestinationRule shop/plain")


def closed(stage: Stage, check: str, name: str) -> None:
    """The gate is closed by this check, which names the object."""
    assert stage.exit == 1, stage.output
    lines = [line for line in stage.failures if line.split()[1] == check]
    assert [line for line in lines if name in line], stage.output
