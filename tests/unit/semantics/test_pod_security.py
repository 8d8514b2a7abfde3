"""The Pod Security Standards, control by control."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.pod_security import enforced, injected_only, violations
from meshgate.snapshot.new_pods import NewPod

# what `restricted` accepts
GOOD = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(own: dict[str, Any], **more: Any) -> NewPod:
    """A pod with one container of this security context."""
    containers = [{"name": "app", "security": own}]
    return msgspec.convert({"workload": "", "containers": containers, **more}, NewPod)


def controls(found: NewPod, level: str, minor: int | None = None) -> set[str]:
    """The names of the controls that a pod violates."""
    return {each.control for each in violations(found, level, minor)}


def test_a_restricted_pod_violates_nothing() -> None:
    assert controls(pod(GOOD), "restricted") == set()


@pytest.mark.parametrize(
    ("security", "more", "control"),
    [
        ({"privileged": True}, {}, "privileged"),
        ({"capabilities": {"add": ["NET_ADMIN"]}}, {}, "non-default capabilities"),
        ({}, {"hostNetwork": True}, "host namespaces"),
        ({}, {"hostPID": True}, "host namespaces"),
        ({}, {"volumes": ["hostPath"]}, "hostPath volumes"),
        ({"procMount": "Unmasked"}, {}, "procMount"),
        ({"seccompProfile": {"type": "Unconfined"}}, {}, "seccompProfile"),
        ({"appArmorProfile": {"type": "Unconfined"}}, {}, "forbidden AppArmor profile"),
        ({"seLinuxOptions": {"user": "system_u"}}, {}, "seLinuxOptions"),
        ({}, {"security": {"sysctls": [{"name": "kernel.msgmax"}]}}, "forbidden sysctls"),
        ({"windowsOptions": {"hostProcess": True}}, {}, "hostProcess"),
    ],
)
def test_baseline_forbids_it(security: Any, more: Any, control: str) -> None:
    assert controls(pod(security, **more), "baseline") == {control}


@pytest.mark.parametrize(
    ("change", "control"),
    [
        ({"allowPrivilegeEscalation": None}, "allowPrivilegeEscalation != false"),
        ({"runAsNonRoot": None}, "runAsNonRoot != true"),
        ({"runAsUser": 0}, "runAsUser=0"),
        ({"seccompProfile": None}, "seccompProfile"),
        ({"capabilities": {"drop": ["NET_RAW"]}}, "unrestricted capabilities"),
        ({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}, "unrestricted capabilities"),
    ],
)
def test_restricted_requires_it_and_baseline_does_not(change: Any, control: str) -> None:
    found = pod({**GOOD, **change})

    assert controls(found, "restricted") == {control}
    assert controls(found, "baseline") == set()


def test_the_context_of_the_pod_counts_for_its_containers() -> None:
    own = {name: GOOD[name] for name in ("allowPrivilegeEscalation", "capabilities")}
    of_pod = {name: GOOD[name] for name in ("runAsNonRoot", "seccompProfile")}

    assert controls(pod(own, security=of_pod), "restricted") == set()


def test_an_older_version_of_the_policy_has_fewer_controls() -> None:
    found = pod({**GOOD, "runAsUser": 0})

    assert controls(found, "restricted", 22) == set()
    assert controls(found, "restricted", 23) == {"runAsUser=0"}


def test_host_ports_and_hosts_of_probes_are_forbidden() -> None:
    container = {"name": "app", "hostPorts": [80], "hosts": ["169.254.169.254"]}
    found = msgspec.convert({"workload": "", "containers": [container]}, NewPod)

    assert controls(found, "baseline") == {"hostPort", "probe or lifecycle host"}
    assert controls(found, "baseline", 33) == {"hostPort"}


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        ({}, ("", None)),
        ({"pod-security.kubernetes.io/enforce": "privileged"}, ("", None)),
        ({"pod-security.kubernetes.io/warn": "baseline"}, ("", None)),
        ({"pod-security.kubernetes.io/enforce": "baseline"}, ("baseline", None)),
        (
            {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "v1.30",
            },
            ("restricted", 30),
        ),
    ],
)
def test_the_level_is_the_namespaces(labels: dict[str, str], level: tuple[str, int]) -> None:
    assert enforced(labels) == level


@pytest.mark.parametrize(
    ("pinned", "kubernetes", "minor"),
    [
        ("latest", "v1.33.4", 33),
        ("v1.30", "v1.33.4", 30),
        ("v1.99", "v1.33.4-eks-1a2b3c", 33),
        ("latest", "", None),
    ],
)
def test_the_api_server_has_no_newer_policy(
    pinned: str, kubernetes: str, minor: int | None
) -> None:
    labels = {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": pinned,
    }

    assert enforced(labels, kubernetes) == ("baseline", minor)


def test_the_words_name_the_containers_that_the_injector_adds() -> None:
    init = {"name": "istio-init", "injected": True, "security": {"privileged": True}}
    found = msgspec.convert({"workload": "", "containers": [init, {"name": "app"}]}, NewPod)

    assert injected_only(found, violations(found, "baseline"))
    assert not injected_only(found, violations(found, "restricted"))
