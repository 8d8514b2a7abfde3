"""One pass over a cluster: every item in its turn, and a Gap for each one that cannot be read."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from meshgate.collect.errors import OUT_OF_TIME, ReadError
from meshgate.collect.lists import undecodable
from meshgate.deadline import Deadline
from meshgate.snapshot.items import KINDS, SOURCES, Items, requires
from meshgate.snapshot.model import Gap, Undecodable

if TYPE_CHECKING:
    from meshgate.collect.readers import Context

AT_ONCE = 6
# seconds after the deadline for a reader that removes what it created
CLEANUP = 30.0


class Reading:
    """What one pass has read.

    Args:
        context: what the readers read with.
        deadline: when the run ends; what is not read by then is a Gap.

    Attributes:
        found: the values of the items that were read, also of lists that lack some objects.
        gaps: the items that were not read in full.
        api_versions: as in a Snapshot.
        kubernetes_version: of the API server.
    """

    def __init__(self, context: "Context", deadline: Deadline) -> None:
        self.found: dict[str, Any] = {}
        self.gaps: list[Gap] = []
        self.api_versions: dict[str, str] = {}
        self.kubernetes_version = ""
        self._context = context
        self._deadline = deadline

    @property
    def items(self) -> Items:
        """What was read so far."""
        return Items(**self.found)

    def read(self, items: frozenset[str]) -> None:
        """Read these items; what a reader requires must be among them."""
        # One small request first: an API server that is not there is one reason for all gaps.
        try:
            self.kubernetes_version = self._context.cluster.version()
        except ReadError as error:
            for item in sorted(items):
                self._miss(item, error)
            return
        waiting = items & SOURCES.keys()
        # a source that requires nothing is read beside the lists, and where nothing waits for it,
        # beside everything: an istioctl that hangs delays no other reader
        first = {item for item in waiting if not requires(item)}
        needed = {each for item in waiting for each in (*requires(item), *SOURCES[item].after)}
        beside = self._start(first - needed)
        self._run(items & KINDS.keys() | first & needed)
        waiting -= first
        while waiting:
            # a reader may require what another one reads
            turn = {
                item
                for item in waiting
                if not waiting.intersection((*requires(item), *SOURCES[item].after))
            }
            self._run(item for item in sorted(turn) if not self._lacks(item))
            waiting -= turn
        self._wait(beside)

    def _lacks(self, item: str) -> bool:
        """Add a Gap for an item that requires one that was not read.

        A list without a few objects is used as it is: the check reports those.
        """
        for gap in self.gaps:
            if gap.item in requires(item) and not gap.objects:
                self._miss(item, ReadError(gap.why, gap.remedy, transient=gap.transient))
                return True
        return False

    def _miss(self, item: str, error: ReadError, objects: tuple[Undecodable, ...] = ()) -> None:
        self.gaps.append(
            Gap(
                item=item,
                why=error.why,
                remedy=error.remedy,
                transient=error.transient,
                objects=objects,
            )
        )

    def _start(self, items: Iterable[str]) -> "dict[str, Future[Any]]":
        """Read some items side by side, in threads that never delay the end of the process."""
        limit = threading.Semaphore(AT_ONCE)
        tries: dict[str, Future[Any]] = {item: Future() for item in sorted(items)}
        for item, result in tries.items():
            call = partial(_settle, result, self._reader(item), limit)
            threading.Thread(target=call, name=f"read {item}", daemon=True).start()
        return tries

    def _run(self, items: Iterable[str]) -> None:
        """Read some items side by side, and wait for all of them."""
        tries = self._start(items)
        try:
            self._wait(tries)
        except BaseException:
            # interrupted: what was created is removed before the run ends
            self._deadline.expire()
            for item, result in tries.items():
                if item in SOURCES and SOURCES[item].cleans_up:
                    with suppress(Exception):
                        result.result(CLEANUP)
            raise

    def _wait(self, tries: "dict[str, Future[Any]]") -> None:
        for item, result in tries.items():
            cleanup = CLEANUP if item in SOURCES and SOURCES[item].cleans_up else 0.0
            try:
                left = self._deadline.left + cleanup
                self._keep(item, result.result(min(left, threading.TIMEOUT_MAX)))
            except ReadError as error:
                self._miss(item, error)
            except TimeoutError:
                self._miss(item, ReadError(*OUT_OF_TIME))
            except Exception as error:
                # unexpected input: it never ends the run
                words = " ".join(f"{type(error).__name__}: {error}".split())
                self._miss(
                    item,
                    ReadError(
                        f"reading {item.replace('_', ' ')} failed: {words}",
                        "report this with `meshgate --version`",
                    ),
                )

    def _keep(self, item: str, value: Any) -> None:
        if item not in KINDS:
            self.found[item] = value
            return
        self.found[item] = value.objects
        self.api_versions[item] = value.version
        if value.undecodable:
            self._miss(
                item, ReadError(*undecodable(KINDS[item], value.undecodable)), value.undecodable
            )

    def _reader(self, item: str) -> Callable[[], Any]:
        from meshgate.collect.readers import reader

        if item in KINDS:
            return partial(self._context.cluster.listing, KINDS[item])
        return partial(reader(SOURCES[item]), self._context, self.items)


def _settle(result: "Future[Any]", call: Callable[[], Any], limit: threading.Semaphore) -> None:
    with limit:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)
