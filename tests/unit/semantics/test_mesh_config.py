"""Which fields of a mesh config istiod cannot parse, and which it does not use."""

from typing import Any

import pytest

from meshgate.semantics.mesh_config import different, unparsable


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"connectTimeout": 10}, "connectTimeout"),
        ({"connect_timeout": "ten seconds"}, "connect_timeout"),
        ({"enableTracing": "true"}, "enableTracing"),
        ({"accessLogFile": 5}, "accessLogFile"),
        ({"accessLogEncoding": "XML"}, "accessLogEncoding"),
        ({"proxyListenPort": "many"}, "proxyListenPort"),
        ({"defaultConfig": {"concurrency": "two"}}, "defaultConfig.concurrency"),
        ({"defaultConfig": {"proxyMetadata": {"A": 1}}}, "defaultConfig.proxyMetadata.A"),
        ({"trustDomainAliases": "old.example"}, "trustDomainAliases"),
        ({"outboundTrafficPolicy": "ALLOW_ANY"}, "outboundTrafficPolicy"),
        (
            {"extensionProviders": [{"envoyExtAuthzGrpc": {"port": "no"}}]},
            "extensionProviders[0].envoyExtAuthzGrpc.port",
        ),
        (["connectTimeout"], "the mesh config"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(config: Any, field: str) -> None:
    (fault,) = unparsable(config)

    assert fault.startswith(f"{field}: is ")


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"connectTimeout": "1m30s", "dnsRefreshRate": "0"},
        {"proxyListenPort": "15001", "defaultConfig": {"concurrency": 2}},
        {"accessLogEncoding": 1, "enableAutoMtls": True},
        {"extensionProviders": [{"name": "otel", "opentelemetry": {"port": 4317}}]},
        {"trustDomain": None, "anything": {"that": ["Istio", "ignores"]}},
        {"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}},
    ],
)
def test_what_istiod_parses_is_no_fault(config: Any) -> None:
    assert unparsable(config) == []


@pytest.mark.parametrize(
    ("config", "effective", "fields"),
    [
        (
            {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
            {"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}},
            ["outboundTrafficPolicy.mode"],
        ),
        ({"connectTimeout": "5s"}, {"connectTimeout": "10s"}, ["connectTimeout"]),
        ({"accessLogFile": "/dev/stdout"}, {}, ["accessLogFile"]),
        ({"trustDomainAliases": ["a", "b"]}, {"trustDomainAliases": ["a"]}, ["trustDomainAliases"]),
        (
            {"extensionProviders": [{"name": "oauth2"}]},
            {"extensionProviders": [{"name": "prometheus"}]},
            ["extensionProviders[oauth2]"],
        ),
        (
            {"defaultConfig": {"holdApplicationUntilProxyStarts": True}},
            {"defaultConfig": {}},
            ["defaultConfig.holdApplicationUntilProxyStarts"],
        ),
    ],
)
def test_a_value_that_istiod_does_not_use_is_named(
    config: Any, effective: Any, fields: list[str]
) -> None:
    assert different(config, effective) == fields


@pytest.mark.parametrize(
    ("config", "effective"),
    [
        # the first value of an enum is the zero value, which istiod leaves out
        ({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}, {"outboundTrafficPolicy": {}}),
        ({"connect_timeout": "1m"}, {"connectTimeout": "60s"}),
        ({"proxyListenPort": "15001"}, {"proxyListenPort": 15001}),
        ({"accessLogEncoding": 1}, {"accessLogEncoding": "JSON"}),
        ({"enableTracing": False, "accessLogFile": ""}, {}),
        ({}, {"rootNamespace": "istio-system"}),
        ({"trustDomainAliases": ["a"]}, {"trustDomainAliases": ["cluster.local", "a"]}),
    ],
)
def test_equal_values_in_other_words_are_no_difference(config: Any, effective: Any) -> None:
    assert different(config, effective) == []
