"""What a watch saw: what is told of it, and when it says nothing."""

from datetime import timedelta
from typing import Any

import pytest

from meshgate.facts.ingress.watch import Watched
from meshgate.facts.mesh import Mesh
from meshgate.snapshot.ingress import Trouble, Watch
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ingress_builders as build
from tests.support.builders import AT, expecting

ASKED = "GET http://shop.example.com:80/ from inside"


def trouble(seconds: int, why: str = "connect: refused", **of: Any) -> Trouble:
    at = AT - timedelta(seconds=60 - seconds)
    return Trouble(at=at, gateway="Gateway ways/front", asked=ASKED, why=why, **of)


def watched(*troubles: Trouble, **of: Any) -> Watched:
    given: dict[str, Any] = {"began": AT - timedelta(minutes=5), "last": AT, "sent": 100, **of}
    watch = Watch(troubles=troubles, **given)
    return Mesh(build.snapshot(**expecting(watch=watch))).watched


def test_nothing_was_lost() -> None:
    assert (watched().lost, watched().slow) == ([], [])


def test_what_failed_is_told_with_its_times_and_what_was_slow_apart() -> None:
    seen = watched(trouble(1), trouble(3, "503 UF"), trouble(5, "2000 ms", slow=True))

    (lost,) = seen.lost
    (slow,) = seen.slow
    assert lost.subject == "Gateway ways/front"
    assert f"{ASKED}: 2 requests failed while it was watched" in lost.seen
    assert f"{AT - timedelta(seconds=59):%H:%M:%S} connect: refused" in lost.seen
    assert "503 UF" in lost.seen
    assert "1 requests were slow" in slow.seen


def test_more_than_is_kept_is_told() -> None:
    assert "7 more requests" in str(watched(more=7).lost[0])


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ({"sent": 0}, "the watch sent nothing"),
        ({"last": AT - timedelta(minutes=3)}, "before this run began"),
    ],
)
def test_a_watch_that_did_not_watch_proves_nothing(of: dict[str, Any], why: str) -> None:
    with pytest.raises(CouldNotVerify, match=why):
        _ = watched(**of).lost


def test_without_a_watch() -> None:
    with pytest.raises(NotApplicable):
        _ = Mesh(build.snapshot()).watched.lost
