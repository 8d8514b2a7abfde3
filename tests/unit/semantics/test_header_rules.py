"""Where a piece of configuration is about Retry-After, as it is written and as istiod gives it."""

from typing import Any

import pytest

from meshgate.semantics.header_rules import header_rules
from meshgate.snapshot.retry_after import HeaderRule


def header(key: str = "Retry-After", value: str = "20") -> dict[str, Any]:
    """A header as Envoy is told to add one."""
    return {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": {"key": key, "value": value}}


def lua(source: str, key: str = "inline_string") -> dict[str, Any]:
    """A Lua filter."""
    return {"typed_config": {"default_source_code": {key: source}}}


RATE_LIMIT = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"@type": RATE_LIMIT, "response_headers_to_add": [header()]}, "rate limit"),
        ({"type_url": RATE_LIMIT, "value": {"responseHeadersToAdd": [header()]}}, "rate limit"),
        ({"local_reply_config": {"mappers": [{"headers_to_add": [header()]}]}}, "local reply"),
        ({"localReplyConfig": {"mappers": [{"headersToAdd": [header()]}]}}, "local reply"),
        ({"response_headers_to_add": [header("retry-after")]}, "header"),
        ({"mutations": {"response_mutations": [{"append": header()}]}}, "header"),
    ],
)
def test_a_header_that_is_added_to_an_answer(config: dict[str, Any], kind: str) -> None:
    assert header_rules({"typed_config": config}) == (HeaderRule(kind=kind, value="20"),)


@pytest.mark.parametrize(
    "config",
    [
        {"response_headers_to_add": [header("x-retry-after")]},
        {"request_headers_to_add": [header()]},
        {"mutations": {"request_mutations": [{"append": header()}]}},
        lua("function envoy_on_response(h) log(h:headers():get('retry-after')) end"),
        {"direct_response": {"body": {"inline_string": "see retry-after"}}},
        None,
    ],
)
def test_what_adds_none_to_an_answer(config: Any) -> None:
    assert header_rules(config) == ()


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ('h:headers():add("retry-after", "11")', "11"),
        ("h:headers():replace( 'Retry-After' , 'soon' )", "soon"),
        ("h:headers():add('retry-after', 7)", "7"),
        ("h:headers():add('retry-after', tostring(wait))", ""),
        ('h:respond({[":status"] = "429", ["retry-after"] = "5"}, "")', "5"),
    ],
)
def test_a_script_that_adds_it(source: str, value: str) -> None:
    (place,) = header_rules(lua(source))

    assert (place.kind, place.value) == ("lua", value)
    assert (place,) == header_rules(lua(source, "inlineString"))
    assert source not in repr(place)


def test_scripts_that_differ_are_told_apart() -> None:
    one, other = (header_rules(lua(f"h:headers():add('retry-after', '1') -- {n}")) for n in "12")

    assert one != other


def test_a_value_that_envoy_fills_in_is_not_fixed() -> None:
    assert header_rules([header(value="%REQ(x)%")]) == (HeaderRule(kind="header", value=""),)


@pytest.mark.parametrize("name", ["rate_limited_retry_back_off", "rateLimitedRetryBackOff"])
def test_a_retry_that_waits_for_what_was_asked(name: str) -> None:
    back_off = {"reset_headers": [{"name": "Retry-After", "format": "SECONDS"}]}

    assert header_rules({"retry_policy": {name: back_off}}) == (HeaderRule(kind="back-off"),)
    assert header_rules({"retry_policy": {name: {"reset_headers": [{"name": "x-reset"}]}}}) == ()


def test_the_side_is_the_listeners() -> None:
    listener = {"trafficDirection": "INBOUND", "filterChains": [header()]}

    assert header_rules([listener, header()], "OUTBOUND") == (
        HeaderRule(kind="header", value="20", side="INBOUND"),
        HeaderRule(kind="header", value="20", side="OUTBOUND"),
    )


@pytest.mark.parametrize(
    ("condition", "statuses"),
    [
        ('status == "429" or status == "503"', (429, 503)),
        ('h:headers():get(":status") == "503"', (503,)),
        ('tonumber(status) == 429 and not h:headers():get("retry-after")', (429,)),
        ('status == "429" and h:headers():get("x-busy") == "1"', ()),
        ("status == '503' and path == '/api'", ()),
        ("status >= 500", ()),
    ],
)
def test_the_statuses_to_which_a_script_always_reacts(
    condition: str, statuses: tuple[int, ...]
) -> None:
    source = f"""
    function envoy_on_response(h)
      local status = h:headers():get(":status")
      if {condition} then
        h:headers():replace("retry-after", tostring(h:headers():get("x-ratelimit-reset")))
      end
    end"""

    (rule,) = header_rules(lua(source))

    assert rule.statuses == statuses
