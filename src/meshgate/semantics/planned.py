"""A request that is planned for a listener, and a route for which none is."""

from collections import Counter
from typing import NamedTuple

from meshgate.semantics.listeners import Listener
from meshgate.settings import flag
from meshgate.snapshot.ingress import Ingress, Request, Skipped


class PlannedRequest(NamedTuple):
    """What is sent to one listener, independent of where it is sent from.

    The fields are those of `snapshot.ingress.Request`.
    """

    host: str
    kind: str = "connect"
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    route: str = ""
    backends: tuple[str, ...] = ()
    expected: int = 0
    declared: bool = False
    send: str = ""
    tls_version: str = ""
    http2: bool = False
    certificate: bool = False
    grpc: bool = False

    def request(self, listener: Listener, vantage: str, service: str) -> Request:
        """Return the request from one vantage point through one Service.

        Args:
            listener: it is sent to.
            vantage: inside, outside or prober.
            service: subject of what leads to the listener from there.

        Returns:
            What a snapshot keeps of it.
        """
        return Request(
            vantage=vantage,
            service=service,
            gateway=listener.subject,
            port=listener.port,
            tls=listener.tls,
            **{**self._asdict(), "headers": dict(self.headers)},
        )


def summary(traffic: Ingress | None) -> tuple[str, ...]:
    """Return lines that say how many requests were sent from where, and what was not requested."""
    requests = [each.request for each in traffic.exchanges] if traffic else []
    counts = Counter(each.vantage for each in requests)
    words = ", ".join(f"{count} from {name}" for name, count in sorted(counts.items()))
    lines = [f"requests sent through the gateways: {words or 'none'}"]
    if count := sum(each.grpc and not each.declared for each in requests):
        lines.append(
            f"{count} request{'s' if count > 1 else ''} to gRPC routes used GET, which calls no "
            f"method: declare a call with {flag('ingress.expect')} to test one"
        )
    if skipped := skipped_summary(traffic.skipped if traffic else ()):
        lines.append(f"not requested: {skipped}")
    return tuple(lines)


def skipped_summary(skipped: tuple[Skipped, ...]) -> str:
    """Return the counts of what was not requested, by reason: `3 routes (regular expression)`."""
    counts = Counter((each.kind, each.why) for each in skipped)
    return ", ".join(
        f"{count} {kind}{'s' if count > 1 else ''} ({why})"
        for (kind, why), count in sorted(counts.items())
    )
