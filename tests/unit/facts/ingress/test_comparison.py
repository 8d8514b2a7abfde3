"""What answered before the upgrade, and what answers now."""

from typing import Any

import pytest

from meshgate.facts.ingress.comparison import TrafficComparison
from meshgate.verdict import NotApplicable
from tests.support import ingress_builders as build


def comparison(**changes: Any) -> TrafficComparison:
    return build.mesh(**changes).traffic_comparison


def test_without_a_baseline_there_is_nothing_to_compare() -> None:
    with pytest.raises(NotApplicable, match="baseline"):
        _ = comparison().changed
