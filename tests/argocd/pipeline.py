"""The examples with only names edited: the repositories, and the values of the lab's Envoy."""

import json
from typing import Any

import yaml

from tests.argocd.argo import Argo, Object
from tests.chart.conftest import run_helm
from tests.lab.harness import ROOT

EXAMPLES = ROOT / "hooks/examples"
CHART = EXAMPLES / "upgrade"
OURS = "https://git.example.com/meshgate.git"
BASE, ISTIOD, INGRESS = "istio-base", "istiod", "istio-ingress"
RESTART = "sequential-restart-all-istio-enabled-services"
PARENT = "istio-upgrade"
NAMESPACE = "istio-system"
_SMALL = {
    "autoscaling": {"enabled": False},
    "imagePullPolicy": "IfNotPresent",
    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
}
PROVIDER = "ext-authz"  # of the mesh config, for policies with the action CUSTOM


def example(name: str, argo: Argo) -> list[Object]:
    """Return the objects of an example, with the lab's git repository."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    assert OURS in text
    text = text.replace(OURS, f"file://{argo.repository}")
    return [each for each in yaml.safe_load_all(text) if each]


def values(
    argo: Argo,
    version: str,
    image: str,
    *,
    watched: bool = False,
    revisions: tuple[Object, ...] = (),
    **gates: Any,
) -> Object:
    """Return the values of the example's chart for that version.

    Args:
        argo: the lab's Argo CD.
        version: the version of Istio.
        image: meshgate's image, as NAME@DIGEST, or NAME for the chart's own tag.
        watched: whether requests go through the gateways while they are replaced.
        revisions: the revisions of istiod; without any, it is upgraded in place.
        gates: more values of meshgate's chart.
    """
    repository, _, digest = image.partition("@")
    ours = {"image": {"repository": repository, "digest": digest}, **gates}
    watch = {"watch": {"enabled": True, "start": "ingress"}} if watched else {}
    return {
        "version": version,
        "revisions": list(revisions),
        "charts": argo.charts,
        "meshgate": {
            "repoURL": f"file://{argo.repository}",
            "chart": None,
            "path": "hooks/meshgate",
            "targetRevision": "main",
        },
        "gates": ours | {"clusterName": "lab"},
        "istiod": {"values": _istiod()},
        "ingress": {"values": _gateway(), "others": [_egress()], "gates": watch},
    }


def take_over(argo: Argo, given: Object) -> None:
    """Let Argo CD take over the Istio that the lab's installer installed, without gates yet."""
    bare = {"stages": [], "before": [], "restart": {"enabled": False}, "verifyNow": False}
    given = given | {"gates": given["gates"] | bare}
    folders = ("hooks/meshgate", "hooks/examples/upgrade")
    argo.commit("Istio without gates", given, {folder: ROOT / folder for folder in folders})
    project, parent = example("app-of-apps", argo)
    assert (project["kind"], parent["kind"]) == ("AppProject", "Application")
    argo.lab.apply(project)
    for each in rendered(given):
        if name(each) != RESTART:
            argo.lab.apply(each)
            argo.until(name(each), lambda app: app.done)


def applications(argo: Argo, version: str, image: str, **more: Any) -> list[Object]:
    """Return the Applications that the example's chart renders with these values."""
    return rendered(values(argo, version, image, **more))


def istiod_manifests(argo: Argo, version: str, given: Object) -> str:
    """Return what a release's chart renders of istiod, as hooks/README.md describes it."""
    chart = argo.repository.parent / f"charts/istiod-{version}.tgz"
    words = ("template", "istiod", chart, f"--namespace={NAMESPACE}", "--values=-")
    done = run_helm(*words, stdin=json.dumps(given["istiod"]["values"]))
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    kept = [each for each in objects if each["kind"] in ("ConfigMap", "Deployment")]
    return yaml.safe_dump_all(kept)


def rendered(given: Object) -> list[Object]:
    """Return the Applications that the example's chart renders, as Argo CD renders it."""
    words = ("template", PARENT, CHART, "--namespace=argocd", "--values=-")
    done = run_helm(*words, stdin=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def name(body: Object) -> str:
    """Return its name."""
    return str(body["metadata"]["name"])


def _istiod() -> Object:
    """What the lab's own installation sets, for its stock Envoy, in the chart's words."""
    spec = yaml.safe_load((ROOT / "ci/lab/manifests/iop.yaml").read_text())["spec"]
    pilot = spec["components"]["pilot"]["k8s"]
    settings: Object = json.loads(json.dumps(spec["values"]))
    service = {"service": "web.shop.svc.cluster.local", "port": 80}
    providers = [{"name": PROVIDER, "envoyExtAuthzHttp": service}]
    return {
        **{name: value for name, value in settings.items() if name != "pilot"},
        "autoscaleEnabled": False,
        "meshConfig": spec["meshConfig"] | {"extensionProviders": providers},
        "resources": pilot["resources"],
        "env": {each["name"]: each["value"] for each in pilot["env"]},
    }


def _gateway() -> Object:
    """The gateway that the lab has already, behind its node ports."""
    ports = [
        {"name": "status-port", "port": 15021, "targetPort": 15021, "nodePort": 30021},
        {"name": "http2", "port": 80, "targetPort": 8080, "nodePort": 30080},
        {"name": "https", "port": 443, "targetPort": 8443, "nodePort": 30443},
        {"name": "tcp-ledger", "port": 31400, "targetPort": 31400, "nodePort": 30140},
    ]
    return {
        "name": "istio-ingressgateway",
        "service": {"type": "NodePort", "ports": ports},
        **_SMALL,
    }


def _egress() -> Object:
    """The egress gateway of the lab's estate."""
    ports = [
        {"name": "http2", "port": 80, "targetPort": 8080},
        {"name": "https", "port": 443, "targetPort": 8443},
    ]
    service = {"type": "ClusterIP", "ports": ports}
    return {"name": "istio-egressgateway", "service": service, **_SMALL}
