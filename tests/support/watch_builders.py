"""A watch of an upgrade in a line or two: nothing is lost unless a test changes it."""

from datetime import datetime, timedelta
from typing import Any

from meshgate.snapshot.watch import Flow, Happening, Interval, Observer, Watch
from tests.support.builders import AT, after

OLD, NEW = "1.30.4", "1.31.0"
API = "http1://api.payments:80/"
DRAINED = "terminationDrainDuration 1s"
OBSERVERS = (
    Observer(name="a", proxy=OLD, created=after(-300), read=AT),
    Observer(name="b", proxy=NEW, created=after(-200), read=AT),
)


def flow(**of: Any) -> Flow:
    """Requests of the old observer to payments/api."""
    given: dict[str, Any] = {
        "target": API,
        "kind": "http1",
        "subject": "Service payments/api",
        "service": "payments/api",
        "observer": "a",
        "sent": 51220,
        "answered": AT,
    }
    return Flow(**{**given, **of})


def gateway(**of: Any) -> Flow:
    """Requests through the gateway."""
    given: dict[str, Any] = {
        "target": "GET http://shop.example.com:80/ from inside",
        "kind": "gateway",
        "subject": "Gateway ways/front",
        "service": "ways/front",
        "sent": 100,
        "answered": AT,
    }
    return Flow(**{**given, **of})


def peer(kind: str = "http1", *, back: bool = False, **of: Any) -> Flow:
    """Requests from the old observer to the new one, or back."""
    observer, other = ("b", "a") if back else ("a", "b")
    given: dict[str, Any] = {
        "target": f"{kind} to observer {other}",
        "kind": kind,
        "subject": f"Observer istio-verification-probes/{other}",
        "service": f"istio-verification-probes/observer-{other}",
        "observer": observer,
        "peer": other,
        "sent": 900,
        "answered": AT,
        "caller": "spiffe://cluster.local/ns/istio-verification-probes/sa/default",
    }
    return Flow(**{**given, **of})


def lost(
    seconds: float, count: int = 1, why: str = "503", *, last: float | None = None
) -> Interval:
    """Losses from so many seconds before the run on."""
    first = AT - timedelta(seconds=seconds)
    end = first if last is None else AT - timedelta(seconds=last)
    return Interval(first=first, last=end, count=count, why=why)


def terminating(seconds: float, *, until: float = 0, **of: Any) -> Happening:
    """A pod of payments/api that began to terminate so many seconds before the run."""
    given: dict[str, Any] = {
        "at": AT - timedelta(seconds=seconds),
        "until": AT - timedelta(seconds=until),
        "subject": "Pod payments/api-6c9d-x",
        "what": "was terminating",
        "detail": DRAINED,
        "workload": "Deployment payments/api",
        "services": ("payments/api",),
    }
    return Happening(**{**given, **of})


def changed(seconds: float, subject: str = "EnvoyFilter payments/cut") -> Happening:
    """An object that was created so many seconds before the run."""
    at: datetime = AT - timedelta(seconds=seconds)
    return Happening(at=at, subject=subject, what="was created", role="config")


def watch(*flows: Flow, **of: Any) -> Watch:
    """A watch with observers of both versions, which ended with the run's begin."""
    given: dict[str, Any] = {
        "began": after(-300),
        "last": AT,
        "image": "meshgate",
        "namespace": "istio-verification-probes",
        "slow_after": 1000,
        "flows": flows or (flow(), gateway(), peer(), peer(back=True)),
        "observers": OBSERVERS,
    }
    return Watch(**{**given, **of})
