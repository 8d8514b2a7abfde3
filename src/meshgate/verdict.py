"""The terms of a verdict: findings, outcomes of checks, and the ruling over a run.  Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import IntEnum

import msgspec


class Verdict(IntEnum):
    """The result of a check, best first; a run is as good as its worst check.

    `NOT_APPLICABLE` is neither good nor bad; alone it does not open a gate.
    """

    NOT_APPLICABLE = -1
    PASS = 0
    WARN = 1
    FAIL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """Return the lower-case name used in reports: `could not verify` for UNKNOWN."""
        return {
            Verdict.NOT_APPLICABLE: "not applicable",
            Verdict.UNKNOWN: "could not verify",
        }.get(self, self.name.lower())


PASSING = (Verdict.PASS, Verdict.WARN)


class Gate(IntEnum):
    """The gate's exit codes; 2 to 6 keep pytest's own meanings, and none of them is open."""

    OPEN = 0
    CLOSED = 1
    COULD_NOT_VERIFY = 10


class Finding(msgspec.Struct, frozen=True, order=True):
    """One problem of one object.

    Attributes:
        subject: the object, `Kind namespace/name`.
        seen: what is wrong with it, as a phrase that follows the subject.
        expected: what was expected instead.
        remedy: what to do; the catalogue's hint if empty.
        transient: whether time alone may resolve it (a rollout, a push in flight).
        suppression: why it does not close the gate (suppressions.py).
        problem: a constant code for this kind of problem, such as `disconnected`.
        owner: the object that outlives the subject, `Kind namespace/name`: a Pod's workload.
        about: what distinguishes it from the same problem of the same object, as sorted pairs of
            name and value: the port, host, route, code or version.
    """

    subject: str
    seen: str
    expected: str = ""
    remedy: str = ""
    transient: bool = False
    suppression: str = ""
    problem: str = ""
    owner: str = ""
    about: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """Return what is equal exactly if it is the same problem, before and after an upgrade.

        A finding without a `problem` is identified by its whole text.
        """
        return self.owner or self.subject, self.problem or self.seen, tuple(sorted(self.about))

    def __str__(self) -> str:
        expected = f" (expected {self.expected.strip().rstrip('.')})" if self.expected else ""
        suppression = f"[{self.suppression}] " if self.suppression else ""
        return f"{self.subject}: {suppression}{self.seen.strip().rstrip('.')}{expected}"


# How a check reports findings that do not close the gate.
Warn = Callable[[Iterable[Finding]], None]


class Basis:
    """The evidence that a check is based on, as counts of objects: `basis(14, "pod")`.

    A check that counted its objects and found none of them can neither pass nor only warn: see
    `outcome`.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(self, count: int, noun: str) -> None:
        """Add so many objects; `noun` is singular (`proxy`, `TLS listener`)."""
        self._counts[noun] = self._counts.get(noun, 0) + count

    @property
    def empty(self) -> bool:
        """Return whether objects were counted, and there was none."""
        return bool(self._counts) and not any(self._counts.values())

    def __str__(self) -> str:
        return ", ".join(counted(count, noun) for noun, count in self._counts.items())


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


class Listing(str):
    """The message of a check's assert: all findings as text, with the findings themselves."""

    findings: tuple[Finding, ...]

    def __new__(cls, findings: Iterable[Finding]) -> "Listing":
        ordered = tuple(sorted(findings))
        listing = super().__new__(cls, "\n".join(str(finding) for finding in ordered))
        listing.findings = ordered
        return listing


def listed(findings: Iterable[Finding]) -> Listing:
    """Return the message of a check's assert: every finding, sorted, one per line."""
    return Listing(findings)


class CouldNotVerify(Exception):
    """Evidence that a check needs is missing: the check is UNKNOWN and the gate closed.

    `transient` means that another capture may get it (an istiod that is starting).
    """

    def __init__(self, why: str, remedy: str = "", *, transient: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.transient = transient


class NotApplicable(Exception):
    """The check has no object here, for a reason that was itself observed."""


class Outcome(msgspec.Struct, frozen=True):
    """The result of one check, as every report shows it.

    Attributes:
        why: why it is UNKNOWN or NOT_APPLICABLE, or the message of a failure without findings.
        remedy: what to do about an UNKNOWN.
        waivers: (position of the waiver, object) for each finding that a waiver suppressed.
        basis: what a result is based on, such as `14 pods, 2 gateways`.
    """

    check: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    why: str = ""
    remedy: str = ""
    transient: bool = False
    waivers: tuple[tuple[int, str], ...] = ()
    basis: str = ""


def outcome(
    check: str,
    error: BaseException | None,
    warnings: Iterable[Finding] = (),
    basis: Basis | None = None,
) -> Outcome:
    """Return the result of a check from what it raised; a crash is UNKNOWN.

    Args:
        check: its id.
        error: what it raised; None if it returned.
        warnings: the findings that it reported without failing.
        basis: what it counted as its evidence.

    Returns:
        The result.
    """
    result = _outcome(check, error, tuple(sorted(warnings)))
    if basis is None:
        return result
    if result.verdict in PASSING and basis.empty:
        return Outcome(
            check,
            Verdict.UNKNOWN,
            warnings=result.warnings,
            why=f"the evidence says nothing: {basis}",
            remedy="check what the options exclude, and what istiod reports",
        )
    return msgspec.structs.replace(result, basis=str(basis))


def incomplete(result: Outcome, missing: Sequence[Finding]) -> Outcome:
    """Return the outcome of a check that could not look at some objects: each is a finding.

    An UNKNOWN stays one.
    """
    if not missing or result.verdict is Verdict.UNKNOWN:
        return result
    findings = tuple(sorted((*result.findings, *missing)))
    return msgspec.structs.replace(result, verdict=Verdict.FAIL, findings=findings, why="")


def _outcome(check: str, error: BaseException | None, warned: tuple[Finding, ...]) -> Outcome:
    match error:
        case None:
            return Outcome(check, Verdict.WARN if warned else Verdict.PASS, warnings=warned)
        case NotApplicable():
            return Outcome(check, Verdict.NOT_APPLICABLE, why=str(error))
        case CouldNotVerify():
            return Outcome(
                check,
                Verdict.UNKNOWN,
                why=error.why,
                remedy=error.remedy,
                transient=error.transient,
            )
        case AssertionError(args=(Listing() as listing,)):
            return Outcome(check, Verdict.FAIL, listing.findings, warned)
        case AssertionError():
            return Outcome(check, Verdict.FAIL, why=str(error) or "its assertion failed")
        case _:
            return Outcome(
                check,
                Verdict.UNKNOWN,
                why=f"the check crashed: {type(error).__name__}: {error}",
                remedy="report this defect of meshgate, with the snapshot",
            )


class Ruling(msgspec.Struct, frozen=True):
    """The verdict of a run: the gate, and the outcomes in the catalogue's order.

    `notes` are about the run and not about the mesh: unused waivers, what was left out.
    `reason` says why the gate is closed although no check closes it.
    """

    gate: Gate
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def sentence(self) -> str:
        """Return the verdict in words: what the last line says."""
        if self.reason:
            return f"GATE CLOSED: {self.reason}"
        if self.gate is Gate.OPEN:
            return f"GATE OPEN  {self.counts}"
        if not self.of(Verdict.FAIL) and not self.of(Verdict.UNKNOWN):
            return "GATE CLOSED: no check produced evidence"
        return f"GATE CLOSED  {self.counts}"

    @property
    def counts(self) -> str:
        """Return how many checks had each verdict: `7 failed · 1 warning · 34 passed`."""
        words = (
            (Verdict.FAIL, "failed", "failed"),
            (Verdict.UNKNOWN, "unknown", "unknown"),
            (Verdict.WARN, "warning", "warnings"),
            (Verdict.PASS, "passed", "passed"),
            (Verdict.NOT_APPLICABLE, "not run", "not run"),
        )
        found = ((len(self.of(verdict)), one, many) for verdict, one, many in words)
        return " · ".join(f"{n} {one if n == 1 else many}" for n, one, many in found if n)

    def of(self, verdict: Verdict) -> tuple[Outcome, ...]:
        """Return the outcomes of one verdict."""
        return tuple(each for each in self.outcomes if each.verdict is verdict)


def ruling(
    outcomes: Sequence[Outcome],
    stage_of: Mapping[str, str],
    notes: tuple[str, ...] = (),
    optional: Collection[str] = (),
) -> Ruling:
    """Return the verdict: open only if every selected stage has a check that passed and no other.

    Args:
        outcomes: one for each check that was selected, whether it ran or not.
        stage_of: the stage of each check by id, in the catalogue's order.
        notes: remarks about the run.
        optional: stages that need no check that passed if another stage has one.

    Returns:
        The verdict of the run.
    """
    order = {check: position for position, check in enumerate(stage_of)}
    worst = max((each.verdict for each in outcomes), default=Verdict.UNKNOWN)
    passing = {stage_of[each.check] for each in outcomes if each.verdict in PASSING}
    needed = {stage_of[each.check] for each in outcomes} - set(optional)
    if any(each.verdict is Verdict.FAIL for each in outcomes):
        gate = Gate.CLOSED
    elif worst is Verdict.UNKNOWN or not passing or not needed <= passing:
        gate = Gate.COULD_NOT_VERIFY
    else:
        gate = Gate.OPEN
    return Ruling(gate, tuple(sorted(outcomes, key=lambda each: order[each.check])), notes)
