"""The injectors' ConfigMaps: selectors, policy and ports leave this reader, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshgate.collect import injector_configs
from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.snapshot.injector import DefaultExports, InjectorConfig
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import LabelSelector, Requirement
from meshgate.snapshot.model import Expectations
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import istiod, snapshot
from tests.support.fakes import Request, answer

CONFIG = """
policy: enabled
alwaysInjectSelector: []
neverInjectSelector:
- matchExpressions: [{key: openshift.io/build.name, operator: Exists}]
templates: {sidecar: "planted {{ .Values }}"}
"""
VALUES = '{"global": {"proxy": {"excludeInboundPorts": "9090", "includeInboundPorts": "*"}}}'

LABELS = {"app": "istiod"}

Read = Callable[..., tuple[InjectorConfig, ...]]


@pytest.fixture
def read(serve: Serve, tmp_path: Path) -> Read:
    """Reads from a cluster with these ConfigMaps, by name."""

    def started(
        maps: dict[str, dict[str, str]], *pods: Any, variables: dict[str, str] | None = None
    ) -> tuple[InjectorConfig, ...]:
        def config_maps(request: Request) -> fakes.Answer:
            (only,) = request.query["fieldSelector"]
            name = only.rpartition("metadata.name=")[2]
            return answer({"items": [{"data": maps[name]}] if name in maps else []})

        env = [{"name": name, "value": value} for name, value in (variables or {}).items()]
        container = {"name": "discovery", "env": env}
        istiods = {
            "metadata": {"name": "istiod", "namespace": "istio-system", "labels": LABELS},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
        answers = {
            **fakes.api_answers(snapshot()),
            "/api/v1/configmaps": config_maps,
            "/apis/apps/v1/deployments": answer({"items": [istiods]}),
        }
        config = fakes.kubeconfig(tmp_path / "kubeconfig", serve(answers).url)
        context: Any = SimpleNamespace(
            cluster=Cluster(config=str(config), patience=0.0), expectations=Expectations()
        )
        return injector_configs.read(context, Items(pods=pods or (istiod(),)))

    return started


def test_what_is_used_is_kept(read: Read) -> None:
    row = Requirement(key="openshift.io/build.name", operator="Exists")

    assert read({"istio-sidecar-injector": {"config": CONFIG, "values": VALUES}}) == (
        InjectorConfig(
            revision="default",
            never=(LabelSelector(match_expressions=(row,)),),
            excluded_ports="9090",
            included_ports="*",
            cluster_id="Kubernetes",
        ),
    )


def test_the_mesh_config_says_which_namespaces_istiod_watches(read: Read) -> None:
    mesh = "discoverySelectors:\n- matchLabels: {mesh: a}\nextensionProviders: [{name: planted}]\n"

    (config,) = read({"istio": {"mesh": mesh}})

    assert config.discovery == (LabelSelector(match_labels={"mesh": "a"}),)
    assert "planted" not in repr(config)
    with pytest.raises(ReadError, match=r"ConfigMap istio-system/istio$"):
        read({"istio": {"mesh": "discoverySelectors: planted"}})


def test_each_revision_has_its_own(read: Read) -> None:
    maps = {"istio-sidecar-injector-1-29-1": {"config": "policy: disabled", "values": "{}"}}
    canary = istiod("istiod-canary", revision="1-29-1")

    revised, default = read(maps, istiod(), canary)

    assert (default.revision, default.policy) == ("default", "enabled")
    assert revised == InjectorConfig(revision="1-29-1", policy="disabled")


def test_identities_and_domains_are_read(read: Read) -> None:
    mesh = "trustDomain: corp\ntrustDomainAliases: [old]\nrootNamespace: istio-config\n"
    values = '{"global": {"proxy": {"clusterDomain": "corp.example"}}}'

    (config,) = read({"istio": {"mesh": mesh}, "istio-sidecar-injector": {"values": values}})

    assert (config.trust_domain, config.trust_domain_aliases) == ("corp", ("old",))
    assert (config.root_namespace, config.cluster_domain) == ("istio-config", "corp.example")


def test_exports_that_the_mesh_config_sets_are_read(read: Read) -> None:
    mesh = (
        "defaultVirtualServiceExportTo: [.]\n"
        "defaultDestinationRuleExportTo: [shop]\n"
        "defaultServiceExportTo: ['*']\n"
    )

    (config,) = read({"istio": {"mesh": mesh}})

    assert config.default_exports == DefaultExports(
        virtual_services=(".",), destination_rules=("shop",), services=("*",)
    )


@pytest.mark.parametrize(
    ("written", "least"), [("TLSV1_3", "TLSV1_3"), ("2", "TLSV1_3"), ("0", ""), ("null", "")]
)
def test_the_oldest_tls_version_is_read(read: Read, written: str, least: str) -> None:
    (config,) = read({"istio": {"mesh": f"tlsDefaults: {{minProtocolVersion: {written}}}"}})

    assert config.least_tls == least


def test_istiods_environment_completes_it(read: Read) -> None:
    variables = {
        "CLUSTER_ID": "east",
        "PILOT_SCOPE_GATEWAY_TO_NAMESPACE": "true",
        "SHARED_MESH_CONFIG": "shared",
        "OTHER": "planted",
    }
    maps = {
        "istio": {"mesh": "trustDomain: own"},
        "shared": {"mesh": "{trustDomain: theirs, rootNamespace: istio-config}"},
    }

    (config,) = read(maps, variables=variables)

    assert (config.cluster_id, config.scoped_gateways) == ("east", True)
    # istiod's own ConfigMap overrides the shared one
    assert (config.trust_domain, config.root_namespace) == ("own", "istio-config")
    assert "planted" not in repr(config)


def test_a_variable_that_is_read_from_elsewhere_is_not_known(read: Read) -> None:
    (config,) = read({}, variables={"CLUSTER_ID": ""})

    assert config.cluster_id == ""


BOTH = {"ENABLE_MCS_HOST": "true", "ENABLE_MCS_SERVICE_DISCOVERY": "TRUE"}


@pytest.mark.parametrize(
    ("variables", "served"),
    [
        (BOTH, True),
        ({**BOTH, "MCS_API_GROUP": "multicluster.x-k8s.io", "MCS_API_VERSION": "v1alpha1"}, True),
        ({"ENABLE_MCS_HOST": "true"}, False),
        ({**BOTH, "ENABLE_MCS_HOST": "false"}, False),
        ({**BOTH, "ENABLE_MCS_HOST": ""}, False),  # read from elsewhere
        ({**BOTH, "MCS_API_GROUP": "net.gke.io"}, False),
        ({**BOTH, "MCS_API_VERSION": "v1beta1"}, False),
        ({**BOTH, "MCS_API_VERSION": ""}, False),
        ({}, False),
    ],
)
def test_istiod_serves_hosts_of_the_cluster_set_with_two_switches(
    read: Read, variables: dict[str, str], served: bool
) -> None:
    (config,) = read({}, variables=variables)

    assert config.mcs_hosts is served


def test_an_istiod_of_another_mesh_is_not_ours(read: Read) -> None:
    maps = {"istio-sidecar-injector": {"config": CONFIG, "values": VALUES}}

    assert read(maps, istiod(namespace="istio-system-b")) == ()


@pytest.mark.parametrize("data", [{"config": "policy: ["}, {"values": "planted"}])
def test_what_cannot_be_decoded_is_named_and_not_quoted(read: Read, data: dict[str, str]) -> None:
    with pytest.raises(ReadError, match="ConfigMap istio-system/istio-sidecar-injector") as raised:
        read({"istio-sidecar-injector": data})

    assert "planted" not in str(raised.value)


def test_auto_mtls_is_on_unless_the_mesh_config_turns_it_off(read: Read) -> None:
    (off,) = read({"istio": {"mesh": "enableAutoMtls: false\n"}})
    (on,) = read({"istio": {"mesh": "enableAutoMtls: true\n"}})

    assert (off.auto_mtls, on.auto_mtls, InjectorConfig(revision="x").auto_mtls) == (
        False,
        True,
        True,
    )


def test_a_mesh_config_turns_off_what_a_shared_one_turns_on(read: Read) -> None:
    maps = {
        "istio": {"mesh": "enableAutoMtls: false\n"},
        "shared": {"mesh": "enableAutoMtls: true\ntrustDomain: corp\n"},
    }

    (config,) = read(maps, variables={"SHARED_MESH_CONFIG": "shared"})

    assert (config.auto_mtls, config.trust_domain) == (False, "corp")


def test_the_controller_of_gateways_is_in_istiods_environment(read: Read) -> None:
    (config,) = read({}, variables={"PILOT_GATEWAY_API_CONTROLLER_NAME": "corp.example/gateways"})

    assert config.gateway_controller == "corp.example/gateways"
