"""Versions: what Istio prints in its several ways, and which comes before which."""

import itertools

import pytest

from meshgate.semantics.versions import TargetVersion, Version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.29.1", "1.29.1"),
        ("1.29.1-6991a379e1fc-Clean", "1.29.1"),
        ("1.29.1-distroless", "1.29.1"),
        ("v1.34.4", "1.34.4"),
        ("v1.34.4+k3s1", "1.34.4"),
        ("1.29", "1.29.0"),
        ("1.30.0-rc.1", "1.30.0-rc.1"),
        ("1.30.0-beta.0-abc-Clean", "1.30.0-beta.0"),
        ("1.30-alpha.f00d", "1.30.0"),
        ("istioctl 1.28.2", "1.28.2"),
    ],
)
def test_a_version_is_found_in_what_is_printed(text: str, said: str) -> None:
    assert str(Version.parse(text)) == said


@pytest.mark.parametrize("text", ["", "latest", "unknown", "sha256", "29", "a1b2c3"])
def test_what_says_no_version_is_none(text: str) -> None:
    assert Version.parse(text) is None


def test_versions_are_ordered_by_number_and_a_pre_release_comes_before_its_release() -> None:
    texts = [
        *("1.9.9", "1.28.9", "1.29.0-alpha.2", "1.29.0-beta.0", "1.29.0-rc.0", "1.29.0-rc.1"),
        *("1.29.0", "1.29.1", "1.29.10", "1.30.0-alpha.1", "1.30.0", "2.0.0"),
    ]
    versions = [version for text in texts if (version := Version.parse(text))]

    assert len(versions) == len(texts)
    assert all(earlier < later for earlier, later in itertools.pairwise(versions))


def test_builds_of_one_release_are_one_version() -> None:
    assert Version.parse("1.29.1-6991a379-Clean") == Version.parse("1.29.1-distroless")


@pytest.mark.parametrize(
    ("target", "version", "satisfied"),
    [
        ("1.29.1", "1.29.1-6991a379-Clean", True),
        ("1.29.1", "1.29.2", False),
        ("1.29", "1.29.0", True),
        ("1.29", "1.29.7", True),
        ("1.29", "1.30.0", False),
        ("1.29", "1.28.9", False),
        ("v1.29.1", "1.29.1", True),
        ("1.29.1-distroless", "1.29.1", True),
        ("1.30.0-rc.0", "1.30.0", False),
        ("1.30.0-rc.0", "1.30.0-rc.0", True),
        ("1.30.0", "1.30.0-rc.0", False),
        ("1.29", "latest", False),
    ],
)
def test_a_target_without_a_patch_takes_any_patch(
    target: str, version: str, satisfied: bool
) -> None:
    assert TargetVersion.parse(target).matches(Version.parse(version)) is satisfied


@pytest.mark.parametrize(
    "text", ["banana", "latest", "", "1", "1.", "1.29.", "1.29.1 or so", "x1.29"]
)
def test_a_target_that_is_not_a_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        TargetVersion.parse(text)


def test_a_target_is_written_as_it_was_asked_for() -> None:
    for text in ("1.29", "1.29.1", "1.30.0-rc.0"):
        assert str(TargetVersion.parse(text)) == text
