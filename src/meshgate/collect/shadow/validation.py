"""Ask the target's Envoy which configurations it rejects: in batches, then one by one."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.batches import Batch, batches
from meshgate.collect.shadow.envoy import Assembled, Assembler, Envoy
from meshgate.deadline import Deadline, concurrently
from meshgate.probe import ads
from meshgate.snapshot.shadow import ProxyClass, Refusal

# How many classes of proxies are processed at the same time: the programs do most of the work.
PARALLEL = 2

# Parts of a configuration that are not a single listener.
_CLUSTERS, _TOGETHER = "the clusters", "the listeners together"


class SimulatedClass(msgspec.Struct, frozen=True):
    """The result for one class of proxies, and the configuration that the target sends to it.

    `configuration` is None if no proxy of the class could be simulated.
    """

    result: ProxyClass
    configuration: ads.Configuration | None = None


def check_deadline(deadline: Deadline) -> None:
    """Raise ReadError if the deadline of the simulation has passed."""
    if deadline.passed:
        raise ReadError(
            "the simulation of the upgrade did not finish before its deadline",
            "raise --shadow-deadline",
        )


class Validator:
    """Finds out what the target's Envoy rejects.

    Args:
        envoy: the target's Envoy.
        deadline: when to give up.
    """

    def __init__(self, envoy: Envoy, deadline: Deadline) -> None:
        self._envoy = envoy
        self._deadline = deadline

    def validated(self, simulated: Sequence[SimulatedClass]) -> list[ProxyClass]:
        """Return the result of each class with what Envoy rejects of its configuration.

        Many configurations are validated at once.  The members of a batch that Envoy rejects are
        validated one by one.  A class that Envoy gives no verdict on has an `error`.  Raise
        ReadError if the deadline passes.
        """
        assemble = Assembler().assembled
        assembled = {
            position: assemble(each.configuration)
            for position, each in enumerate(simulated)
            if each.configuration
        }
        positions = list(assembled)

        def alone(position: int) -> ProxyClass:
            return self._validated(simulated[position].result, assembled[position])

        together, rest = batches(list(assembled.values()))
        accepted = concurrently(self._accepts, together, PARALLEL)
        for batch, fine in zip(together, accepted, strict=True):
            rest += [] if fine else batch.members
        remaining = [positions[each] for each in sorted(rest)]
        found = dict(zip(remaining, concurrently(alone, remaining, PARALLEL), strict=True))
        return [found.get(position, each.result) for position, each in enumerate(simulated)]

    def rejects(self, configuration: Assembled, part: str) -> bool:
        """Return whether Envoy rejects one part of a configuration, as named in a Refusal."""
        whole: dict[str, Iterable[str] | None] = {_CLUSTERS: (), _TOGETHER: None}
        only = whole.get(part, (part.removeprefix("listener "),))
        return bool(self._envoy.refusal(configuration.bootstrap(only)))

    def _accepts(self, batch: Batch) -> bool:
        check_deadline(self._deadline)
        try:
            return not self._envoy.refusal(batch.bootstrap())
        except ReadError:
            return False  # the batch may be too large: its members are validated one by one

    def _validated(self, result: ProxyClass, configuration: Assembled) -> ProxyClass:
        check_deadline(self._deadline)
        try:
            refusals = tuple(self._refusals(configuration))
        except ReadError as error:
            return ProxyClass(proxies=result.proxies, error=error.why)
        return msgspec.structs.replace(result, refusals=refusals)

    def _refusals(self, configuration: Assembled) -> Iterator[Refusal]:
        """Yield what Envoy rejects.  Envoy does not name the listener, so each is tried alone."""
        whole = self._envoy.refusal(configuration.bootstrap())
        if not whole:
            return
        without_listeners = self._envoy.refusal(configuration.bootstrap(()))
        if without_listeners:
            yield Refusal(part=_CLUSTERS, words=without_listeners)
            return
        alone = [
            Refusal(part=f"listener {name}", words=words)
            for name, _ in configuration.listeners
            if (words := self._envoy.refusal(configuration.bootstrap((name,))))
        ]
        yield from alone or [Refusal(part=_TOGETHER, words=whole)]
