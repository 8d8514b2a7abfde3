"""Retry-After: filters held against what proxies are given, and answers against what they owe."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.retry_after import RetryAfter
from meshgate.semantics.retry_after import retry_after_error
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.kubernetes import Annotations
from meshgate.snapshot.retry_after import GivenConfig, HeaderRule, RetryFilter, RetryFilters
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import (
    LUA,
    expecting,
    given,
    istiod,
    mesh,
    reading,
    retry_filter,
    retry_patch,
    sidecar,
    sync,
)

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def retry_after(*filters: RetryFilter, **changes: Any) -> RetryAfter:
    """One sidecar, web-1, and these filters."""
    configs = changes.pop("given", (given(),))
    seen = RetryFilters(seen=len(filters), filters=filters, given=configs)
    pods = changes.pop("pods", (sidecar(labels={"app": "web", "pod-template-hash": "1"}),))
    return mesh(retry_filters=seen, pods=(istiod(), *pods), **changes).retry_after


def seen(of: RetryAfter) -> list[str]:
    """What is wrong with the filters, as it is printed."""
    return [str(finding) for finding in of.unapplied]


def router(proxy: str = "web-1.shop") -> ProxySync:
    """A gateway."""
    return msgspec.structs.replace(sync(proxy), proxy_type="router")


# --- what is a Retry-After ----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "120", "Fri, 02 Jan 2026 12:00:01 GMT"])
def test_a_value_that_is_one(value: str) -> None:
    assert retry_after_error(value, NOW) == ""


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("0", "less than 1"),
        ("-1", "neither"),
        ("1.5", "neither"),
        ("soon", "neither"),
        ("20s", "neither"),
        ("", "neither"),
        ("Fri, 02 Jan 2026 11:59:59 GMT", "in the past"),
    ],
)
def test_a_value_that_is_none(value: str, wrong: str) -> None:
    assert wrong in retry_after_error(value, NOW)


# --- filters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "each",
    [
        retry_filter(),
        retry_filter(selector={"app": "web"}),
        retry_filter(namespace="istio-system"),
        retry_filter(namespace="istio-system", selector={"app": "web"}),
        retry_filter(retry_patch(context="ANY")),
        retry_filter(retry_patch(version=r"^1\.29.*")),
        retry_filter(retry_patch(version="29")),
        retry_filter(retry_patch(version=r"^1\.28.*"), retry_patch(version=r"^1\.29.*", number=2)),
    ],
)
def test_a_filter_that_its_proxy_was_given(each: RetryFilter) -> None:
    assert seen(retry_after(each)) == []


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (
            retry_filter(selector={"app": "gone"}),
            "is in namespace shop with the labels app=gone",
        ),
        (retry_filter(namespace="other"), "no connected proxy is in namespace other"),
        (
            retry_filter(gateways=("shop",)),
            "proxy is of Gateway shop in namespace shop",
        ),
        (
            retry_filter(retry_patch(context="GATEWAY")),
            "it reaches (Pod shop/web-1) has that context",
        ),
        (
            retry_filter(retry_patch(version=r"^1\.28.*")),
            r"is for proxies of version '^1\\.28.*', but 1 of the 1 that it reaches run 1.29.1 "
            "(Pod shop/web-1)",
        ),
        (retry_filter(retry_patch(version="(")), "is for proxies of version '('"),
        (
            retry_filter(retry_patch(context="SIDECAR_OUTBOUND")),
            "patch 1 (HTTP_FILTER, SIDECAR_OUTBOUND) matches nothing: none of the 1 proxies that "
            "it reaches (Pod shop/web-1) has it in its configuration",
        ),
        (
            retry_filter(retry_patch(HeaderRule(kind="lua", value="11", code="x"))),
            "matches nothing",
        ),
        (retry_filter(retry_patch(HeaderRule(kind="header", value="11"))), "matches nothing"),
    ],
)
def test_a_filter_that_does_nothing(each: RetryFilter, words: str) -> None:
    (line,) = seen(retry_after(each))

    assert line.startswith(f"EnvoyFilter {each.namespace}/retry-after: ")
    assert words in line


def test_a_gateway_is_no_sidecar() -> None:
    changes = {"istiod": (reading(proxies=[router()]),)}
    outbound = msgspec.structs.replace(LUA, side="OUTBOUND")
    configs = (given("web-1.shop", outbound),)

    assert (
        seen(retry_after(retry_filter(retry_patch(context="GATEWAY")), given=configs, **changes))
        == []
    )
    assert "has that context" in seen(retry_after(retry_filter(), **changes))[0]


def test_a_filter_of_a_gateway_by_name() -> None:
    labels = {"gateway.networking.k8s.io/gateway-name": "shop"}

    assert seen(retry_after(retry_filter(gateways=("shop",)), pods=(sidecar(labels=labels),))) == []


def test_a_filter_of_another_revision() -> None:
    """During a canary upgrade each istiod may have its own EnvoyFilter."""
    pods = (sidecar(annotations=Annotations(revision="1-30")),)
    old = retry_filter(
        retry_patch(HeaderRule(kind="lua", value="22", code="old")), name="old", revision="1-29"
    )
    new = retry_filter(name="new", revision="1-30")

    assert seen(retry_after(old, new, pods=pods)) == []
    # nothing adds the header for the present pods
    (line,) = seen(retry_after(old, pods=pods))
    assert line.startswith("EnvoyFilter shop/old: reaches no proxy")
    # this one is for the present pods, and they lack it
    (line,) = seen(retry_after(msgspec.structs.replace(old, revision="1-30"), new, pods=pods))
    assert "matches nothing" in line


def test_one_pod_of_a_workload_that_was_left_out() -> None:
    pods = tuple(
        sidecar(name, labels={"app": app, "pod-template-hash": name})
        for name, app in (("web-1", "web"), ("web-2", "web"), ("tcp-1", "tcp"))
    )
    configs = (given(), GivenConfig(proxy="web-2.shop"), GivenConfig(proxy="tcp-1.shop"))
    proxies = [sync(f"{pod.metadata.name}.shop") for pod in pods]

    found = retry_after(
        retry_filter(), given=configs, pods=pods, istiod=(reading(proxies=proxies),)
    ).unapplied

    # what another workload lacks may be as it should be: it may have nothing that the patch is for
    assert [finding.subject for finding in found] == ["Pod shop/web-2"]


@pytest.mark.parametrize(("trouble", "transient"), [("denied", False), ("error", True)])
def test_a_configuration_that_cannot_be_seen(trouble: str, transient: bool) -> None:
    with pytest.raises(
        CouldNotVerify, match=r"EnvoyFilter shop/retry-after.*web-1.shop.*no"
    ) as raised:
        seen(retry_after(retry_filter(), given=(given(**{trouble: "no"}),)))

    assert raised.value.transient is transient


def test_a_configuration_that_was_not_asked_for() -> None:
    with pytest.raises(CouldNotVerify, match="it was not read"):
        seen(retry_after(retry_filter(), given=()))


def test_no_filter_at_all() -> None:
    nothing = {"retry_filters": RetryFilters(seen=4)}

    with pytest.raises(NotApplicable, match="none of the 4 EnvoyFilters"):
        seen(mesh(**nothing).retry_after)
    assert mesh(**nothing).retry_after.missing == []
    (finding,) = mesh(**nothing, **expecting(require_retry_after=True)).retry_after.missing
    assert "none of the 4 is about Retry-After" in str(finding)
    assert mesh(**expecting(require_retry_after=True)).retry_after.missing == []


def test_fixed_values_are_judged_when_they_were_seen() -> None:
    found = retry_after(
        retry_filter(
            retry_patch(HeaderRule(kind="lua", value="soon", code="1")),
            retry_patch(HeaderRule(kind="lua", value="", code="2"), number=2),
            retry_patch(HeaderRule(kind="rate limit", value="7"), number=3),
        )
    ).malformed

    assert [str(finding).split(" (expected")[0] for finding in found] == [
        "EnvoyFilter shop/retry-after: patch 1 sends Retry-After 'soon', which is neither a "
        "number of seconds nor an HTTP date"
    ]
