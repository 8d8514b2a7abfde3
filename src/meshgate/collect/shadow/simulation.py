"""The upgrade in the shadow: the target's istiod makes configuration for the mesh as it is, the
target's Envoy says whether it would take it, and what the running istiod gives says what changes.

Nothing is applied: the target sees the cluster through the façade, and proxies are never asked.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Api
from meshgate.collect.shadow import envoy, proxies, target
from meshgate.collect.shadow.batches import Batch, batches
from meshgate.collect.shadow.candidates import Candidate, Key, candidates
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.shadow.proxies import Proxy
from meshgate.collect.shadow.recorded import RecordedCluster, RecordedRunningMesh
from meshgate.collect.shadow.running import RunningMesh
from meshgate.probe import admission, ads
from meshgate.semantics.config_diff import changes, resources
from meshgate.semantics.injection import has_sidecar, shape
from meshgate.semantics.versions import Version
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.redact import redacted
from meshgate.snapshot.shadow import Injection, ProxyClass, Refusal, Shadow

# parts of a configuration that are no single listener
_CLUSTERS, _TOGETHER = "the clusters", "the listeners together"

# classes that are looked at at the same time: most of it is the programs' own work
_AT_ONCE = 2

Progress = Callable[[str], None]
Start = Callable[[frozenset[Key]], AbstractContextManager[target.Running]]


class Deadline:
    """The end of all that one look does; begins at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() > self._end

    def check(self) -> None:
        """Raises Unreadable if it is over."""
        if self.passed:
            raise ReadError(
                f"the upgrade could not be tried within {self._seconds:g} s",
                "give it more time (--deadline; of a gate --shadow-deadline)",
            )


class Look(msgspec.Struct, frozen=True):
    """One class with what its first proxy that answers is given; nothing where none does."""

    seen: ProxyClass
    given: ads.Configuration | None = None


def simulate_live(
    api: Api,
    current: RunningMesh,
    options: Programs,
    istio_namespace: str,
    progress: Progress = lambda words: None,
) -> Shadow:
    """Every class of proxies with the target; raises Unreadable where there is nothing to see."""
    deadline = Deadline(options.deadline)
    wanted = target.rendered(Path(options.manifests))

    def start(hidden: frozenset[Key]) -> AbstractContextManager[target.Running]:
        return target.running(
            options.istiod,
            wanted,
            api,
            istio_namespace=istio_namespace,
            timeout=options.timeout,
            memory=options.memory,
            hidden=hidden,
        )

    root = str(wanted.mesh().get("rootNamespace") or istio_namespace)
    suspected = candidates(api)
    with tempfile.TemporaryDirectory(prefix="meshgate-") as folder:
        validator = envoy.Envoy(options.envoy, Path(folder), options.timeout, options.memory)
        with start(frozenset()) as running:
            _check_version(running.version, options.version)
            found = proxies.read(api, wanted.mesh(), running.version)
            classes = proxies.alike(proxy for proxy in found if proxy.key in current.proxies)
            progress(f"{len(found)} proxies in {len(classes)} classes, with {running.version}")
            if len(classes) > options.classes:
                raise ReadError(
                    f"{len(classes)} classes of proxies are more than {options.classes}",
                    "allow more (--classes; of a gate --shadow-classes)",
                )
            of = partial(_look, running, current, suspected, root, options.timeout, deadline, {})
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                looks = list(pool.map(of, classes))
            pods = injections(running, current)
            version, refused = running.version, running.facade.refused
        progress(f"having the Envoy of {version} validate what {len(looks)} classes are given")
        firsts = {members[0].key: members[0] for members in classes}
        seen = attribute_rejections(
            start,
            validator,
            suspected,
            root,
            options,
            deadline,
            progress,
            firsts,
            judged(validator, looks, deadline),
        )
    if not seen:
        raise ReadError("no proxy is connected to the running istiod", "look at it with CP003")
    # Leases are asked for by whoever may lead: that it may not is the point
    unexpected = tuple(each for each in refused if "/leases" not in each)
    return redacted(
        Shadow(version=version, classes=tuple(seen), refused=unexpected, injections=pods)
    )


def simulate_recorded(
    snapshot: Snapshot, options: Programs, progress: Progress = lambda words: None
) -> Shadow:
    """The same at a mesh that was recorded; raises Unreadable."""
    recorded = snapshot.offline_bundle
    if recorded is None:
        raise ReadError(
            "the snapshot holds nothing that an upgrade could be tried with",
            "take it with `meshgate capture --for-shadow`",
        )
    seen = simulate_live(
        RecordedCluster(recorded.listed, snapshot.kubernetes_version),
        RecordedRunningMesh(recorded),
        options,
        snapshot.expectations.istio_namespace,
        progress,
    )
    # nobody leads a recording, so it asks for the ConfigMaps by which it would
    refused = tuple(each for each in seen.refused if "/configmaps" not in each)
    return msgspec.structs.replace(seen, refused=refused, cut=recorded.cut)


def _check_version(found: str, wanted: str) -> None:
    if wanted and Version.parse(found) != Version.parse(wanted):
        raise ReadError(
            f"the istiod that is to be tried is of {found}, and not of {wanted}",
            "name the target's own programs and manifests",
        )


def injections(running: target.Running, current: RunningMesh) -> tuple[Injection, ...]:
    """What each enrolled namespace's pods would be given by the target's injector."""
    return tuple(_injection(running, current, namespace) for namespace in current.injection_enabled)


def _injection(running: target.Running, current: RunningMesh, name: str) -> Injection:
    try:
        after = shape(admission.patch_of(running.review(admission.sample_review(name))))
    except ReadError as error:
        return Injection(namespace=name, error=error.why)
    except ValueError as error:
        return Injection(namespace=name, refused=str(error))
    if not has_sidecar(after):
        return Injection(namespace=name, refused="it brings no istio-proxy")
    try:
        before = current.injected(name)
    except ReadError as error:
        return Injection(namespace=name, error=error.why)
    return Injection(
        namespace=name, changes=changes({("pod", name): before}, {("pod", name): after}, {})
    )


def _look(
    running: target.Running,
    current: RunningMesh,
    suspected: list[Candidate],
    root: str,
    timeout: float,
    deadline: Deadline,
    kept: dict[bytes, bytes],
    members: list[Proxy],
) -> Look:
    """One class by its first proxy; by the next where that has just gone."""
    keys = tuple(member.key for member in members)
    for proxy in members[: proxies.TRIES]:
        deadline.check()
        try:
            with given(running, proxy, timeout) as configuration:
                after = resources(running.config_dump(proxy.key))
                before = current.given(proxy.key)
            break
        except (ads.NoConfiguration, ReadError) as error:
            why = str(error)
    else:
        return Look(ProxyClass(proxies=keys, error=why))
    brought = {
        name: suspect.subject
        for suspect in suspected
        if suspect.reaches(proxy, root)
        for name in suspect.names
    }
    seen = ProxyClass(
        proxies=keys,
        resources=len({*before, *after}),
        changes=changes(before, after, brought),
    )
    return Look(seen, once(configuration, kept))


def once(configuration: ads.Configuration, kept: dict[bytes, bytes]) -> ads.Configuration:
    """The same, with every resource that is `kept` already as it is kept."""
    found = {
        type_url: tuple(kept.setdefault(body, body) for body in bodies)
        for type_url, bodies in configuration.resources.items()
    }
    return ads.Configuration(configuration.node, found)


def given(
    running: target.Running, proxy: Proxy, timeout: float
) -> AbstractContextManager[ads.Configuration]:
    """A proxy connected to the target's istiod, with what that gives it."""
    node = ads.node(proxy.id, proxy.cluster, proxy.metadata, proxy.locality)
    return ads.connected(running.discovery, node, timeout)


def judged(validator: envoy.Envoy, looks: list[Look], deadline: Deadline) -> list[ProxyClass]:
    """The classes with what Envoy refuses of each: many at once, and each alone where one of those
    is refused."""
    assemble = envoy.Assembler().assembled
    assembled = {
        position: assemble(simulate_live.given)
        for position, simulate_live in enumerate(looks)
        if simulate_live.given
    }
    positions, configurations = list(assembled), list(assembled.values())

    def clear(batch: Batch) -> bool:
        deadline.check()
        try:
            return not validator.refusal(batch.bootstrap())
        except ReadError:
            return False  # too much at once, perhaps: each alone says what is so

    def alone(position: int) -> ProxyClass:
        deadline.check()
        try:
            refusals = tuple(_refusals(validator, assembled[position]))
        except ReadError as error:
            return ProxyClass(proxies=looks[position].seen.proxies, error=error.why)
        return msgspec.structs.replace(looks[position].seen, refusals=refusals)

    made, rest = batches(configurations)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for batch, fine in zip(made, pool.map(clear, made), strict=True):
            rest += [] if fine else batch.members
        suspicious = [positions[each] for each in sorted(rest)]
        found = dict(zip(suspicious, pool.map(alone, suspicious), strict=True))
    return [found.get(position, simulate_live.seen) for position, simulate_live in enumerate(looks)]


def _refusals(validator: envoy.Envoy, configuration: envoy.Assembled) -> Iterator[Refusal]:
    """What Envoy does not take, listener by listener: it does not say itself which one it is."""
    whole = validator.refusal(configuration.bootstrap())
    if not whole:
        return
    without = validator.refusal(configuration.bootstrap(()))
    if without:
        yield Refusal(part=_CLUSTERS, words=without)
        return
    alone = [
        Refusal(part=f"listener {name}", words=words)
        for name, _ in configuration.listeners
        if (words := validator.refusal(configuration.bootstrap((name,))))
    ]
    yield from alone or [Refusal(part=_TOGETHER, words=whole)]


def _refuses(validator: envoy.Envoy, configuration: envoy.Assembled, part: str) -> bool:
    """Whether a part that was refused, and nothing else, is refused again."""
    whole: dict[str, Iterable[str] | None] = {_CLUSTERS: (), _TOGETHER: None}
    only = whole.get(part, (part.removeprefix("listener "),))
    return bool(validator.refusal(configuration.bootstrap(only)))


def attribute_rejections(
    start: Start,
    validator: envoy.Envoy,
    suspected: list[Candidate],
    root: str,
    options: Programs,
    deadline: Deadline,
    progress: Progress,
    firsts: dict[str, Proxy],
    looks: list[ProxyClass],
) -> list[ProxyClass]:
    """Says who brings each refusal: one suspect at a time is shown to the target, and no other."""
    refused = {
        simulate_live.proxies[0]: [refusal.part for refusal in simulate_live.refusals]
        for simulate_live in looks
        if simulate_live.refusals
    }
    near = [
        suspect
        for suspect in suspected
        if any(suspect.reaches(firsts[key], root) for key in refused)
    ]
    culprits: dict[tuple[str, str], list[str]] = {}
    for suspect in near:
        if deadline.passed:
            progress("no time is left to find out who brings it (--deadline)")
            break
        progress(f"trying {suspect.subject} alone")
        with start(frozenset(each.key for each in near if each is not suspect)) as running:
            for key, parts in refused.items():
                proxy = firsts[key]
                if not suspect.reaches(proxy, root):
                    continue
                with given(running, proxy, options.timeout) as configuration:
                    assembled = envoy.Assembler().assembled(configuration)
                    for part in parts:
                        if _refuses(validator, assembled, part):
                            culprits.setdefault((key, part), []).append(suspect.subject)
    return [
        msgspec.structs.replace(
            simulate_live,
            refusals=tuple(
                msgspec.structs.replace(
                    refusal,
                    culprits=tuple(culprits.get((simulate_live.proxies[0], refusal.part), ())),
                )
                for refusal in simulate_live.refusals
            ),
        )
        for simulate_live in looks
    ]
