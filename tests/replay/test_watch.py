"""The recorded healthy mesh, with what a watch of its upgrade saw: the checks of three stages."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load
from meshgate.snapshot.watch import Flow, Watch
from meshgate.verdict import Outcome, Verdict
from tests.support import watch_builders as build
from tests.support.builders import AT
from tests.support.checks import Judgment

CHECKS = ("CP028", "IG011", "DP015", "DP016")
API = "Service payments/api: 3 of 51,220 requests to http1://api.payments:80/"


def judged(root: Path, watch: Watch | None) -> dict[str, Outcome]:
    """The outcomes of the four checks."""
    healthy = load(root / "tests/fixtures/schema-1/healthy.json.gz")
    expectations = msgspec.structs.replace(
        healthy.expectations, watch=watch and at_the_run(watch, healthy)
    )
    ruling = Judgment(msgspec.structs.replace(healthy, expectations=expectations)).ruling
    return {each.check: each for each in ruling.outcomes if each.check in CHECKS}


def at_the_run(watch: Watch, run: Snapshot) -> Watch:
    """The watch with the times of a recording."""
    late = run.started - AT
    return msgspec.structs.replace(watch, began=watch.began + late, last=watch.last + late)


def a_pod_that_did_not_drain() -> Watch:
    api = build.flow(lost=(build.lost(60, 3),))
    return build.watch(api, build.gateway(), happenings=(build.terminating(61, until=59),))


def a_gateway_that_was_away() -> Watch:
    return build.watch(build.flow(), build.gateway(lost=(build.lost(60, 9, "connect: refused"),)))


def a_connection_that_was_cut() -> Watch:
    cut = build.flow(kind="websocket", target="ws://api.payments", lost=(build.lost(60),))
    return build.watch(build.flow(), cut, build.gateway(), happenings=(build.changed(65),))


def a_direction_that_is_broken() -> Watch:
    never: dict[str, Any] = {"answered": None, "sent": 0, "failing": "503 upstream connect"}
    return build.watch(build.flow(), build.gateway(), build.peer(), build.peer(back=True, **never))


FAILED = [
    (a_pod_that_did_not_drain, "CP028", API),
    (a_pod_that_did_not_drain, "DP015", "while Pod payments/api-6c9d-x was terminating"),
    (a_gateway_that_was_away, "IG011", "Gateway ways/front: 9 of 100 requests"),
    (a_gateway_that_was_away, "CP028", "Gateway ways/front: 9 of 100 requests"),
    (a_connection_that_was_cut, "DP015", "after EnvoyFilter payments/cut was created"),
    (a_direction_that_is_broken, "DP016", "http1 from proxy 1.31.0 to proxy 1.30.4 was never"),
]


@pytest.mark.parametrize(
    ("watch", "check", "words"), FAILED, ids=[f"{each.__name__}-{id}" for each, id, _ in FAILED]
)
def test_a_loss_closes_the_gate(root: Path, watch: object, check: str, words: str) -> None:
    assert callable(watch)
    found = judged(root, watch())[check]

    assert found.verdict is Verdict.FAIL, found
    assert words in str(found.findings[0])


def test_a_watch_without_a_loss_opens_the_gate(root: Path) -> None:
    found = judged(root, build.watch())

    assert {id: each.verdict for id, each in found.items()} == dict.fromkeys(CHECKS, Verdict.PASS)
    assert found["DP015"].basis.startswith("53120 requests")


def test_restarts_end_connections_and_slow_answers_only_warn(root: Path) -> None:
    kept = build.flow(kind="idle", target="idle://api.payments:80", lost=(build.lost(60),))
    slow = build.gateway(slow=(build.lost(60, 2, "slower than 1000 ms"),))
    around = (build.terminating(61, until=58),)
    found = judged(root, build.watch(build.flow(), kept, slow, build.peer(), happenings=around))

    assert {id: each.verdict for id, each in found.items()} == {
        "CP028": Verdict.WARN,
        "IG011": Verdict.WARN,
        "DP015": Verdict.WARN,
        "DP016": Verdict.PASS,
    }


def test_without_a_watch_nothing_was_requested(root: Path) -> None:
    for each in judged(root, None).values():
        assert each.verdict is Verdict.NOT_APPLICABLE
        assert "--watch" in each.why


@pytest.mark.parametrize(
    "watch",
    [
        build.watch(unusable="there is no snapshot in configmap://a/b: capture one first"),
        build.watch(last=AT - timedelta(minutes=5)),
        build.watch(Flow(target="x", kind="http1", subject="Service a/b")),
    ],
    ids=["missing", "ended", "silent"],
)
def test_a_watch_that_died_is_never_a_pass(root: Path, watch: Watch) -> None:
    for each in judged(root, watch).values():
        if each.check != "DP016" or watch.unusable:
            assert each.verdict is Verdict.UNKNOWN, each
