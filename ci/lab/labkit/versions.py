"""The versions of everything in the lab, from `versions.toml`."""

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.paths import SOURCE
from labkit.steps import LabError


@dataclass(frozen=True)
class Istio:
    """One Istio release and the stock Envoy that stands in for its own build."""

    version: str
    module_version: str
    envoy: str
    envoy_sha256: str
    replace: tuple[str, ...] = ()
    ambient: bool = False  # whether a lab of it can be in ambient mode

    @property
    def revision(self) -> str:
        """The version as a revision name: no dots allowed there."""
        return self.version.replace(".", "-")


@dataclass(frozen=True)
class ArgoCD:
    """One release of Argo CD."""

    version: str
    replace: tuple[str, ...] = ()


@dataclass(frozen=True)
class Versions:
    """All of `versions.toml`."""

    kubernetes: str
    etcd: str
    etcd_image_tag: str
    coredns: str
    pause: str
    default_argocd: str
    argocd: dict[str, ArgoCD]
    rollouts: str
    prometheus: str
    alertmanager: str
    helm: str
    default_istio: str
    istio: dict[str, Istio]
    node_packages: tuple[str, ...]
    prober_packages: tuple[str, ...]
    proxy_packages: tuple[str, ...]
    python_packages: tuple[str, ...]
    service_packages: tuple[str, ...]

    def istio_release(self, version: str) -> Istio:
        """Return the named release; raise LabError with the known ones if it is not there."""
        try:
            return self.istio[version]
        except KeyError:
            known = ", ".join(sorted(self.istio))
            raise LabError(f"Istio {version!r} is not in the lab (known: {known})") from None

    def argocd_release(self) -> ArgoCD:
        """Return the release in MESHGATE_LAB_ARGOCD, or the default; raise LabError if unknown.

        The variable may also be a minor version such as 3.5.
        """
        wanted = os.environ.get("MESHGATE_LAB_ARGOCD", self.default_argocd)
        for version, release in self.argocd.items():
            if version == wanted or version.startswith(f"{wanted}."):
                return release
        known = ", ".join(sorted(self.argocd))
        raise LabError(f"Argo CD {wanted!r} is not in the lab (known: {known})")


def _istio(version: str, row: dict[str, Any]) -> Istio:
    return Istio(version=version, **{**row, "replace": tuple(row.get("replace", ()))})


def _chosen(data: dict[str, Any]) -> list[str]:
    """Return the releases to build: all, or as many of the newest as MESHGATE_LAB_RELEASES says."""
    releases = sorted(data["istio"], key=lambda version: [int(part) for part in version.split(".")])
    return releases[-int(os.environ.get("MESHGATE_LAB_RELEASES", len(releases))) :]


@cache
def versions() -> Versions:
    """Read `versions.toml`, once."""
    data = tomllib.loads((SOURCE / "versions.toml").read_text())
    return Versions(
        kubernetes=data["kubernetes"]["version"],
        etcd=data["etcd"]["version"],
        etcd_image_tag=data["etcd"]["image_tag"],
        coredns=data["coredns"]["version"],
        pause=data["pause"]["version"],
        default_argocd=data["default_argocd"],
        argocd={
            version: ArgoCD(version, tuple(row.get("replace", ())))
            for version, row in data["argocd"].items()
        },
        rollouts=data["rollouts"]["version"],
        prometheus=data["prometheus"]["version"],
        alertmanager=data["alertmanager"]["version"],
        helm=data["helm"]["version"],
        default_istio=data["default_istio"],
        istio={version: _istio(version, data["istio"][version]) for version in _chosen(data)},
        node_packages=tuple(data["debian"]["node"]),
        prober_packages=tuple(data["debian"]["prober"]),
        proxy_packages=tuple(data["debian"]["proxy"]),
        python_packages=tuple(data["debian"]["python"]),
        service_packages=tuple(data["debian"]["services"]),
    )
