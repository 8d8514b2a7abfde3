"""A mesh of the old version that Argo CD has taken over, with this project's images beside it."""

from collections.abc import Iterator

import pytest

from tests.argocd import pipeline
from tests.argocd.argo import Argo
from tests.lab.harness import NEW, OLD, ROOT, Lab, lab_of


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """$MESHGATE_LAB_OLD if that is named, fresh or as an earlier test left it; else our own."""
    with lab_of(OLD, tmp_path_factory.mktemp("runs"), named="MESHGATE_LAB_OLD") as lab:
        yield lab


@pytest.fixture(scope="session")
def images(lab: Lab) -> dict[str, str]:
    """This project's image for each target: it has the istioctl of that version."""
    return images_of(lab)


def images_of(lab: Lab) -> dict[str, str]:
    """Build them in a lab's registry."""
    return {version: lab.printed("image", "image", "--istio", version) for version in (OLD, NEW)}


@pytest.fixture(scope="session")
def argocd(lab: Lab) -> Argo:
    """Argo CD with our health checks and links."""
    return with_settings(lab)


def with_settings(lab: Lab) -> Argo:
    """Return the Argo CD of a lab, started if it was not, with our health checks and links."""
    argo = Argo(lab)
    for name in ("argocd-cm", "deep-links-cm"):
        settings = ROOT / f"hooks/argocd/{name}.yaml"
        lab.kubectl("patch", "configmap/argocd-cm", "-n", "argocd", f"--patch-file={settings}")
    return argo


@pytest.fixture(scope="session")
def argo(lab: Lab, argocd: Argo, images: dict[str, str]) -> Argo:
    """Argo CD, which has taken over the old Istio, without gates yet."""
    if pipeline.ISTIOD not in argocd.names():
        # the lab's installer injects by a tag's webhook, the chart by its own
        lab.kubectl("delete", "mutatingwebhookconfiguration", "istio-revision-tag-default")
        pipeline.take_over(argocd, pipeline.values(argocd, OLD, images[OLD]))
    return argocd
