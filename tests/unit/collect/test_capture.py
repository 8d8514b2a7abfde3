"""A capture: what was read, what was not and why, and since when a push is unanswered."""

import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from meshgate.collect.capture import Live, Replay, connect
from meshgate.collect.istiod import MONITORING_PORT
from meshgate.collect.kubernetes import NoCluster
from meshgate.deadline import Deadline
from meshgate.settings import Access, Settings
from meshgate.snapshot import items
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.items import OFFLINE_BUNDLE, closure
from meshgate.snapshot.model import Expectations, Snapshot
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import (
    CLUSTER,
    LISTENER,
    NOT_SENT,
    as_api,
    deployment,
    istiod,
    pod,
    pushed,
    sidecar,
    snapshot,
    sync,
)
from tests.support.fakes import Server, answer, refusal

# istiod's own clock: nothing of it may depend on ours
THERE = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
KEY = f"web-1.shop|{LISTENER}"
# a rehearsal is of real objects: tests/unit/collect/shadow/test_rehearsal.py
ITEMS = items.ITEMS - {OFFLINE_BUNDLE}
LISTS = frozenset({"namespaces", "pods", "deployments", "envoy_filters"})


class Estate:
    """A cluster with one istiod, and a source that reads it."""

    def __init__(self, api: Server, replica: Server, source: Live, settings: Settings) -> None:
        self.settings = settings
        self.api = api
        self.replica = replica
        self.source = source

    def says(self, *proxies: ProxySync) -> None:
        """What istiod answers from now on."""
        self.replica.answers = dict(fakes.istiod_answers(proxies, at=THERE))

    def holds(self, **lists: Iterable[msgspec.Struct]) -> None:
        """What the API server answers from now on."""
        self.api.answers = dict(fakes.api_answers(snapshot(**lists)))

    def asked(self) -> list[str]:
        """The lists that were asked for since the last time."""
        asked = [each.path.rpartition("/")[2] for each in self.api.requests]
        self.api.requests.clear()
        return sorted(set(asked) - {"version"})


@pytest.fixture
def estate(serve: Serve, tmp_path: Path) -> Estate:
    """A healthy one."""
    replica = serve(fakes.istiod_answers([sync()], at=THERE), fakes.address(), MONITORING_PORT)
    held = snapshot(pods=(istiod(ip=fakes.address()), sidecar()))
    api = serve(fakes.api_answers(held))
    token = tmp_path / "token"
    token.write_text("a-token")
    access = Access(
        kubeconfig=str(fakes.kubeconfig(tmp_path / "kubeconfig", api.url)),
        istiod_access="direct",
        istiod_token_file=str(token),
        istioctl=str(fakes.istioctl(tmp_path / "istioctl")),
        window=0.0,
    )
    settings = Settings(access=access)
    return Estate(api, replica, connect(settings, Expectations(stale_after=7.0)), settings)


# --- what was read ------------------------------------------------------------------------------


def test_a_capture_holds_what_the_cluster_holds(estate: Estate) -> None:
    before = datetime.now(UTC)

    seen = estate.source.capture(ITEMS)

    assert (seen.read, seen.gaps) == (tuple(sorted(ITEMS)), ())
    assert seen.pods == (istiod(ip=fakes.address()), sidecar())
    assert seen.deployments == (deployment(),)
    assert [(each.pod, each.proxies) for each in seen.istiod] == [("istiod-1", (sync(),))]
    assert seen.analysis is not None
    assert (seen.source, seen.kubernetes_version) == ("context fake", "v1.34.4")
    named = replace(estate.settings, access=replace(estate.settings.access, cluster_name="prod-eu"))
    assert connect(named, Expectations()).capture(ITEMS).source == "prod-eu"
    assert seen.expectations == Expectations(stale_after=7.0)
    assert before <= seen.started <= seen.taken <= datetime.now(UTC)


def test_only_what_was_asked_for_is_read_and_what_that_requires(estate: Estate) -> None:
    seen = estate.source.capture({"istiod"})

    assert seen.read == ("istiod", "pods")
    assert estate.asked() == ["pods"]


def test_an_item_that_does_not_exist_is_a_mistake(estate: Estate) -> None:
    with pytest.raises(ValueError, match="unknown item: secrets"):
        estate.source.capture({"pods", "secrets"})


def test_only_running_replicas_of_istiods_namespace_are_asked(estate: Estate) -> None:
    ip = fakes.address()
    estate.holds(
        pods=[
            istiod("istiod-1", ip=ip),
            istiod("istiod-2", ip=ip, deleted=True),
            istiod("istiod-3", ip=ip, phase="Pending"),
            istiod("istiod-4", ip=ip, namespace="elsewhere"),
            pod("other", "istio-system", ip=ip, labels={"app": "other"}),
        ]
    )

    assert [each.pod for each in estate.source.capture({"istiod"}).istiod] == ["istiod-1"]
    assert estate.replica.asked == ["GET /debug/syncz", "GET /version"]


# --- what was not -------------------------------------------------------------------------------


def test_a_list_that_is_refused_is_a_gap_and_so_is_what_rests_on_it(estate: Estate) -> None:
    estate.api.answers["/api/v1/pods"] = refusal(403, "pods is forbidden")

    seen = estate.source.capture(ITEMS - {"analysis"})

    lost = {item for item in ITEMS - {"analysis"} if "pods" in closure({item})}
    assert {"pods", "istiod", "signing"} <= lost
    assert {gap.item: gap.transient for gap in seen.gaps} == dict.fromkeys(lost, False)
    assert all("no right to list pods" in gap.why for gap in seen.gaps)
    assert set(seen.read) == ITEMS - {"analysis"} - lost


def test_one_list_that_fails_does_not_take_the_others_away(estate: Estate) -> None:
    estate.api.answers["/apis/apps/v1/deployments"] = refusal(500, "etcd is slow")

    seen = estate.source.capture(ITEMS - {"analysis"})

    # four more read Deployments, each for what it needs of them, and one rests on them
    lost = {"deployments", "settings", "workloads", "injector_configs", "ingress", "new_pods"}
    assert {gap.item: gap.transient for gap in seen.gaps} == dict.fromkeys(lost, True)
    assert set(seen.read) == ITEMS - {"analysis"} - lost


def test_without_an_api_server_everything_is_one_gap_told_once(estate: Estate) -> None:
    estate.api.answers["/version"] = refusal(401, "Unauthorized")

    seen = estate.source.capture(ITEMS)

    assert {gap.item for gap in seen.gaps} == ITEMS
    assert len({gap.why for gap in seen.gaps}) == 1
    assert seen.read == ()
    assert estate.api.asked == ["GET /version"]


def test_an_api_server_of_another_kind_is_a_gap_and_no_crash(estate: Estate) -> None:
    estate.api.answers["/version"] = fakes.Answer(200, b"<html>Log in</html>")

    seen = estate.source.capture({"pods"})

    assert [(gap.item, gap.why.partition(":")[0]) for gap in seen.gaps] == [
        ("pods", "cannot decode the answer to get /version")
    ]


def test_an_unexpected_error_of_a_reader_is_a_gap_of_its_item_alone(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no-such-folder"))

    seen = estate.source.capture({"pods", "istioctl"})

    assert seen.read == ("pods",)
    (gap,) = seen.gaps
    assert gap.item == "istioctl"
    assert "reading istioctl failed: FileNotFoundError" in gap.why


def test_an_undecodable_object_is_named_and_the_others_are_kept(estate: Estate) -> None:
    page = json.loads(json.dumps(as_api([sidecar(), pod("odd", "shop")]), default=str))
    page["items"][1]["spec"]["containers"] = "none"
    estate.api.answers["/api/v1/pods"] = answer(page)

    seen = estate.source.capture({"pods", "namespaces"})

    assert seen.read == ("namespaces",)
    assert seen.pods == (sidecar(),)
    (gap,) = seen.gaps
    assert [(each.kind, each.name, each.field) for each in gap.objects] == [
        ("pods", "shop/odd", "spec.containers")
    ]
    assert gap.why.startswith("cannot decode pods shop/odd: spec.containers: Expected `array`")
    assert gap.remedy == "kubectl -n shop get pods odd -o yaml, and correct the field"


def test_what_the_deadline_cuts_off_is_a_gap_and_the_rest_is_kept(estate: Estate) -> None:
    access = replace(estate.settings.access, request_timeout=30.0)
    settings = Settings(access=access)
    estate.api.answers["/apis/apps/v1/deployments"] = lambda request: (
        request.left(20),
        answer({}),
    )[1]
    began = time.monotonic()

    seen = connect(settings, Expectations(), deadline=Deadline(2.0)).capture(
        {"pods", "deployments", "istioctl"}
    )

    assert time.monotonic() - began < 10
    assert seen.read == ("istioctl", "pods")
    assert [gap.item for gap in seen.gaps] == ["deployments"]


def test_after_the_deadline_nothing_is_read(estate: Estate) -> None:
    seen = connect(estate.settings, Expectations(), deadline=Deadline(0.0)).capture({"pods"})

    assert seen.read == ()
    assert "deadline passed" in seen.gaps[0].why
    assert estate.api.requests == []


def test_the_version_of_each_kind_is_kept(estate: Estate) -> None:
    del estate.api.answers["/apis/gateway.networking.k8s.io/v1/udproutes"]
    del estate.api.answers["/apis/gateway.networking.k8s.io/v1"]

    seen = estate.source.capture({"pods", "udp_routes"})

    assert seen.api_versions == {"pods": "v1", "udp_routes": ""}
    assert seen.read == ("pods", "udp_routes")


def test_credentials_in_what_others_say_never_enter_it(estate: Estate) -> None:
    secret = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzYSJ9.c2lnbmF0dXJl"
    estate.says(sync(listener=pushed(error=f"cannot use {secret}")))
    estate.api.answers["/apis/apps/v1/deployments"] = refusal(500, f"Bearer {secret}")

    seen = msgspec.json.encode(estate.source.capture(ITEMS))

    assert b"cannot use" in seen
    assert b"answered 500" in seen
    assert secret.encode() not in seen


# --- looking again ------------------------------------------------------------------------------


def test_only_what_is_refreshed_is_read_again(estate: Estate) -> None:
    first = estate.source.capture(LISTS)
    estate.asked()
    estate.holds(pods=[sidecar("new")], deployments=[deployment(5)])

    second = estate.source.capture(LISTS, first, {"pods"})

    assert estate.asked() == ["pods"]
    assert second.pods == (sidecar("new"),)
    assert second.deployments == first.deployments
    assert second.read == first.read
    assert second.started == first.started
    assert second.taken > first.taken


def test_a_gap_is_closed_once_its_item_is_read(estate: Estate) -> None:
    path = "/apis/apps/v1/deployments"
    answers = estate.api.answers[path]
    estate.api.answers[path] = refusal(503, "starting")
    first = estate.source.capture(LISTS)
    estate.api.answers[path] = answers

    second = estate.source.capture(LISTS, first, {"deployments"})

    assert [gap.item for gap in first.gaps] == ["deployments"]
    assert second.gaps == ()
    assert set(second.read) == LISTS
    assert second.deployments == (deployment(),)


def test_an_item_that_cannot_be_read_any_more_is_no_longer_read(estate: Estate) -> None:
    first = estate.source.capture(LISTS)
    estate.api.answers["/api/v1/pods"] = refusal(403, "no")

    second = estate.source.capture(LISTS, first, {"pods"})

    assert "pods" not in second.read
    assert [gap.item for gap in second.gaps] == ["pods"]


# --- how long a push is unanswered --------------------------------------------------------------


def unanswered(seconds: float) -> ProxySync:
    """A proxy that has not answered what was sent so many seconds ago by istiod's clock."""
    return sync(listener=pushed(answered=False, sent_at=THERE - timedelta(seconds=seconds)))


def age(seen: Snapshot, key: str = KEY) -> float:
    """For how many seconds a push was unanswered when istiod was asked."""
    (replica,) = seen.istiod
    assert replica.read
    assert seen.started <= replica.read <= seen.taken
    return (replica.read - seen.unanswered_since[key]).total_seconds()


def test_the_age_is_by_istiods_own_clock(estate: Estate) -> None:
    estate.says(unanswered(90))

    assert age(estate.source.capture({"istiod"})) == 90


def test_a_clock_that_runs_backwards_makes_no_age(estate: Estate) -> None:
    estate.says(unanswered(-90))

    assert age(estate.source.capture({"istiod"})) == 0


def test_a_push_without_a_time_is_as_old_as_we_have_known_it(estate: Estate) -> None:
    estate.says(sync(listener=pushed(answered=False, sent_at=None)))

    first = estate.source.capture({"istiod"})
    second = estate.source.capture({"istiod"}, first, {"istiod"})

    assert age(first) == 0
    assert second.unanswered_since == first.unanswered_since


def test_what_stays_unanswered_keeps_the_time_when_it_was_first_seen_so(estate: Estate) -> None:
    estate.says(unanswered(90))
    first = estate.source.capture({"istiod"})
    estate.says(unanswered(1))  # another push came meanwhile

    second = estate.source.capture({"istiod"}, first, {"istiod"})

    assert second.unanswered_since == first.unanswered_since


def test_who_has_answered_another_push_since_is_only_slow(estate: Estate) -> None:
    estate.says(unanswered(90))
    first = estate.source.capture({"istiod"})
    next_one = pushed(answered=False, nonce="n4", sent_at=THERE - timedelta(seconds=1))
    estate.says(sync(listener=msgspec.structs.replace(next_one, acked="n3")))

    second = estate.source.capture({"istiod"}, first, {"istiod"})

    assert age(second) == 1


def test_what_is_answered_is_forgotten(estate: Estate) -> None:
    estate.says(unanswered(90))
    first = estate.source.capture({"istiod"})
    estate.says(sync())
    second = estate.source.capture({"istiod"}, first, {"istiod"})
    estate.says(unanswered(1))

    third = estate.source.capture({"istiod"}, second, {"istiod"})

    assert second.unanswered_since == {}
    assert age(third) == 1


def test_without_another_look_at_istiod_nothing_is_forgotten(estate: Estate) -> None:
    estate.says(unanswered(90))
    first = estate.source.capture(LISTS | {"istiod"})

    second = estate.source.capture(LISTS | {"istiod"}, first, {"deployments"})

    assert second.unanswered_since == first.unanswered_since


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param(sync(), id="answered"),
        pytest.param(sync(listener=NOT_SENT), id="never sent"),
        pytest.param(sync(listener=pushed(answered=False, error="no")), id="rejected"),
    ],
)
def test_what_waits_for_no_answer_is_not_unanswered(estate: Estate, proxy: ProxySync) -> None:
    estate.says(proxy)

    assert estate.source.capture({"istiod"}).unanswered_since == {}


def test_every_type_of_every_proxy_has_its_own_age(estate: Estate) -> None:
    earlier = pushed(answered=False, sent_at=THERE - timedelta(seconds=5))
    estate.says(unanswered(90), sync("web-2.shop", cluster=earlier))

    seen = estate.source.capture({"istiod"})

    other = f"web-2.shop|{CLUSTER}"
    assert {key: age(seen, key) for key in seen.unanswered_since} == {KEY: 90, other: 5}


# --- other sources ------------------------------------------------------------------------------


def test_a_recording_is_the_same_however_often_one_looks() -> None:
    recorded = snapshot()
    expected = Expectations(target_version="1.30.0")
    replay = Replay(recorded, expected)

    first = replay.capture(ITEMS)

    assert first == msgspec.structs.replace(recorded, expectations=expected)
    assert replay.capture(ITEMS, first, ITEMS) == first
    assert not replay.live


def test_without_a_kubeconfig_there_is_no_source(tmp_path: Path) -> None:
    access = Access(kubeconfig=str(tmp_path / "missing"))

    with pytest.raises(NoCluster):
        connect(Settings(access=access), Expectations())


def test_what_is_read_is_told(serve: Serve, tmp_path: Path) -> None:
    api = serve(fakes.api_answers(snapshot()))
    told: list[str] = []
    tell: Callable[[str], None] = told.append
    access = Access(kubeconfig=str(fakes.kubeconfig(tmp_path / "kubeconfig", api.url)))

    connect(Settings(access=access), Expectations(), tell).capture({"pods", "deployments"})

    assert told == ["reading deployments, pods from context fake"]
