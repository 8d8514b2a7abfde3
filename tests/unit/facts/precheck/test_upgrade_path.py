"""The upgrade's path: one step forward, with what the target supports."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.semantics.releases import read_support, shipped
from meshgate.snapshot.model import Expectations
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import deployment, expecting, mesh, reading, sync
from tests.support.upgrade_builders import patch, patched


def runs(version: str, proxy: str = "1.28.2") -> tuple[object, ...]:
    return (reading(version=f"{version}-abc-Clean", proxies=[sync(version=proxy)]),)


@pytest.mark.parametrize("target", ["1.28.2", "1.28.9", "1.28", "1.29", "1.29.0", "1.29.1"])
def test_a_patch_or_one_minor_forward_is_a_step(target: str) -> None:
    found = mesh(istiod=runs("1.28.2"), **expecting(target_version=target)).upgrade.wrong_steps

    assert found == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("1.30.0", "runs 1.28.2, and 1.30.0 is 2 minor versions ahead"),
        ("1.28.1", "runs 1.28.2, and 1.28.1 is older"),
        ("1.31", "runs 1.28.2, and 1.31 is 3 minor versions ahead"),
    ],
)
def test_anything_else_is_none(target: str, words: str) -> None:
    (found,) = mesh(istiod=runs("1.28.2"), **expecting(target_version=target)).upgrade.wrong_steps

    assert (found.subject, found.seen) == ("Deployment istio-system/istiod", words)


@pytest.mark.parametrize("target", ["1.27.4", "1.32.0", "1.99", "2.0.0"])
def test_a_step_to_an_unknown_release_is_unknown(target: str) -> None:
    with pytest.raises(CouldNotVerify, match="this meshgate does not know Istio"):
        mesh(istiod=runs("1.28.2"), **expecting(target_version=target)).upgrade.wrong_steps  # noqa: B018


@pytest.mark.parametrize(
    ("runs_now", "target", "lost"),
    [
        (
            *("1.30.4", "1.31.0"),
            [
                "jwks-ssrf-default-block",
                "sidecar-annotation-yaml-injection",
                "gateway-tls-ref-grant-order",
                "GHSA-qm8v-g4f9-qhjx",
            ],
        ),
        ("1.29.4", "1.30.0", ["ISTIO-SECURITY-2026-004"]),
        # a rollback, from a minor release that is newer than all that the fix names
        ("1.31.0", "1.30.1", ["ISTIO-SECURITY-2026-005", "ISTIO-SECURITY-2026-006"]),
        ("1.30.4", "1.31.1", []),
        ("1.30.4", "1.31", []),
        ("1.30.3", "1.31.0", []),
    ],
)
def test_a_security_fix_that_the_target_lacks_is_named(
    runs_now: str, target: str, lost: list[str]
) -> None:
    found = mesh(istiod=runs(runs_now), **expecting(target_version=target)).upgrade.lost_fixes

    assert [dict(each.about)["fix"] for each in found] == lost


def test_a_rollback_by_one_is_a_warning_when_it_was_asked_for() -> None:
    allowed = mesh(
        istiod=runs("1.29.1"), **expecting(target_version="1.28.2", allow_rollback=True)
    ).upgrade
    farther = mesh(
        istiod=runs("1.30.0"), **expecting(target_version="1.28.2", allow_rollback=True)
    ).upgrade

    assert (allowed.wrong_steps, len(allowed.rollbacks)) == ([], 1)
    assert (len(farther.wrong_steps), farther.rollbacks) == (1, [])


def test_without_a_target_istioctls_own_version_is_it() -> None:
    assert str(mesh(istioctl="1.30.2").upgrade.target) == "1.30.2"


def test_an_istiod_that_does_not_answer_is_of_its_images_version() -> None:
    found = mesh(istiod=(reading(error="no answer"),), deployments=(deployment(),)).upgrade

    assert str(found.oldest) == "1.29.1"


def test_an_istiod_of_no_known_version_is_no_pass() -> None:
    found = mesh(
        istiod=(reading(error="no answer"),), deployments=(deployment(image="istiod@sha256:1"),)
    ).upgrade

    with pytest.raises(
        CouldNotVerify, match="version of Deployment istio-system/istiod is unknown"
    ):
        found.wrong_steps  # noqa: B018


def test_no_istiod_is_an_installation() -> None:
    with pytest.raises(NotApplicable, match="an installation"):
        mesh(deployments=()).upgrade.wrong_steps  # noqa: B018


# --- Kubernetes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "supported"),
    [("v1.30.9", False), ("v1.31.0", True), ("v1.35.1", True), ("v1.36.0-rc.0", False)],
)
def test_kubernetes_is_in_the_matrix_or_not(version: str, supported: bool) -> None:
    found = mesh(kubernetes_version=version).upgrade.unsupported_kubernetes

    assert (found == []) is supported


def test_a_target_that_the_matrix_does_not_know_is_no_pass() -> None:
    with pytest.raises(CouldNotVerify, match=r"does not contain Istio 1\.99"):
        mesh(**expecting(target_version="1.99.0")).upgrade.unsupported_kubernetes  # noqa: B018


def test_another_matrix_takes_the_place_of_ours() -> None:
    other = read_support(
        'source = "here"\ndate = 2026-01-01\nskew = 1\n'
        '[release."1.29"]\nkubernetes = ["1.20", "1.21"]\nend_of_life = 2025-12-31\n'
    )
    found = mesh(expectations=Expectations(support=other)).upgrade

    assert (
        found.unsupported_kubernetes[0].expected
        == "1.20 to 1.21, by the support matrix of 2026-01-01"
    )
    assert found.ended[0].seen == "has reached its end of life on 2025-12-31"


@pytest.mark.parametrize(
    ("today", "seen"),
    [
        (date(2026, 8, 30), []),
        (date(2026, 9, 1), ["reaches its end of life on 2026-10-12"]),
        (date(2026, 10, 12), ["reaches its end of life on 2026-10-12"]),
        (date(2026, 10, 13), ["has reached its end of life on 2026-10-12"]),
    ],
)
def test_the_end_of_life_is_announced_six_weeks_before(today: date, seen: list[str]) -> None:
    taken = datetime(today.year, today.month, today.day, tzinfo=UTC)

    assert [each.seen for each in mesh(taken=taken).upgrade.ended] == seen


def test_a_release_without_an_end_of_life_is_supported() -> None:
    assert mesh(**expecting(target_version="1.31.0")).upgrade.ended == []
    assert shipped().release["1.28"].end_of_life == date(2026, 7, 1)


# PC002, PC003, PC005, PC006 and PC007
LEDGER_FACTS: dict[str, Callable[[Mesh], object]] = {
    "PC002": lambda seen: seen.upgrade.wrong_steps,
    "PC003": lambda seen: seen.upgrade.unsupported_kubernetes,
    "PC005": lambda seen: seen.changes.removed,
    "PC006": lambda seen: seen.envoy_filters.lost,
    "PC007": lambda seen: seen.gateway_api.unread,
}


@pytest.mark.parametrize("check", LEDGER_FACTS)
@pytest.mark.parametrize(("runs_now", "target"), [("1.31.0", "1.32.0"), ("1.26.3", "1.27.4")])
def test_a_release_outside_the_ledger_is_unknown(check: str, runs_now: str, target: str) -> None:
    seen = mesh(
        istiod=runs(runs_now, runs_now),
        envoy_filters=(patched(patch("^1\\.31")),),
        **expecting(target_version=target),
    )

    with pytest.raises(CouldNotVerify, match=r"does not (know|contain) Istio"):
        LEDGER_FACTS[check](seen)
