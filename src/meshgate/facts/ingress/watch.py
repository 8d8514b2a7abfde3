"""What was sent while the gateways were replaced, and which requests failed."""

from collections.abc import Iterator
from datetime import timedelta

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.snapshot.ingress import Trouble, Watch
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# a watch that saved nothing for longer than this ended before the run
SILENT = timedelta(seconds=60)
SHOWN = 50
DRAIN = (
    "let the gateway drain (terminationDrainDuration, preStop), and set maxUnavailable to 0 on its "
    "Deployment"
)


class Watched:
    """The watch that this run was given."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._evidence = ingress.evidence
        self._ingress = ingress

    @property
    def _watch(self) -> Watch:
        _ = self._ingress.topology  # without a gateway there is nothing to watch
        watch = self._evidence.expectations.watch
        if watch is None:
            raise NotApplicable("nothing was watched (--watch)")
        if not watch.sent:
            raise CouldNotVerify("the watch sent nothing", "look at the log of `meshgate watch`")
        if self._evidence.snapshot.started - watch.last > SILENT:
            raise CouldNotVerify(
                f"the watch ended at {watch.last:%H:%M:%S} UTC, before this run began",
                "let `meshgate watch` run until stage C has begun",
            )
        return watch

    @property
    def lost(self) -> list[Finding]:
        """Requests that failed, by what was requested."""
        watch = self._watch
        found = list(_findings(watch, [each for each in watch.troubles if not each.slow], "failed"))
        if watch.more:
            words = f"{watch.more} more requests failed or were slow than a watch keeps"
            found.append(Finding("Watch", words, "none", DRAIN, problem="more-lost"))
        return found

    @property
    def slow(self) -> list[Finding]:
        """Requests that were answered late."""
        watch = self._watch
        return list(_findings(watch, [each for each in watch.troubles if each.slow], "were slow"))


def _findings(watch: Watch, troubles: list[Trouble], what: str) -> Iterator[Finding]:
    for gateway, request in dict.fromkeys((each.gateway, each.asked) for each in troubles):
        these = [each for each in troubles if (each.gateway, each.asked) == (gateway, request)]
        times = ", ".join(f"{each.at:%H:%M:%S} {each.why}" for each in these[:SHOWN])
        more = f", and {len(these) - SHOWN} more" if len(these) > SHOWN else ""
        yield Finding(
            gateway,
            f"{request}: {len(these)} requests {what} while it was watched from "
            f"{watch.began:%H:%M:%S} to {watch.last:%H:%M:%S} UTC: {times}{more}",
            "an answer to every request while the gateway is replaced",
            DRAIN,
            problem="requests-lost" if what == "failed" else "requests-slow",
            about=(("request", request),),
        )
