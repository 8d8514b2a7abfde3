"""An upgrade by revision in a real Argo CD, and the removal of the old revision after its soak.

The tests are one story, in this order, in a lab of their own that begins with a revision.
"""

import subprocess
from collections.abc import Iterator

import pytest

from tests.argocd import pipeline
from tests.argocd.argo import Argo, Object
from tests.argocd.conftest import images_of, with_settings
from tests.argocd.pipeline import PARENT
from tests.argocd.upgrade import SYSTEM, all_went_through
from tests.lab.harness import NEW, OLD, ROOT, Lab, lab_of, until
from tests.lab.rights import VERIFIER

MESHGATE = str(ROOT / ".venv/bin/meshgate")
TAG = "default"  # what the label istio-injection=enabled means
APPROVED = "argocd.argoproj.io/deletion-approved"


def revision(version: str, *tags: str) -> Object:
    """Return an entry of the example's value `revisions`."""
    return {"revision": version.replace(".", "-"), "version": version, "tags": list(tags)}


OLD_NAME, NEW_NAME = (revision(version)["revision"] for version in (OLD, NEW))


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """$MESHGATE_LAB_CANARY if that is named, fresh or as an earlier test left it; else our own."""
    workspace = tmp_path_factory.mktemp("canary")
    words = ("--revision", OLD_NAME)
    with lab_of(OLD, workspace, *words, named="MESHGATE_LAB_CANARY") as lab:
        yield lab


@pytest.fixture(scope="module")
def canary_images(canary: Lab) -> dict[str, str]:
    """This project's image for each target."""
    return images_of(canary)


@pytest.fixture(scope="module")
def argo(canary: Lab, canary_images: dict[str, str]) -> Argo:
    """Argo CD, which has taken over the old revision, without gates yet."""
    argo = with_settings(canary)
    if f"istiod-{OLD_NAME}" not in argo.names():
        revisions = (revision(OLD, TAG),)
        pipeline.take_over(
            argo, pipeline.values(argo, OLD, canary_images[OLD], revisions=revisions)
        )
    return argo


def commit(argo: Argo, images: dict[str, str], *revisions: Object) -> None:
    """Commit the new version with these revisions."""
    given = pipeline.values(argo, NEW, images[NEW], revisions=revisions)
    argo.commit("revisions", given)


def test_an_upgrade_by_revision_goes_through_the_same_gates(
    canary: Lab, argo: Argo, canary_images: dict[str, str]
) -> None:
    _, parent = pipeline.example("app-of-apps", argo)
    commit(argo, canary_images, revision(OLD), revision(NEW, TAG))
    canary.apply(parent)

    all_went_through(canary, argo, NEW, f"istiod-{OLD_NAME}", f"istiod-{NEW_NAME}")
    assert istiods(canary) == {f"istiod-{OLD_NAME}", f"istiod-{NEW_NAME}"}
    # what a new pod gets, and who validates: the old one, until it is removed
    assert service(canary, "mutating", f"istio-revision-tag-{TAG}") == f"istiod-{NEW_NAME}"
    assert service(canary, "validating", "istiod-default-validator") == f"istiod-{OLD_NAME}"


def test_the_old_revision_is_removed_if_it_is_unused_and_a_person_confirms(
    canary: Lab, argo: Argo, canary_images: dict[str, str]
) -> None:
    old = f"istiod-{OLD_NAME}"
    user = {"name": "late", "labels": {"istio.io/rev": OLD_NAME}}
    canary.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": user})

    commit(argo, canary_images, revision(NEW, TAG))
    argo.refresh(PARENT)
    # the automated sync waits too, though it prunes nothing
    approve(canary, argo)
    argo.until(PARENT, lambda app: app.over and app.phase == "Succeeded")
    assert old in argo.names()
    # what a person runs before the confirmation: Argo CD may delete before its hook has ended
    assert unused(canary).returncode == 1
    assert "late" in unused(canary).stdout
    canary.kubectl("label", "namespace/late", "istio.io/rev-")
    assert unused(canary).returncode == 0
    argo.begin(PARENT, prune=True)
    approve(canary, argo)
    argo.until_gone(old, timeout=300)

    until(lambda: istiods(canary) == {f"istiod-{NEW_NAME}"}, timeout=120)
    assert service(canary, "validating", "istiod-default-validator") == f"istiod-{NEW_NAME}"
    upgrade = argo.until(PARENT, lambda app: app.done)
    assert argo.unhealthy(PARENT) == {}, upgrade


def unused(canary: Lab) -> subprocess.CompletedProcess[str]:
    """Ask whether the old revision is still used."""
    return canary.run(MESHGATE, "revisions", f"--unused={OLD_NAME}", identity=VERIFIER)


def approve(canary: Lab, argo: Argo) -> None:
    """Confirm the pruning, as the button in the UI does, once Argo CD waits for it."""
    argo.until(PARENT, lambda app: app.phase == "Running" and "confirmation" in app.message)
    words = ("-n", "argocd", "annotate", "--overwrite", f"application/{PARENT}")
    canary.kubectl(*words, f"{APPROVED}={argo.now()}")


def istiods(canary: Lab) -> set[str]:
    """Return the Deployments of istiod."""
    found = canary.get("deployments", "-n", SYSTEM, "-l", "app=istiod")["items"]
    return {each["metadata"]["name"] for each in found}


def service(canary: Lab, kind: str, name: str) -> str:
    """Return the Service that a webhook configuration calls."""
    found = canary.get(f"{kind}webhookconfiguration/{name}")
    (called,) = {each["clientConfig"]["service"]["name"] for each in found["webhooks"]}
    return str(called)
