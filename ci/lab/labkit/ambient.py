"""Ambient mode: the images that only such a mesh needs."""

import shutil
from pathlib import Path

from labkit.build import Built, build_ambient
from labkit.node import Node
from labkit.steps import run, step

_IN_NODE = Path("/var/lib/meshgate")  # the folder that node and host share


def import_images(node: Node, built: Built) -> None:
    """Import Istio's CNI agent and the simulated ztunnel, of every release that has them."""
    archive = build_ambient(built.programs)
    place = node.lab.shared / archive.name
    with step("import the images of ambient mode"):
        shutil.copyfile(archive, place)
        run(node.inside(["ctr", "--namespace=k8s.io", "images", "import", _IN_NODE / place.name]))
        place.unlink()
