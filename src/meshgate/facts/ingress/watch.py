"""What was sent while the gateways were replaced, and what of it was lost."""

from collections.abc import Iterator
from datetime import timedelta

from meshgate.facts.evidence import Evidence
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.snapshot.ingress import Trouble, Watch
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# from then on a watch that wrote nothing down has ended before it was judged
SILENT = timedelta(seconds=60)
TOLD = 50


class Watched:
    """The watch that this run was given."""

    def __init__(self, evidence: Evidence, ingress: IngressGateways) -> None:
        self._evidence = evidence
        self._ingress = ingress

    @property
    def _watch(self) -> Watch:
        _ = self._ingress.topology  # without a gateway there is nothing to watch
        watch = self._evidence.expectations.watch
        if watch is None:
            raise NotApplicable("nothing was watched (--watch)")
        if not watch.sent:
            raise CouldNotVerify(
                "the watch has sent nothing", "see what `meshgate watch` printed", transient=False
            )
        if self._evidence.snapshot.started - watch.last > SILENT:
            raise CouldNotVerify(
                f"the watch ended at {watch.last:%H:%M:%S} UTC, before this run began",
                "let `meshgate watch` run until stage C has begun",
            )
        return watch

    @property
    def lost(self) -> list[Finding]:
        """Requests that failed, by what was asked and when."""
        watch = self._watch
        found = list(_told(watch, [each for each in watch.troubles if not each.slow], "failed"))
        if watch.more:
            words = f"{watch.more} more requests were in trouble than are kept"
            found.append(Finding("Watch", words, "none"))
        return found

    @property
    def slow(self) -> list[Finding]:
        """Those that were answered, late."""
        watch = self._watch
        return list(_told(watch, [each for each in watch.troubles if each.slow], "were slow"))


def _told(watch: Watch, troubles: list[Trouble], what: str) -> Iterator[Finding]:
    asked = dict.fromkeys((each.gateway, each.asked) for each in troubles)
    for gateway, request in asked:
        these = [each for each in troubles if (each.gateway, each.asked) == (gateway, request)]
        times = ", ".join(f"{each.at:%H:%M:%S} {each.why}" for each in these[:TOLD])
        more = f", and {len(these) - TOLD} more" if len(these) > TOLD else ""
        yield Finding(
            gateway,
            f"{request}: {len(these)} {what} while it was watched from {watch.began:%H:%M:%S} to "
            f"{watch.last:%H:%M:%S} UTC: {times}{more}",
            "every request answered while the gateway is replaced",
            "does it drain (terminationDrainDuration, preStop), and is maxUnavailable 0?",
        )
