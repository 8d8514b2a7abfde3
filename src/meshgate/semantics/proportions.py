"""Whether an error rate rose, with a level of confidence."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple


class Rise(NamedTuple):
    """The rise of an error rate, and the limits between which it is with the confidence."""

    value: float
    low: float
    high: float


def rise(before: tuple[float, float], now: tuple[float, float], confidence: float) -> Rise:
    """Return by how much an error rate rose (Agresti and Caffo's interval, one-sided limits).

    Args:
        before: errors and requests of the first window.
        now: errors and requests of the second window.
        confidence: between 0.5 and 1, of each limit.

    Returns:
        The rise and its limits, as shares of 1.
    """
    first, second = _adjusted(*before), _adjusted(*now)
    z = NormalDist().inv_cdf(confidence)
    spread = z * sqrt(sum(rate * (1 - rate) / count for rate, count in (first, second)))
    middle = second[0] - first[0]
    return Rise(_rate(*now) - _rate(*before), middle - spread, middle + spread)


def _adjusted(errors: float, requests: float) -> tuple[float, float]:
    # one success and one failure more: without errors the interval would have no width
    return (min(errors, requests) + 1) / (requests + 2), requests + 2


def _rate(errors: float, requests: float) -> float:
    return errors / requests if requests else 0.0
