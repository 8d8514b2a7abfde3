"""The upgrade in the shadow: the target's istiod makes configuration for the mesh as it is, the
target's Envoy says whether it would take it, and what the running istiod gives says what changes.

Nothing is applied: the target sees the cluster through the façade, and proxies are never asked.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from meshgate.collect import envoy, istiod, proxies, target
from meshgate.collect.kubernetes import Cluster, Unreadable
from meshgate.collect.plan import KINDS, Kind
from meshgate.collect.programs import Programs
from meshgate.collect.proxies import Proxy
from meshgate.facts.difference import Resources, changes, resources
from meshgate.facts.injection import has_sidecar, shape
from meshgate.facts.webhooks import Webhooks, enrolled
from meshgate.probe import admission, ads
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata, Namespace
from meshgate.snapshot.redact import redacted
from meshgate.snapshot.shadow import Injection, ProxyClass, Refusal, Shadow

# parts of a configuration that are no single listener
_CLUSTERS, _TOGETHER = "the clusters", "the listeners together"

# classes that are looked at at the same time: most of it is Envoy's own work
_AT_ONCE = 2

# how many of a class are asked for until one of them answers
_TRIES = 3

Progress = Callable[[str], None]
Key = tuple[str, str, str, str]
Start = Callable[[frozenset[Key]], AbstractContextManager[target.Running]]


class _Selector(Base, frozen=True):
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class _Spec(Base, frozen=True):
    workload_selector: _Selector | None = None
    selector: _Selector | None = None
    config_patches: tuple[Any, ...] = ()


class _Candidate(Base, frozen=True):
    metadata: Metadata
    spec: _Spec = _Spec()


class Suspect(msgspec.Struct, frozen=True):
    """An object that puts what its author wrote into proxies' configuration."""

    key: Key
    subject: str
    labels: dict[str, str]
    names: frozenset[str]

    def reaches(self, proxy: Proxy, root: str) -> bool:
        """Whether it is about a proxy."""
        near = self.key[2] in (root, proxy.namespace)
        return near and self.labels.items() <= proxy.labels.items()


def look(
    cluster: Cluster,
    transport: istiod.Transport,
    options: Programs,
    istio_namespace: str,
    progress: Progress = lambda words: None,
) -> Shadow:
    """Every class of proxies with the target; raises Unreadable where there is nothing to see."""
    wanted = target.rendered(options.manifests)

    def start(hidden: frozenset[Key]) -> AbstractContextManager[target.Running]:
        return target.running(
            options.istiod,
            wanted,
            cluster,
            istio_namespace=istio_namespace,
            timeout=options.timeout,
            hidden=hidden,
        )

    root = str(wanted.mesh().get("rootNamespace") or istio_namespace)
    suspected = suspects(cluster)
    with (
        tempfile.TemporaryDirectory(prefix="meshgate-") as folder,
        today(cluster, transport, istio_namespace) as current,
    ):
        validator = envoy.Envoy(options.envoy, Path(folder), options.timeout)
        with start(frozenset()) as running:
            found = proxies.read(cluster, wanted.mesh(), running.version)
            classes = proxies.alike(proxy for proxy in found if proxy.key in current.proxies)
            progress(f"{len(found)} proxies in {len(classes)} classes, with {running.version}")
            if len(classes) > options.classes:
                raise Unreadable(
                    f"{len(classes)} classes of proxies are more than {options.classes}",
                    "allow more with --classes",
                )
            of = partial(_look, running, validator, current, suspected, root, options.timeout)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                looks = list(pool.map(of, classes))
            pods = injections(running, cluster, transport)
            version, refused = running.version, running.facade.refused
        narrow = partial(_narrowed, start, validator, suspected, root, options, progress)
        looks = narrow({members[0].key: members[0] for members in classes}, looks)
    if not looks:
        raise Unreadable("no proxy is connected to the running istiod", "look at it with CP003")
    # Leases are asked for by whoever may lead: that it may not is the point
    unexpected = tuple(each for each in refused if "/leases" not in each)
    return redacted(
        Shadow(version=version, classes=tuple(looks), refused=unexpected, injections=pods)
    )


def injections(
    running: target.Running, cluster: Cluster, transport: istiod.Transport
) -> tuple[Injection, ...]:
    """What each enrolled namespace's pods would be given by the target's injector."""
    lists = ("mutating_webhooks", "validating_webhooks", "services", "endpoint_slices")
    webhooks = Webhooks(*(cluster.objects(KINDS[item]) for item in lists))
    return tuple(
        _injection(running, webhooks, namespace, transport)
        for namespace in enrolled(cluster.objects(KINDS["namespaces"]))
    )


def _injection(
    running: target.Running,
    webhooks: Webhooks,
    namespace: Namespace,
    transport: istiod.Transport,
) -> Injection:
    name = namespace.metadata.name
    try:
        after = shape(admission.patch_of(running.review(admission.sample_review(name))))
    except (Unreadable, ValueError) as error:
        return Injection(namespace=name, refused=str(error))
    if not has_sidecar(after):
        return Injection(namespace=name, refused="it brings no istio-proxy")
    hooks = webhooks.selecting(namespace)
    backends = webhooks.backends(hooks[0]) if hooks else []
    if not backends:
        return Injection(namespace=name, error="no injector that runs is called for it")
    try:
        before = shape(admission.injected(hooks[0], backends[0], name, transport.dial))
    except (HTTPException, OSError, Unreadable, ValueError) as error:
        return Injection(namespace=name, error=f"the running injector does not answer: {error}")
    return Injection(
        namespace=name, changes=changes({("pod", name): before}, {("pod", name): after}, {})
    )


def _look(
    running: target.Running,
    validator: envoy.Envoy,
    current: "Today",
    suspected: list[Suspect],
    root: str,
    timeout: float,
    members: list[Proxy],
) -> ProxyClass:
    """One class by its first proxy; by the next where that has just gone."""
    keys = tuple(member.key for member in members)
    for proxy in members[:_TRIES]:
        try:
            with given(running, proxy, timeout) as configuration:
                after = resources(running.config_dump(proxy.key))
                before = current.given(proxy.key)
                refusals = tuple(_refusals(validator, configuration))
            break
        except (ads.NoConfiguration, Unreadable) as error:
            why = str(error)
    else:
        return ProxyClass(proxies=keys, error=why)
    brought = {
        name: suspect.subject
        for suspect in suspected
        if suspect.reaches(proxy, root)
        for name in suspect.names
    }
    return ProxyClass(
        proxies=keys,
        resources=len({*before, *after}),
        refusals=refusals,
        changes=changes(before, after, brought),
    )


def given(
    running: target.Running, proxy: Proxy, timeout: float
) -> AbstractContextManager[ads.Configuration]:
    """A proxy connected to the target's istiod, with what that gives it."""
    node = ads.node(proxy.id, proxy.cluster, proxy.metadata, proxy.locality)
    return ads.connected(running.discovery, node, timeout)


def _refusals(validator: envoy.Envoy, configuration: ads.Configuration) -> Iterator[Refusal]:
    """What Envoy does not take, listener by listener: it does not say itself which one it is."""
    whole = validator.refusal(envoy.bootstrap(configuration))
    if not whole:
        return
    without = validator.refusal(envoy.bootstrap(configuration, ()))
    if without:
        yield Refusal(part=_CLUSTERS, words=without)
        return
    alone = [
        Refusal(part=f"listener {name}", words=words)
        for name in envoy.listeners(configuration)
        if (words := validator.refusal(envoy.bootstrap(configuration, (name,))))
    ]
    yield from alone or [Refusal(part=_TOGETHER, words=whole)]


def _refuses(validator: envoy.Envoy, configuration: ads.Configuration, part: str) -> bool:
    """Whether a part that was refused, and nothing else, is refused again."""
    whole: dict[str, Iterable[str] | None] = {_CLUSTERS: (), _TOGETHER: None}
    only = whole.get(part, (part.removeprefix("listener "),))
    return bool(validator.refusal(envoy.bootstrap(configuration, only)))


def _narrowed(
    start: Start,
    validator: envoy.Envoy,
    suspected: list[Suspect],
    root: str,
    options: Programs,
    progress: Progress,
    firsts: dict[str, Proxy],
    looks: list[ProxyClass],
) -> list[ProxyClass]:
    """Says who brings each refusal: one suspect at a time is shown to the target, and no other."""
    refused = {
        look.proxies[0]: [refusal.part for refusal in look.refusals]
        for look in looks
        if look.refusals
    }
    near = [
        suspect
        for suspect in suspected
        if any(suspect.reaches(firsts[key], root) for key in refused)
    ]
    guilty: dict[tuple[str, str], list[str]] = {}
    end = time.monotonic() + options.deadline
    for suspect in near:
        if time.monotonic() > end:
            break
        progress(f"trying {suspect.subject} alone")
        with start(frozenset(each.key for each in near if each is not suspect)) as running:
            for key, parts in refused.items():
                proxy = firsts[key]
                if not suspect.reaches(proxy, root):
                    continue
                with given(running, proxy, options.timeout) as configuration:
                    for part in parts:
                        if _refuses(validator, configuration, part):
                            guilty.setdefault((key, part), []).append(suspect.subject)
    return [
        msgspec.structs.replace(
            look,
            refusals=tuple(
                msgspec.structs.replace(
                    refusal, culprits=tuple(guilty.get((look.proxies[0], refusal.part), ()))
                )
                for refusal in look.refusals
            ),
        )
        for look in looks
    ]


def suspects(cluster: Cluster) -> list[Suspect]:
    found = []
    for kind, group, version, resource in (
        ("EnvoyFilter", "networking.istio.io", "v1alpha3", "envoyfilters"),
        ("WasmPlugin", "extensions.istio.io", "v1alpha1", "wasmplugins"),
        ("AuthorizationPolicy", "security.istio.io", "v1", "authorizationpolicies"),
        ("Telemetry", "telemetry.istio.io", "v1", "telemetries"),
    ):
        listed = cluster.objects(
            Kind(resource, group, version, resource, _Candidate, optional=True)
        )
        for each in listed:
            namespace, name = each.metadata.namespace, each.metadata.name
            selector = each.spec.workload_selector or each.spec.selector or _Selector()
            found.append(
                Suspect(
                    (group, resource, namespace, name),
                    f"{kind} {namespace}/{name}",
                    selector.labels or selector.match_labels,
                    frozenset(_names([patch.get("patch") for patch in each.spec.config_patches])),
                )
            )
    return found


def _names(value: Any) -> Iterator[str]:
    """All that a patch gives a name to: filters, routes, headers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("name", "key") and isinstance(inner, str):
                # the names that every proxy's configuration has say nothing of who brought them
                if not inner.startswith("envoy.filters.network."):
                    yield inner
            else:
                yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


class Today(msgspec.Struct, frozen=True):
    """What the running istiods give the proxies that are connected to them."""

    sessions: dict[str, istiod.Session]
    turn: Lock  # one connection for each replica: who asks waits for who has asked

    @property
    def proxies(self) -> frozenset[str]:
        """Every connected proxy."""
        return frozenset(self.sessions)

    def given(self, proxy: str) -> Resources:
        """A proxy's resources as they are now; raises Unreadable."""
        with self.turn:
            answer = self.sessions[proxy].get(istiod.config_dump_path(proxy))
        if answer.status != 200:
            raise Unreadable(
                f"the running istiod does not tell {proxy}: {answer.status}",
                "run in istiod's own namespace with a token of audience istio-ca",
            )
        return resources(msgspec.json.decode(answer.body))


@contextmanager
def today(cluster: Cluster, transport: istiod.Transport, namespace: str) -> Iterator[Today]:
    """The running istiods, asked while the block runs; raises Unreadable."""
    pods = [
        pod
        for pod in cluster.objects(KINDS["pods"])
        if pod.metadata.namespace == namespace
        and pod.metadata.labels.get("app") == "istiod"
        and pod.status.phase == "Running"
    ]
    readings = {reading.pod: reading for reading in istiod.read(pods, transport)}
    if why := [
        f"{each.pod}: {each.error or each.denied}"
        for each in readings.values()
        if each.error or each.denied
    ]:
        raise Unreadable(f"istiod cannot be asked: {why[0]}", "see CP002")
    opened: list[istiod.Session] = []
    try:
        sessions: dict[str, istiod.Session] = {}
        for pod in pods:
            opened.append(transport.session(pod))
            for proxy in readings[pod.metadata.name].proxies:
                sessions[proxy.proxy] = opened[-1]
        yield Today(sessions, Lock())
    finally:
        for session in opened:
            session.close()
