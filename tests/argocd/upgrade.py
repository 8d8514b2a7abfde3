"""A whole upgrade in Argo CD: its gates in order, all open, and the new version everywhere."""

from collections.abc import Sequence
from itertools import pairwise, product

from tests.argocd.argo import UPGRADE, Application, Argo, moment
from tests.argocd.pipeline import BASE, INGRESS, ISTIOD, PARENT, RESTART
from tests.lab.harness import Lab

SYSTEM = "istio-system"
WORKLOADS = ("shop", "payments")
STEPS = (  # of an upgrade: what is in one runs side by side
    ("control-plane-precheck",),
    ("control-plane-verification",),
    ("control-plane-before-ingress",),
    ("ingress-gateway-verification",),
    ("control-plane-before-restart", "ingress-gateway-before-restart"),
    (RESTART,),
    ("data-plane-verification",),
)
CONTROL_PLANE_STEPS = STEPS[:2]


def log(lab: Lab, job: str) -> str:
    """Return what a hook's Job has printed."""
    return lab.kubectl("logs", f"job/{job}", "-n", SYSTEM)


def all_went_through(
    lab: Lab,
    argo: Argo,
    version: str,
    *istiods: str,
    steps: Sequence[tuple[str, ...]] = STEPS,
) -> None:
    """Every Application was synced by itself, every gate ran, in order, and opened.

    Args:
        lab: the mesh.
        argo: its Argo CD.
        version: the target.
        istiods: the Applications of the revisions; without any, that of an upgrade in place.
        steps: what ran; after an upgrade that was stopped, its rollback ends where that ended, for
            Argo CD syncs no Application that is not changed.
    """

    # the parent's own sync ends when the last Application is applied: its health says the rest
    def ended(app: Application) -> bool:
        whole = app.done and argo.unhealthy(PARENT) == {}
        return app.over and argo.fresh(app) and (app.phase == "Failed" or whole)

    argo.refresh(PARENT)  # as a repository's webhook does; it would look by itself before long
    upgrade = argo.until(PARENT, ended, timeout=UPGRADE)
    assert upgrade.phase == "Succeeded", [upgrade, argo.unhealthy(PARENT)]
    for name in (BASE, *(istiods or (ISTIOD,)), INGRESS, RESTART):
        app = argo.application(name)
        assert app.done, app
        assert app.automated, f"{name} was synced by somebody"
    jobs = {name: lab.get("job", name, "-n", SYSTEM) for step in steps for name in step}
    for step, later in pairwise(steps):
        for one, other in product(step, later):
            ended_at = jobs[one]["status"]["completionTime"]
            began_at = jobs[other]["status"]["startTime"]
            assert moment(ended_at) <= moment(began_at), f"{other} began before {one} had ended"
    for name, each in jobs.items():
        if name == RESTART:  # the one that is no gate
            continue
        annotations = each["metadata"]["annotations"]
        assert annotations["meshgate/gate"] == "open"
        assert annotations["meshgate/target-version"] == version
        assert annotations["meshgate/cluster"] == "lab"
    for namespace in WORKLOADS:
        for pod in lab.get("pods", "-n", namespace)["items"]:
            assert f"proxyv2:{version}" in str(pod["spec"])
