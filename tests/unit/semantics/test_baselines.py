"""Which baselines excuse nothing: of another mesh, or from after the rollout that is judged."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.baselines import belongs_elsewhere, note, objection
from meshgate.snapshot.kubernetes import Annotations, Deployment, Metadata, Namespace
from meshgate.snapshot.model import Expectations, Snapshot, before
from tests.support.builders import deployment, reading, snapshot

OLD, NEW = "1.30.4", "1.31.0"


def namespace(name: str, uid: str) -> Namespace:
    return Namespace(metadata=Metadata(name=name, uid=uid))


CLUSTER = (namespace("kube-system", "cluster-1"), namespace("istio-system", "mesh-1"))


def rolled_out(times: int, name: str = "istiod", uid: str = "") -> Deployment:
    """Istiod's Deployment after so many changes of its template."""
    made = deployment(name=name)
    metadata = msgspec.structs.replace(
        made.metadata, uid=uid or name, annotations=Annotations(rollouts=str(times))
    )
    return msgspec.structs.replace(made, metadata=metadata)


def state(
    version: str, *deployments: Deployment, target: str | None = NEW, **more: Any
) -> Snapshot:
    """The mesh with this istiod."""
    given: dict[str, Any] = {
        "namespaces": CLUSTER,
        "deployments": deployments or (rolled_out(1),),
        "istiod": (reading(version=version),),
        "expectations": Expectations(target_version=target),
    }
    return snapshot(**{**given, **more})


def compared(now: Snapshot, then: Snapshot) -> Snapshot:
    """The mesh now, judged with a baseline."""
    expected = msgspec.structs.replace(now.expectations, before=before(then))
    return msgspec.structs.replace(now, expectations=expected)


def test_a_baseline_from_before_the_upgrade_excuses_what_it_has() -> None:
    then = state(OLD)

    assert objection(compared(state(OLD), then)) == ""  # the precheck
    assert objection(compared(state(NEW, rolled_out(2)), then)) == ""
    assert note(compared(state(NEW, rolled_out(2)), then)) == ""


def test_a_baseline_from_after_the_upgrade_excuses_nothing() -> None:
    after = state(NEW, rolled_out(2))

    why = objection(compared(after, after))

    assert why.startswith("istiod already ran 1.31.0 when it was captured")
    assert why in note(compared(after, after))


def test_a_baseline_of_a_soak_with_both_revisions_excuses_nothing() -> None:
    both = (rolled_out(1, "istiod"), rolled_out(1, "istiod-1-31"))
    then = state(OLD, *both, istiod=(reading(version=OLD), reading(version=NEW)))
    # the old revision is removed afterwards, which is no rollout of the new one
    now = state(NEW, rolled_out(1, "istiod-1-31"))

    assert objection(compared(now, then))


def test_a_rollback_to_the_version_of_the_baseline_is_compared() -> None:
    then = state(OLD, rolled_out(1), target=OLD)
    rolled_back = state(OLD, rolled_out(3), target=OLD)

    assert objection(compared(rolled_back, then)) == ""


def test_an_istiod_that_was_installed_again_was_rolled_out() -> None:
    then = state(NEW, rolled_out(1, uid="first"))

    assert objection(compared(state(NEW, rolled_out(1, uid="second")), then)) == ""


def test_without_a_target_any_baseline_of_this_mesh_counts() -> None:
    same = state(NEW, target=None)

    assert objection(compared(same, same)) == ""


def test_a_baseline_whose_istiod_did_not_answer_excuses_nothing() -> None:
    then = state(OLD, istiod=())

    assert "the version of istiod was not known" in objection(compared(state(OLD), then))


def test_a_minor_version_as_the_target_is_met_by_each_of_its_patches() -> None:
    after = state("1.31.2", target="1.31")

    assert objection(compared(after, after))


# --- another mesh -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespaces", "elsewhere"),
    [
        (CLUSTER, False),
        ((namespace("kube-system", "other"), namespace("istio-system", "x")), True),
        # installed again in the same cluster
        ((CLUSTER[0], namespace("istio-system", "new")), False),
    ],
    ids=["the same", "another", "a new namespace of istiod"],
)
def test_a_cluster_is_known_by_the_uids_of_its_namespaces(
    namespaces: tuple[Namespace, ...], elsewhere: bool
) -> None:
    now = state(NEW, rolled_out(2), namespaces=namespaces)

    assert bool(belongs_elsewhere(before(state(OLD)), now)) is elsewhere
    assert bool(objection(compared(now, state(OLD)))) is elsewhere


def test_a_baseline_of_another_mesh_of_the_same_cluster_is_refused() -> None:
    now = state(NEW, expectations=Expectations(istio_namespace="istio-payments"))

    assert "istiod is in namespace istio-system" in belongs_elsewhere(before(state(OLD)), now)


def test_a_baseline_that_may_be_of_another_cluster_excuses_nothing() -> None:
    now = state(NEW, rolled_out(2), namespaces=())

    assert belongs_elsewhere(before(state(OLD)), now) == ""
    assert "is unknown" in objection(compared(now, state(OLD)))


def test_a_verdict_of_an_older_meshgate_is_replayed_as_it_was() -> None:
    # it stored neither namespaces nor rollouts
    then = msgspec.structs.replace(before(state(NEW)), namespaces=None, rollouts=None)
    now = state(NEW, expectations=Expectations(target_version=NEW, before=then))

    assert objection(now) == ""
