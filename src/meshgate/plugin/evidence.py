"""From the settings to a source of evidence, and to what the evidence is judged by."""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from meshgate.collect.capture import Replay, Source, cluster, connect
from meshgate.collect.errors import ReadError
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.deadline import Deadline
from meshgate.facts.mesh import Mesh
from meshgate.plugin.settling import Checks, problems
from meshgate.semantics.baselines import belongs_elsewhere, objection
from meshgate.semantics.declared_answers import missing, read_answers
from meshgate.semantics.declared_pairs import read_pairs
from meshgate.semantics.releases import read_support
from meshgate.settings import Settings
from meshgate.settings.probing import Traffic
from meshgate.snapshot.declared_pairs import DeclaredPair
from meshgate.snapshot.ingress import INSIDE, OUTSIDE, PROBER, Answer
from meshgate.snapshot.model import Before, Expectations, KnownProblem, Snapshot, before
from meshgate.snapshot.store import UnusableSnapshot, load
from meshgate.snapshot.traffic_metrics import TrafficLimits
from meshgate.snapshot.upgrade import Support
from meshgate.snapshot.watch import Watch
from meshgate.suppressions import read_waivers

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster


class Past(NamedTuple):
    """A baseline: what was wrong in it, and what it saw; and what a watch saw."""

    known: tuple[KnownProblem, ...] | None = None
    before: Before | None = None
    watch: Watch | None = None


def past(settings: Settings, selected: Checks) -> Past:
    """Return what is known from before; raise ReadError or UnusableSnapshot."""
    watch = _watch(settings)
    if not settings.run.baseline:
        return Past(watch=watch)
    snapshot = _load(settings, settings.run.baseline)
    # like the run itself: the same settings, and nothing suppressed
    same = expectations(settings, snapshot.expectations, Past())
    same = msgspec.structs.replace(same, waivers=(), known_problems=None, before=None)
    baseline = Mesh(msgspec.structs.replace(snapshot, expectations=same, unconfirmed=()))
    return Past(problems(selected, baseline), before(snapshot), watch)


def need_same_mesh(settings: Settings, source: Source, items: Collection[str]) -> None:
    """Raise UnusableSnapshot if the baseline is not of the mesh that is verified.

    Args:
        settings: the run's.
        source: where the evidence comes from.
        items: what shows it; empty without a baseline.
    """
    if not items:
        return
    snapshot = source.capture(items)
    compared = snapshot.expectations.before
    if compared and (why := belongs_elsewhere(compared, snapshot)):
        raise UnusableSnapshot(
            f"cannot use the baseline {settings.run.baseline}: {why}. Name one that was captured "
            "of this mesh before the upgrade"
        )


def save_baseline(
    address: str, snapshot: Snapshot, cluster: "Cluster | None", say: Callable[[str], None]
) -> None:
    """Save a capture as the baseline, except in place of one that is of more use.

    A gate that runs again after istiod was upgraded must not replace what it is compared with.

    Args:
        address: a file, or `configmap://namespace/name`.
        snapshot: the capture.
        cluster: where ConfigMaps are.
        say: prints a line.
    """
    place = SnapshotLocation(address)
    if not _is_usable(snapshot, snapshot):
        # nothing usable there: then this one is better than none
        with suppress(UnusableSnapshot):
            kept = place.load(cluster)
            if _is_usable(kept, snapshot):
                say(
                    f"{place.address} was not replaced: istiod already runs the target version, "
                    f"and the baseline there, of {kept.taken:%Y-%m-%d %H:%M} UTC, is from before"
                )
                return
    place.save(snapshot, cluster)


def _is_usable(baseline: Snapshot, snapshot: Snapshot) -> bool:
    """Return whether a baseline would excuse what a snapshot has too."""
    compared = msgspec.structs.replace(snapshot.expectations, before=before(baseline))
    return not objection(msgspec.structs.replace(snapshot, expectations=compared))


def _watch(settings: Settings) -> Watch | None:
    """Return what a watch saved; a watch that saved nothing closes only the checks about it."""
    if not settings.run.watch:
        return None
    now = datetime.now(UTC)
    try:
        saved = _load(settings, settings.run.watch)
    except (UnusableSnapshot, ReadError) as error:
        return Watch(began=now, last=now, unusable=str(error))
    if saved.watch is None:
        words = f"{settings.run.watch} is not from `meshgate watch`"
        return Watch(began=now, last=now, unusable=words)
    return saved.watch


def _load(settings: Settings, location: str) -> Snapshot:
    place = SnapshotLocation(location)
    return place.load(cluster(settings) if place.in_cluster else None)


def source(settings: Settings, known: Past, progress: Callable[[str], None]) -> Source:
    """Return the recording or the cluster that the settings name.

    Args:
        settings: the run's.
        known: what is known from before.
        progress: is called with what is being read.

    Raises:
        NoCluster: if neither is named.
        ValueError: if the settings cannot be used.

    Returns:
        The recording, or a connection to the cluster.
    """
    if file := settings.run.snapshot:
        replayed = recording(Path(file), settings, known)
        taken, origin = replayed.snapshot.taken, replayed.snapshot.source
        progress(
            f"replaying the recording {file} of {taken:%Y-%m-%d %H:%M} UTC ({origin}): "
            "no cluster is contacted"
        )
        return replayed
    judged_by = expectations(settings, Expectations(), known)
    if unset := missing(judged_by.answers, os.environ):
        raise ValueError(
            f"{settings.ingress.expect} names {', '.join(unset)}: not in the environment"
        )
    from meshgate.probe.client import unusable  # as above: not for a replay

    if why := unusable(settings.ingress):
        raise ValueError(why)
    deadline = Deadline(settings.run.deadline)
    return connect(settings, judged_by, progress=progress, deadline=deadline)


def recording(file: Path, settings: Settings, known: Past | None = None) -> Replay:
    """Return a recording that is judged by these settings; raise UnusableSnapshot.

    Args:
        file: a snapshot.
        settings: the run's.
        known: what is known from before.

    Returns:
        The recording.
    """
    snapshot = load(file)
    return Replay(snapshot, expectations(settings, snapshot.expectations, known or Past()))


def expectations(settings: Settings, otherwise: Expectations, known: Past) -> Expectations:
    """Return what the mesh is judged by.

    Args:
        settings: what the user set.
        otherwise: what applies where the user set nothing: the default, or the recording's.
        known: what is known from before.

    Returns:
        The criteria that the settings name, and `otherwise` for the rest.
    """
    criteria, probes, ingress = settings.criteria, settings.probes, settings.ingress
    given = {
        "istio_namespace": criteria.istio_namespace,
        "target_version": criteria.target_version,
        "stale_after": criteria.stale_after,
        "failure_threshold": criteria.failure_threshold,
        "require_mtls": criteria.require_mtls,
        "allow_rollback": criteria.allow_rollback,
        "support": _support(criteria.support_matrix),
        "accepted_unverified": criteria.accept_unverified or None,
        "waivers": read_waivers(Path(criteria.waivers)) if criteria.waivers else None,
        "excluded": probes.exclude_port or None,
        "sample": probes.sample,
        "shard": probes.shard,
        "require_retry_after": probes.require_retry_after,
        "retry_after_targets": probes.retry_after_target or None,
        "vantages": _vantages(settings),
        "answers": _answers(ingress.expect),
        "pairs": _pairs(probes.pairs),
        "images": probes.probe_image or None,
        "traffic": _traffic(settings.traffic),
        "require_shadow": settings.simulation.require,
        "accepted_losses": settings.simulation.allow_removal or None,
        "known_problems": () if settings.run.fail_on_baseline_findings else known.known,
        "before": known.before,
        "watch": known.watch,
        "loss_budgets": criteria.loss_budget or None,
    }
    return msgspec.structs.replace(
        otherwise, **{name: value for name, value in given.items() if value is not None}
    )


def _vantages(settings: Settings) -> tuple[str, ...] | None:
    ingress = settings.ingress
    wanted = {INSIDE: True, OUTSIDE: ingress.urls or ingress.resolver, PROBER: ingress.prober}
    named = tuple(name for name, given in wanted.items() if given)
    return ingress.vantage or (named if len(named) > 1 else None)


def _answers(file: str | None) -> tuple[Answer, ...] | None:
    if file is None:
        return None
    try:
        return read_answers(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot use the answers {file}: {error}") from error


def _pairs(file: str | None) -> tuple[DeclaredPair, ...] | None:
    if file is None:
        return None
    try:
        return read_pairs(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot use the pairs {file}: {error}") from error


def _traffic(given: Traffic) -> TrafficLimits | None:
    if not given.prometheus and not given.proxies:
        return None
    return TrafficLimits(
        requested=True,
        requests=given.requests,
        errors=given.errors,
        slower=given.slower,
        confidence=given.confidence,
    )


def _support(file: str | None) -> Support | None:
    if file is None:
        return None
    try:
        return read_support(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot use the support matrix {file}: {error}") from error
