"""What can go wrong while reading, in words; apart, so that a replay loads no client library."""

from meshgate.settings import flag


class NoCluster(Exception):
    """No cluster is configured; nothing was tried yet."""


class ReadError(Exception):
    """A read that failed: why, and what to do; `transient` if a retry may succeed."""

    def __init__(self, why: str, remedy: str, *, transient: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.transient = transient


class NotServed(ReadError):
    """The API server answered 404."""


# why and remedy of whatever the end of the run cut off
OUT_OF_TIME = (
    "the run's deadline passed before this was read",
    f"raise {flag('run.deadline')}, or run fewer stages at once",
)
