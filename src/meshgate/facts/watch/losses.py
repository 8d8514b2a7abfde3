"""Requests that were lost while the mesh was upgraded, each with what happened at that moment."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.globs import matches
from meshgate.semantics import workloads
from meshgate.semantics.losses import Cause, cause, is_restart_of_server
from meshgate.settings import flag
from meshgate.snapshot.watch import Flow, Interval, Watch
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# a watch that saved nothing for longer than this ended before the run
SILENT = timedelta(seconds=60)
# losses with one reason that are so close have one cause
LASTING = timedelta(seconds=30)
SHOWN = 5  # causes of one request that are listed
DRAIN = (
    "Let the pod drain before it ends (terminationDrainDuration, a preStop hook), and set "
    "maxUnavailable to 0."
)
CORRECT = "Look at what happened at that time, and correct it before the next upgrade."
AGAIN = "Start `meshgate watch` before the upgrade, and let it run until the last gate has begun."


class Watched:
    """The watch that this run was given, and what was lost."""

    def __init__(self, evidence: Evidence, ingress: IngressGateways) -> None:
        self._evidence = evidence
        self._ingress = ingress

    @cached_property
    def watch(self) -> Watch:
        """Raise NotApplicable without a watch, CouldNotVerify if its evidence is incomplete."""
        watch = self._evidence.expectations.watch
        if watch is None:
            raise NotApplicable(f"nothing was watched ({flag('run.watch')})")
        if not any(map(workloads.proxy, self._evidence.pods)):
            raise NotApplicable("no pod has a proxy")
        if watch.unusable:
            raise CouldNotVerify(f"the watch left no evidence: {watch.unusable}", AGAIN)
        if not watch.sent:
            raise CouldNotVerify(
                "no request of the watch was answered", "look at the log of `meshgate watch`"
            )
        return watch

    def _need_complete(self, *, observers: bool) -> None:
        """Raise CouldNotVerify if the evidence has no end, or that of an observer has not."""
        watch = self.watch
        if self._evidence.snapshot.started - watch.last > SILENT:
            raise CouldNotVerify(
                f"the watch ended at {watch.last:%H:%M:%S} UTC, before this run began", AGAIN
            )
        if not observers:
            return
        for each in watch.observers:
            if each.ended:
                raise CouldNotVerify(
                    f"the observer with proxy {each.proxy} ended before the watch: {each.ended}",
                    f"kubectl -n {watch.namespace} get events",
                )
        if watch.image and not watch.observers:
            raise CouldNotVerify(
                "no observer could be started in the mesh",
                f"kubectl -n {watch.namespace} get events",
            )

    def _through(self, flows: Iterable[Flow]) -> list[Flow]:
        return [each for each in flows if not each.observer]

    # --- how much -------------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self.watch.sent

    @property
    def connections(self) -> int:
        """How many long-lived connections were kept open."""
        return sum(each.answered is not None for each in self.watch.flows if each.long_lived)

    @property
    def through_gateways(self) -> int:
        """How many of the requests went through the gateways.

        Raises CouldNotVerify if none did.
        """
        _ = self._ingress.topology  # without a gateway there is nothing to watch
        count = sum(each.sent for each in self._through(self.watch.flows))
        if not count:
            raise CouldNotVerify("the watch sent nothing through the gateways", AGAIN)
        return count

    # --- what was lost --------------------------------------------------------------------------

    @property
    def lost(self) -> list[Finding]:
        """Every loss so far, by what was requested.

        Raises CouldNotVerify if nothing was lost and the evidence is incomplete.
        """
        return self._judged(self.watch.flows, observers=True)

    @property
    def lost_through_gateways(self) -> list[Finding]:
        """The same, of what went through the gateways."""
        _ = self.through_gateways
        return self._judged(self._through(self.watch.flows), observers=False)

    def _judged(self, flows: Iterable[Flow], *, observers: bool) -> list[Finding]:
        flows = list(flows)
        found = [finding for each in flows for finding in self._losses(each)]
        if not found:
            self._need_complete(observers=observers)
            never = next((e for e in flows if e.declared and e.answered is None), None)
            if never:
                raise CouldNotVerify(
                    f"{never.target} was never answered: {never.failing or 'nothing was sent'}",
                    "correct the URL of `meshgate watch --target`, or the Service that it names",
                )
        return found

    def _losses(self, flow: Flow) -> Iterator[Finding]:
        by_cause = self._causes(flow)
        if flow.long_lived:
            by_cause = {
                words: each
                for words, each in by_cause.items()
                if not each[0][1].happening or not is_restart_of_server(flow, each[0][1])
            }
        counted = sum(each.count for group in by_cause.values() for each, _ in group)
        count = counted + flow.more_lost
        if count <= self._budget(flow):
            return
        words = "; ".join(
            f"{_times(group)} {words}" for words, group in list(by_cause.items())[:SHOWN]
        )
        more = len(by_cause) - SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        uncounted = f"; {flow.more_lost} more are not listed" if flow.more_lost else ""
        pods = any(c.happening and c.happening.workload for g in by_cause.values() for _, c in g)
        if flow.long_lived:
            what = f"interruptions of the {flow.kind} connection to"
            seen = f"{count} {what} {flow.target}{self._by(flow)}"
        else:
            seen = f"{count} of {flow.sent:,} requests to {flow.target}{self._by(flow)} lost"
        yield Finding(
            flow.subject,
            f"{seen}, {words}{rest}{uncounted}",
            f"at most {self._budget(flow)}",
            DRAIN if pods else CORRECT,
            problem="connection-interrupted" if flow.long_lived else "requests-lost",
            about=(("request", flow.target),),
        )

    def _causes(self, flow: Flow) -> dict[str, list[tuple[Interval, Cause]]]:
        """Return the losses of a flow by the words of their cause."""
        groups: defaultdict[str, list[tuple[Interval, Cause]]] = defaultdict(list)
        before: tuple[Interval, Cause] | None = None
        for each in flow.lost:
            found = cause(flow, each, self.watch.happenings)
            if found.happening is None and before and _continues(before[0], each):
                found = before[1]
            before = each, found
            groups[f"({each.why}), {found}"].append((each, found))
        return dict(groups)

    def _budget(self, flow: Flow) -> int:
        name = flow.subject.partition(" ")[2]
        for each in self._evidence.expectations.loss_budgets:
            pattern, _, count = each.rpartition("=")
            if matches(name, pattern):
                return int(count)
        return 0

    def _by(self, flow: Flow) -> str:
        proxy = next((e.proxy for e in self.watch.observers if e.name == flow.observer), "")
        return f" from a pod with proxy {proxy}" if proxy else ""

    # --- warnings -------------------------------------------------------------------------------

    @property
    def remarks(self) -> list[Finding]:
        """What was answered late, or never, and connections that ended with a pod at their end."""
        found = []
        for flow in self.watch.flows:
            found += [*self._slow(flow), *self._unanswered(flow), *self._ended(flow)]
        return found

    @property
    def slow_through_gateways(self) -> list[Finding]:
        """Requests through the gateways that were answered late."""
        _ = self.through_gateways
        return [each for flow in self._through(self.watch.flows) for each in self._slow(flow)]

    def _slow(self, flow: Flow) -> Iterator[Finding]:
        count = sum(each.count for each in flow.slow) + flow.more_slow
        if count:
            span = _span(flow.slow[0].first, flow.slow[-1].last)
            yield _remark(
                flow,
                "requests-slow",
                f"{count} of {flow.sent:,} requests to {flow.target}{self._by(flow)} took longer "
                f"than {self.watch.slow_after:,} ms, {span}",
            )

    def _unanswered(self, flow: Flow) -> Iterator[Finding]:
        if flow.answered is None and flow.failing and not flow.peer:
            yield _remark(
                flow,
                "never-answered",
                f"{flow.target}{self._by(flow)} was never answered, so its losses cannot be "
                f"counted: {flow.failing}",
            )

    def _ended(self, flow: Flow) -> Iterator[Finding]:
        if not flow.long_lived:
            return
        for words, group in self._causes(flow).items():
            if is_restart_of_server(flow, group[0][1]):
                yield _remark(
                    flow,
                    "connection-ended-with-pod",
                    f"{sum(each.count for each, _ in group)} interruptions of the {flow.kind} "
                    f"connection to {flow.target}{self._by(flow)}, {_times(group)} {words}",
                )


def _remark(flow: Flow, problem: str, seen: str) -> Finding:
    """Return a warning about a flow.

    Args:
        flow: what was sent.
        problem: its code.
        seen: what was seen.
    """
    return Finding(flow.subject, seen, problem=problem, about=(("request", flow.target),))


def _continues(before: Interval, loss: Interval) -> bool:
    """Return whether a loss has the reason of the one shortly before it."""
    return before.why == loss.why and loss.first - before.last <= LASTING


def _times(group: list[tuple[Interval, Cause]]) -> str:
    return ", ".join(_span(each.first, each.last) for each, _ in group[:SHOWN])


def _span(first: datetime, last: datetime) -> str:
    begin, end = f"{first:%H:%M:%S}", f"{last:%H:%M:%S}"
    return begin if begin == end else f"{begin}-{end}"
