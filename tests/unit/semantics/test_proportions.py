"""The rise of an error rate, and the limits between which it certainly is."""

import pytest

from meshgate.semantics.proportions import rise


@pytest.mark.parametrize(
    ("before", "now", "certain"),
    [
        ((0, 1000), (0, 1000), False),
        ((0, 1000), (100, 1000), True),
        ((0, 10), (1, 10), False),
        ((10, 100_000), (500, 100_000), True),
        ((100, 1000), (0, 1000), False),
    ],
)
def test_a_rise_is_certain_only_with_enough_requests(
    before: tuple[float, float], now: tuple[float, float], certain: bool
) -> None:
    assert (rise(before, now, 0.95).low > 0) is certain


def test_more_requests_and_less_confidence_narrow_the_limits() -> None:
    few, many = rise((1, 100), (1, 100), 0.95), rise((100, 10_000), (100, 10_000), 0.95)
    surer = rise((1, 100), (1, 100), 0.99)

    assert few.low < many.low < 0 < many.high < few.high < surer.high
    assert few.value == many.value == 0


def test_without_errors_and_with_more_errors_than_requests_there_are_limits() -> None:
    assert rise((0, 10), (0, 10), 0.95).high > 0
    assert rise((0, 0), (5, 4), 0.95).low < 1
