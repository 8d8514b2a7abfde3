"""Whether an Envoy takes a configuration: by its exit code, in its own words."""

from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2

from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.envoy import Assembled, Assembler, Envoy
from meshgate.probe import ads


def envoy(folder: Path, script: str) -> Envoy:
    """A program that behaves as the script says."""
    program = folder / "envoy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Envoy(str(program), folder, 10)


def assembled(**resources: tuple[bytes, ...]) -> Assembled:
    """What a proxy is given, put together."""
    types = {
        "clusters": ads.CLUSTERS,
        "endpoints": ads.ENDPOINTS,
        "listeners": ads.LISTENERS,
        "routes": ads.ROUTES,
        "extensions": ads.EXTENSIONS,
    }
    found = {type: resources.get(name, ()) for name, type in types.items()}
    node = ads.node("sidecar~192.0.2.1~a.b~c", "a.b", {}, {})
    return Assembler().assembled(ads.Configuration(node, found))


def test_what_it_takes_is_no_refusal(tmp_path: Path) -> None:
    assert envoy(tmp_path, "exit 0").refusal(b"") == ""


def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    said = "[critical] error initializing configuration '/tmp/x.pb': no such filter"

    assert envoy(tmp_path, f'echo "{said}" >&2; exit 1').refusal(b"") == "no such filter"


@pytest.mark.parametrize("marker", ["debugproto", "debugonly", "debugstr"])
def test_what_does_not_keep_a_constraint_is_told_without_the_message_itself(
    tmp_path: Path, marker: str
) -> None:
    failed = "Proto constraint validation failed (RateLimit.StatPrefix: too short)"
    said = (
        "[2026-11-26 02:56:02.548][1][critical][main] [server.cc:76] error initializing "
        f"configuration '/tmp/x.pb': goo.gle/{marker}    \nkey: hidden\n: {failed}"
    )
    (tmp_path / "said").write_text(said)

    assert envoy(tmp_path, f"cat {tmp_path}/said >&2; exit 1").refusal(b"") == failed


@pytest.mark.parametrize("script", ["kill -9 $$", "exec /no/such/program"])
def test_what_was_not_its_word_is_no_refusal(tmp_path: Path, script: str) -> None:
    with pytest.raises(ReadError):
        envoy(tmp_path, script).refusal(b"")


def test_there_is_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="No such file"):
        Envoy("/no/such/envoy", tmp_path, 10).refusal(b"")


def test_endpoints_are_put_where_they_are_referred_to() -> None:
    cluster = cluster_pb2.Cluster(name="web", type=cluster_pb2.Cluster.EDS)
    load = endpoint_pb2.ClusterLoadAssignment(cluster_name="web")
    load.endpoints.add(priority=3)

    made = bootstrap_pb2.Bootstrap.FromString(
        assembled(
            clusters=(cluster.SerializeToString(),), endpoints=(load.SerializeToString(),)
        ).bootstrap()
    )

    (web,) = (each for each in made.static_resources.clusters if each.name == "web")
    assert web.type == cluster_pb2.Cluster.STATIC
    assert [each.priority for each in web.load_assignment.endpoints] == [3]


def test_listeners_can_be_looked_at_one_at_a_time() -> None:
    two = tuple(listener_pb2.Listener(name=name).SerializeToString() for name in ("a", "b"))
    configuration = assembled(listeners=two)

    made = bootstrap_pb2.Bootstrap.FromString(configuration.bootstrap(["b"]))

    assert [name for name, _ in configuration.listeners] == ["a", "b"]
    assert [each.name for each in made.static_resources.listeners] == ["b"]
