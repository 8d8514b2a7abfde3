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


def example(name: str, argo: Argo) -> list[Object]:
    """Return the objects of an example, with the lab's git repository."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    assert OURS in text
    text = text.replace(OURS, f"file://{argo.repository}")
    return [each for each in yaml.safe_load_all(text) if each]


def values(argo: Argo, version: str, image: str, *, watched: bool = False, **gates: Any) -> Object:
    """Return the values of the example's chart for that version.

    Args:
        argo: the lab's Argo CD.
        version: the version of Istio.
        image: meshgate's image, as NAME@DIGEST.
        watched: whether requests go through the gateways while they are replaced.
        gates: more values of meshgate's chart.
    """
    repository, _, digest = image.partition("@")
    ours = {"image": {"repository": repository, "digest": digest}, "settle": 30, **gates}
    watch = {"watch": {"enabled": True}} if watched else {}
    return {
        "version": version,
        "charts": argo.charts,
        "meshgate": {
            "repoURL": f"file://{argo.repository}",
            "chart": None,
            "path": "hooks/meshgate",
            "targetRevision": "main",
        },
        "gates": ours | {"clusterName": "lab"},
        "istiod": {"values": _istiod(version)},
        "ingress": {"values": _gateway(), "gates": watch},
    }


def applications(argo: Argo, version: str, image: str, **more: Any) -> list[Object]:
    """Return the Applications that the example's chart renders with these values."""
    return rendered(values(argo, version, image, **more))


def rendered(given: Object) -> list[Object]:
    """Return the Applications that the example's chart renders, as Argo CD renders it."""
    words = ("template", PARENT, CHART, "--namespace=argocd", "--values=-")
    done = run_helm(*words, stdin=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def name(body: Object) -> str:
    """Return its name."""
    return str(body["metadata"]["name"])


def _istiod(version: str) -> Object:
    """What the lab's own installation sets, for its stock Envoy, in the chart's words."""
    spec = yaml.safe_load((ROOT / "ci/lab/manifests/iop.yaml").read_text())["spec"]
    pilot = spec["components"]["pilot"]["k8s"]
    settings: Object = json.loads(json.dumps(spec["values"]))
    settings["global"] |= {"hub": spec["hub"], "tag": version}
    return {
        **{name: value for name, value in settings.items() if name != "pilot"},
        "autoscaleEnabled": False,
        "meshConfig": spec["meshConfig"],
        "resources": pilot["resources"],
        "env": {each["name"]: each["value"] for each in pilot["env"]},
    }


def _gateway() -> Object:
    """The gateway that the lab has already, behind its node ports."""
    ports = [
        {"name": "status-port", "port": 15021, "targetPort": 15021, "nodePort": 30021},
        {"name": "http2", "port": 80, "targetPort": 8080, "nodePort": 30080},
        {"name": "https", "port": 443, "targetPort": 8443, "nodePort": 30443},
    ]
    return {
        "name": "istio-ingressgateway",
        "service": {"type": "NodePort", "ports": ports},
        "autoscaling": {"enabled": False},
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
