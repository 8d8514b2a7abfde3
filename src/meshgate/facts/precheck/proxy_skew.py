"""Every proxy's version, and whether the target's istiod supports it."""

from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics import pods, workloads
from meshgate.semantics.releases import minor
from meshgate.semantics.versions import Version
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class ProxySkew:
    """The running proxies, compared with the target."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @cached_property
    def versions(self) -> dict[str, Version | None]:
        """The version of every proxy by `Pod namespace/name`: reported, else that of its image."""
        proxies = self._evidence.facts(Proxies)
        replicas = self._evidence.facts(ControlPlane).replicas
        connected = proxies.connected if replicas else {}
        found = {pods.name(pod): _image(pod) for identity, pod in proxies.promised.items()}
        for identity, sync in connected.items():
            name, _, namespace = identity.rpartition(".")
            if version := Version.parse(sync.istio_version):
                found[f"Pod {namespace}/{name}"] = version
        return found

    @cached_property
    def _pods(self) -> dict[str, Pod]:
        return {pods.name(pod): pod for pod in self._evidence.pods}

    def _owner(self, subject: str) -> str:
        pod = self._pods.get(subject)
        return workloads.owner(pod) if pod else ""

    def _restart(self, subject: str, otherwise: str) -> str:
        pod = self._pods.get(subject)
        return workloads.restart_command(pod) if pod else otherwise

    @property
    def out_of_skew(self) -> list[Finding]:
        """Proxies that istiod of the target does not support."""
        if not self.versions:
            raise NotApplicable("no pod has a proxy")
        if unknown := sorted(each for each, version in self.versions.items() if version is None):
            raise CouldNotVerify(
                f"the version of the proxy of {unknown[0]}"
                + (f" and of {len(unknown) - 1} others" if len(unknown) > 1 else "")
                + " is unknown: it is not connected, and its image tag names no version",
                f"connect {unknown[0]} to istiod, or give its proxy an image tag with a version",
                transient=True,
            )
        return [
            Finding(
                subject,
                f"its proxy runs {version}, {words}",
                f"at most {self._upgrade.skew} minor version behind {self._upgrade.target}",
                remedy,
                problem="proxy-skew",
                owner=self._owner(subject),
                about=(("version", minor(version)),),
            )
            for subject, version in self.versions.items()
            if version is not None
            for words, remedy in self._skewed(subject, version)
        ]

    def _skewed(self, subject: str, version: Version) -> list[tuple[str, str]]:
        behind = self._upgrade.target.version.minor - version.minor
        if behind > self._upgrade.skew:
            remedy = self._restart(subject, f"restart the workload of {subject}")
            return [(f"{behind} minor versions behind the target", remedy)]
        if behind < 0 and not self._rolled_back(version):
            return [("newer than the target", f"roll the proxy of {subject} back first")]
        return []

    def _rolled_back(self, version: Version) -> bool:
        """Whether it is a proxy that a rollback in place leaves newer until its pod restarts."""
        return (
            self._evidence.expectations.allow_rollback
            and self._upgrade.target.version.minor - version.minor == -1
        )

    @property
    def ahead_for_now(self) -> list[Finding]:
        """Proxies that an allowed rollback in place makes newer than istiod."""
        return [
            Finding(
                subject,
                f"its proxy runs {version} and will be newer than istiod {self._upgrade.target}",
                remedy="after the rollback: "
                + self._restart(subject, f"restart the workload of {subject}"),
                problem="newer-than-istiod",
                owner=self._owner(subject),
                about=(("version", minor(version)),),
            )
            for subject, version in self.versions.items()
            if version is not None and self._rolled_back(version)
        ]


def _image(pod: Pod) -> Version | None:
    container = workloads.proxy(pod)
    return Version.of_image(container.image) if container else None
