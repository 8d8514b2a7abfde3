"""The mesh config of a revision: what istiod cannot parse or rejects is named, not quoted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from meshgate.collect import mesh_config
from meshgate.collect.istiod import MONITORING_PORT, Direct
from meshgate.snapshot.items import Items
from meshgate.snapshot.mesh_config import MeshConfig
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.sources import Kind
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import istiod
from tests.support.fakes import Answer


def read(serve: Serve, tmp_path: Path, mesh: str) -> MeshConfig:
    """Read a ConfigMap with this mesh config, of an istiod that answers."""
    token = tmp_path / "token"
    token.write_text("a-token")
    answers = {"/debug/mesh": Answer(200, b"{}"), "/debug/clusterz": Answer(400)}
    serve(answers, fakes.address(), MONITORING_PORT)

    def objects(kind: Kind) -> list[Any]:
        return [msgspec.convert({"data": {"mesh": mesh}}, kind.type)]

    context: Any = SimpleNamespace(
        cluster=SimpleNamespace(objects=objects),
        transport=Direct(token, timeout=5.0),
        expectations=Expectations(),
    )
    (found,) = mesh_config.read(context, Items(pods=(istiod(ip=fakes.address()),)))
    return found


@pytest.mark.parametrize(
    ("mesh", "field"),
    [
        ("connectTimeout: soon", "connectTimeout: "),
        ("connectTimeout: 2h", "connectTimeout: is not a duration of 1ms to 1h"),
        ("mesh: [", "the key mesh: is not YAML"),
    ],
    ids=["a value that cannot be parsed", "a value that is rejected", "no YAML"],
)
def test_a_field_for_which_istiod_ignores_the_mesh_config(
    mesh: str, field: str, serve: Serve, tmp_path: Path
) -> None:
    (fault,) = read(serve, tmp_path, mesh).unparsable

    assert fault.startswith(field)


def test_a_mesh_config_that_istiod_uses(serve: Serve, tmp_path: Path) -> None:
    found = read(serve, tmp_path, "connectTimeout: 5s")

    assert found.unparsable == ()
    assert [each.different for each in found.effective] == [("connectTimeout",)]
