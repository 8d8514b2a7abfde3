"""What is known of a recording without reading it."""

from datetime import UTC, datetime, timedelta

from meshgate.snapshot.base import Base


class Recording(Base, frozen=True, kw_only=True):
    """The head of one recording.

    Attributes:
        cluster: the name of the cluster.
        taken: when it was captured, in UTC.
        sha256: the digest of the snapshot's file.
        size: the size of that file in bytes.
        meshgate_version: what captured it.
        versions: the versions of istiod, joined by commas.
        revisions: the revisions of istiod, joined by commas.
        proxies: how many proxies were connected; None if it cannot be simulated.
        gaps: what could not be read, one sentence each.
    """

    cluster: str
    taken: datetime
    sha256: str
    size: int
    meshgate_version: str
    versions: str = ""
    revisions: str = ""
    proxies: int | None = None
    gaps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of its files: the names of a cluster's recordings are in their order."""
        return f"{self.taken.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def age(self, now: datetime) -> timedelta:
        """Return how old it is."""
        return now - self.taken
