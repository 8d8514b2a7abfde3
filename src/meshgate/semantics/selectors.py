"""Label selectors, as the API server evaluates them."""

from collections.abc import Mapping

from meshgate.snapshot.kubernetes import LabelSelector, Requirement


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether every row holds; a selector without rows selects everything."""
    return selector.match_labels.items() <= labels.items() and all(
        _holds(row, labels) for row in selector.match_expressions
    )


def _holds(row: Requirement, labels: Mapping[str, str]) -> bool:
    match row.operator:
        case "In":
            return labels.get(row.key) in row.values
        case "NotIn":
            # also true without the label
            return labels.get(row.key) not in row.values
        case "Exists":
            return row.key in labels
        case "DoesNotExist":
            return row.key not in labels
