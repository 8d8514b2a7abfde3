"""The recorded healthy mesh, with one thing about Retry-After broken: what each claim then says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load
from tests.conftest import Gate

Recording = dict[str, Any]
Break = Callable[[Recording], None]

FILE = "verification/check_retry_after.py"


def patch(recording: Recording) -> Recording:
    """The patch of shop's retry-after-web."""
    (web,) = (each for each in recording["retryFilters"]["filters"] if each["namespace"] == "shop")
    found: Recording = web["patches"][0]
    return found


def only_the_old_version(recording: Recording) -> None:
    patch(recording)["proxyVersion"] = r"^1\.28.*"


def not_given(recording: Recording) -> None:
    for given in recording["retryFilters"]["given"]:
        given["places"] = []


def no_number(recording: Recording) -> None:
    patch(recording)["places"][0]["value"] = "soon"
    for given in recording["retryFilters"]["given"]:
        for place in given["places"]:
            if place["kind"] == "lua":
                place["value"] = "soon"


def an_answer_without_it(recording: Recording) -> None:
    recording["expectations"]["retryAfterTargets"] = ["http://web.shop/"]
    recording["bursts"] = [
        {"target": "http://web.shop/", "at": recording["taken"], "status": 429, "retryAfter": []}
    ]


def not_told(recording: Recording) -> None:
    for given in recording["retryFilters"]["given"]:
        given.update(denied="istiod answered 403", places=[])


def a_proxy_that_comes_too_early(recording: Recording) -> None:
    patient = {
        "name": "patient",
        "namespace": "istio-system",
        "patches": [
            {
                "number": 1,
                "applyTo": "HTTP_ROUTE",
                "context": "SIDECAR_OUTBOUND",
                "places": [{"kind": "back-off"}],
            }
        ],
    }
    recording["retryFilters"]["filters"].append(patient)
    for given in recording["retryFilters"]["given"]:
        given["places"].append({"kind": "back-off", "side": "OUTBOUND"})
    for call in recording["pair"]["calls"]:
        if call["kind"] == "later":
            call.update(status=200, gap=0.03)


def a_filter_that_makes_pods_say_nonsense(recording: Recording) -> None:
    loud = {
        "name": "loud",
        "namespace": "istio-system",
        "selector": {"app": "web"},
        "patches": [
            {
                "number": 1,
                "applyTo": "HTTP_FILTER",
                "context": "SIDECAR_INBOUND",
                "places": [{"kind": "lua", "code": "c0de"}],
            }
        ],
    }
    recording["retryFilters"]["filters"].append(loud)
    for given in recording["retryFilters"]["given"]:
        given["places"].append({"kind": "lua", "code": "c0de"})
    recording["pair"]["tempted"] = [{"name": "c", "labels": {"app": "web"}}]
    recording["pair"]["calls"].append(
        {
            "peer": "a",
            "kind": "burst",
            "target": "c",
            "status": 503,
            "sent": 21,
            "retryAfter": ["soon"],
        }
    )


FAILED = [
    (only_the_old_version, "RA001", "EnvoyFilter shop/retry-after-web: patch 1 "),
    (not_given, "RA001", "EnvoyFilter istio-ingress/rate-limit: patch 2 "),
    (no_number, "RA002", "EnvoyFilter shop/retry-after-web: patch 1 sends Retry-After 'soon'"),
    (a_proxy_that_comes_too_early, "RA004", "EnvoyFilter istio-system/patient: a proxy that it"),
    (a_filter_that_makes_pods_say_nonsense, "RA005", "EnvoyFilter istio-system/loud: a pod that"),
    (an_answer_without_it, "RA003", "Target http://web.shop/: answers 429 without Retry-After"),
]


@pytest.fixture
def broken(root: Path, recorded: Callable[[Snapshot], Path]) -> Callable[[Break], Path]:
    """The healthy recording after one change, as a file."""

    def write(change: Break) -> Path:
        healthy = load(root / "tests/fixtures/schema-1/healthy.json.gz")
        recording = msgspec.json.decode(msgspec.json.encode(healthy))
        change(recording)
        return recorded(msgspec.convert(recording, Snapshot))

    return write


def test_the_healthy_recording_opens_the_gate(gate: Gate, root: Path) -> None:
    run = gate(FILE, f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert run.code == 0, run.out


@pytest.mark.parametrize(
    ("change", "check", "object"), FAILED, ids=[change.__name__ for change, _, _ in FAILED]
)
def test_one_thing_broken_closes_the_gate(
    change: Break, check: str, object: str, broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate(FILE, f"--snapshot={broken(change)}")

    assert run.code == 1, run.out
    failures = [line for line in run.verdict if line.startswith(("FAIL ", "UNKNOWN "))]
    assert failures[0].startswith(f"FAIL {check} {object}"), run.out


def test_a_configuration_that_is_not_told_is_never_a_pass(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate(FILE, f"--snapshot={broken(not_told)}")

    assert run.code == 10, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("UNKNOWN ")} == {"RA001"}
