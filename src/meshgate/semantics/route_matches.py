"""Matches of VirtualServices: which clients they are for, and which requests they take."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

from meshgate.semantics.hosts import PROBE, service_name
from meshgate.semantics.listeners import Listener
from meshgate.snapshot.istio import HttpMatch, StringMatch, TcpMatch, TlsMatch

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# sent with every request, whatever the match says
_SENT = frozenset({"user-agent", "host", "connection", ":authority"})


class Client(NamedTuple):
    """Who sends a request as far as matches ask: a gateway's listener and its pods."""

    listener: Listener
    labels: Mapping[str, str]
    namespaces: frozenset[str]


class Sent(NamedTuple):
    """A request as a match sees it; header names are lower case."""

    host: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def gateway_name(name: str, namespace: str) -> str:
    """Return a VirtualService's reference to a Gateway as `namespace/name`, or `mesh`.

    Istio also accepts `name` and `./name` of the same namespace, and the old form
    `name.namespace.svc.cluster.local` (pilot/pkg/model/virtualservice.go, resolveGatewayName).
    """
    if name == "mesh":
        return name
    if "/" in name:
        scope, _, rest = name.partition("/")
        return f"{namespace if scope == '.' else scope}/{rest}"
    if "." in name:
        return service_name(name)
    return f"{namespace}/{name}"


def applies(match: HttpMatch | TlsMatch | TcpMatch, client: Client, namespace: str) -> bool:
    """Return whether a match is for this gateway at all (Istio: sourceMatchHTTP, l4SingleMatch).

    For TCP and TLS Istio does not compare a gateway with the source's labels and namespace.

    Args:
        match: of a VirtualService.
        client: the gateway.
        namespace: the VirtualService's, for gateway names.

    Returns:
        False for matches of the mesh, another port or another scheme.
    """
    listener = client.listener
    if match.port not in (0, listener.port):
        return False
    scheme = match.scheme.exact if isinstance(match, HttpMatch) and match.scheme else None
    if scheme not in (None, "https" if listener.tls else "http"):
        return False
    if match.gateways:
        here = f"{listener.namespace}/{listener.name}"
        return here in {gateway_name(each, namespace) for each in match.gateways}
    if not isinstance(match, HttpMatch):
        return True
    return match.source_labels.items() <= client.labels.items() and (
        not match.source_namespace or match.source_namespace in client.namespaces
    )


def not_derivable(match: HttpMatch) -> str:
    """Return why no safe request is certain to meet a match, or nothing."""
    if match.uri is not None and match.uri.regex is not None:
        return "regular expression"
    if match.method is not None and match.method.exact not in SAFE:
        return "no safe method"
    if match.authority is not None:
        return "match on authority"
    if match.scheme is not None and match.scheme.exact is None:
        return "match on scheme that is not exact"
    if any(each.exact is None for each in (*match.headers.values(), *match.query_params.values())):
        return "header or query match that is not exact"
    if _SENT.intersection(name.lower() for name in (*match.without_headers, *match.headers)):
        return "match on a header that every request has"
    return ""


def request_for(match: HttpMatch | None, host: str) -> Sent:
    """Return the request that meets a derivable match; None matches everything."""
    if match is None:
        return Sent(host, "GET", "/", {}, {})
    path = (match.uri.exact or match.uri.prefix or "/") if match.uri else "/"
    return Sent(
        host,
        (match.method.exact if match.method else None) or "GET",
        path,
        {name: each.exact or "" for name, each in match.query_params.items()},
        {name.lower(): each.exact or "" for name, each in match.headers.items()},
    )


def requests_for(match: HttpMatch | None, host: str) -> Iterator[Sent]:
    """Yield the requests that meet a derivable match, the simplest first.

    A rule before it may take some of them: `/` or GET alone.
    """
    simple = request_for(match, host)
    paths, methods = [simple.path], [simple.method]
    if match is None or match.uri is None or match.uri.exact is None:
        paths.append(f"{simple.path.rstrip('/')}/{PROBE}")
    if match is None or match.method is None:
        methods += sorted(SAFE - {simple.method})
    for method, path in product(methods, paths):
        yield simple._replace(method=method, path=path)


def contains(outer: HttpMatch, inner: HttpMatch | None) -> bool:
    """Return whether every request that meets `inner` also meets `outer`.

    Args:
        outer: a match.
        inner: another one; None matches everything.

    Returns:
        False also where that cannot be determined, as for different regular expressions.
    """
    inner = inner or HttpMatch()
    return (
        (_any_path(outer.uri) or _paths_within(outer, inner))
        and _within(outer.method, inner.method)
        and _within(outer.authority, inner.authority)
        and _within(outer.scheme, inner.scheme)
        and _all_within(_lower(outer.headers), _lower(inner.headers))
        and _all_within(outer.query_params, inner.query_params)
        and _lower(outer.without_headers).items() <= _lower(inner.without_headers).items()
    )


def _any_path(match: StringMatch | None) -> bool:
    return match is None or match.prefix in ("", "/") or match.regex == ".*"


def _paths_within(outer: HttpMatch, inner: HttpMatch) -> bool:
    if not outer.ignore_uri_case:
        return not inner.ignore_uri_case and _within(outer.uri, inner.uri)
    return _within(_folded(outer.uri), _folded(inner.uri))


def _folded(match: StringMatch | None) -> StringMatch | None:
    if match is None or match.regex is not None:
        return match
    return StringMatch(
        exact=None if match.exact is None else match.exact.lower(),
        prefix=None if match.prefix is None else match.prefix.lower(),
    )


def _within(outer: StringMatch | None, inner: StringMatch | None) -> bool:
    """Return whether a value that meets `inner` always meets `outer`."""
    if outer is None or outer == inner:
        return True
    if inner is None:
        return False
    if outer.prefix is not None:
        least = inner.exact if inner.exact is not None else inner.prefix
        return least is not None and least.startswith(outer.prefix)
    return outer.exact is None and outer.regex is None


def _all_within(outer: Mapping[str, StringMatch], inner: Mapping[str, StringMatch]) -> bool:
    return all(name in inner and _within(each, inner[name]) for name, each in outer.items())


def _lower(headers: Mapping[str, StringMatch]) -> dict[str, StringMatch]:
    return {name.lower(): each for name, each in headers.items()}


def meets(match: HttpMatch, sent: Sent) -> bool | None:
    """Return whether a request meets a match; None if that cannot be determined here."""
    path = sent.path.lower() if match.ignore_uri_case else sent.path
    verdicts = [
        _meets(_folded(match.uri) if match.ignore_uri_case else match.uri, path),
        _meets(match.method, sent.method),
        _meets(match.authority, sent.host),
        *(_meets(each, sent.query.get(name)) for name, each in match.query_params.items()),
        *(_meets(each, sent.headers.get(name.lower())) for name, each in match.headers.items()),
        *(
            None if name.lower() in _SENT else name.lower() not in sent.headers
            for name in match.without_headers
        ),
    ]
    if any(each is False for each in verdicts):
        return False
    return None if any(each is None for each in verdicts) else True


def is_catch_all(match: HttpMatch) -> bool:
    """Return whether Istio moves a match behind all others: prefix `/`, nothing else."""
    everything = match.uri is None or match.uri.prefix == "/" or match.uri.regex == ".*"
    return everything and not (
        match.headers
        or match.query_params
        or match.method
        or match.authority
        or match.scheme
        or match.without_headers
    )


def _meets(match: StringMatch | None, value: str | None) -> bool | None:
    if match is None:
        return True
    if value is None:
        return False
    if match.exact is not None:
        return value == match.exact
    if match.prefix is not None:
        return value.startswith(match.prefix)
    return None if match.regex is not None else True
