"""Old and new proxies: what observers with each of them could call."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.watch.losses import Watched
from meshgate.snapshot.watch import Flow, Observer
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# a flow that was not answered for so long is broken
LASTING = timedelta(seconds=10)


class Direction(NamedTuple):
    """A flow from one observer to another: the versions of the proxies at its ends."""

    flow: Flow
    old: str
    new: str


class Interoperation:
    """Calls between observers with different proxies, and what only one of them could call."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    @cached_property
    def _observers(self) -> dict[str, Observer]:
        """Raise NotApplicable without observers, CouldNotVerify with one version of the proxy."""
        watch = self._watched.watch
        if not watch.image:
            raise NotApplicable("no pods of the mesh took part in the watch (watch --image)")
        found = {each.name: each for each in watch.observers}
        versions = sorted({each.proxy for each in found.values()})
        if len(versions) < 2:
            only = versions[0] if versions else "none"
            raise CouldNotVerify(
                f"the watch has observers with one version of the proxy only: {only}",
                "start `meshgate watch` before istiod is upgraded, and let it run until pods get "
                "the new proxy",
                transient=True,
            )
        return found

    @cached_property
    def directions(self) -> list[Direction]:
        """The flows between observers with different proxies.

        Raises NotApplicable and CouldNotVerify as above.
        """
        known = self._observers
        return [
            Direction(flow, known[flow.observer].proxy, known[flow.peer].proxy)
            for flow in self._watched.watch.flows
            if flow.peer in known
            and flow.observer in known
            and known[flow.observer].proxy != known[flow.peer].proxy
        ]

    @property
    def broken(self) -> list[Finding]:
        """Directions that fail, arrive without the caller's identity, or fail for one proxy only.

        Raises CouldNotVerify if nothing else is wrong and a direction was not tested.
        """
        found = [finding for each in self.directions for finding in self._direction(each)]
        found += self._one_sided
        if not found and not self.directions:
            raise CouldNotVerify("the observers did not call each other", transient=True)
        return found

    def _direction(self, each: Direction) -> Iterator[Finding]:
        flow = each.flow
        way = f"{flow.kind} from proxy {each.old} to proxy {each.new}"
        subject = f"Observer {self._watched.watch.namespace}/{flow.observer}"
        about = (("from", each.old), ("kind", flow.kind), ("to", each.new))
        if self._is_down(flow):
            since = "was never answered" if flow.answered is None else "is not answered any more"
            yield Finding(
                subject,
                f"{way} {since}: {flow.failing or 'nothing was sent'}",
                "an answer, as between equal proxies",
                "Compare the policies, EnvoyFilters and DestinationRules that match one version of "
                "the proxy.",
                problem="direction-broken",
                about=about,
            )
        elif flow.caller == "":
            yield Finding(
                subject,
                f"{way} arrives without mTLS: x-forwarded-client-cert has no URI",
                "the caller's SPIFFE ID",
                f"Look at the PeerAuthentications of {self._watched.watch.namespace}, and for "
                "enableAutoMtls: false in the mesh config.",
                problem="direction-without-mtls",
                about=about,
            )

    def _is_down(self, flow: Flow) -> bool:
        """Return whether a flow is not answered at its end, for longer than a single loss."""
        read = self._observers[flow.observer].read
        if flow.answered is None or read is None:
            return True
        last = flow.lost[-1].last if flow.long_lived and flow.lost else flow.answered
        return bool(flow.failing) and read - last > LASTING

    @property
    def _one_sided(self) -> Iterator[Finding]:
        """Services that the observer with one proxy can call, and that with another cannot."""
        known = self._observers
        by_target: dict[tuple[str, str], list[Flow]] = {}
        for flow in self._watched.watch.flows:
            if flow.observer in known and not flow.peer:
                by_target.setdefault((flow.kind, flow.target), []).append(flow)
        for flows in by_target.values():
            well = [each for each in flows if each.answered and not each.failing]
            ill = [each for each in flows if self._is_down(each)]
            for each in ill if well else ():
                ours, theirs = known[each.observer].proxy, known[well[0].observer].proxy
                yield Finding(
                    each.subject,
                    f"{each.target} is not answered to a pod with proxy {ours}, and is answered to "
                    f"one with proxy {theirs}: {each.failing}",
                    "the same answer to both",
                    "Compare the configuration of the two proxies for that Service: istioctl "
                    "proxy-config all.",
                    problem="one-proxy-only",
                    about=(("from", ours), ("request", each.target)),
                )
