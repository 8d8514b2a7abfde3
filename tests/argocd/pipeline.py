"""The examples as a team would take them over: another repository, the lab's image and Envoy."""

import json
from typing import Any

import yaml

from tests.argocd.argo import Argo, Object
from tests.lab.harness import ROOT

EXAMPLES = ROOT / "hooks/examples"
SHOWN = "1.31.0"  # the version that the examples show
OFFICIAL = "https://blob.istio.io/istio-release/charts"
OURS = "https://git.example.com/meshgate.git"
BASE, ISTIOD, INGRESS = "istio-base", "istiod", "istio-ingress"
RESTART = "sequential-restart-all-istio-enabled-services"
PARENT = "istio-upgrade"


def example(name: str, argo: Argo, version: str) -> list[Object]:
    """One of the files, with this lab's places and that version in it."""
    text = (EXAMPLES / f"{name}.yaml").read_text().replace(SHOWN, version)
    for shown, real in ((OFFICIAL, argo.charts), (OURS, f"file://{argo.repository}")):
        assert shown in text or shown == OFFICIAL
        text = text.replace(shown, real)
    return [each for each in yaml.safe_load_all(text) if each]


def applications(
    argo: Argo, version: str, image: str, *, watched: bool = False, **gates: Any
) -> list[Object]:
    """The four Applications for that version; `gates` are more values of our chart.

    `watched`: requests go through the gateways while they are replaced.
    """
    repository, _, digest = image.partition("@")
    ours = {"image": {"repository": repository, "digest": digest}, "settle": 30, **gates}
    found = example("applications", argo, version)
    for each in found:
        spec = each["spec"]
        watch = {"watch": {"enabled": True}} if watched and name(each) == INGRESS else {}
        for source in spec.get("sources", [spec.get("source", {})]):
            more = _OFFICIAL[source["chart"]](version) if "chart" in source else ours | watch
            if more:
                source.setdefault("helm", {}).setdefault("valuesObject", {}).update(more)
    return found


def name(body: Object) -> str:
    """What it is called."""
    return str(body["metadata"]["name"])


def _base(version: str) -> Object:
    del version
    return {}


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


def _gateway(version: str) -> Object:
    """The gateway that the lab has already, behind its node ports."""
    del version
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


_OFFICIAL = {"base": _base, "istiod": _istiod, "gateway": _gateway}
