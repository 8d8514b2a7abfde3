"""The shadow of an upgrade to the newest release: its problems, with nothing applied."""

import gzip
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.lab.harness import NEW, OLD, Lab, until
from tests.lab.rights import VERIFIER, grant, requests

MESHGATE = str(Path(sys.executable).with_name("meshgate"))


def target(lab: Lab, version: str, folder: Path) -> list[str]:
    """A version's programs and manifests, as options."""
    if not folder.joinpath(version).exists():
        lab.verb("target", version, str(folder / version))
    return [
        f"--shadow-istiod={folder}/{version}/pilot-discovery",
        f"--shadow-envoy={folder}/{version}/envoy",
        f"--shadow-manifests={folder}/{version}/istiod.yaml",
    ]


def shadow(
    lab: Lab, version: str, folder: Path, *words: str, identity: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`meshgate shadow` with a version's programs, as an engineer would call it."""
    return lab.run(MESHGATE, "shadow", *target(lab, version, folder), *words, identity=identity)


def fleet(place: str, programs: Path, folder: Path) -> dict[str, Any]:
    """What `meshgate fleet` says of recordings of which some would break.

    It does not run in the lab's network: there is no cluster.
    """
    done = subprocess.run(
        [
            *(MESHGATE, "fleet", place, f"--target-version={NEW}", f"--programs={programs}"),
            *(f"--cache={folder / 'cache'}", f"--json={folder / 'fleet.json'}"),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return dict(json.loads((folder / "fleet.json").read_text()))


def processes(program: Path) -> list[int]:
    """Who runs it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "exe").readlink() == program:
                found.append(int(place.name))
    return found


def changed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that say what would be other than it is."""
    return [line for line in done.stdout.splitlines() if line.startswith(("all ", "some "))]


def test_the_same_version_changes_nothing(old: Lab, tmp_path: Path) -> None:
    # so a proxy that is derived from its pod is given what that pod's proxy is given
    done = shadow(old, OLD, tmp_path)

    assert (done.returncode, changed(done)) == (0, []), done.stdout + done.stderr


def test_on_a_healthy_mesh_nothing_breaks_and_nothing_is_written(old: Lab, tmp_path: Path) -> None:
    grant(old, "--shadow")
    before = len(requests(old))

    done = shadow(old, NEW, tmp_path, f"--save={tmp_path}/shadow.json", identity=VERIFIER)

    assert done.returncode == 0, done.stdout + done.stderr
    # by the API server's own word
    made = requests(old)[before:]
    assert ("list", "envoyfilters") in {(each.verb, each.resource) for each in made}
    assert {each.verb for each in made} == {"get", "list", "watch"}
    assert not [each for each in made if each.resource in ("secrets", "leases")]
    # what the release changes everywhere is one line, and it is the one of its release notes
    (line,) = changed(done)
    assert line.startswith("all ")
    assert "healthyPanicThreshold" in line
    assert json.loads((tmp_path / "shadow.json").read_text())["version"] == NEW


def test_no_process_outlives_a_killed_run(old: Lab, tmp_path: Path) -> None:
    options = target(old, NEW, tmp_path)
    program = tmp_path / NEW / "pilot-discovery"
    run = old.start(MESHGATE, "shadow", *options)
    until(lambda: bool(processes(program)))

    run.kill()
    run.wait()

    until(lambda: not processes(program))


HTTP = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}
ROUTER = {
    "filterChain": {
        "filter": {
            "name": "envoy.filters.network.http_connection_manager",
            "subFilter": {"name": "envoy.filters.http.router"},
        }
    }
}
TYPES = "type.googleapis.com/"


def lua(name: str, code: str = "function envoy_on_request(handle) end") -> dict[str, Any]:
    """An HTTP filter that runs a script."""
    config = {
        "@type": f"{TYPES}envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": code},
    }
    return {"name": name, "typed_config": config}


def patched(
    name: str, namespace: str, app: str, *patches: tuple[str, str, dict[str, Any], dict[str, Any]]
) -> dict[str, Any]:
    """An EnvoyFilter: what it applies to, from which version on, where, and the patch."""
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": app}},
            "configPatches": [
                {
                    "applyTo": kind,
                    "match": {**match, "proxy": {"proxyVersion": rf"^1\.{minor}\..*"}},
                    "patch": patch,
                }
                for kind, minor, match, patch in patches
            ],
        },
    }


INBOUND = {"context": "SIDECAR_INBOUND", "listener": HTTP}
OUTBOUND = {"context": "SIDECAR_OUTBOUND"}
SOCKET = {"socket_address": {"address": "127.0.0.1", "port_value": 19001}}


def first(value: dict[str, Any]) -> dict[str, Any]:
    """The patch that puts a filter before all others."""
    return {"operation": "INSERT_FIRST", "value": value}


def new_only(config: dict[str, Any], type: str) -> dict[str, Any]:
    """A filter whose configuration the new version is given."""
    return first({"name": "own", "typed_config": {"@type": f"{TYPES}{type}", **config}})


LOST, BROUGHT = (version.split(".")[1] for version in (OLD, NEW))
UNKNOWN = {"type_url": f"{TYPES}no.such.Filter", "value": {}}
TYPED = "udpa.type.v1.TypedStruct"
ECHO = {
    "name": "echo",
    "typed_config": {"@type": f"{TYPES}envoy.extensions.filters.network.echo.v3.Echo"},
}
FAULTS = (
    # a pattern of versions that stops matching
    (patched("lua-gone", "shop", "web", ("HTTP_FILTER", LOST, INBOUND, first(lua("gone.lua")))),
     "removes a filter"),
    (patched("cluster-gone", "shop", "client", ("CLUSTER", LOST, OUTBOUND, {"operation": "ADD",
        "value": {"name": "own-cluster", "type": "STATIC", "connect_timeout": "1s"}})),
     "removes a cluster"),
    (patched("listener-gone", "shop", "ledger", ("LISTENER", LOST, OUTBOUND, {"operation": "ADD",
        "value": {"name": "own-listener", "address": SOCKET,
            "filter_chains": [{"filters": [ECHO]}]}})),
     "removes a listener"),
    (patched("host-gone", "shop", "client", ("VIRTUAL_HOST", LOST,
        {**OUTBOUND, "routeConfiguration": {"name": "80"}}, {"operation": "ADD", "value": {
            "name": "own-host", "domains": ["own.example.com"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 204}}]}})),
     "removes a virtual host"),
    (patched("headers-gone", "istio-ingress", "istio-ingressgateway", ("VIRTUAL_HOST", LOST,
        {"context": "GATEWAY", "routeConfiguration": {"name": "http.8080"}}, {"operation": "MERGE",
            "value": {"response_headers_to_add": [{"header": {"key": "x-own", "value": "1"}}]}})),
     "no longer sets"),
    # a place in the order that changes
    (patched("order", "shop", "cache", ("HTTP_FILTER", LOST, INBOUND, first(lua("order.lua"))),
        ("HTTP_FILTER", BROUGHT, {"context": "SIDECAR_INBOUND", "listener": ROUTER},
         {"operation": "INSERT_BEFORE", "value": lua("order.lua")})),
     "reorders filters"),
    # what the new Envoy does not take
    (patched("unknown", "shop", "orders",
        ("HTTP_FILTER", BROUGHT, INBOUND, new_only(UNKNOWN, TYPED))),
     "Didn't find a registered implementation"),
    (patched("script", "payments", "api",
        ("HTTP_FILTER", BROUGHT, INBOUND, first(lua("bad.lua", "this is no lua")))),
     "script load error"),
    (patched("terminal", "shop", "client", ("HTTP_FILTER", BROUGHT,
        {"context": "SIDECAR_INBOUND", "listener": ROUTER},
        {"operation": "INSERT_AFTER", "value": lua("late.lua")})),
     "terminal filter"),
    (patched("limit", "shop", "web", ("HTTP_FILTER", BROUGHT, INBOUND,
        new_only({}, "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"))),
     "StatPrefix"),
    (patched("ring", "shop", "ledger", ("CLUSTER", BROUGHT, OUTBOUND, {"operation": "ADD",
        "value": {"name": "own-ring", "type": "STATIC", "connect_timeout": "1s",
            "lb_policy": "RING_HASH",
            "ring_hash_lb_config": {"minimum_ring_size": 9, "maximum_ring_size": 8}}})),
     "ring hash"),
    (patched("route", "istio-ingress", "istio-ingressgateway", ("VIRTUAL_HOST", BROUGHT,
        {"context": "GATEWAY", "routeConfiguration": {"name": "http.8080"}}, {"operation": "ADD",
            "value": {"name": "own", "domains": ["limited.example.com"], "routes": []}})),
     "Only unique values for domains"),
)  # fmt: skip


def test_faults_of_the_upgrade_are_reported_before_it(old: Lab, tmp_path: Path) -> None:
    old.apply(*(fault for fault, _ in FAULTS))

    done = shadow(old, NEW, tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL ")]
    for fault, words in FAULTS:
        subject = f"EnvoyFilter {fault['metadata']['namespace']}/{fault['metadata']['name']}"
        named = [line for line in failures if line.startswith(f"FAIL shadow {subject}")]
        assert any(words in line for line in named), f"{subject}: {words}\n{done.stdout}"
    # one run reported all of them, and nothing else
    assert all(line.startswith("FAIL shadow EnvoyFilter") for line in failures), done.stdout


CANARY = "canary-5e1f"
ISTIOCTL = (f"--istioctl=istioctl-{NEW}",)
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "own", "namespace": "shop"},
    "stringData": {"password": CANARY},
}


def canaries() -> dict[str, Any]:
    """A pod with values that no report may contain."""
    container = {
        "name": "app",
        "image": "docker.io/lab/app:1",
        "args": ["serve", f"--own={CANARY}"],
        "env": [{"name": "OWN", "value": CANARY}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "canary",
            "namespace": "shop",
            "labels": {"sidecar.istio.io/inject": "false"},
            "annotations": {"own": CANARY},
        },
        "spec": {"containers": [container]},
    }


def test_a_snapshot_gives_the_same_result_as_the_cluster(old: Lab, tmp_path: Path) -> None:
    old.verb("reset")
    old.apply(FAULTS[0][0], FAULTS[7][0], SECRET, canaries())
    try:
        now = shadow(old, NEW, tmp_path)
        kept = old.run(MESHGATE, "capture", str(tmp_path / "mesh.gz"), "--for-shadow", *ISTIOCTL)
        assert kept.returncode == 0, kept.stdout + kept.stderr
    finally:
        old.verb("reset")

    # not in the lab's network: there is no cluster
    words = [*target(old, NEW, tmp_path), f"--snapshot={tmp_path}/mesh.gz"]
    later, of_another = (
        subprocess.run(
            [MESHGATE, "shadow", *words, f"--target-version={version}"],
            check=False,
            capture_output=True,
            text=True,
        )
        for version in (NEW, OLD)
    )

    assert later.returncode == 1, later.stdout + later.stderr
    assert later.stdout == now.stdout
    assert (of_another.returncode, of_another.stdout) == (10, "")
    assert f"has version {NEW}, not {OLD}" in of_another.stderr
    assert len([line for line in now.stdout.splitlines() if line.startswith("FAIL ")]) == 2
    assert CANARY not in gzip.decompress((tmp_path / "mesh.gz").read_bytes()).decode()


def test_a_fleet_has_the_verdicts_of_its_clusters(old: Lab, tmp_path: Path) -> None:
    old.verb("reset")
    place = str(tmp_path / "all")
    record = [MESHGATE, "record", place, *ISTIOCTL]
    healthy = old.run(*record, "--cluster-name=eu-1")
    old.apply(FAULTS[0][0], FAULTS[7][0])
    try:
        broken = [old.run(*record, f"--cluster-name={name}") for name in ("eu-2", "eu-3")]
        now = shadow(old, NEW, tmp_path)
    finally:
        old.verb("reset")
    assert [each.returncode for each in (healthy, *broken)] == [0, 0, 0], healthy.stderr

    found = fleet(place, tmp_path / NEW, tmp_path)

    states = {each["name"]: each["state"] for each in found["clusters"]}
    assert states == {"eu-1": "would change", "eu-2": "would break", "eu-3": "would break"}
    alone = {line.split(" (")[0] for line in now.stdout.splitlines() if line.startswith("FAIL ")}
    together = {
        f"FAIL shadow {each['subject']}: {each['seen']}".split(" (")[0]
        for each in found["causes"]
        if each["check"].startswith("PC10")
    }
    assert together == alone
    assert {tuple(each["clusters"]) for each in found["causes"]} == {("eu-2", "eu-3")}


def test_an_injector_that_would_skip_pods_is_reported(old: Lab, tmp_path: Path) -> None:
    old.verb("reset")
    target(old, NEW, tmp_path)
    manifests = tmp_path / NEW / "istiod.yaml"
    text = manifests.read_text()
    assert "policy: enabled" in text
    manifests.write_text(text.replace("policy: enabled", "policy: disabled"))

    done = shadow(old, NEW, tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL ")]
    injection_enabled = ("istio-ingress", "istio-verification-probes", "payments", "shop")
    for namespace in injection_enabled:
        subject = f"FAIL shadow Namespace {namespace}: the injector of {NEW} adds no"
        assert [line for line in failures if line.startswith(subject)], done.stdout
    assert len(failures) == len(injection_enabled), done.stdout


def test_proxies_receive_what_was_predicted(old: Lab, tmp_path: Path) -> None:
    old.verb("reset")
    old.verb("target", NEW, str(tmp_path / NEW))
    agreement = [sys.executable, "-m", "tests.lab.agreement"]
    predicted = old.run(*agreement, "predict", str(tmp_path / NEW), f"{tmp_path}/predicted.json")
    assert predicted.returncode == 0, predicted.stderr
    old.verb("upgrade", NEW, "--restart")

    compared = old.run(*agreement, "compare", f"{tmp_path}/predicted.json")
    back = shadow(old, OLD, tmp_path)

    print(compared.stdout)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "agreement: 100.00 % of" in compared.stdout
    # and the way back breaks nothing either
    assert back.returncode == 0, back.stdout + back.stderr
    (line,) = changed(back)
    assert "healthyPanicThreshold" in line
