"""Host names as Istio and certificates match them."""

PROBE = "meshgate-probe"


def covers(pattern: str, host: str) -> bool:
    """Return whether `host`, or a narrower pattern, matches Istio's host `pattern`.

    A leading `*` stands for at least one character, dots included: `*.example.com` covers
    `a.b.example.com`, and `*-test.example.com` covers `1-test.example.com`.
    """
    if pattern in ("*", host):
        return True
    if not pattern.startswith("*") or not host.endswith(pattern[1:]):
        return False
    return host.startswith("*") or len(host) >= len(pattern)


def certificate_covers(name: str, host: str) -> bool:
    """Return whether a certificate for `name` is valid for `host` (RFC 6125).

    In a certificate a leading `*.` stands for exactly one label.
    """
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name == host


def common(one: str, other: str) -> str | None:
    """Return the narrower of two hosts if one covers the other."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def concrete(host: str) -> str:
    """Return a name that a wildcard matches; a name without a wildcard is returned as it is."""
    return host.replace("*", f"{PROBE}.invalid" if host == "*" else PROBE)


def is_probe_name(host: str) -> bool:
    """Return whether `concrete` made up the name, so that DNS does not know it."""
    return host.startswith(PROBE)


# Of the trust domain and of Services, where nothing else is configured.
DEFAULT_DOMAIN = "cluster.local"


def fully_qualified(host: str, namespace: str, domain: str = DEFAULT_DOMAIN) -> str:
    """Return a destination host as Istio completes it: `web` is `web.shop.svc.cluster.local`.

    Istio does not complete a name with a dot: `web.shop` stays as it is.

    Args:
        host: the host as it is written.
        namespace: of the object that names it.
        domain: the cluster's.

    Returns:
        The full name.
    """
    return host if "." in host else f"{host}.{namespace}.svc.{domain}"


def service_name(host: str) -> str:
    """Return the `namespace/name` of a full name: `shop/web` of `web.shop.svc.cluster.local`."""
    name, _, rest = host.partition(".")
    return f"{rest.partition('.')[0]}/{name}"


def in_url(address: str) -> str:
    """Return an address as URLs and Host headers contain it: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def authority(address: str, port: int) -> str:
    """Return `address:port`, with an IPv6 address in brackets."""
    return f"{in_url(address)}:{port}"
