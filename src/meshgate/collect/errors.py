"""What can go wrong while reading, in words; apart, so that a replay loads no client library."""


class NoCluster(Exception):
    """No way to a cluster is configured: nothing was tried yet."""


class ReadError(Exception):
    """A read that failed, in words; `heals` if another try may succeed by itself."""

    def __init__(self, why: str, remedy: str, *, transient: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.transient = transient
