"""Which values of a mesh config istiod's validation rejects, although it can parse them."""

from typing import Any

import pytest

from meshgate.semantics.mesh_config_values import faults


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"connectTimeout": 10}, "connectTimeout"),
        ({"connectTimeout": "100us"}, "connectTimeout"),
        ({"connect_timeout": "2h"}, "connectTimeout"),
        ({"protocolDetectionTimeout": "1500us"}, "protocolDetectionTimeout"),
        ({"proxyListenPort": 70000}, "proxyListenPort"),
        ({"defaultConfig": {"statusPort": 0}}, "defaultConfig.statusPort"),
        ({"defaultConfig": {"drainDuration": "1500ms"}}, "defaultConfig.drainDuration"),
        ({"defaultConfig": {"discoveryAddress": "istiod"}}, "defaultConfig.discoveryAddress"),
        (
            {"defaultConfig": {"tracing": {"zipkin": {"address": "http://zipkin:9411"}}}},
            "defaultConfig.tracing.zipkin.address",
        ),
        (
            {"defaultConfig": {"tracing": {"datadog": {}}}},
            "defaultConfig.tracing.datadog.address",
        ),
        (
            {"default_config": {"statsd_udp_address": "$(HOST_IP):8125"}},
            "defaultConfig.statsdUdpAddress",
        ),
        ({"trustDomain": "spiffe://example.com"}, "trustDomain"),
        ({"trustDomainAliases": ["old", "my_domain"]}, "trustDomainAliases[1]"),
        (
            {"serviceSettings": [{"hosts": ["*.shop.svc.cluster.local", "web.*"]}]},
            "serviceSettings[0].hosts[1]",
        ),
        (
            {"localityLbSetting": {"distribute": [{"from": "a", "to": {"a": 80, "b": 10}}]}},
            "localityLbSetting.distribute[0].to",
        ),
        (
            {"localityLbSetting": {"failover": [{"from": "a", "to": "a"}]}},
            "localityLbSetting.failover[0]",
        ),
        (
            {"localityLbSetting": {"failover": [{"from": "a"}], "distribute": [{"from": "a"}]}},
            "localityLbSetting",
        ),
        ({"meshMTLS": {"ecdhCurves": ["P-256"]}}, "meshMTLS.ecdhCurves"),
        (
            {"defaultConfig": {"privateKeyProvider": {"cryptomb": {"pollDelay": "0s"}}}},
            "defaultConfig.privateKeyProvider.cryptomb.pollDelay",
        ),
    ],
)
def test_a_value_that_istiod_rejects_is_named(config: Any, field: str) -> None:
    (fault,) = faults(config)

    assert fault.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"connectTimeout": "10s", "protocolDetectionTimeout": "0s"},
        {"proxyListenPort": "15001", "defaultConfig": {"statusPort": 15020}},
        {"defaultConfig": {"drainDuration": "45s", "terminationDrainDuration": "500ms"}},
        {"defaultConfig": {"discoveryAddress": "istiod-1-29.istio-system.svc:15012"}},
        {"defaultConfig": {"discoveryAddress": "[fd00::10]:15012"}},
        {"defaultConfig": {"tracing": {"datadog": {"address": "$(HOST_IP):8126"}}}},
        {"defaultConfig": {"tracing": {"sampling": 1.0}, "statsdUdpAddress": ""}},
        {"trustDomain": "Example.COM", "trustDomainAliases": ["old.example.com."]},
        {"trustDomain": ""},
        {"serviceSettings": [{"hosts": ["*", "*.shop.svc.cluster.local"]}]},
        {
            "localityLbSetting": {
                "distribute": [{"from": "a/*", "to": {"a/*": 80, "b/*": 20}}],
            }
        },
        {"localityLbSetting": {"enabled": True, "failover": [{"from": "a", "to": "b"}]}},
        # of an invalid provider istiod only logs a warning
        {"extensionProviders": [{"name": "otel", "opentelemetry": {"port": 0}}]},
    ],
)
def test_what_istiod_accepts_is_no_fault(config: Any) -> None:
    assert faults(config) == []
