"""A farm of servers on loopback, in processes of its own on the same cores as what is measured."""

import asyncio
import multiprocessing
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

SERVERS = 2

# One for each port of a server, made from the keys in a folder; None: no TLS.
Contexts = Callable[[Path], Sequence[ssl.SSLContext | None]]


@contextmanager
def farm(folder: Path, contexts: Contexts, answer: bytes) -> Iterator[list[tuple[int, ...]]]:
    """The ports of each server: to the first words that come in it says `answer`, and ends."""
    ports: multiprocessing.Queue[tuple[int, ...]] = multiprocessing.Queue()
    done = multiprocessing.Event()
    servers = [
        multiprocessing.Process(
            target=_serve, args=(folder, contexts, answer, ports, done), daemon=True
        )
        for _ in range(SERVERS)
    ]
    for each in servers:
        each.start()
    try:
        yield [ports.get(timeout=30) for _ in servers]
    finally:
        done.set()
        for each in servers:
            each.join(10)


def _serve(
    folder: Path,
    contexts: Contexts,
    answer: bytes,
    ports: "multiprocessing.Queue[tuple[int, ...]]",
    done: Event,
) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.read(4096):
                writer.write(answer)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        listeners = [
            await asyncio.start_server(reply, "127.0.0.1", 0, ssl=context, backlog=1024)
            for context in contexts(folder)
        ]
        ports.put(tuple(each.sockets[0].getsockname()[1] for each in listeners))
        await asyncio.get_running_loop().run_in_executor(None, done.wait, 600)

    asyncio.run(run())
