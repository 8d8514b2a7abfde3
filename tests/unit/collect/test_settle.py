"""Waiting: only for what may pass, never longer than asked, and judged on one last full look."""

import time
from collections.abc import Iterable

from meshgate.collect.settle import Unsettled, settle
from meshgate.snapshot.model import KnownProblem, Snapshot
from tests.support.builders import snapshot

ITEMS = frozenset({"pods", "deployments"})
WAITING = Unsettled(("a rollout",), frozenset({"deployments"}))
SETTLED = Unsettled()
BROKEN = Unsettled(final=True)
BOTH = Unsettled(("a rollout",), frozenset({"deployments"}), final=True)


class Script:
    """A source whose looks are numbered, and the states that a judge finds in them."""

    def __init__(self, *states: Unsettled, live: bool = True, takes: float = 0.0) -> None:
        self.live = live
        self.takes = takes
        self.states = states
        self.read: list[frozenset[str]] = []
        self.judged: list[str] = []
        self.told: list[tuple[tuple[str, ...], float]] = []

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        expected = None if not self.read else str(len(self.read))
        assert (previous and previous.kubernetes_version) == expected, "not the last look"
        self.read.append(frozenset(items if previous is None else refresh))
        time.sleep(self.takes)
        return snapshot(kubernetes_version=str(len(self.read)))

    def judge(self, seen: Snapshot) -> Unsettled:
        """The state of this look; the last one stays."""
        self.judged.append(seen.kubernetes_version)
        return self.states[min(len(self.judged), len(self.states)) - 1]

    def watch(self, waits_for: tuple[str, ...], seconds_left: float) -> None:
        """Keeps what it is told."""
        self.told.append((waits_for, seconds_left))

    def settle(self, *, deadline: float = 60.0, interval: float = 0.0) -> str:
        """The look that the verdict will rest on."""
        seen = settle(
            self, ITEMS, self.judge, deadline=deadline, interval=interval, watcher=self.watch
        )
        return seen.kubernetes_version


def test_what_is_settled_is_looked_at_once() -> None:
    script = Script(SETTLED)

    assert script.settle() == "1"
    assert script.read == [ITEMS]
    assert script.told == []


def test_only_what_the_waiting_claims_rest_on_is_read_until_it_settles_then_all_once_more() -> None:
    script = Script(WAITING, WAITING, SETTLED, SETTLED)

    assert script.settle() == "4"
    assert script.read == [ITEMS, WAITING.reads, WAITING.reads, ITEMS]
    assert script.judged[-1] == "4"


def test_what_is_unsettled_again_on_the_last_look_is_waited_for_again() -> None:
    script = Script(WAITING, SETTLED, WAITING, SETTLED, SETTLED)

    assert script.settle() == "5"
    assert script.read == [ITEMS, WAITING.reads, ITEMS, WAITING.reads, ITEMS]


def test_what_no_waiting_mends_is_reported_at_once() -> None:
    script = Script(BOTH)
    began = time.monotonic()

    assert script.settle(deadline=60.0, interval=60.0) == "1"
    assert time.monotonic() - began < 10
    assert script.told == []


def test_what_breaks_while_waiting_ends_the_wait() -> None:
    script = Script(WAITING, BROKEN)

    assert script.settle() == "2"
    assert script.judged == ["1", "2"]


def test_the_deadline_ends_the_wait_and_shortens_the_last_pause() -> None:
    script = Script(WAITING)
    began = time.monotonic()

    script.settle(deadline=0.3, interval=60.0)

    assert 0.3 <= time.monotonic() - began < 10
    assert len(script.read) == len(script.judged) == 2


def test_what_the_first_look_takes_is_not_time_to_settle() -> None:
    script = Script(WAITING, SETTLED, takes=0.2)

    assert script.settle(deadline=0.1) == "3"


def test_no_deadline_means_to_look_once() -> None:
    script = Script(WAITING)

    assert script.settle(deadline=0.0) == "1"
    assert script.told == []


def test_who_waits_is_told_for_what_and_for_how_long_at_the_most() -> None:
    script = Script(WAITING, SETTLED)

    script.settle(deadline=60.0)

    ((waits_for, left),) = script.told
    assert waits_for == ("a rollout",)
    assert 50 < left <= 60


def test_a_recording_is_not_waited_for() -> None:
    script = Script(WAITING, live=False)

    assert script.settle() == "1"
    assert script.judged == []


def sees(*pods: str) -> Unsettled:
    """A capture with a transient finding of each of these pods."""
    found = frozenset(
        KnownProblem(check="CP003", subject=f"Pod {pod}", problem="x") for pod in pods
    )
    return Unsettled(pods, frozenset({"pods"}), sightings=found)


def unconfirmed(*states: Unsettled, deadline: float = 60.0) -> list[str]:
    """The objects whose findings only the last capture has."""
    script = Script(*states)
    seen = settle(script, ITEMS, script.judge, deadline=deadline, interval=0.0)
    return [each.subject for each in seen.unconfirmed]


def test_short_lived_pods_that_come_and_go_end_the_wait_and_are_not_confirmed() -> None:
    churn = [sees(f"job-{n}") for n in range(30)]

    assert unconfirmed(*churn) == ["Pod job-4"]


def test_a_finding_that_stays_is_waited_for_and_counts_at_the_deadline() -> None:
    assert unconfirmed(sees("web"), deadline=0.2) == []
    assert unconfirmed(sees("web"), sees("web", "job-1"), deadline=0.0) == []


def test_a_new_problem_of_the_last_capture_is_looked_at_again() -> None:
    stays = [sees("web")] * 3

    assert unconfirmed(sees("old"), SETTLED, *stays, SETTLED, SETTLED) == []


def test_a_single_capture_confirms_everything() -> None:
    assert unconfirmed(sees("web"), deadline=0.0) == []
