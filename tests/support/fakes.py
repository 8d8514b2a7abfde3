"""Servers on loopback and programs on disk that stand in for an API server, istiod and istioctl.

They speak the real protocols: what is tested against them opens real sockets and starts real
processes.
"""

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.sources import Kind
from tests.support.builders import as_api

GIT_VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.4"}


class Request(msgspec.Struct, frozen=True):
    """What a server was asked; `left` waits so many seconds for the client to hang up."""

    verb: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    left: Callable[[float], bool]
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


class Answer(msgspec.Struct, frozen=True):
    """What a server answers: a whole body, or chunks that are sent as they come."""

    status: int = 200
    body: bytes = b""
    chunks: Iterable[bytes] | None = None
    headers: Mapping[str, str] = {}


# in place of a path: all that no other answer is for
ANY = "*"

Answers = Mapping[str, Answer | Callable[[Request], Answer]]


def answer(value: Any, status: int = 200) -> Answer:
    """A JSON body."""
    return Answer(status, json.dumps(value, default=str).encode())


def refusal(status: int, message: str) -> Answer:
    """An API server's own way to say no."""
    return answer({"kind": "Status", "status": "Failure", "message": message}, status)


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Run a server in a thread while the block runs, and close it."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Server:
    """Answers what `answers` says for a path, or for ANY, and keeps what it was asked."""

    def __init__(self, answers: Answers, host: str = "127.0.0.1", port: int = 0) -> None:
        self.answers = dict(answers)
        self.requests: list[Request] = []
        self._server = _Quiet((host, port), self._handler())
        self.url = f"http://{host}:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[str]:
        """Every request, as `VERB path`."""
        return [str(request) for request in self.requests]

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        """Serves while the block runs."""
        with running(self._server):
            yield self

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                url = urlsplit(self.path)
                request = Request(
                    self.command,
                    url.path,
                    parse_qs(url.query, keep_blank_values=True),
                    {name.lower(): value for name, value in self.headers.items()},
                    self._left,
                    self.rfile.read(int(self.headers.get("Content-Length", 0))),
                )
                server.requests.append(request)
                otherwise = server.answers.get(ANY, refusal(404, "not found"))
                found = server.answers.get(url.path, otherwise)
                self._send(found(request) if callable(found) else found)

            def _left(self, seconds: float) -> bool:
                readable, _, _ = select.select([self.connection], [], [], seconds)
                return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

            do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

            def _send(self, answer: Answer) -> None:
                dated = {name.lower() for name in answer.headers} & {"date"}
                self.send_response_only(answer.status)
                if not dated:
                    self.send_header("Date", self.date_time_string())
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.chunks is None:
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for chunk in answer.chunks:
                    self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        return Handler


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error of the test."""


# --- the API server -----------------------------------------------------------------------------


def api_answers(snapshot: Snapshot) -> dict[str, Answer]:
    """What an API server answers whose cluster holds what the snapshot holds."""
    lists = {kind.path: answer(as_api(getattr(snapshot, item))) for item, kind in KINDS.items()}
    none = answer(as_api(()))
    others = {
        "/api/v1/configmaps": none,
        "/apis/apps/v1/statefulsets": none,
        "/apis/apps/v1/daemonsets": none,
    }
    return {"/version": answer(GIT_VERSION), **discovery(KINDS.values()), **others, **lists}


def discovery(kinds: Iterable[Kind]) -> dict[str, Answer]:
    """What an API server says of the groups and versions that it serves."""
    served: dict[str, dict[str, list[str]]] = {}
    for kind in kinds:
        versions = served.setdefault(kind.root, {})
        versions.setdefault(kind.version, []).append(kind.resource)
    answers: dict[str, Answer] = {}
    for root, versions in served.items():
        answers[root] = answer({"versions": [{"version": version} for version in versions]})
        for version, names in versions.items():
            resources = [{"name": name} for name in names]
            answers[f"{root}/{version}"] = answer({"resources": resources})
    return answers


def kubeconfig(file: Path, server: str, token: str = "a-token") -> Path:
    """A kubeconfig that leads to a server, with a token."""
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": server}}],
                "users": [{"name": "me", "user": {"token": token}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
                "current-context": "fake",
            }
        )
    )
    return file


# --- istiod -------------------------------------------------------------------------------------


def address(replica: int = 0) -> str:
    """A loopback address that no other test process has: istiod's port cannot be chosen."""
    process = os.getpid()
    return f"127.{64 * (1 + replica) + (process >> 16)}.{process >> 8 & 255}.{process & 255}"


def syncz(proxies: Iterable[ProxySync]) -> list[Any]:
    """What `/debug/syncz` says of these proxies."""
    return [msgspec.to_builtins(proxy) for proxy in proxies]


METRICS = b"""\
# TYPE pilot_xds_pushes counter
pilot_xds_pushes{type="cds"} 7
process_start_time_seconds 1.7e+09
go_memstats_sys_bytes 1.2e+08
go_memstats_heap_released_bytes 2e+07
"""


def istiod_answers(
    proxies: Iterable[ProxySync], version: str = "1.29.1-abc-Clean", at: datetime | None = None
) -> dict[str, Answer]:
    """What a replica of istiod answers, at `at` by its own clock."""
    dated = {"Date": format_datetime(at, usegmt=True)} if at else {}
    return {
        "/debug/syncz": msgspec.structs.replace(answer(syncz(proxies)), headers=dated),
        "/version": Answer(200, version.encode(), headers=dated),
        "/metrics": Answer(200, METRICS),
        "/debug/push_status": answer({}),
    }


# --- programs -----------------------------------------------------------------------------------


def program(file: Path, body: str) -> Path:
    """An executable script."""
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def istioctl(
    file: Path,
    *,
    analyze: str = "echo '[]'",
    precheck: str = "true",
    version: str | None = None,
) -> Path:
    """An istioctl that says its version, and does `analyze` or `precheck` when it is told to."""
    version = version or """echo '{"clientVersion": {"version": "1.29.1"}}'"""
    return program(
        file,
        f'case "$1" in\nversion) {version} ;;\nanalyze) {analyze} ;;\nx) {precheck} ;;\n'
        "*) exit 64 ;;\nesac",
    )
