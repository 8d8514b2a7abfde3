"""Bounded waits."""

import math
import threading
import time

import pytest

from meshgate.deadline import Deadline, bounded, concurrently


def test_without_seconds_it_never_passes() -> None:
    assert Deadline().left == math.inf
    assert not Deadline().passed


def test_it_passes_after_its_seconds() -> None:
    assert 0 < Deadline(60).left <= 60
    assert Deadline(0).passed
    assert Deadline(-1).left == 0


@pytest.mark.parametrize(("seconds", "least", "most"), [(10, 9, 10), (100, 59, 60)])
def test_the_earlier_of_two_counts(seconds: float, least: float, most: float) -> None:
    assert least < Deadline(60).within(seconds).left <= most


def test_a_call_in_time_returns_its_value_or_raises_its_error() -> None:
    def fail() -> None:
        raise KeyError("x")

    assert bounded(lambda: 7, 60) == 7
    assert bounded(lambda: None, math.inf) is None
    with pytest.raises(KeyError):
        bounded(fail, 60)


def test_a_call_that_is_late_is_abandoned() -> None:
    release = threading.Event()
    began = time.monotonic()

    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        bounded(release.wait, 0.05)

    assert time.monotonic() - began < 5
    release.set()


def test_a_deadline_that_expires_has_passed() -> None:
    deadline = Deadline()
    deadline.expire()

    assert deadline.passed
    assert deadline.within(60).passed


def test_calls_run_concurrently_and_their_results_are_in_order() -> None:
    together = threading.Barrier(3, timeout=30)

    def double(value: int) -> int:
        together.wait()
        return 2 * value

    assert concurrently(double, range(6), workers=3) == [0, 2, 4, 6, 8, 10]
    assert concurrently(double, (), workers=3) == []


def test_the_first_error_ends_the_calls() -> None:
    called: list[int] = []

    def fail(value: int) -> int:
        called.append(value)
        raise KeyError(value)

    with pytest.raises(KeyError, match="0"):
        concurrently(fail, range(100), workers=1)

    assert called == [0]
