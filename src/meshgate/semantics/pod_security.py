"""The Pod Security Standards, as the API server enforces them by labels of the namespace.

(k8s.io/pod-security-admission/policy, Kubernetes 1.34.)  Exemptions and defaults of the API
server's own configuration are not visible, so a namespace without a label enforces nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from meshgate.semantics.versions import Version
from meshgate.snapshot.new_pods import NewContainer, NewPod, SecurityContext

LABEL = "pod-security.kubernetes.io/enforce"
BASELINE, RESTRICTED = "baseline", "restricted"
LEVELS = (BASELINE, RESTRICTED)

_CAPABILITIES = frozenset(
    {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
)
_SE_LINUX = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_VOLUMES = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
        *("persistentVolumeClaim", "projected", "secret"),
    }
)

_NONE = SecurityContext()


class Violation(NamedTuple):
    """One control that a pod violates: its name, and the details."""

    control: str
    words: str


class Control(NamedTuple):
    """One control; `since`: the minor version of the policy that added it."""

    level: str
    name: str
    check: Callable[[NewPod], Iterable[str]]
    since: int = 0


def enforced(labels: Mapping[str, str], kubernetes: str = "") -> tuple[str, int | None]:
    """Return the level that a namespace enforces, and the minor version of its policy.

    Args:
        labels: of the namespace.
        kubernetes: the API server's version, which has no newer policy.

    Returns:
        The level, empty where it enforces none; and the version, None for the newest.
    """
    level = labels.get(LABEL, "")
    version = re.fullmatch(r"v1\.(\d+)", labels.get(f"{LABEL}-version", ""))
    server = Version.parse(kubernetes)
    minors = [int(version[1])] if version else []
    minors += [server[1]] if server else []
    return (level if level in LEVELS else "", min(minors, default=None))


def violations(pod: NewPod, level: str, minor: int | None = None) -> list[Violation]:
    """Return the controls of a level that a pod violates.

    Args:
        pod: the pod that would be created.
        level: `baseline` or `restricted`, which includes baseline.
        minor: the minor version of the policy; None for the newest.

    Returns:
        The violated controls in the order of the standards; empty for a pod that is accepted.
    """
    levels = LEVELS[: LEVELS.index(level) + 1]
    return [
        Violation(control.name, "; ".join(found))
        for control in CONTROLS
        if control.level in levels and (minor is None or minor >= control.since)
        if (found := list(control.check(pod)))
    ]


def _host_namespaces(pod: NewPod) -> Iterator[str]:
    names = {
        "hostNetwork": pod.host_network,
        "hostPID": pod.host_pid,
        "hostIPC": pod.host_ipc,
    }
    yield from (f"{name}=true" for name, used in names.items() if used)


def _privileged(pod: NewPod) -> Iterator[str]:
    yield from _containers(pod, lambda own: own.privileged, "must not set privileged=true")


def _capabilities(pod: NewPod) -> Iterator[str]:
    for each in pod.containers:
        own = (each.security or _NONE).capabilities
        if own and (added := [name for name in own.add if name not in _CAPABILITIES]):
            names = ", ".join(f'"{name}"' for name in sorted(added))
            yield (
                f'container "{each.name}" must not include {names} in '
                "securityContext.capabilities.add"
            )


def _host_path(pod: NewPod) -> Iterator[str]:
    if "hostPath" in pod.volumes:
        yield "volumes of the type hostPath"


def _host_ports(pod: NewPod) -> Iterator[str]:
    for each in pod.containers:
        if each.host_ports:
            ports = ", ".join(map(str, each.host_ports))
            yield f'container "{each.name}" uses hostPort {ports}'


def _app_armor(pod: NewPod) -> Iterator[str]:
    yield from _all(
        pod,
        lambda own: bool(own.app_armor_profile and own.app_armor_profile.type == "Unconfined"),
        'must not set appArmorProfile.type="Unconfined"',
    )


def _se_linux(pod: NewPod) -> Iterator[str]:
    yield from _all(
        pod,
        lambda own: bool(
            (options := own.se_linux_options)
            and (options.type not in _SE_LINUX or options.user or options.role)
        ),
        "sets forbidden seLinuxOptions",
    )


def _proc_mount(pod: NewPod) -> Iterator[str]:
    yield from _containers(
        pod, lambda own: own.proc_mount not in ("", "Default"), "must not set procMount"
    )


def _seccomp_unconfined(pod: NewPod) -> Iterator[str]:
    yield from _all(
        pod,
        lambda own: bool(own.seccomp_profile and own.seccomp_profile.type == "Unconfined"),
        'must not set securityContext.seccompProfile.type="Unconfined"',
    )


def _sysctls(pod: NewPod) -> Iterator[str]:
    names = [each.name for each in (pod.security or _NONE).sysctls if each.name not in _SYSCTLS]
    if names:
        yield ", ".join(names)


def _host_process(pod: NewPod) -> Iterator[str]:
    yield from _all(
        pod,
        lambda own: bool(own.windows_options and own.windows_options.host_process),
        "must not set securityContext.windowsOptions.hostProcess=true",
    )


def _probe_hosts(pod: NewPod) -> Iterator[str]:
    for each in pod.containers:
        if each.hosts:
            yield f'container "{each.name}" must not set `host` in probes or lifecycle handlers'


def _volumes(pod: NewPod) -> Iterator[str]:
    if kinds := sorted(set(pod.volumes) - _VOLUMES):
        yield f"volumes of the type {', '.join(kinds)}"


def _escalation(pod: NewPod) -> Iterator[str]:
    yield from _containers(
        pod,
        lambda own: own.allow_privilege_escalation is not False,
        "must set securityContext.allowPrivilegeEscalation=false",
    )


def _non_root(pod: NewPod) -> Iterator[str]:
    by_pod = (pod.security or _NONE).run_as_non_root
    if by_pod is False:
        yield "pod must not set securityContext.runAsNonRoot=false"
    for each in pod.containers:
        own = (each.security or _NONE).run_as_non_root
        if own is False or (own is None and not by_pod):
            yield f'container "{each.name}" must set securityContext.runAsNonRoot=true'


def _root_user(pod: NewPod) -> Iterator[str]:
    yield from _all(pod, lambda own: own.run_as_user == 0, "must not set runAsUser=0")


def _seccomp(pod: NewPod) -> Iterator[str]:
    allowed = ("RuntimeDefault", "Localhost")
    by_pod = (pod.security or _NONE).seccomp_profile
    for each in pod.containers:
        profile = (each.security or _NONE).seccomp_profile or by_pod
        if profile is None or profile.type not in allowed:
            yield (
                f'container "{each.name}" must set securityContext.seccompProfile.type to '
                '"RuntimeDefault" or "Localhost"'
            )


def _dropped(pod: NewPod) -> Iterator[str]:
    for each in pod.containers:
        own = (each.security or _NONE).capabilities
        if own is None or "ALL" not in own.drop:
            yield f'container "{each.name}" must set securityContext.capabilities.drop=["ALL"]'
        if own and (added := [name for name in own.add if name != "NET_BIND_SERVICE"]):
            names = ", ".join(f'"{name}"' for name in sorted(added))
            yield (
                f'container "{each.name}" must not include {names} in '
                "securityContext.capabilities.add"
            )


CONTROLS = (
    Control(BASELINE, "host namespaces", _host_namespaces),
    Control(BASELINE, "privileged", _privileged),
    Control(BASELINE, "non-default capabilities", _capabilities),
    Control(BASELINE, "hostPath volumes", _host_path),
    Control(BASELINE, "hostPort", _host_ports),
    Control(BASELINE, "forbidden AppArmor profile", _app_armor),
    Control(BASELINE, "seLinuxOptions", _se_linux),
    Control(BASELINE, "procMount", _proc_mount),
    Control(BASELINE, "seccompProfile", _seccomp_unconfined, 19),
    Control(BASELINE, "forbidden sysctls", _sysctls),
    Control(BASELINE, "hostProcess", _host_process),
    Control(BASELINE, "probe or lifecycle host", _probe_hosts, 34),
    Control(RESTRICTED, "restricted volume types", _volumes),
    Control(RESTRICTED, "allowPrivilegeEscalation != false", _escalation, 8),
    Control(RESTRICTED, "runAsNonRoot != true", _non_root),
    Control(RESTRICTED, "runAsUser=0", _root_user, 23),
    Control(RESTRICTED, "seccompProfile", _seccomp, 19),
    Control(RESTRICTED, "unrestricted capabilities", _dropped, 22),
)


def _containers(
    pod: NewPod, forbidden: Callable[[SecurityContext], bool], words: str
) -> Iterator[str]:
    for each in pod.containers:
        if forbidden(each.security or _NONE):
            yield f'container "{each.name}" {words}'


def _all(pod: NewPod, forbidden: Callable[[SecurityContext], bool], words: str) -> Iterator[str]:
    """Yield the pod and the containers whose own securityContext is forbidden."""
    if forbidden(pod.security or _NONE):
        yield f"pod {words}"
    yield from _containers(pod, forbidden, words)


def injected_only(pod: NewPod, found: Iterable[Violation]) -> bool:
    """Return whether only containers that the injector adds violate these controls."""
    names: set[str] = set()
    for each in found:
        named = re.findall(r'container "([^"]+)"', each.words)
        if not named:
            return False
        names.update(named)
    return names <= {each.name for each in _injected(pod)}


def _injected(pod: NewPod) -> list[NewContainer]:
    return [each for each in pod.containers if each.injected]
