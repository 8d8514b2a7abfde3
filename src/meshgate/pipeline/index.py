"""Find the stored runs below a location, and write one page that lists them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from meshgate.collect.storage import Storage
from meshgate.report.index import Entry, page
from meshgate.report.json import LARGEST, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

# A folder with one of these files is the folder of a run.
FILES = ("verdict.json", "index.html", "junit.xml", "snapshot.json.gz")
PAGE = "index.html"


def index(place: str, last: int) -> tuple[list[Entry], str]:
    """Write `index.html` into the location.

    Args:
        place: A folder, or a URL that fsspec supports.
        last: How many runs of each gate the page links to.

    Returns:
        The runs by folder, and the location of the page.

    Raises:
        ReadError: If the storage cannot be read or written.
        ValueError: If there are no reports.
    """
    storage = Storage(place)
    found = sorted(_runs(storage), key=lambda each: each.folder)
    if not found:
        raise ValueError(f"no reports below {place}")
    storage.write(PAGE, page(found, datetime.now(UTC), last).encode())
    return found, storage.location(PAGE)


def _runs(storage: Storage) -> "Iterator[Entry]":
    folders: dict[str, set[str]] = {}
    for path in storage.names():
        folder, _, name = path.rpartition("/")
        # the page itself is directly in the root
        if folder and name in FILES:
            folders.setdefault(folder, set()).add(name)
    for folder, names in folders.items():
        link = f"{folder}/{PAGE}" if PAGE in names else ""
        if "verdict.json" not in names:
            why = "the run ended before its verdict"
            yield Entry(folder, page=link, why=why)
            continue
        try:
            read = decode(storage.read(f"{folder}/verdict.json", LARGEST + 1))
        except (ValueError, RecursionError) as error:
            yield Entry(folder, page=link, why=f"cannot read its verdict.json: {error}")
        else:
            yield Entry(folder, read, link)
