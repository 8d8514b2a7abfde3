"""Istio's own CRDs, compared with the release that istiod runs."""

from typing import Any

import pytest

from meshgate.facts.controlplane.istio_crds import IstioCrds
from meshgate.semantics.releases import crd_fields
from meshgate.snapshot.upgrade import IstioCrd
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import mesh, reading, sync

CURRENT = tuple(
    IstioCrd(name=name, fields=tuple(sorted(fields))) for name, fields in crd_fields().items()
)


def crds(version: str, *found: IstioCrd, **changes: Any) -> IstioCrds:
    """The CRDs beside an istiod of this version."""
    answer = reading(proxies=[sync()], version=f"{version}-abc-Clean")
    return mesh(**{"istiod": (answer,), "istio_crds": found, **changes}).istio_crds


def changed(name: str, *fields: str) -> tuple[IstioCrd, ...]:
    return tuple(
        IstioCrd(name=each.name, fields=fields) if each.name.startswith(name) else each
        for each in CURRENT
    )


@pytest.mark.parametrize("version", ["1.29.1", "1.30.4", "1.31.0", "1.99.0"])
def test_crds_of_the_newest_release_are_not_older_than_any(version: str) -> None:
    facts = crds(version, *CURRENT)

    assert facts.outdated == []
    assert facts.missing == []


def test_a_crd_without_a_field_of_istiods_release_is_older() -> None:
    (finding,) = crds("1.31.0", *changed("virtualservices")).outdated

    assert finding.subject == "CustomResourceDefinition virtualservices.networking.istio.io"
    assert "lacks spec.http.redirect.prefixRewrite (since 1.31)" in finding.seen
    assert "Istio 1.31" in finding.expected


def test_a_field_of_a_later_release_is_not_expected() -> None:
    assert crds("1.30.4", *changed("virtualservices")).outdated == []


def test_fields_of_several_releases_may_be_missing() -> None:
    (finding,) = crds("1.31.0", *changed("telemetries")).outdated

    assert "since 1.29" in finding.seen
    assert "since 1.30" in finding.seen
    assert "Istio 1.30" in finding.expected


def test_a_crd_that_is_not_installed_is_a_warning() -> None:
    without = (each for each in CURRENT if not each.name.startswith("sidecars"))
    facts = crds("1.31.0", *without)

    assert facts.outdated == []
    (warning,) = facts.missing
    assert "sidecars.networking.istio.io" in warning.subject


def test_what_is_not_known_is_never_a_pass() -> None:
    with pytest.raises(NotApplicable, match=r"1\.28\.2"):
        _ = crds("1.28.2", *CURRENT).outdated
    with pytest.raises(NotApplicable, match="lacks them"):
        _ = crds("1.31.0").outdated
    with pytest.raises(CouldNotVerify, match="version"):
        _ = crds("unknown", *CURRENT).outdated
