"""The steps of an upgrade in their order."""

from meshgate.facts.watch.timeline import MOST, timeline
from tests.support.builders import AT
from tests.support.watch_builders import changed, flow, lost, terminating, watch


def test_the_steps_are_in_order_and_the_pods_of_a_workload_are_one() -> None:
    pods = (
        terminating(100, until=95),
        terminating(94, until=90, subject="Pod payments/api-2"),
        terminating(20, until=15),
    )
    found = timeline(watch(flow(lost=(lost(93, 3),)), happenings=(*pods, changed(50))))

    assert [each.words for each in found] == [
        "the watch began",
        "a pod with proxy 1.30.4 began to send requests",
        "a pod with proxy 1.31.0 began to send requests",
        "pods of Deployment payments/api were replaced",
        "3 requests lost: http1://api.payments:80/ (503)",
        "EnvoyFilter payments/cut was created",
        "pods of Deployment payments/api were replaced",
        "51,220 requests, 3 lost, from 11:55:00 to 12:00:00 UTC",
    ]
    assert [each.lost for each in found].count(True) == 1
    assert (AT - found[3].at).seconds == 100
    assert (AT - found[3].until).seconds == 90


def test_it_is_bounded() -> None:
    many = tuple(changed(250 - number / 10, f"EnvoyFilter a/{number}") for number in range(500))

    assert len(timeline(watch(happenings=many))) == MOST
