"""What mTLS a port must speak: PeerAuthentication, merged as istiod merges it.

The rules are those of istiod (pilot/pkg/security/authn/policy_applier.go, ComposePeerAuthentication
in 1.28 and 1.29), surprises included: of several policies of one scope the oldest counts; a policy
with a selector in the root namespace counts nowhere; ports count only in a workload's own policy.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from meshgate.semantics.config_revisions import LABEL, applies_to
from meshgate.snapshot.istio import MutualTls, PeerAuthentication
from meshgate.snapshot.kubernetes import Pod

STRICT, PERMISSIVE, DISABLE = "STRICT", "PERMISSIVE", "DISABLE"

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Mode(NamedTuple):
    """What counts for a port, and which policy says so."""

    mode: str
    policy: str

    def __str__(self) -> str:
        return f"{self.mode} ({self.policy})"


DEFAULT = Mode(PERMISSIVE, "no PeerAuthentication says otherwise")


class Policies:
    """All PeerAuthentications of the mesh, of which a pod's revision may read some."""

    def __init__(self, policies: Iterable[PeerAuthentication], root: str) -> None:
        self._policies = list(policies)
        self._root = root
        self._labeled = [each for each in self._policies if LABEL in each.metadata.labels]
        # a few sets of policies for all pods: each is ordered once
        self._merged: dict[tuple[bool, ...], _Merged] = {}

    def mode(self, pod: Pod, port: int) -> Mode:
        """Return what counts for a port of a pod."""
        key = tuple(applies_to(each.metadata, pod) for each in self._labeled)
        if key not in self._merged:
            read = [each for each in self._policies if applies_to(each.metadata, pod)]
            self._merged[key] = _Merged(read, self._root)
        return self._merged[key].mode(pod, port)


class _Merged:
    """The PeerAuthentications that one istiod reads."""

    def __init__(self, policies: Iterable[PeerAuthentication], root: str) -> None:
        # oldest first; istiod settles a tie by the names
        ordered = sorted(policies, key=_age)
        self._mesh = next((p for p in ordered if _in(p, root) and not _labels(p)), None)
        self._namespaces: dict[str, PeerAuthentication] = {}
        self._workloads: list[PeerAuthentication] = []
        for policy in ordered:
            if _in(policy, root):
                continue
            if _labels(policy):
                self._workloads.append(policy)
            else:
                self._namespaces.setdefault(policy.metadata.namespace, policy)

    def mode(self, pod: Pod, port: int) -> Mode:
        """Return what counts for a port of a pod."""
        own = self._own(pod)
        effective = DEFAULT
        for policy in (self._mesh, self._namespaces.get(pod.metadata.namespace), own):
            if policy is not None and (mode := _set(policy.spec.mtls)):
                effective = Mode(mode, _name(policy))
        if own is not None and port in own.spec.port_level_mtls:
            level = _set(own.spec.port_level_mtls[port])
            return Mode(level, f"{_name(own)}, port {port}") if level else effective
        return effective

    def _own(self, pod: Pod) -> PeerAuthentication | None:
        return next(
            (
                policy
                for policy in self._workloads
                if _in(policy, pod.metadata.namespace)
                and _labels(policy).items() <= pod.metadata.labels.items()
            ),
            None,
        )


def _age(policy: PeerAuthentication) -> tuple[datetime, str, str]:
    metadata = policy.metadata
    return metadata.creation_timestamp or _BEFORE_ALL, metadata.name, metadata.namespace


def _in(policy: PeerAuthentication, namespace: str) -> bool:
    return policy.metadata.namespace == namespace


def _labels(policy: PeerAuthentication) -> dict[str, str]:
    return policy.spec.selector.match_labels if policy.spec.selector else {}


def _set(mtls: MutualTls | None) -> str:
    return mtls.mode if mtls and mtls.mode != "UNSET" else ""


def _name(policy: PeerAuthentication) -> str:
    return f"PeerAuthentication {policy.metadata.namespace}/{policy.metadata.name}"
