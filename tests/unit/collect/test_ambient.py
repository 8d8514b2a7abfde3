"""What istiod sends to ztunnels and what ztunnels count, as their endpoints report it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.collect import ambient
from meshgate.collect.istiod import MONITORING_PORT, Direct
from meshgate.snapshot.ambient import AmbientReading, ZtunnelReading
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import Expectations
from tests.conftest import Serve
from tests.support import ambient_builders as build
from tests.support import fakes
from tests.support.builders import istiod, sidecar
from tests.support.fakes import Answer

# as istiod 1.28 to 1.31 answer: addresses are base64 of their text, defaults are left out
INDEX = b"""{
  "workloads": [
    {"uid": "Kubernetes//Pod/shop/web-1", "name": "web-1", "namespace": "shop", "addresses":
     ["MTAuMC4wLjk="], "tunnelProtocol": "HBONE", "serviceAccount": "web", "node": "node-1",
     "waypoint": {"hostname": {"namespace": "shop", "hostname": "waypoint.shop.svc.cluster.local"},
     "hboneMtlsPort": 15008}, "clusterId": "Kubernetes", "services": {"shop/web": {"ports": []}}},
    {"uid": "Kubernetes//Pod/shop/old-1", "name": "old-1", "namespace": "shop"},
    {"uid": "Kubernetes/networking.istio.io/ServiceEntry/shop/outside/1", "name": "outside"}
  ],
  "services": [
    {"name": "web", "namespace": "shop", "hostname": "web.shop.svc.cluster.local", "waypoint":
     {"address": {"address": "MTAuOTYuMC45"}, "hboneMtlsPort": 15008}}
  ],
  "policies": null
}"""
METRICS = b"""\
# HELP istio_build Istio component build info.
# TYPE istio_build gauge
istio_build{component="ztunnel",tag="1.31.0"} 1
# TYPE workload_manager_active_proxy_count gauge
workload_manager_active_proxy_count 3
# TYPE workload_manager_pending_proxy_count gauge
workload_manager_pending_proxy_count 1
"""


class Context:
    """What the two readers use of a run's context."""

    def __init__(self, token: Path) -> None:
        self.transport = Direct(token, timeout=5.0)
        self.expectations = Expectations()


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """From inside the cluster."""
    token = tmp_path / "token"
    token.write_text("a-token")
    return Context(token)


def found(*pods: Pod) -> Items:
    return Items(namespaces=(build.SHOP,), pods=pods)


def replica(serve: Serve, answer: Answer) -> Pod:
    serve({"/debug/ambientz": answer}, fakes.address(), MONITORING_PORT)
    return istiod(ip=fakes.address())


def test_what_istiod_sends_to_ztunnels(serve: Serve, context: Any) -> None:
    (seen,) = ambient.read_index(context, found(replica(serve, Answer(200, INDEX))))

    web, old = seen.workloads
    assert (web.namespace, web.name, web.cluster_id) == ("shop", "web-1", "Kubernetes")
    assert (web.tunnel_protocol, old.tunnel_protocol) == ("HBONE", "")
    assert web.waypoint == build.WAYPOINT
    (service,) = seen.services
    assert service.waypoint is not None
    assert service.waypoint.address is not None
    assert service.waypoint.address.address == b"10.96.0.9"


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        (Answer(200, b'{"workloads":null,"services":null,"policies":null}'), {}),
        (Answer(200, b"{"), {"denied": "cannot decode /debug/ambientz"}),
        (Answer(403, b"no"), {"denied": "istiod does not let us read /debug/ambientz"}),
        (Answer(500, b"no"), {"error": "istiod answered 500"}),
    ],
    ids=["disabled", "not JSON", "refused", "broken"],
)
def test_what_else_istiod_may_answer(
    answer: Answer, reading: dict[str, str], serve: Serve, context: Any
) -> None:
    (seen,) = ambient.read_index(context, found(replica(serve, answer)))

    assert isinstance(seen, AmbientReading)
    assert (seen.workloads, seen.services) == ((), ())
    for field in ("error", "denied"):
        assert getattr(seen, field).startswith(reading.get(field, ""))
        assert bool(getattr(seen, field)) == (field in reading)


def test_nothing_is_read_without_ambient_mode(context: Any) -> None:
    mesh = Items(pods=(istiod(ip=fakes.address()), sidecar(), build.ZTUNNEL))

    assert ambient.read_index(context, mesh) == ()
    assert ambient.read_ztunnels(context, mesh) == ()


def ztunnel(serve: Serve, answer: Answer) -> Pod:
    serve({"/metrics": answer}, fakes.address(), ambient.METRICS_PORT)
    return build.agent("ztunnel-1", ip=fakes.address())


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        (Answer(200, METRICS), {"version": "1.31.0", "active": 3, "pending": 1}),
        (Answer(200, b"other 1\n"), {}),
        (Answer(404), {"error": "port 15020: /metrics answered 404"}),
        (Answer(200, b"istio_build{tag="), {"error": "cannot decode its metrics: "}),
    ],
    ids=["metrics", "others", "refused", "not metrics"],
)
def test_what_a_ztunnel_counts(
    answer: Answer, reading: dict[str, Any], serve: Serve, context: Any
) -> None:
    (seen,) = ambient.read_ztunnels(context, found(ztunnel(serve, answer)))

    assert seen.error.startswith(reading.pop("error", ""))
    wanted = ZtunnelReading(pod="istio-system/ztunnel-1", **reading)
    assert msgspec.structs.replace(seen, error="") == wanted


def test_a_ztunnel_that_does_not_answer_or_is_not_running(context: Any) -> None:
    silent = build.agent("ztunnel-1", ip=fakes.address(1))
    others = (build.agent("ztunnel-2", phase="Pending"), build.agent("ztunnel-3", deleted=True))

    (seen,) = ambient.read_ztunnels(context, found(silent, *others))

    assert seen.pod == "istio-system/ztunnel-1"
    assert seen.error
    assert seen.active is None
