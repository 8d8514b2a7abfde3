"""The target's istiod as a process: how it starts, and the reasons if it does not.

The lab tests what it does while it runs.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow.target import Launch, Rendered, rendered
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import answer, refusal

MESH = {
    "kind": "ConfigMap",
    "metadata": {"name": "istio", "namespace": "istio-system"},
    "data": {"mesh": "rootNamespace: istio-system"},
}
TEMPLATE = {
    "kind": "ConfigMap",
    "metadata": {"name": "istio-sidecar-injector", "namespace": "istio-system"},
    "data": {"config": "policy: enabled"},
}
ISTIOD = {
    "kind": "Deployment",
    "metadata": {"name": "istiod", "labels": {"app": "istiod"}},
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "env": [
                            {"name": "PILOT_ENABLE_ALPN_FILTER", "value": "false"},
                            {"name": "POD_NAME", "valueFrom": {}},
                        ]
                    }
                ]
            }
        }
    },
}

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Manifests in a file."""

    def write(*objects: dict[str, Any]) -> Path:
        file = tmp_path / "target.yaml"
        file.write_text("\n---\n".join(map(json.dumps, objects)))
        return file

    return write


@pytest.fixture
def cluster(serve: Serve, tmp_path: Path) -> Cluster:
    """A cluster without the Gateway API."""
    path = "/apis/gateway.networking.k8s.io/v1/gateways"
    api = serve({path: refusal(404, "no such kind"), "/api/v1/pods": answer({"items": []})})
    return Cluster(config=str(fakes.kubeconfig(tmp_path / "config", api.url)), patience=0.0)


@pytest.fixture
def manifests(written: Written) -> Rendered:
    """A whole istiod."""
    return rendered(written(MESH, TEMPLATE, ISTIOD))


def script(folder: Path, text: str) -> str:
    """A program."""
    program = folder / "pilot-discovery"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def launch(program: str, manifests: Rendered, timeout: float = 30) -> Launch:
    """Return how to start a program as istiod."""
    return Launch(
        program=program, rendered=manifests, istio_namespace="istio-system", timeout=timeout
    )


def why_not(program: str, manifests: Rendered, cluster: Cluster, timeout: float = 10) -> str:
    """Return the reason if a program does not start."""
    with (
        pytest.raises(ReadError) as raised,
        launch(program, manifests, timeout).running(cluster),
    ):
        pass
    return raised.value.why


def test_what_configuration_hangs_on_is_taken_from_the_manifests(manifests: Rendered) -> None:
    assert {name for *_, name in manifests.maps} == {"istio", "istio-sidecar-injector"}
    assert manifests.mesh() == {"rootNamespace": "istio-system"}
    # what refers to a field of the pod has no value here
    assert manifests.environment == {"PILOT_ENABLE_ALPN_FILTER": "false"}


@pytest.mark.parametrize("objects", [(), (MESH, TEMPLATE), (MESH, ISTIOD)])
def test_manifests_without_an_istiod_are_none(
    objects: tuple[dict[str, Any], ...], written: Written
) -> None:
    with pytest.raises(ReadError, match="contains no istiod"):
        rendered(written(*objects))


@pytest.mark.parametrize(
    "content",
    [
        "no objects",
        "- kind: Deployment",
        "kind: ConfigMap\nmetadata:",
        json.dumps({**ISTIOD, "spec": 1}),
    ],
)
def test_manifests_that_are_no_objects(tmp_path: Path, content: str) -> None:
    (tmp_path / "target.yaml").write_text(content)

    with pytest.raises(ReadError) as raised:
        rendered(tmp_path / "target.yaml")

    assert "contains something that is not a Kubernetes object" in raised.value.why
    assert "helm template" in raised.value.remedy


def test_manifests_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot read the target's manifests"):
        rendered(tmp_path / "missing")


def test_a_program_that_is_not_there(manifests: Rendered, cluster: Cluster) -> None:
    assert why_not("/no/such/program", manifests, cluster) == (
        "the target's istiod /no/such/program does not exist or is not executable"
    )


def test_a_program_that_ends_is_told_in_its_own_words(
    tmp_path: Path, manifests: Rendered, cluster: Cluster
) -> None:
    program = script(tmp_path, 'echo "Error: function omitNil not defined"; exit 3')

    why = why_not(program, manifests, cluster)

    assert why == "the target's istiod exited with code 3: Error: function omitNil not defined"


@pytest.mark.parametrize("words", ["out of memory", "cannot allocate memory"])
def test_a_program_that_ran_out_of_memory_is_told_so(
    tmp_path: Path, manifests: Rendered, cluster: Cluster, words: str
) -> None:
    program = script(tmp_path, f'echo "fatal error: runtime: {words}"; echo "a trace"; exit 2')

    assert "ran out of memory" in why_not(program, manifests, cluster)
    killed = script(tmp_path, "kill -9 $$")
    assert "ran out of memory" in why_not(killed, manifests, cluster)


def test_a_program_that_is_never_ready_is_not_waited_for_forever(
    tmp_path: Path, manifests: Rendered, cluster: Cluster
) -> None:
    program = script(tmp_path, "exec /usr/bin/tail -f /dev/null")

    assert "was not ready within 0.2 s" in why_not(program, manifests, cluster, timeout=0.2)


def test_it_is_given_no_environment_of_ours(
    tmp_path: Path, manifests: Rendered, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHGATE_TEST_TOKEN", "hidden")
    program = script(tmp_path, f"/usr/bin/env > {tmp_path}/environment; exit 1")

    why_not(program, manifests, cluster)

    given = dict(row.split("=", 1) for row in (tmp_path / "environment").read_text().splitlines())
    assert "MESHGATE_TEST_TOKEN" not in given
    assert given["PILOT_ENABLE_ALPN_FILTER"] == "false"
    # whatever the manifests say: nothing that writes
    assert given["INJECTION_WEBHOOK_CONFIG_NAME"] == given["VALIDATION_WEBHOOK_CONFIG_NAME"] == ""


# istiod's command line says where it listens; it is ready, tells its version, and ends when asked
SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(3)
        self.send_response(200)
        self.end_headers()
        said = str(os.getpid()) if self.path == "/process" else "1.29.1"
        self.wfile.write(said.encode())

def serve(option):
    host, port = sys.argv[sys.argv.index(option) + 1].split(":")
    HTTPServer((host, int(port)), Handler).serve_forever()

Thread(target=serve, args=("--monitoringAddr",)).start()
serve("--httpAddr")
"""


@pytest.mark.parametrize(("taken", "starts"), [(2, 3), (9, 3)], ids=["once free", "never free"])
def test_another_port_is_tried_if_another_process_took_one(
    tmp_path: Path, manifests: Rendered, cluster: Cluster, taken: int, starts: int
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    error = "failed to start: listen tcp 127.0.0.1:41087: bind: address already in use"
    program = script(
        tmp_path,
        f'echo "$@" >> {tmp_path}/starts\n'
        f"if [ $(/usr/bin/wc -l < {tmp_path}/starts) -le {taken} ]; then\n"
        f"echo '{error}'; exit 255\n"
        "fi\n"
        f'exec {sys.executable} {tmp_path}/server.py "$@"',
    )

    if taken < starts:
        with launch(program, manifests).running(cluster) as up:
            assert up.version == "1.29.1"
    else:
        assert error in why_not(program, manifests, cluster)

    words = (tmp_path / "starts").read_text().splitlines()
    assert len(words) == starts
    assert len(set(words)) == starts  # other ports each time


def test_a_program_that_ends_while_it_is_looked_at_is_told(
    tmp_path: Path, manifests: Rendered, cluster: Cluster
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    program = script(tmp_path, f'exec {sys.executable} {tmp_path}/server.py "$@"')

    def look(*, ends: bool) -> str:
        with launch(program, manifests).running(cluster) as up:
            process = int(up.debug.get("/process").text)
            if ends:
                with suppress(httpx.HTTPError):
                    up.debug.get("/end")
                os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        return up.version

    assert look(ends=False) == "1.29.1"
    with pytest.raises(ReadError, match="exited with code 3"):
        look(ends=True)
