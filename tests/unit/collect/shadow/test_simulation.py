"""What is told of a look where something does not answer; the look itself is proven in the lab."""

from pathlib import Path

import httpx
import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.facade import Facade
from meshgate.collect.shadow.envoy import Envoy
from meshgate.collect.shadow.recorded import RecordedCluster, RecordedRunningMesh
from meshgate.collect.shadow.simulation import Deadline, Look, injections, judged
from meshgate.collect.shadow.target import Running
from meshgate.probe import ads
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.shadow import ProxyClass

TYPES = (ads.CLUSTERS, ads.ENDPOINTS, ads.LISTENERS, ads.ROUTES, ads.EXTENSIONS)


def looks(count: int) -> list[Look]:
    """Classes that are given nothing at all."""
    node = ads.node("sidecar~192.0.2.1~a.b~c", "a.b", {}, {})
    given = ads.Configuration(node, dict.fromkeys(TYPES, ()))
    return [Look(ProxyClass(proxies=(f"p{number}.shop",)), given) for number in range(count)]


def envoy(folder: Path, script: str) -> tuple[Envoy, Path]:
    """A program that behaves as the script says, and where it counts its starts."""
    starts = folder / "starts"
    program = folder / "envoy"
    program.write_text(f"#!/bin/sh\necho start >> {starts}\n{script}\n")
    program.chmod(0o755)
    return Envoy(str(program), folder, 30), starts


def test_what_is_taken_together_is_not_asked_for_alone(tmp_path: Path) -> None:
    validator, starts = envoy(tmp_path, "exit 0")

    found = judged(validator, looks(5), Deadline(60))

    assert [each.proxies for each in found] == [(f"p{number}.shop",) for number in range(5)]
    assert not any(each.refusals or each.error for each in found)
    assert starts.read_text().count("start") == 1


def test_what_is_refused_together_is_asked_for_alone(tmp_path: Path) -> None:
    # the first start, which is the batch, is refused; what is alone is not
    validator, starts = envoy(tmp_path, f"test $(wc -l < {tmp_path}/starts) -gt 1")

    found = judged(validator, looks(3), Deadline(60))

    assert not any(each.refusals or each.error for each in found)
    assert starts.read_text().count("start") == 4


def test_each_that_is_refused_is_told(tmp_path: Path) -> None:
    said = "[critical] error initializing configuration '/tmp/x.pb': no such filter"
    validator, _ = envoy(tmp_path, f'echo "{said}" >&2; exit 1')

    found = judged(
        validator, [*looks(3), Look(ProxyClass(proxies=("x.shop",), error="no"))], Deadline(60)
    )

    assert [[(r.part, r.words) for r in each.refusals] for each in found] == [
        *([("the clusters", "no such filter")],) * 3,
        [],
    ]


def test_a_program_that_gives_no_verdict_is_no_refusal(tmp_path: Path) -> None:
    validator, _ = envoy(tmp_path, "kill -6 $$")

    found = judged(validator, looks(2), Deadline(60))

    assert [(each.refusals, each.error) for each in found] == [
        ((), "the target's Envoy was ended by signal 6")
    ] * 2


def test_when_the_time_is_over_nothing_is_verified(tmp_path: Path) -> None:
    validator, _ = envoy(tmp_path, "exit 0")

    with pytest.raises(ReadError, match="could not be tried within 0 s"):
        judged(validator, looks(2), Deadline(0))


def test_an_injector_that_does_not_answer_has_refused_nothing() -> None:
    with (
        Facade(RecordedCluster({}, "")).serving() as facade,
        httpx.Client(base_url="http://127.0.0.1:1", trust_env=False) as nobody,
    ):
        running = Running("1.29.1", "", facade, nobody)
        (found,) = injections(running, RecordedRunningMesh(OfflineBundle(injected={"shop": {}})))

    assert (found.namespace, found.refused) == ("shop", "")
    assert "does not answer" in found.error
