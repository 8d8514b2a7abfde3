"""Versions: what Istio prints in its several ways, and which comes before which."""

import itertools

import pytest

from meshgate.semantics.versions import Target, Version


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
    ("tag", "said"),
    [
        ("1.29.1", "1.29.1"),
        ("v1.29.1", "1.29.1"),
        ("1.29.1-distroless", "1.29.1"),
        ("1.29", "1.29.0"),
        ("1.29.1-asm.3", "1.29.1"),
        ("1.30.0-rc.1-distroless", "1.30.0-rc.1"),
        ("v2.3.1-istio1.29.1", "1.29.1"),
        ("2.3.1-istio-1.29.1-fips", "1.29.1"),
        ("istio-v1.29.1", "1.29.1"),
    ],
)
def test_the_istio_version_of_an_image_is_in_its_tag(tag: str, said: str) -> None:
    assert str(Version.of_image(f"registry.example:5000/team1.2/proxyv2:{tag}@sha256:ab")) == said


@pytest.mark.parametrize(
    "tag", ["", "latest", "v2.3.1", "build-1.29.1", "1.29.1-mesh2.3.1", "20260101.1", "istio-fips"]
)
def test_a_tag_that_could_mean_something_else_names_no_version(tag: str) -> None:
    assert Version.of_image(f"registry.example/istio/proxyv2:{tag}") is None


@pytest.mark.parametrize(
    ("target", "version", "met"),
    [
        ("1.29.1", "1.29.1", True),
        ("1.29.1", "1.29.2", False),
        ("1.29", "1.29.2", True),
        ("1.29", "1.28.2", False),
        ("v1.29.1", "1.29.1", True),
        ("1.29.1-rc.0", "1.29.1", False),
    ],
)
def test_a_target_without_a_patch_release_means_any_of_them(
    target: str, version: str, met: bool
) -> None:
    wanted, runs = Target.parse(target), Version.parse(version)

    assert wanted is not None
    assert runs is not None
    assert wanted.met_by(runs) is met
    assert str(wanted) == target.removeprefix("v")


@pytest.mark.parametrize("target", ["", "banana", "latest"])
def test_a_target_must_be_a_version(target: str) -> None:
    assert Target.parse(target) is None
