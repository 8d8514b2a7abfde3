"""Tests of the checks, with a recording in which one thing is changed: `pytest test_acme.py`."""

from pathlib import Path

import pytest
import verify_acme

from meshgate.api import Basis, Mesh, NotApplicable, Snapshot, load, replace
from meshgate.project import demo

HEALTHY = load(demo("healthy"))


def public_hosts(snapshot: Snapshot) -> None:
    verify_acme.test_public_hosts_are_ours(Mesh(snapshot), Basis())


def namespaces(snapshot: Snapshot) -> None:
    verify_acme.test_every_namespace_decides_about_injection(Mesh(snapshot), Basis())


@pytest.mark.parametrize("check", [public_hosts, namespaces])
def test_a_healthy_mesh_passes(check) -> None:
    check(HEALTHY)


def test_a_namespace_without_a_label_fails() -> None:
    (shop,) = [each for each in HEALTHY.namespaces if each.metadata.name == "shop"]
    bare = replace(shop, metadata=replace(shop.metadata, labels={}))

    with pytest.raises(AssertionError, match="Namespace shop: has no label"):
        namespaces(replace(HEALTHY, namespaces=(bare,)))


def test_a_foreign_host_fails() -> None:
    (shop,) = [each for each in HEALTHY.virtual_services if each.metadata.name == "shop"]
    misspelt = replace(shop, spec=replace(shop.spec, hosts=("shop.example.org",)))

    with pytest.raises(AssertionError, match=r"serves shop\.example\.org"):
        public_hosts(replace(HEALTHY, virtual_services=(misspelt,)))


def test_a_mesh_without_gateways_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        public_hosts(replace(HEALTHY, virtual_services=()))


def test_files_that_belong_together_exist() -> None:
    folder = Path(__file__).parent

    assert {file.stem for file in folder.glob("ACME-*.md")} == {"ACME-001", "ACME-002"}
