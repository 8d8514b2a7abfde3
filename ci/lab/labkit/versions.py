"""What the lab is made of, as `versions.toml` has it."""

import tomllib
from dataclasses import dataclass
from functools import cache

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

    @property
    def revision(self) -> str:
        """The version as a revision name: no dots allowed there."""
        return self.version.replace(".", "-")


@dataclass(frozen=True)
class Versions:
    """All of `versions.toml`."""

    kubernetes: str
    etcd: str
    etcd_image_tag: str
    coredns: str
    pause: str
    argocd: str
    helm: str
    default_istio: str
    istio: dict[str, Istio]
    node_packages: tuple[str, ...]
    prober_packages: tuple[str, ...]
    proxy_packages: tuple[str, ...]
    python_packages: tuple[str, ...]
    service_packages: tuple[str, ...]

    def istio_release(self, version: str) -> Istio:
        """The named release, or an error that lists those there are."""
        try:
            return self.istio[version]
        except KeyError:
            known = ", ".join(sorted(self.istio))
            raise LabError(f"the lab has no Istio {version!r}; versions.toml has {known}") from None


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
        argocd=data["argocd"]["version"],
        helm=data["helm"]["version"],
        default_istio=data["default_istio"],
        istio={
            version: Istio(version=version, **{**row, "replace": tuple(row.get("replace", ()))})
            for version, row in data["istio"].items()
        },
        node_packages=tuple(data["debian"]["node"]),
        prober_packages=tuple(data["debian"]["prober"]),
        proxy_packages=tuple(data["debian"]["proxy"]),
        python_packages=tuple(data["debian"]["python"]),
        service_packages=tuple(data["debian"]["services"]),
    )
