"""A simulation where something does not respond; the lab tests whole simulations."""

from pathlib import Path

import httpx
import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.facade import Facade
from meshgate.collect.shadow.envoy import Envoy
from meshgate.collect.shadow.recorded import RecordedCluster, RecordedRunningMesh
from meshgate.collect.shadow.simulation import injections
from meshgate.collect.shadow.target import Running
from meshgate.collect.shadow.validation import SimulatedClass, Validator
from meshgate.deadline import Deadline
from meshgate.probe import ads
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.shadow import ProxyClass

TYPES = (ads.CLUSTERS, ads.ENDPOINTS, ads.LISTENERS, ads.ROUTES, ads.EXTENSIONS)


def simulated(count: int) -> list[SimulatedClass]:
    """Return classes with an empty configuration."""
    node = ads.node("sidecar~192.0.2.1~a.b~c", "a.b", {}, {})
    given = ads.Configuration(node, dict.fromkeys(TYPES, ()))
    return [
        SimulatedClass(ProxyClass(proxies=(f"p{number}.shop",)), given) for number in range(count)
    ]


def envoy(folder: Path, script: str) -> tuple[Envoy, Path]:
    """Return a program with this script, and the file that has a line per start."""
    starts = folder / "starts"
    program = folder / "envoy"
    program.write_text(f"#!/bin/sh\necho start >> {starts}\n{script}\n")
    program.chmod(0o755)
    return Envoy(str(program), folder, 30), starts


def test_members_of_an_accepted_batch_are_not_validated_alone(tmp_path: Path) -> None:
    program, starts = envoy(tmp_path, "exit 0")

    found = Validator(program, Deadline(60)).validated(simulated(5))

    assert [each.proxies for each in found] == [(f"p{number}.shop",) for number in range(5)]
    assert not any(each.refusals or each.error for each in found)
    assert starts.read_text().count("start") == 1


def test_members_of_a_rejected_batch_are_validated_alone(tmp_path: Path) -> None:
    # The first start, which validates the batch, fails; the others do not.
    program, starts = envoy(tmp_path, f"test $(wc -l < {tmp_path}/starts) -gt 1")

    found = Validator(program, Deadline(60)).validated(simulated(3))

    assert not any(each.refusals or each.error for each in found)
    assert starts.read_text().count("start") == 4


def test_every_rejected_class_has_its_reason(tmp_path: Path) -> None:
    said = "[critical] error initializing configuration '/tmp/x.pb': no such filter"
    program, _ = envoy(tmp_path, f'echo "{said}" >&2; exit 1')

    found = Validator(program, Deadline(60)).validated(
        [*simulated(3), SimulatedClass(ProxyClass(proxies=("x.shop",), error="no"))]
    )

    assert [[(r.part, r.words) for r in each.refusals] for each in found] == [
        *([("the clusters", "no such filter")],) * 3,
        [],
    ]


def test_a_program_without_a_verdict_rejects_nothing(tmp_path: Path) -> None:
    program, _ = envoy(tmp_path, "kill -6 $$")

    found = Validator(program, Deadline(60)).validated(simulated(2))

    assert [(each.refusals, each.error) for each in found] == [
        ((), "the target's Envoy was ended by signal 6")
    ] * 2


def test_what_envoy_accepted_before_is_not_validated_again(tmp_path: Path) -> None:
    program, starts = envoy(tmp_path, "exit 0")
    accepted: set[str] = set()

    Validator(program, Deadline(60), accepted).validated(simulated(2))
    found = Validator(program, Deadline(60), accepted).validated(simulated(3))

    # all of them are alike
    assert len(accepted) == 1
    assert [each.proxies for each in found] == [("p0.shop",), ("p1.shop",), ("p2.shop",)]
    assert starts.read_text().count("start") == 1


@pytest.mark.parametrize("script", ["exit 1", "kill -6 $$"], ids=["rejected", "no verdict"])
def test_what_envoy_did_not_accept_is_validated_again(tmp_path: Path, script: str) -> None:
    program, _ = envoy(tmp_path, script)
    accepted: set[str] = set()

    first = Validator(program, Deadline(60), accepted).validated(simulated(2))
    second = Validator(program, Deadline(60), accepted).validated(simulated(2))

    assert accepted == set()
    assert first == second
    assert all(each.refusals or each.error for each in second)


def test_after_the_deadline_nothing_is_verified(tmp_path: Path) -> None:
    program, _ = envoy(tmp_path, "exit 0")

    with pytest.raises(ReadError, match="did not finish before its deadline"):
        Validator(program, Deadline(0)).validated(simulated(2))


def test_an_injector_that_does_not_respond_has_refused_nothing() -> None:
    with (
        Facade(RecordedCluster({}, "")).serving() as facade,
        httpx.Client(base_url="http://127.0.0.1:1", trust_env=False) as nobody,
    ):
        running = Running("1.29.1", "", facade, nobody)
        (found,) = injections(running, RecordedRunningMesh(OfflineBundle(injected={"shop": {}})))

    assert (found.namespace, found.refused) == ("shop", "")
    assert "does not respond" in found.error
