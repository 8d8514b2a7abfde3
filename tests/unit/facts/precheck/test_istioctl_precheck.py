"""The precheck's words, its version, and what it says only because of who asked."""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from meshgate.verdict import CouldNotVerify
from tests.support.builders import VERSION, expecting, mesh
from tests.support.upgrade_builders import said


def checked(*messages: AnalysisMessage, refused: tuple[str, ...] = ()) -> Mesh:
    return mesh(precheck=Analysis(istioctl_version=VERSION, messages=messages, refused=refused))


def test_levels_are_as_it_says() -> None:
    found = checked(said("IST0156"), said("IST0172", "Warning"), said("IST0136", "Info")).precheck

    assert [each.seen for each in found.errors] == ["IST0156 is wrong"]
    assert [each.seen for each in found.warnings] == ["IST0172 is wrong"]


def test_that_the_verifier_may_not_create_is_left_out() -> None:
    found = checked(said("IST0141")).precheck

    assert (found.errors, found.warnings) == ([], [])
    assert found.left_out.startswith("1 findings of istioctl x precheck (IST0141) are omitted")
    assert checked(said("IST0156")).precheck.left_out == ""


def test_what_it_was_refused_is_no_pass() -> None:
    with pytest.raises(CouldNotVerify, match="was refused 1 reads, the first was GET /x"):
        checked(refused=("GET /x",)).precheck.errors  # noqa: B018


def test_a_precheck_of_another_minor_version_is_no_pass() -> None:
    with pytest.raises(CouldNotVerify, match=r"version 1\.29\.1, and the target is 1\.30"):
        mesh(**expecting(target_version="1.30.0")).precheck.errors  # noqa: B018
