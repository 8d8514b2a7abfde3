"""Label selectors, as the API server evaluates them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from meshgate.snapshot.kubernetes import LabelSelector, Pod, Requirement, Service


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


def fronts(service: Service, pod: Pod) -> bool:
    """Whether a Service leads to a pod."""
    selector = service.spec.selector
    return (
        bool(selector)
        and service.metadata.namespace == pod.metadata.namespace
        and (selector or {}).items() <= pod.metadata.labels.items()
    )


class Fronting:
    """Finds the Services that lead to a pod, without comparing every pod with every Service."""

    def __init__(self, services: Iterable[Service]) -> None:
        """Index the Services by the label of their selector that the fewest others have."""
        selecting = [each for each in services if each.spec.selector]
        common = Counter(label for each in selecting for label in _selected(each))
        self._by_label: defaultdict[tuple[str, str, str], list[Service]] = defaultdict(list)
        for each in selecting:
            self._by_label[min(_selected(each), key=common.__getitem__)].append(each)

    def services(self, pod: Pod) -> list[Service]:
        """Return the Services that lead to a pod."""
        namespace = pod.metadata.namespace
        return [
            service
            for name, value in pod.metadata.labels.items()
            for service in self._by_label.get((namespace, name, value), ())
            if fronts(service, pod)
        ]


def _selected(service: Service) -> list[tuple[str, str, str]]:
    namespace = service.metadata.namespace
    return [(namespace, *label) for label in (service.spec.selector or {}).items()]
