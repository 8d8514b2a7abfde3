"""Retry-After on a real mesh: filters that do nothing, and answers that lack it."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.harness import CLASSIC, NEW, NODE, Lab, Stage, envoy, until

Run = Callable[..., Stage]

GATEWAY = CLASSIC["http"]
LIMITED = f"http://limited.example.com/ via {GATEWAY}"
MANAGER = "envoy.filters.network.http_connection_manager"


@pytest.fixture
def check(lab: Lab) -> Callable[..., Stage]:
    """Runs the one file, with targets."""

    def run(*words: str, targets: tuple[str, ...] = ()) -> Stage:
        named = [f"--retry-after-target={target}" for target in targets]
        return lab.pytest("verification/check_retry_after.py", "--settle=10", *named, *words)

    return run


@pytest.fixture
def recovers(lab: Lab, check: Run) -> Iterator[None]:
    """After the test: remove the faults; the same file passes."""
    yield
    lab.verb("reset")
    stage = check()
    assert stage.exit == 0, stage.output


def test_a_healthy_mesh_sends_retry_after(check: Run, lab: Lab) -> None:
    ours = f"http://shop.example.com/status/503 via {GATEWAY}"

    stage = check(targets=(LIMITED, ours))

    assert stage.exit == 0, stage.output
    assert "pass RA003" in stage.output
    replay = lab.pytest(
        "verification/check_retry_after.py", f"--snapshot={stage.reports}/snapshot.json.gz"
    )
    assert replay.exit == 0, replay.output


@pytest.mark.usefixtures("recovers")
def test_filters_that_do_nothing_are_each_named(check: Run, lab: Lab) -> None:
    lab.apply(
        announcing("only-old", patch(version=r"^1\.28.*"), app="web"),
        announcing("no-such-port", patch(port=4321, value="6"), app="web"),
        announcing("no-such-app", patch(), app="gone"),
        announcing("another-context", patch(context="GATEWAY"), app="web"),
        announcing("another-namespace", patch(), app="api"),
        announcing("malformed", patch(value="soon"), app="orders"),
        announcing("in-the-past", patch(value="Fri, 02 Jan 2015 11:59:59 GMT"), app="orders"),
        announcing(
            "once-a-version",
            *(patch(version=r"^1\.28"), patch(version=rf"^{re.escape(NEW)}", value="29")),
            app="web",
        ),
    )
    # a filter without effect is reported immediately: the others must be in Envoy first
    _await_filters(lab, "web", "29")
    _await_filters(lab, "orders", "soon", "Fri, 02 Jan 2015 11:59:59 GMT")

    stage = check()

    assert stage.exit == 1, stage.output
    (web, orders) = (f"Pod shop/{lab.pod('shop', app)}" for app in ("web", "orders"))
    assert orders not in stage.output
    what = "patch 1 (HTTP_FILTER, SIDECAR_INBOUND)"
    expected = (
        f"RA001 EnvoyFilter shop/another-context: patch 1 (HTTP_FILTER, GATEWAY) matches nothing: "
        f"none of the 1 proxies that it reaches ({web}) has that context",
        "RA001 EnvoyFilter shop/another-namespace: reaches no proxy: no connected proxy is in "
        "namespace shop with the labels app=api",
        "RA001 EnvoyFilter shop/no-such-app: reaches no proxy",
        f"RA001 EnvoyFilter shop/no-such-port: {what} matches nothing: none of the 1 "
        f"proxies that it reaches ({web}) has it in its configuration",
        rf"RA001 EnvoyFilter shop/only-old: {what} is for proxies of version '^1\\.28.*', but 1 of "
        f"the 1 that it reaches run {NEW} ({web})",
        "RA002 EnvoyFilter shop/in-the-past: patch 1 sends Retry-After "
        "'Fri, 02 Jan 2015 11:59:59 GMT', which is a date in the past",
        "RA002 EnvoyFilter shop/malformed: patch 1 sends Retry-After 'soon', which is neither",
    )
    assert len(stage.failures) == len(expected), stage.output
    for line, words in zip(stage.failures, expected, strict=True):
        assert line.startswith(f"FAIL {words}"), stage.output


@pytest.mark.usefixtures("recovers")
def test_responses_without_retry_after_are_each_named(check: Run, lab: Lab) -> None:
    lab.kubectl("delete", "envoyfilter", "retry-after-web", "-n", "shop")
    lab.apply(
        announcing("malformed", patch(value="soon", statuses=("429",)), app="web"),
        _denied("web", path="/denied"),
    )
    _restart(lab, "web")
    targets = {
        path: f"http://shop.example.com{path} via {GATEWAY}"
        for path in ("/status/503", "/status/429", "/denied", "/")
    }
    silent = f"http://{NODE}:1/"

    stage = check("--retry-after-burst=3", targets=(*targets.values(), silent))

    assert stage.exit == 1, stage.output
    wire = [line.removeprefix("FAIL RA003 ") for line in stage.failures if "RA003" in line]
    assert [line.partition(" (expected ")[0] for line in wire] == [
        f"Target {silent}: does not answer: [Errno 111] Connection refused",
        f"Target {targets['/']}: answers 200 after 3 requests",
        f"Target {targets['/denied']}: answers 403: an AuthorizationPolicy or the application "
        "denies the verifier",
        f"Target {targets['/status/429']}: answers 429 with Retry-After 'soon', which is neither a "
        "number of seconds nor an HTTP date",
        f"Target {targets['/status/503']}: answers 503 without Retry-After",
    ], stage.output


@pytest.mark.usefixtures("recovers")
def test_a_mesh_without_any_filter_of_the_kind(check: Run, lab: Lab) -> None:
    lab.kubectl("delete", "envoyfilters", "--all", "-n", "shop")
    lab.kubectl("delete", "envoyfilters", "--all", "-n", "istio-ingress")
    lab.apply(announcing("about-else", patch(header="x-other"), app="web"))

    silent, strict = check(), check("--require-retry-after")

    # three claims that have nothing to speak about prove nothing: alone they open no gate
    assert silent.exit == 10, silent.output
    assert "none of the 1 EnvoyFilters is about Retry-After" in silent.output
    assert strict.exit == 1, strict.output
    assert strict.first.startswith(
        "FAIL RA001 EnvoyFilters: none of the 1 is about Retry-After (expected at least one "
        "(--require-retry-after))"
    ), strict.output


def _restart(lab: Lab, app: str) -> None:
    """A new pod, which has nothing but the new configuration, and to which the gateway sends alone.

    What is connected to the old one goes on by the old until Envoy has drained it.
    """
    (old,) = lab.get("pods", "-n", "shop", "-l", f"app={app}")["items"]
    name, address = old["metadata"]["name"], old["status"]["podIP"]
    lab.kubectl("rollout", "restart", f"deployment/{app}", "-n", "shop")
    lab.kubectl("rollout", "status", f"deployment/{app}", "-n", "shop", "--timeout=90s")
    lab.kubectl("wait", "--for=delete", f"pod/{name}", "-n", "shop", "--timeout=90s")
    gateway = ("istio-ingress", "istio-ingressgateway")
    until(lambda: f"::{address}:" not in envoy(lab, *gateway, "clusters"))


def _await_filters(lab: Lab, app: str, *values: str) -> None:
    """Waits until its Envoy has the scripts that send these values."""

    def has_all() -> bool:
        dump = envoy(lab, "shop", app, "config_dump")
        return all(rf"\"retry-after\", \"{value}\"" in dump for value in values)

    until(has_all)


def announcing(name: str, *patches: dict[str, Any], app: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": app}},
            "priority": 30,
            "configPatches": list(patches),
        },
    }


def patch(
    *,
    value: str = "5",
    header: str = "retry-after",
    context: str = "SIDECAR_INBOUND",
    version: str = "",
    port: int | None = None,
    statuses: tuple[str, ...] = ("429", "503"),
) -> dict[str, Any]:
    """A script on the way out that adds the header to these statuses."""
    chain = {"filter": {"name": MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}}
    condition = " or ".join(f'status == "{status}"' for status in statuses)
    source = (
        "function envoy_on_response(handle)\n"
        '  local status = handle:headers():get(":status")\n'
        f"  if {condition} then\n"
        f'    handle:headers():replace("{header}", "{value}")\n'
        "  end\n"
        "end\n"
    )
    return {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": context,
            **({"proxy": {"proxyVersion": version}} if version else {}),
            "listener": {"filterChain": chain, **({"portNumber": port} if port else {})},
        },
        "patch": {
            "operation": "INSERT_BEFORE",
            "value": {
                "name": "envoy.filters.http.lua",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": source},
                },
            },
        },
    }


def _denied(app: str, *, path: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "denied", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "action": "DENY",
            "rules": [{"to": [{"operation": {"paths": [path]}}]}],
        },
    }
