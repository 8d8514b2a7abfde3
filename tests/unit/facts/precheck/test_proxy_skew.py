"""Proxies that the target's istiod does not support."""

import pytest

from meshgate.snapshot.kubernetes import Container
from meshgate.verdict import CouldNotVerify
from tests.support.builders import expecting, istiod, mesh, reading, sidecar, sync


def runs(version: str, proxy: str = "1.28.2") -> tuple[object, ...]:
    return (reading(version=f"{version}-abc-Clean", proxies=[sync(version=proxy)]),)


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.27.5", "2 minor versions behind the target"), ("1.30.0", "newer than the target")],
)
def test_a_proxy_out_of_skew_is_named(version: str, words: str) -> None:
    (found,) = mesh(istiod=runs("1.28.2", version)).proxy_skew.out_of_skew

    assert (found.subject, found.seen) == ("Pod shop/web-1", f"its proxy runs {version}, {words}")


def test_a_rollback_in_place_leaves_proxies_ahead_for_a_while() -> None:
    asked = {"target_version": "1.28.2", "allow_rollback": True}
    found = mesh(istiod=runs("1.29.1", "1.29.1"), **expecting(**asked)).proxy_skew
    further = mesh(istiod=runs("1.29.1", "1.30.0"), **expecting(**asked)).proxy_skew

    assert found.out_of_skew == []
    (warning,) = found.ahead_for_now
    assert warning.seen == "its proxy runs 1.29.1 and will be newer than istiod 1.28.2"
    assert [each.subject for each in further.out_of_skew] == ["Pod shop/web-1"]
    assert mesh(istiod=runs("1.28.2", "1.29.1")).proxy_skew.ahead_for_now == []


def test_a_proxy_one_behind_is_within_it() -> None:
    assert mesh(istiod=runs("1.28.2", "1.28.2")).proxy_skew.out_of_skew == []


def test_a_proxy_that_is_not_connected_is_of_its_images_version() -> None:
    def with_image(image: str) -> object:
        pod = sidecar("late")
        spec = type(pod.spec)(containers=(Container(name="istio-proxy", image=image),))
        return type(pod)(metadata=pod.metadata, spec=spec, status=pod.status)

    old = mesh(pods=(istiod(), with_image("docker.io/istio/proxyv2:1.26.0"))).proxy_skew
    unknown = mesh(pods=(istiod(), with_image("proxyv2@sha256:0"))).proxy_skew

    assert [each.subject for each in old.out_of_skew] == ["Pod shop/late"]
    with pytest.raises(CouldNotVerify, match="version of the proxy of Pod shop/late is unknown"):
        unknown.out_of_skew  # noqa: B018
