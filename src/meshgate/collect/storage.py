"""Folders and object storage behind one interface: fsspec."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from meshgate.collect.errors import ReadError


class Storage:
    """The files below a folder or URL, each named by its path in it.

    The clients of object storage raise errors of many libraries.  Each is a ReadError here, except
    FileNotFoundError of a file that is read.
    """

    def __init__(self, place: str) -> None:
        """Open a place.

        Args:
            place: a folder, or a URL that fsspec supports.

        Raises:
            ReadError: the place is not valid, or the package of its storage is not installed.
        """
        from fsspec.asyn import AsyncFileSystem  # noqa: PLC0415 - only where files are stored
        from fsspec.core import url_to_fs  # noqa: PLC0415

        self._place = place
        with self._errors():
            try:
                files, root = url_to_fs(place)
            except ImportError as error:
                raise ReadError(
                    f"{place} needs a package that is not installed: {error}",
                    "install the package of the storage: s3fs, gcsfs or adlfs",
                ) from error
        files.invalidate_cache()
        self._files: Any = files
        self._root = str(root).rstrip("/")
        # object storage has no folders, and its clients would create the bucket
        self._has_folders = not isinstance(files, AsyncFileSystem)

    def names(self, folder: str = "") -> list[str]:
        """Return the name of each file, sorted; none where nothing was stored yet.

        Args:
            folder: a folder; by default all.

        Raises:
            ReadError: the files cannot be listed.
        """
        found: list[str] = []
        with self._errors(), suppress(FileNotFoundError):
            found = self._files.find(self._path(folder).rstrip("/"))
        return sorted(each.removeprefix(f"{self._root}/") for each in found)

    def read(self, name: str, most: int = -1) -> bytes:
        """Return what a file contains.

        Args:
            name: the file.
            most: how many bytes are read; by default all.

        Raises:
            FileNotFoundError: it does not exist.
            ReadError: it cannot be read.
        """
        with self._errors(FileNotFoundError), self._files.open(self._path(name), "rb") as file:
            content: bytes = file.read(most)
        return content

    def write(self, name: str, content: bytes) -> None:
        """Store a file; raise ReadError."""
        path = self._path(name)
        with self._errors():
            if self._has_folders:
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._files.open(path, "wb") as file:
                file.write(content)

    def delete(self, name: str) -> None:
        """Delete a file; raise ReadError."""
        with self._errors():
            self._files.rm_file(self._path(name))

    def location(self, name: str) -> str:
        """Return where a file is: its path, or its URL."""
        path = self._path(name)
        return str(self._files.unstrip_protocol(path)) if "://" in self._place else path

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _errors(self, *expected: type[Exception]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, (ReadError, *expected)):
                raise
            words = " ".join(str(error).split())
            raise ReadError(
                f"{self._place} is not available: {type(error).__name__}: {words}",
                "check the address of the storage, and the credentials and their rights",
            ) from error
