"""What the page draws of a watch."""

import msgspec

from meshgate.report.page_data import page_data
from meshgate.report.run import Run
from meshgate.verdict import ruling
from tests.support import ingress_builders as build
from tests.support.builders import expecting
from tests.support.watch_builders import flow, lost, watch


def test_the_steps_of_the_upgrade() -> None:
    seen = build.snapshot(**expecting(watch=watch(flow(lost=(lost(93, 3, last=90),)))))
    steps = page_data(Run(ruling([], {}), seen))["upgrade"]

    assert steps[0]["words"] == "the watch began"
    (bad,) = [each for each in steps if each["lost"]]
    assert bad == {
        "at": "11:58:27",
        "words": "3 requests lost: http1://api.payments:80/ (503)",
        "seconds": 3,
        "lost": True,
    }


def test_without_a_watch_there_are_none() -> None:
    plain = msgspec.structs.replace(build.snapshot(), **expecting())

    assert page_data(Run(ruling([], {}), plain))["upgrade"] == []
    assert page_data(Run(ruling([], {}), None))["upgrade"] == []
