"""Find the stored runs below a location, and write one page that lists them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from meshgate.collect.errors import ReadError
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
        ReadError: If fsspec is not installed.
        OSError: If the storage cannot be read or written.
        ValueError: If there are no reports.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ReadError(
            f"{place} needs fsspec", "install meshgate[storage] and the storage's own package"
        ) from error
    files, root = url_to_fs(place)
    files.invalidate_cache()
    found = sorted(_runs(files, root), key=lambda each: each.folder)
    if not found:
        raise ValueError(f"no reports below {place}")
    target = f"{root.rstrip('/')}/{PAGE}"
    with files.open(target, "wb") as out:
        out.write(page(found, datetime.now(UTC), last).encode())
    return found, files.unstrip_protocol(target) if "://" in place else target


def _runs(files: Any, root: str) -> "Iterator[Entry]":
    base = root.rstrip("/") + "/"
    folders: dict[str, set[str]] = {}
    for path in files.find(root):
        folder, _, name = path.removeprefix(base).rpartition("/")
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
            with files.open(f"{base}{folder}/verdict.json", "rb") as file:
                read = decode(file.read(LARGEST + 1))
        except (ValueError, RecursionError) as error:
            yield Entry(folder, page=link, why=f"cannot read its verdict.json: {error}")
        else:
            yield Entry(folder, read, link)
