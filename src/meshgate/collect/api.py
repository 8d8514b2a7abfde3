"""Read access to an API server, whatever answers: a cluster, or a recording."""

from collections.abc import Mapping
from typing import Any, Protocol

from meshgate.snapshot.sources import Kind


class ApiAnswer(Protocol):
    """One answer of it, which may come in parts."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: Any) -> Any: ...

    def read(self) -> bytes:
        """Return the whole body."""

    def read1(self) -> bytes:
        """Return the bytes that have arrived; empty at the end of the body."""

    def shutdown(self) -> None:
        """Close the connection, so that blocked reads return."""


class Api(Protocol):
    """Read access to a cluster, live or recorded."""

    def objects(self, kind: Kind) -> tuple[Any, ...]:
        """Return all objects of a kind."""

    def send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        stream: bool = False,
        headers: dict[str, str] | None = None,
    ) -> ApiAnswer:
        """One request; the raw response.

        Args:
            method: the HTTP method.
            path: the request's path.
            query: the query parameters, in order.
            stream: whether the body is read later, by the caller.
            headers: additional headers.

        Returns:
            The response; its body is read later if `stream`.
        """
