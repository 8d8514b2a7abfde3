"""Many configurations in one bootstrap: only such that all are well if it is, and nothing twice.

That Envoy itself judges a batch as it judges its members is proven in the lab.
"""

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2

from meshgate.collect.shadow.batches import Batch, batches
from meshgate.collect.shadow.envoy import Assembled
from meshgate.probe import ads

NODE = ads.node("sidecar~192.0.2.1~a.b~c", "a.b", {}, {})


def cluster(name: str, **fields: object) -> tuple[str, bytes]:
    return name, cluster_pb2.Cluster(name=name, **fields).SerializeToString()


def listener(
    name: str, address: str = "0.0.0.0", port: int = 80, prefix: str = ""
) -> tuple[str, bytes]:
    made = listener_pb2.Listener(name=name, stat_prefix=prefix)
    made.address.socket_address.address = address
    made.address.socket_address.port_value = port
    return name, made.SerializeToString()


def given(
    clusters: tuple[tuple[str, bytes], ...] = (), listeners: tuple[tuple[str, bytes], ...] = ()
) -> Assembled:
    return Assembled(NODE, clusters, listeners)


def members(*configurations: Assembled) -> list[list[int]]:
    """Who is validated with whom; who is alone is in none."""
    made, alone = batches(configurations)
    together = [batch.members for batch in made]
    told = sorted([*alone, *(each for batch in together for each in batch)])
    assert told == list(range(len(configurations)))  # nobody is forgotten, nobody is in two
    return together


def static(batch: Batch) -> bootstrap_pb2.Bootstrap.StaticResources:
    return bootstrap_pb2.Bootstrap.FromString(batch.bootstrap()).static_resources


def sockets(batch: Batch) -> list[tuple[str, str, int]]:
    """The listeners of a batch: the name behind the unit's number, the address, the port."""
    return [
        (
            each.name.partition("/")[2],
            each.address.socket_address.address,
            each.address.socket_address.port_value,
        )
        for each in static(batch).listeners
    ]


def test_what_is_the_same_is_there_once() -> None:
    both = given((cluster("a"),), (listener("out"), listener("in", port=90)))
    other = given((cluster("a"),), (listener("out"), listener("in", port=91)))

    (batch,), alone = batches([both, other])

    assert alone == []
    assert [each.name for each in static(batch).clusters].count("a") == 1
    assert [(name, port) for name, _, port in sockets(batch)] == [
        ("out", 80),
        ("in", 90),
        ("in", 91),
    ]


def test_listeners_of_two_collide_in_nothing() -> None:
    (batch,), _ = batches([given((), (listener("in", prefix=prefix),)) for prefix in "ab"])

    (_, first, port), (_, second, other) = sockets(batch)
    assert (first != second, port, other) == (True, 80, 80)
    assert len({each.name for each in static(batch).listeners}) == 2


def test_listeners_of_one_that_collide_still_do() -> None:
    # Envoy refuses two listeners with one address, or with one name: it must see them as they are
    twice = given((), (listener("a"), listener("b"), listener("c", port=81)))
    same_name = given((), (listener("d", "192.0.2.1"), listener("d", "192.0.2.2", 81)))

    (batch,), _ = batches([twice, same_name])

    (_, a, _), (_, b, _), (_, c, _), *_ = sockets(batch)
    assert a == b != c
    names = [each.name for each in static(batch).listeners]
    assert names[3] == names[4]
    assert len(set(names)) == 4


def test_an_address_stays_of_its_family() -> None:
    (batch,), _ = batches([given((), (listener("in", "::", prefix=prefix),)) for prefix in "ab"])

    assert all(":" in address for _, address, _ in sockets(batch))


def test_two_clusters_of_one_name_are_never_together() -> None:
    assert members(given((cluster("a"),)), given((cluster("a", alt_stat_name="other"),))) == []


def test_what_names_a_cluster_that_it_has_not_is_not_given_that_of_another() -> None:
    # Envoy would refuse the second alone, if it looks for that cluster
    has, names = given((cluster("own"),)), given((), (listener("in", prefix="to own"),))

    assert members(has, names) == []
    assert members(names, has) == []
    assert members(has, given((cluster("other"),), names.listeners)) == []
    # a cluster may name another one, too
    assert members(has, given((cluster("b", alt_stat_name="own"),))) == []


def test_what_brings_clusters_that_nobody_else_names_may_join() -> None:
    assert members(given((cluster("own"),)), given((cluster("other"),))) == [[0, 1]]


def test_what_is_refused_for_itself_stays_alone() -> None:
    fine = given((cluster("a"),), (listener("in"),))

    twice = given((cluster("a"), cluster("a")))
    internal = given((), (("inner", listener_pb2.Listener(name="inner").SerializeToString()),))
    assert members(fine, twice, internal, given((cluster("a"),))) == [[0, 3]]


def test_a_batch_is_bounded() -> None:
    assert [len(each) for each in members(*([given((cluster("a"),))] * 70))] == [32, 32, 6]
    large = [given((cluster(f"c{n:02}", alt_stat_name="x" * 2**20),)) for n in range(20)]
    assert [len(each) for each in members(*large)] == [16, 4]
