"""What answered before the upgrade, compared with what answers now."""

from functools import cached_property

from meshgate.facts.ingress.denials import about
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.settings import flag
from meshgate.snapshot.ingress import Exchange
from meshgate.verdict import Finding, NotApplicable

# milliseconds, and times what it was before, above which an answer is late
LATE, SLOWER = 500, 3


class TrafficComparison:
    """The same requests, before and after."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    @property
    def changed(self) -> list[Finding]:
        """What is answered differently, or not served any more."""
        found = []
        skipped = {each.subject for each in self._ingress.traffic.skipped}
        for then in self.before:
            request = then.request
            subject = request.subject or request.gateway
            now = self._now.get(request.key)
            if now is None:
                if request.route not in skipped:
                    found.append(_gone(then))
                continue
            differences = {_difference(then, each) for each in now} - {None}
            for problem, words in sorted(each for each in differences if each):
                found.append(
                    Finding(
                        subject,
                        f"{request.words} {words}",
                        "the same as before the upgrade",
                        f"compare {subject} and its backends with what they were",
                        transient=True,
                        problem=problem,
                        about=about(request),
                    )
                )
        return found

    @property
    def drifted(self) -> list[Finding]:
        """What is answered as before, but much later, or with another server name."""
        found = []
        for then in self.before:
            request = then.request
            for now in self._now.get(request.key, ()):
                if now.error or now.status != then.status:
                    continue
                problem, words = _drift(then, now)
                if words:
                    found.append(
                        Finding(
                            request.subject or request.gateway,
                            f"{request.words} {words}",
                            "the same as before the upgrade",
                            problem=problem,
                            about=about(request),
                        )
                    )
        return found

    @cached_property
    def _now(self) -> dict[str, list[Exchange]]:
        now: dict[str, list[Exchange]] = {}
        for seen, _ in self._ingress.exchanges():
            now.setdefault(seen.request.key, []).append(seen)
        return now

    @cached_property
    def before(self) -> list[Exchange]:
        """What was answered before the upgrade, and could be requested again."""
        _ = self._now
        before = self._ingress.evidence.expectations.before
        if before is None or before.ingress is None:
            raise NotApplicable(f"no {flag('run.baseline')} has traffic to compare with")
        traffic = self._ingress.traffic
        vantages = {each.name for each in traffic.vantages if not each.unused}
        identified = any(each.request.certificate for each in traffic.exchanges)
        return [
            then
            for then in before.ingress.exchanges
            if not then.error and then.status != 429 and then.status < 500
            # else nothing was sent from there this time, nor with a client certificate
            if then.request.vantage in vantages
            if identified or not then.request.certificate
        ]


def _gone(then: Exchange) -> Finding:
    request = then.request
    return Finding(
        request.subject or request.gateway,
        f"{request.words} was answered before the upgrade, and no listener or route serves it now",
        "its listener and route",
        "restore the listener or route; if it was removed on purpose, save a new baseline",
        problem="no-longer-served",
        about=about(request),
    )


def _drift(then: Exchange, now: Exchange) -> tuple[str, str]:
    if then.server != now.server:
        return (
            "other-server",
            f"sends the header Server {now.server or 'none'}, and {then.server or 'none'} before "
            "the upgrade",
        )
    if now.milliseconds > max(LATE, SLOWER * then.milliseconds):
        return (
            "slower",
            f"took {now.milliseconds} ms, {then.milliseconds} ms before the upgrade",
        )
    return "", ""


def _difference(then: Exchange, now: Exchange) -> tuple[str, str] | None:
    """Return the code of a difference and its words."""
    if now.error:
        return "no-answer", f"was answered before the upgrade; now: {now.error}"
    if then.alpn == "h2" and now.alpn != "h2":
        return "no-http2", "spoke HTTP/2 before the upgrade, and does not now"
    if now.status != then.status and now.status != 429:
        why = " (the gateway denies it: RBAC)" if now.reason == "RBAC" else ""
        return (
            "other-status",
            f"got {then.status} before the upgrade, and gets {now.status} now{why}",
        )
    if now.location != then.location:
        before, after = then.location or "nowhere", now.location or "nowhere"
        return "other-location", f"redirected to {before} before the upgrade, and to {after} now"
    if then.certificate and now.certificate and then.fingerprint != now.fingerprint:
        if now.certificate.not_after < then.certificate.not_after:
            return "older-certificate", "serves an older certificate than before"
        if lost := set(then.certificate.sans) - set(now.certificate.sans):
            names = ", ".join(sorted(lost))
            return "fewer-names", f"serves a certificate that lost {names}"
    return None
