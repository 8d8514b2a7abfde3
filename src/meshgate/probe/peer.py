"""What runs in each pod of the probe pair: a server, and a caller that reports and ends.

A pod is handed this file's text (`python3 -c`), so its image needs Python and nothing else, and
this file imports nothing that is not Python's own.  Nobody needs the right to exec or to read logs:
the caller leaves its report where the kubelet puts it into the pod's status.
"""

import http.client
import http.server
import json
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PORT = 8080
REPORT = Path("/dev/termination-log")
LONGEST = 4000  # what the kubelet takes of it
TIMEOUT = 5.0
INTERVAL = 0.3
THROTTLED = (429, 503)
REFUSALS = ("drop", "refuse/503", "refuse/429")


def server(port: int = PORT, host: str = "") -> http.server.ThreadingHTTPServer:
    """Says who called, as the sidecar names them.

    `/later/CODE/SECONDS/KEY` is "not now" the first time, and says then how long that was ago;
    `/refuse/CODE` says only "not now", `/drop` nothing at all.
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
            """Nothing."""

    return http.server.ThreadingHTTPServer((host, port), Handler)


def named(certificates: str) -> str:
    """The name in the last element of x-forwarded-client-cert, the one that our sidecar added."""
    fields = certificates.rpartition(",")[2].split(";")
    return dict(field.partition("=")[::2] for field in fields).get("URI", "")


def call(calls: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Calls one after the other, each until it is answered by more than a proxy that waits."""
    end = time.monotonic() + seconds
    return [_call(each, end) for each in calls]


def _call(each: dict[str, Any], end: float) -> dict[str, Any]:
    if each["method"] == "BURST":
        return _burst(each["url"], each["most"], end)
    if each["method"] == "LATER":
        # once: it is the sidecar that is to try again
        return _once("GET", f"{each['url']}/{secrets.token_hex(8)}", timeout=5 * TIMEOUT)
    while True:
        seen = _once(each["method"], each["url"])
        if _settled(each["method"], seen) or time.monotonic() >= end:
            return seen
        time.sleep(INTERVAL)


def _burst(url: str, most: int, end: float) -> dict[str, Any]:
    """Calls until somebody there says when to come again: at last the server is asked to refuse."""
    told = _once("GET", url)
    while not _settled("GET", told) and not _says_when(told) and time.monotonic() < end:
        time.sleep(INTERVAL)
        told = _once("GET", url)
    sent = 1
    for path in (*[""] * (most - 1), *REFUSALS):
        if _says_when(told) or "denied" in told or "error" in told:
            break
        seen = _once("GET", f"{url}{path}")
        sent += 1
        if seen.get("status") in THROTTLED:
            told = seen
    return {**told, "sent": sent}


def _says_when(seen: dict[str, Any]) -> bool:
    return "retryAfter" in seen and "local" not in seen


def _settled(method: str, seen: dict[str, Any]) -> bool:
    if method == "OPTIONS" or "denied" in seen:
        return "status" in seen and "local" not in seen
    # the other peer's server may begin after we did, and its sidecar then answers for it;
    # ours may not know yet that it takes mTLS
    return bool(seen.get("caller"))


def _once(method: str, url: str, timeout: float = TIMEOUT) -> dict[str, Any]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=timeout)
    try:
        connection.request(method, where.path or "/", headers={"User-Agent": "meshgate"})
        response = connection.getresponse()
        return _seen(response, response.read(2000))
    except (OSError, http.client.HTTPException) as error:
        return {"error": (str(error) or type(error).__name__)[:120]}
    finally:
        connection.close()


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
    """What came from behind it says how long that took."""
    behind = response.getheader("x-envoy-upstream-service-time")
    return response.getheader("server") == "envoy" and behind is None


def main(role: str, calls: str = "[]", seconds: str = "30") -> None:
    """`serve` for ever, or `call` once and report."""
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
