"""The Gateway API's CRDs against what istiod of the target watches."""

import pytest

from meshgate.verdict import NotApplicable
from tests.builders import expecting, mesh
from tests.upgrade_builders import definition

GROUP = "gateway.networking.k8s.io"


@pytest.mark.parametrize(
    ("target", "served", "unread"),
    [("1.29.1", "v1", []), ("1.29.1", "v1beta1", ["v1beta1"]), ("1.28.2", "v1beta1", [])],
)
def test_what_is_served_has_to_be_what_is_read(target: str, served: str, unread: list[str]) -> None:
    seen = mesh(
        definitions=(definition(f"httproutes.{GROUP}", served),), **expecting(target_version=target)
    )

    assert [each.seen for each in seen.gateway_api.unread] == [f"serves {each}" for each in unread]


@pytest.mark.parametrize(("bundle", "old"), [("v1.0.0", 1), ("", 1), ("v1.1.0", 0), ("v1.4.0", 0)])
def test_old_bundles_are_warned_of(bundle: str, old: int) -> None:
    seen = mesh(definitions=(definition(f"grpcroutes.{GROUP}", "v1", bundle=bundle),))

    assert len(seen.gateway_api.old) == old


def test_without_it_there_is_nothing_to_say() -> None:
    with pytest.raises(NotApplicable):
        mesh(definitions=(definition("others.example.com", "v1"),)).gateway_api.unread  # noqa: B018
