"""EnvoyFilters as they are written, and config dumps of proxies that they are for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect import retry_after
from meshgate.collect.istiod import MONITORING_PORT, Direct
from meshgate.collect.kubernetes import Cluster
from meshgate.semantics.meshes import OwnMesh
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.retry_after import GivenConfig, HeaderRule, RetryFilters
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import istiod, reading, sidecar, sync
from tests.support.fakes import Answer, Request, answer

ADDED = {"header": {"key": "retry-after", "value": "7"}}
SECRET = "a-password"

DUMP = {
    "configs": [
        {
            "dynamicListeners": [
                {"activeState": {"listener": {"trafficDirection": "INBOUND", "x": [ADDED]}}}
            ]
        },
        {"dynamicRouteConfigs": [{"routeConfig": {"responseHeadersToAdd": [ADDED]}}]},
        {"ecdsFilters": [{"ecdsFilter": {"typedConfig": {"localReplyConfig": [ADDED]}}}]},
        {"dynamicActiveSecrets": [{"secret": {"x": [ADDED], "inline": SECRET}}]},
    ]
}


def written(name: str, value: Any, **spec: Any) -> dict[str, Any]:
    """An EnvoyFilter of shop with one patch before it that is about something else."""
    about_else = {"applyTo": "CLUSTER", "patch": {"value": {"name": SECRET}}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "proxy": {"proxyVersion": "^1"}},
        "patch": {"operation": "INSERT_BEFORE", "value": value},
    }
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"configPatches": [about_else, patch], **spec},
    }


Read = Callable[..., RetryFilters]


@pytest.fixture
def read(serve: Serve, tmp_path: Path) -> Read:
    """Reads a cluster that holds these EnvoyFilters, and what its istiod says of web-1."""

    def run(*filters: dict[str, Any], dump: Answer) -> RetryFilters:
        api = serve({KINDS["envoy_filters"].path: answer({"items": list(filters)})})
        asked.clear()

        def config_dump(request: Request) -> Answer:
            asked.append(request.query["proxyID"][0])
            return dump

        serve({"/debug/config_dump": config_dump}, fakes.address(), MONITORING_PORT)
        (tmp_path / "token").write_text("a-token")
        pods = (istiod(ip=fakes.address()), sidecar(labels={"app": "web"}), sidecar("other-1"))
        cluster = Cluster(config=str(fakes.kubeconfig(tmp_path / "kubeconfig", api.url)))
        return retry_after.read(
            cluster,
            Direct(tmp_path / "token", 5.0),
            (reading(proxies=[sync(), sync("other-1.shop"), sync("gone-1.shop")]),),
            OwnMesh(pods, "istio-system"),
            pods,
        )

    asked: list[str] = []
    run.asked = asked  # type: ignore[attr-defined]
    return run


def test_only_what_is_about_the_header_is_kept(read: Read) -> None:
    filters = (
        written("ours", {"typed_config": [ADDED]}, workloadSelector={"labels": {"app": "web"}}),
        written("theirs", {"typed_config": {"password": SECRET}}),
    )

    seen = read(*filters, dump=answer(DUMP))

    (ours,) = seen.filters
    (patch,) = ours.patches
    assert (seen.seen, ours.name, ours.selector) == (2, "ours", {"app": "web"})
    assert (patch.number, patch.apply_to, patch.context, patch.proxy_version) == (
        *(2, "HTTP_FILTER", "SIDECAR_INBOUND"),
        "^1",
    )
    assert patch.places == (HeaderRule(kind="header", value="7"),)
    assert SECRET not in repr(seen)


def test_only_proxies_that_a_filter_is_for_are_asked_about(read: Read) -> None:
    selector = {"labels": {"app": "web"}}

    seen = read(written("ours", [ADDED], workloadSelector=selector), dump=answer(DUMP))

    assert read.asked == ["web-1.shop"]  # type: ignore[attr-defined]
    assert seen.given == (
        GivenConfig(
            proxy="web-1.shop",
            places=(
                HeaderRule(kind="header", value="7", side="INBOUND"),
                HeaderRule(kind="header", value="7", side="OUTBOUND"),
                HeaderRule(kind="local reply", value="7"),
            ),
        ),
    )


def test_a_filter_of_a_gateway(read: Read) -> None:
    seen = read(
        written("ours", [ADDED], targetRefs=[{"kind": "Gateway", "name": "shop"}]),
        dump=answer(DUMP),
    )

    assert seen.filters[0].gateways == ("shop",)
    assert seen.given == ()


@pytest.mark.parametrize(
    ("dump", "field", "words"),
    [
        (Answer(403, b"not yours"), "denied", "403 not yours"),
        (Answer(404, b"not connected"), "error", "404 not connected"),
        (Answer(200, b"[]"), "denied", "cannot be decoded"),
    ],
)
def test_a_configuration_that_is_not_told(read: Read, dump: Answer, field: str, words: str) -> None:
    (given,) = read(
        written("ours", [ADDED], workloadSelector={"labels": {"app": "web"}}), dump=dump
    ).given

    assert words in getattr(given, field)
    assert given.places == ()


def test_the_secrets_of_a_dump_are_not_decoded() -> None:
    broken = json.dumps(DUMP).replace(f'"{SECRET}"', "7").encode()

    assert retry_after.given_places(broken) == retry_after.given_places(json.dumps(DUMP).encode())
