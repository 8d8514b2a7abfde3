"""A mesh of the old version that Argo CD has taken over, with this project's images beside it."""

from collections.abc import Iterator

import pytest

from tests.argocd import pipeline
from tests.argocd.argo import Argo, Object
from tests.lab.harness import NEW, OLD, ROOT, Lab, lab_of


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """$MESHGATE_LAB_OLD if that is named, fresh or as an earlier test left it; else our own."""
    with lab_of(OLD, tmp_path_factory.mktemp("runs"), named="MESHGATE_LAB_OLD") as lab:
        yield lab


@pytest.fixture(scope="session")
def images(lab: Lab) -> dict[str, str]:
    """This project's image for each target: it has the istioctl of that version."""
    return {version: lab.printed("image", "image", "--istio", version) for version in (OLD, NEW)}


@pytest.fixture(scope="session")
def argocd(lab: Lab) -> Argo:
    """Argo CD with our health checks."""
    argo = Argo(lab)
    checks = ROOT / "hooks/argocd/argocd-cm.yaml"
    lab.kubectl("patch", "configmap/argocd-cm", "-n", "argocd", f"--patch-file={checks}")
    return argo


@pytest.fixture(scope="session")
def argo(lab: Lab, argocd: Argo, images: dict[str, str]) -> Argo:
    """Argo CD, which has taken over the old Istio, without gates yet."""
    argo = argocd
    if pipeline.ISTIOD in argo.names():
        return argo
    project, parent = pipeline.example("app-of-apps", argo)
    bare: Object = {"stages": [], "before": [], "restart": {"enabled": False}, "verifyNow": False}
    given = pipeline.values(argo, OLD, images[OLD], **bare)
    applications = pipeline.rendered(given)
    folders = ("hooks/meshgate", "hooks/examples/upgrade")
    argo.commit("Istio without gates", given, {folder: ROOT / folder for folder in folders})
    assert (project["kind"], parent["kind"]) == ("AppProject", "Application")
    lab.apply(project)
    for name in (pipeline.BASE, pipeline.ISTIOD, pipeline.INGRESS):
        lab.apply(*(each for each in applications if pipeline.name(each) == name))
        argo.until(name, lambda app: app.done)
        if name == pipeline.ISTIOD:
            # the lab's installer injects by a tag's webhook, the chart by its own
            lab.kubectl("delete", "mutatingwebhookconfiguration", "istio-revision-tag-default")
    return argo
