"""The matches of a delegate, merged with those of the VirtualService that delegates to it.

As in pilot/pkg/model/virtualservice.go (mergeHTTPMatchRequests), which did not change from 1.28 to
1.31.
"""

from collections.abc import Mapping

import msgspec

from meshgate.snapshot.istio import HttpMatch, StringMatch


def merge(root: tuple[HttpMatch, ...], own: tuple[HttpMatch, ...]) -> tuple[HttpMatch, ...] | None:
    """Return the matches of a delegate's rule; None if Istio leaves the rule out.

    Each of the delegate's matches must be within a match of the root.

    Args:
        root: the matches of the rule that delegates.
        own: those of the delegate's rule.

    Returns:
        The merged matches; none means that the rule takes everything.
    """
    if not root or not own:
        return root or own
    merged: list[HttpMatch] = []
    for inner in own:
        fitting = [outer for outer in root if not _conflict(outer, inner)]
        if not fitting:
            return None
        merged += [_merged(outer, inner) for outer in fitting]
    return tuple(merged)


def _merged(outer: HttpMatch, inner: HttpMatch) -> HttpMatch:
    return msgspec.structs.replace(
        inner,
        uri=inner.uri or outer.uri,
        scheme=inner.scheme or outer.scheme,
        method=inner.method or outer.method,
        authority=inner.authority or outer.authority,
        headers={**outer.headers, **inner.headers},
        query_params={**outer.query_params, **inner.query_params},
        without_headers={**outer.without_headers, **inner.without_headers},
    )


def _conflict(outer: HttpMatch, inner: HttpMatch) -> bool:
    """Return whether a match of a delegate is not within one of the root (hasConflict)."""
    return (
        outer.ignore_uri_case != inner.ignore_uri_case
        or _outside(outer.uri, inner.uri)
        or _outside(outer.scheme, inner.scheme)
        or _outside(outer.method, inner.method)
        or _outside(outer.authority, inner.authority)
        or _any_outside(outer.headers, inner.headers)
        or _any_outside(outer.without_headers, inner.without_headers)
        or _any_outside(outer.query_params, inner.query_params)
    )


def _any_outside(outer: Mapping[str, StringMatch], inner: Mapping[str, StringMatch]) -> bool:
    return any(_outside(outer.get(name), each) for name, each in inner.items())


def _outside(outer: StringMatch | None, inner: StringMatch | None) -> bool:
    """Return whether a delegate's value is not within the root's (stringMatchConflict)."""
    if outer is None or inner is None:
        return False
    if outer.exact:
        return inner.exact != outer.exact
    if outer.prefix:
        return not (inner.prefix or inner.exact or "").startswith(outer.prefix)
    return True
