"""Bounded waits."""

import math
import threading
import time

import pytest

from meshgate.deadline import Deadline, bounded


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
