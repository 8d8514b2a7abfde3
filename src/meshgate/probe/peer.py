"""What runs in each pod of the probe pair: a server, and a caller that reports and ends.

A pod receives this file's text (`python3 -c`): its image needs only Python, and this file imports
only the standard library.  No permission to exec or to read logs is needed: the kubelet copies the
caller's report into the pod's status.
"""

import concurrent.futures
import contextlib
import http.client
import http.server
import json
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PORT = 8080
REPORT = Path("/dev/termination-log")
LONGEST = 4000  # bytes that the kubelet keeps of it
TIMEOUT = 5.0
HOLD = 1.0
INTERVAL = 0.3
THROTTLED = (429, 503)
REFUSALS = ("drop", "refuse/503", "refuse/429")


def server(port: int = PORT, host: str = "") -> http.server.ThreadingHTTPServer:
    """Return a server that answers with the caller's identity, as the sidecar determined it.

    `/later/CODE/SECONDS/KEY` answers CODE with Retry-After the first time, and then how many
    seconds ago that was; `/refuse/CODE` always answers CODE; `/drop` closes the connection.
    """
    first: dict[str, float] = {}
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/drop":
                self.close_connection = True
                return
            status, headers, answer = self._answer(time.monotonic())
            body = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _answer(self, now: float) -> tuple[int, dict[str, str], dict[str, Any]]:
            match self.path.strip("/").split("/"):
                case "later", code, seconds, key:
                    with lock:
                        known = key in first
                        begun = first.setdefault(key, now)
                    if known:
                        return 200, {}, {"gap": round(now - begun, 3)}
                    return int(code), {"Retry-After": seconds}, {}
                case "refuse", code:
                    return int(code), {}, {}
            return 200, {}, {"caller": named(self.headers.get("x-forwarded-client-cert", ""))}

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return http.server.ThreadingHTTPServer((host, port), Handler)


def named(certificates: str) -> str:
    """Return the URI of the last element of x-forwarded-client-cert, which our sidecar added."""
    fields = certificates.rpartition(",")[2].split(";")
    return dict(field.partition("=")[::2] for field in fields).get("URI", "")


def call(calls: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Make the calls one after the other, each until the server itself answers or time is up.

    Connections in plaintext are made several at a time, once each.
    """
    end = time.monotonic() + seconds
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        plaintext = pool.map(_plaintext, (e["url"] for e in calls if e["method"] == "PLAINTEXT"))
        return [next(plaintext) if e["method"] == "PLAINTEXT" else _call(e, end) for e in calls]


def _plaintext(url: str) -> dict[str, Any]:
    """Return how a connection in plaintext ends: answered, held, refused, silent, unreachable."""
    where = urlsplit(url)
    try:
        connection = socket.create_connection((where.hostname or "", where.port or 0), TIMEOUT)
    except ConnectionResetError:
        return {"end": "refused"}  # a server that accepts may reset before that is noticed here
    except OSError as error:
        return {"end": "unreachable", "error": (error.strerror or str(error))[:18]}
    http = where.scheme == "http"
    with connection:
        try:
            if http:
                head = f"OPTIONS / HTTP/1.1\r\nHost: {where.netloc}\r\nUser-Agent: meshgate"
                connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
            # a server in plaintext may wait for its client, but a refusal comes at once
            connection.settimeout(TIMEOUT if http else HOLD)
            return {"end": "answered" if connection.recv(1) else "refused"}
        except TimeoutError:
            return {"end": "silent" if http else "held"}
        except OSError:
            return {"end": "refused"}


def _call(each: dict[str, Any], end: float) -> dict[str, Any]:
    if each["method"] == "BURST":
        return _burst(each["url"], each["most"], end)
    if each["method"] == "LATER":
        # only once: the sidecar must retry
        return _once("GET", f"{each['url']}/{secrets.token_hex(8)}", timeout=5 * TIMEOUT)
    while True:
        seen = _once("GET" if each["method"] == "REACH" else each["method"], each["url"])
        if _settled(each["method"], seen) or time.monotonic() >= end:
            return seen
        time.sleep(INTERVAL)


def _burst(url: str, most: int, end: float) -> dict[str, Any]:
    """Call until an answer has Retry-After; at last, request answers of 503 and 429."""
    seen = _once("GET", url)
    while not _settled("GET", seen) and not _throttled(seen) and time.monotonic() < end:
        time.sleep(INTERVAL)
        seen = _once("GET", url)
    sent = 1
    for path in (*[""] * (most - 1), *REFUSALS):
        if _throttled(seen) or "denied" in seen or "error" in seen:
            break
        if time.monotonic() >= end + TIMEOUT:
            break
        answer = _once("GET", f"{url}{path}")
        sent += 1
        if answer.get("status") in THROTTLED:
            seen = answer
    return {**seen, "sent": sent}


def _throttled(seen: dict[str, Any]) -> bool:
    return "retryAfter" in seen and "local" not in seen


def _settled(method: str, seen: dict[str, Any]) -> bool:
    if method == "OPTIONS" or "denied" in seen:
        return "status" in seen and "local" not in seen
    if method == "REACH":
        return "caller" in seen
    # until the peer's server listens, its sidecar answers for it;
    # our sidecar may not know yet that the peer accepts mTLS
    return bool(seen.get("caller"))


def _once(method: str, url: str, timeout: float = TIMEOUT) -> dict[str, Any]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=timeout)
    # a timeout of each read alone never ends an answer that comes byte by byte
    watchdog = threading.Timer(2 * timeout, _abort, (connection,))
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.request(method, where.path or "/", headers={"User-Agent": "meshgate"})
        response = connection.getresponse()
        return _seen(response, response.read(2000))
    except (OSError, http.client.HTTPException) as error:
        return {"error": (str(error) or type(error).__name__)[:120]}
    finally:
        watchdog.cancel()
        connection.close()


def _abort(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _seen(response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
    seen: dict[str, Any] = {"status": response.status}
    if response.status in THROTTLED and (values := response.headers.get_all("retry-after")):
        seen["retryAfter"] = values
    if body.startswith(b"RBAC: access denied"):
        return {**seen, "denied": True}
    if response.status >= 400 and _of_our_sidecar(response):
        return {**seen, "local": True, "words": body[:120].decode(errors="replace")}
    try:
        answer = json.loads(body)
    except ValueError:
        return seen
    kept = answer if isinstance(answer, dict) else {}
    return seen | {name: kept[name] for name in ("caller", "gap") if name in kept}


def _of_our_sidecar(response: http.client.HTTPResponse) -> bool:
    """Return whether our sidecar answered: an answer of an upstream has its service time."""
    behind = response.getheader("x-envoy-upstream-service-time")
    return response.getheader("server") == "envoy" and behind is None


def main(role: str, calls: str = "[]", seconds: str = "30") -> None:
    """Run as `serve` until stopped, or as `call` once, which writes the report.

    Args:
        role: `serve` or `call`.
        calls: the requests to send, JSON.
        seconds: the time limit for all of them.
    """
    if role == "serve":
        server().serve_forever()
    seen = call(json.loads(calls), float(seconds))
    report = json.dumps(seen, separators=(",", ":"))
    if len(report) > LONGEST:
        brief = [{name: each[name] for name in each if name != "words"} for each in seen]
        report = json.dumps(brief, separators=(",", ":"))
    REPORT.write_text(report)


if __name__ == "__main__":
    main(*sys.argv[1:])
