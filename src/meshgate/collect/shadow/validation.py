"""Ask the target's Envoy which configurations it rejects: in batches, then one by one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.batches import Batch, batches
from meshgate.collect.shadow.envoy import Assembled, Assembler, Envoy
from meshgate.collect.shadow.fingerprint import Fingerprints
from meshgate.deadline import Deadline, concurrently
from meshgate.probe import ads
from meshgate.settings import flag
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
            f"raise {flag('simulation.deadline')}",
        )


class Accepted(Protocol):
    """The fingerprints of configurations that this Envoy has accepted, in this run or before."""

    def __contains__(self, fingerprint: str) -> bool:
        """Return whether it has accepted such a configuration."""

    def add(self, fingerprint: str) -> None:
        """Remember that it has."""


class Validator:
    """Finds out what the target's Envoy rejects.

    Args:
        envoy: the target's Envoy.
        deadline: when to give up.
        accepted: configurations that need not be validated again; None to validate all.
    """

    def __init__(self, envoy: Envoy, deadline: Deadline, accepted: Accepted | None = None) -> None:
        self._envoy = envoy
        self._deadline = deadline
        self._accepted = accepted

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
        fingerprints = self._fingerprints(assembled)
        known = {each for each, name in fingerprints.items() if name in (self._accepted or ())}
        positions = [each for each in assembled if each not in known]

        def alone(position: int) -> ProxyClass:
            return self._validated(simulated[position].result, assembled[position])

        together, rest = batches([assembled[each] for each in positions])
        accepted = concurrently(self._accepts, together, PARALLEL)
        for batch, fine in zip(together, accepted, strict=True):
            rest += [] if fine else batch.members
        remaining = [positions[each] for each in sorted(rest)]
        found = dict(zip(remaining, concurrently(alone, remaining, PARALLEL), strict=True))
        for position, name in fingerprints.items():
            result = found.get(position)
            if self._accepted is not None and not (result and (result.refusals or result.error)):
                self._accepted.add(name)
        return [found.get(position, each.result) for position, each in enumerate(simulated)]

    def _fingerprints(self, assembled: Mapping[int, Assembled]) -> dict[int, str]:
        if self._accepted is None:
            return {}
        of = Fingerprints().of
        return {position: of(configuration) for position, configuration in assembled.items()}

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
