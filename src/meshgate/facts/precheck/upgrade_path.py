"""The upgrade's path: what runs, what is to run, and whether that way is supported."""

import tomllib
from functools import cache, cached_property
from importlib.resources import files

import msgspec

from meshgate.facts.controlplane.control_plane import ControlPlane, image_version
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.versions import Version
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.kubernetes import Deployment, Pod
from meshgate.snapshot.upgrade import Release, Support
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


@cache
def shipped() -> Support:
    """The support matrix that travels with meshgate."""
    return read_support(files("meshgate").joinpath("upgrade", "support.toml").read_text())


def read_support(text: str) -> Support:
    """A support matrix (TOML); raises ValueError for what is none."""
    return msgspec.convert(tomllib.loads(text), Support)


class Upgrade:
    """From every istiod that runs, and every proxy, to one target."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    # --- to ---------------------------------------------------------------------------------------

    @cached_property
    def target(self) -> Version:
        """What is upgraded to: what was asked for, else what istioctl is of."""
        asked = self._evidence.expectations.target_version or self._evidence.istioctl
        if (version := Version.parse(asked)) is None:
            raise CouldNotVerify(f"{asked!r} is no version", "name one with --target-version=X.Y.Z")
        return version

    @property
    def _support(self) -> Support:
        return self._evidence.expectations.support or shipped()

    @property
    def _release(self) -> Release:
        minor = _minor(self.target)
        try:
            return self._support.release[minor]
        except KeyError:
            raise CouldNotVerify(
                f"the support matrix of {self._support.date} ({self._support.source}) does not "
                f"know Istio {minor}",
                "name a newer one with --support-matrix=FILE",
            ) from None

    # --- from -------------------------------------------------------------------------------------

    @cached_property
    def running(self) -> dict[str, Version]:
        """The version of every istiod: its replicas' oldest word, else its image's, by name."""
        return {
            f"Deployment {self._control_plane.namespace}/{each.metadata.name}": self._runs(each)
            for each in self._control_plane.deployments
        }

    def _runs(self, deployment: Deployment) -> Version:
        found = self._control_plane.versions(deployment)
        if not found and (version := image_version(deployment)):
            found = [version]
        if not found:
            raise CouldNotVerify(
                f"Deployment {self._control_plane.namespace}/{deployment.metadata.name} does not "
                "say which version runs: no replica answers, and its image has no version",
                "bring istiod up first",
                transient=True,
            )
        return min(found)

    @cached_property
    def oldest(self) -> Version:
        """The oldest istiod; with it every change on the way counts."""
        if not self.running:
            raise NotApplicable(self._new)
        return min(self.running.values())

    @property
    def _new(self) -> str:
        return (
            f"no istiod runs in {self._control_plane.namespace}: this is an installation, "
            "not an upgrade"
        )

    # --- the way ----------------------------------------------------------------------------------

    @property
    def wrong_steps(self) -> list[Finding]:
        """istiods from which the target is no step of one minor version forward."""
        if not self.running:
            raise NotApplicable(self._new)
        return [
            Finding(
                subject,
                f"runs {version}, and {self.target} is {wrong[0]}",
                wrong[1],
                wrong[2],
            )
            for subject, version in self.running.items()
            if (wrong := self._wrong(version))
        ]

    def _wrong(self, version: Version) -> tuple[str, str, str] | None:
        steps = self.target.minor - version.minor
        if version.major != self.target.major:
            return "of another major version", "one minor version at a time", "ask Istio how"
        if steps > 1:
            stop = f"{version.major}.{version.minor + 1}"
            return (
                f"{steps} minor versions ahead",
                "one minor version at a time",
                f"upgrade to the newest {stop} first",
            )
        if self.target >= version or (self._evidence.expectations.allow_rollback and steps >= -1):
            return None
        return (
            "older",
            "no downgrade",
            "correct the target; if this is a rollback by one minor version, say so with "
            "--allow-rollback",
        )

    @property
    def rollbacks(self) -> list[Finding]:
        """istiods that are newer than the target, where that was allowed."""
        if not self._evidence.expectations.allow_rollback:
            return []
        return [
            Finding(
                subject,
                f"runs {version}, which is rolled back to {self.target}",
                remedy="move the proxies back first where they follow a revision, else restart "
                "them right after: none may be newer than istiod for long",
            )
            for subject, version in self.running.items()
            if version > self.target and self.target.minor - version.minor >= -1
        ]

    # --- what it is to run on ---------------------------------------------------------------------

    @property
    def unsupported_kubernetes(self) -> list[Finding]:
        """The cluster, where the target does not support it."""
        first, last = self._release.kubernetes
        text = self._evidence.snapshot.kubernetes_version
        version, low, high = Version.parse(text), Version.parse(first), Version.parse(last)
        if version is None or low is None or high is None:
            raise CouldNotVerify(f"cannot compare Kubernetes {text!r} with {first} to {last}")
        if low[:2] <= version[:2] <= high[:2]:
            return []
        return [
            Finding(
                f"Kubernetes {_minor(version)}",
                f"is not supported by Istio {_minor(self.target)}",
                f"{first} to {last}, by the matrix of {self._support.date}",
                "upgrade Kubernetes first, or choose another target",
            )
        ]

    @property
    def ended(self) -> list[Finding]:
        """The target, where nobody maintains it any more."""
        end, running = self._release.end_of_life, self._evidence.snapshot.taken.date()
        if end is None or running <= end:
            return []
        return [
            Finding(
                f"Istio {_minor(self.target)}",
                f"has reached its end of life on {end}",
                "a release that still gets security fixes",
                "plan the next upgrade soon",
            )
        ]

    # --- proxies ----------------------------------------------------------------------------------

    @cached_property
    def proxies(self) -> dict[str, Version | None]:
        """The version of every proxy, by `Pod namespace/name`: its own word, else its image's."""
        proxies = Proxies(self._evidence)
        connected = proxies.connected if self._control_plane.replicas else {}
        found = {pods.name(pod): _image(pod) for identity, pod in proxies.promised.items()}
        for identity, sync in connected.items():
            name, _, namespace = identity.rpartition(".")
            if version := Version.parse(sync.istio_version):
                found[f"Pod {namespace}/{name}"] = version
        return found

    @property
    def out_of_skew(self) -> list[Finding]:
        """Proxies that istiod of the target does not support, or whose version nobody knows."""
        if not self.proxies:
            raise NotApplicable("no pod holds a proxy")
        if silent := sorted(each for each, version in self.proxies.items() if version is None):
            raise CouldNotVerify(
                f"{silent[0]} does not say which version its proxy is"
                + (f", nor do {len(silent) - 1} others" if len(silent) > 1 else ""),
                "bring it up, or restart it with an image that has a version",
                transient=True,
            )
        return [
            Finding(
                subject,
                f"its proxy is of {version}, {words}",
                f"at most {self._support.skew} minor version behind {self.target}",
                remedy,
            )
            for subject, version in self.proxies.items()
            if version is not None
            for words, remedy in self._skewed(version)
        ]

    def _skewed(self, version: Version) -> list[tuple[str, str]]:
        behind = self.target.minor - version.minor
        if behind > self._support.skew:
            return [(f"{behind} minor versions behind the target", "restart its workload first")]
        if behind < 0 and not self._rolled_back(version):
            return [("ahead of the target", "roll it back first: istiod must never be older")]
        return []

    def _rolled_back(self, version: Version) -> bool:
        """Whether it is what a rollback in place leaves ahead, until the workloads restart."""
        return (
            self._evidence.expectations.allow_rollback and self.target.minor - version.minor == -1
        )

    @property
    def ahead_for_now(self) -> list[Finding]:
        """Proxies that a rollback in place makes newer than istiod, where that was allowed."""
        return [
            Finding(
                subject,
                f"its proxy is of {version}, and will be ahead of istiod {self.target}",
                remedy="restart it as soon as istiod is rolled back: no istiod is made for it",
            )
            for subject, version in self.proxies.items()
            if version is not None and self._rolled_back(version)
        ]


def _image(pod: Pod) -> Version | None:
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        if container.name == PROXY:
            return Version.of_image(container.image)
    return None


def _minor(version: Version) -> str:
    return f"{version.major}.{version.minor}"
