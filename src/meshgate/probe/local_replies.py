"""What Envoy says when it answers by itself, in place of a backend."""

import re
from collections.abc import Mapping

UPSTREAM = "x-envoy-upstream-service-time"
# headers that only an answer from an upstream has, with Envoy's defaults
_FROM_UPSTREAM = (UPSTREAM, "x-envoy-decorator-operation")
RBAC = "RBAC: access denied"


def from_upstream(headers: Mapping[str, str]) -> bool:
    """Return whether the headers (lower case) show that an upstream answered."""
    return any(name in headers for name in _FROM_UPSTREAM)


def from_envoy(headers: Mapping[str, str]) -> bool:
    """Return whether the server calls itself Envoy; an upstream's own name is replaced by it."""
    return "envoy" in headers.get("server", "")


def reason(status: int, headers: Mapping[str, str], body: str) -> str:
    """Return the response flag that Envoy's access log would show, or nothing.

    A backend's answer has `x-envoy-upstream-service-time` unless the proxy leaves Envoy's headers
    out.  So an answer with Envoy's server name and without that header is the gateway's own,
    whatever its body: error pages can be customized.

    Args:
        status: of the answer.
        headers: with lower-case names.
        body: as much of it as was read.

    Returns:
        NR, UH, NC, `UF (reason)`, RBAC or JWT; empty if none of them is certain.
    """
    if status == 403 and body.startswith("RBAC: access denied"):
        return "RBAC"
    if status == 401 and body.startswith("Jwt "):
        return "JWT"
    if status == 503:
        return _unavailable(headers, body)
    if status == 404 and from_envoy(headers) and not from_upstream(headers):
        return "NR"
    return ""


def _unavailable(headers: Mapping[str, str], body: str) -> str:
    if "no healthy upstream" in body:
        return "UH"
    if "upstream connect error" in body or "reset before headers" in body:
        found = re.search(r"(?:reset|transport failure) reason: ([\w ,.:'-]{1,80})", body)
        return f"UF ({found.group(1).strip()})" if found else "UF"
    return "NC" if not body and from_envoy(headers) else ""
