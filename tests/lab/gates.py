"""The four gates of one upgrade, run as a hook Job runs them: with the generated roles."""

from dataclasses import dataclass
from pathlib import Path

from tests.lab.harness import Lab, Stage
from tests.lab.rights import VERIFIER, grant

PROBE_IMAGE = "docker.io/lab/python:1"


@dataclass(frozen=True)
class Gates:
    """The gates of one lab; reports and targets are kept below `folder`."""

    lab: Lab
    folder: Path

    def precheck(self, target: str, *words: str) -> Stage:
        """Stage A for an upgrade to `target`, including the shadow."""
        programs = self.folder / target
        if not programs.exists():
            self.lab.verb("target", target, str(programs))
        shadow = (
            f"--shadow-istiod={programs}/pilot-discovery",
            f"--shadow-envoy={programs}/envoy",
            f"--shadow-manifests={programs}/istiod.yaml",
        )
        return self._stage("precheck", target, *shadow, *words)

    def controlplane(self, version: str, *words: str) -> Stage:
        """Stage B, where istiod is to be of `version`."""
        return self._stage("controlplane", version, *words)

    def ambient(self, version: str, *words: str) -> Stage:
        """The stage after the CNI agent and ztunnel, which are to be of `version`."""
        return self._stage("ambient", version, *words)

    def ingress(self, *words: str) -> Stage:
        """Stage C."""
        return self._stage("ingress", "", *words)

    def dataplane(self, version: str, *words: str, pair: bool = True) -> Stage:
        """Stage D, with the probe pair or without, where sidecars are to be of `version`."""
        probes = (f"--probe-pair={PROBE_IMAGE}", "--probe-deadline=120") if pair else ()
        return self._stage("dataplane", version, *probes, *words)

    def all_open(self, version: str) -> None:
        """Check that stages B, C and D are open on a mesh of `version`."""
        for stage in (self.controlplane(version), self.ingress(), self.dataplane(version)):
            assert stage.exit == 0, stage.output

    def _stage(self, marker: str, version: str, *words: str) -> Stage:
        grant(self.lab, "--shadow")  # again each time: `lab reset` takes the account away
        # an image has the istioctl of its target
        target = (
            (f"--target-version={version}", f"--istioctl=istioctl-{version}") if version else ()
        )
        settle = () if any(word.startswith("--settle=") for word in words) else ("--settle=60",)
        return self.lab.pytest("-m", marker, *target, *settle, *words, identity=VERIFIER)
