"""WasmPlugins whose modules the proxies could not load."""

from typing import Any

import msgspec
import pytest

from meshgate.collect.wasm import results
from meshgate.facts.controlplane.wasm import WasmModules
from meshgate.snapshot.wasm import WasmLoads, WasmPlugin
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import istiod, mesh, pod, running, sidecar

URL = "oci://registry.example.com/auth:1"
WEB = sidecar(ip="10.0.0.1", labels={"app": "web"})


def plugin(namespace: str = "shop", **spec: Any) -> WasmPlugin:
    body = {"metadata": {"name": "auth", "namespace": namespace}, "spec": {"url": URL, **spec}}
    return msgspec.convert(body, WasmPlugin)


def modules(*plugins: WasmPlugin, error: str = "", **counted: int) -> WasmModules:
    loads = WasmLoads(pod="shop/web-1", results=counted, error=error)
    found = mesh(pods=(istiod(), WEB), wasm_plugins=plugins, wasm_loads=(loads,))
    return found.wasm_modules


def test_a_module_that_was_fetched_is_fine() -> None:
    facts = modules(plugin(), success=1, no_remote_load=4)

    assert facts.failed == []
    assert facts.partly_failed == []


@pytest.mark.parametrize(("strategy", "word"), [("", "deny"), ("FAIL_OPEN", "allow")])
def test_a_module_that_cannot_be_fetched_fails(strategy: str, word: str) -> None:
    (finding,) = modules(plugin(failStrategy=strategy), fetch_failure=2).failed

    assert finding.subject == "WasmPlugin shop/auth"
    assert "Pod shop/web-1" in finding.seen
    assert f"they {word} all requests in its place" in finding.seen
    assert URL in finding.remedy


def test_a_failure_beside_a_success_is_a_warning() -> None:
    facts = modules(plugin(), fetch_failure=1, success=1)

    assert facts.failed == []
    assert [each.subject for each in facts.partly_failed] == ["WasmPlugin shop/auth"]


@pytest.mark.parametrize(
    ("counted", "words"),
    [({"error": "timed out"}, "timed out"), ({}, "has loaded a module yet")],
)
def test_what_no_agent_shows_is_unknown(counted: dict[str, Any], words: str) -> None:
    with pytest.raises(CouldNotVerify, match=words) as raised:
        _ = modules(plugin(), **counted).failed
    assert raised.value.transient


@pytest.mark.parametrize(
    ("given", "selected"),
    [
        (plugin(), True),
        (plugin("istio-system"), True),
        (plugin("payments"), False),
        (plugin(selector={"matchLabels": {"app": "web"}}), True),
        (plugin(selector={"matchLabels": {"app": "other"}}), False),
        (plugin(url="file:///opt/auth.wasm"), False),
        (plugin(targetRefs=[{"kind": "Gateway", "name": "api"}]), False),
    ],
)
def test_which_proxies_a_plugin_is_for(given: WasmPlugin, selected: bool) -> None:
    facts = modules(given, fetch_failure=1)

    if selected:
        assert facts.failed
    else:
        with pytest.raises(NotApplicable, match="none of 1 WasmPlugins"):
            _ = facts.failed


def test_a_gateway_is_a_target_by_its_name() -> None:
    gateway = pod(
        "api-1",
        containers=[running("istio-proxy")],
        ip="10.0.0.2",
        labels={"gateway.networking.k8s.io/gateway-name": "api"},
    )
    loads = WasmLoads(pod="shop/api-1", results={"fetch_failure": 1})
    given = plugin(targetRefs=[{"kind": "Gateway", "name": "api"}])
    facts = mesh(pods=(istiod(), gateway), wasm_plugins=(given,), wasm_loads=(loads,))

    assert facts.wasm_modules.failed


def test_the_metrics_of_an_agent() -> None:
    metrics = """
# TYPE istio_agent_wasm_config_conversion_count counter
istio_agent_wasm_config_conversion_count{result="fetch_failure"} 2
istio_agent_wasm_config_conversion_count{a="b",result="success"} 1
istio_agent_wasm_remote_fetch_count{result="download_failure"} 9
istio_requests_total{result="success"} 7
"""

    assert results(metrics) == {"fetch_failure": 2, "success": 1}
