"""Detections: how a mesh shows before an upgrade that a behavior change affects it."""

from meshgate.facts.precheck.detections import gateway_api, installation, objects, policies
from meshgate.facts.precheck.detections.base import Detection

DETECTIONS: dict[str, Detection] = {
    detection.__name__: detection
    for module in (installation, gateway_api, objects, policies)
    for detection in module.ALL
}
