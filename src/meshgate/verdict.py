"""The words of a verdict: outcomes, findings, and why a claim could not be taken.  Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum

import msgspec


class Verdict(IntEnum):
    """What a claim came to, best first; a run is as good as its worst claim.

    `NOT_APPLICABLE` proves nothing: it is neither good nor bad, and alone it opens no gate.
    """

    NOT_APPLICABLE = -1
    PASS = 0
    WARN = 1
    FAIL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """Lower case, as people and JUnit properties read it: `could not verify` for UNKNOWN."""
        return {
            Verdict.NOT_APPLICABLE: "not applicable",
            Verdict.UNKNOWN: "could not verify",
        }.get(self, self.name.lower())


PROVEN = (Verdict.PASS, Verdict.WARN)


class Gate(IntEnum):
    """The gate's exit codes.  2 to 6 keep pytest's own meanings; none of them opens the gate."""

    OPEN = 0
    CLOSED = 1
    COULD_NOT_VERIFY = 10


class Finding(msgspec.Struct, frozen=True, order=True):
    """One problem of one object.

    Attributes:
        subject: the object, `Kind namespace/name`.
        seen: what is wrong with it.
        expected: what was expected instead.
        remedy: what to do; the catalogue's hint if empty.
        transient: whether time alone may resolve it (a rollout, a push in flight).
        suppression: why it does not close the gate (suppressions.py).
        problem: a constant code for this kind of problem, such as `disconnected`.
        owner: the object that outlives the subject, `Kind namespace/name`: a Pod's workload.
        about: what tells it from the same problem of the same object, as sorted pairs of name
            and value: the port, host, route, code or version.
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
        """What is equal exactly if it is the same problem, before and after an upgrade.

        Without a `problem` it is the whole text: then only an equal finding is the same one.
        """
        return self.owner or self.subject, self.problem or self.seen, self.about

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        suppression = f"[{self.suppression}] " if self.suppression else ""
        return f"{self.subject}: {suppression}{self.seen.strip().rstrip('.')}{expected}"


# How a claim reports what is right today and wrong soon.
Warn = Callable[[Iterable[Finding]], None]


class Listing(str):
    """The message of a claim's one assert: all offenders as text, the findings kept beside it."""

    findings: tuple[Finding, ...]

    def __new__(cls, findings: Iterable[Finding]) -> "Listing":
        ordered = tuple(sorted(findings))
        listing = super().__new__(cls, "\n".join(str(finding) for finding in ordered))
        listing.findings = ordered
        return listing


def listed(findings: Iterable[Finding]) -> Listing:
    """Every offender, sorted, a line each: what follows the comma of a claim's assert."""
    return Listing(findings)


class CouldNotVerify(Exception):
    """Evidence that a claim rests on could not be had: the worst verdict, never an open gate.

    `heals` says that another look may well get it (an istiod that is starting).
    """

    def __init__(self, why: str, remedy: str = "", *, transient: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.transient = transient


class NotApplicable(Exception):
    """The claim has nothing to speak about here, for a reason that was itself observed."""


class Outcome(msgspec.Struct, frozen=True):
    """One claim's verdict, as every report sees it.

    `why` and `remedy` say what was in the way of an UNKNOWN, or why a claim is NOT_APPLICABLE;
    `waivers` are the numbers of those that excused something.
    """

    check: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    why: str = ""
    remedy: str = ""
    transient: bool = False
    waivers: tuple[int, ...] = ()


def outcome(check: str, error: BaseException | None, warnings: Iterable[Finding] = ()) -> Outcome:
    """What a claim came to, from what it raised.  A crash is UNKNOWN, like missing evidence."""
    warned = tuple(sorted(warnings))
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
                remedy="this is a defect of meshgate: report it with the snapshot",
            )


class Ruling(msgspec.Struct, frozen=True):
    """What a run came to: the gate, and the outcomes that it rests on, in the catalogue's order.

    `notes` are about the run, not about the mesh: waivers that did nothing, what was left out.
    """

    gate: Gate
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict in words: what the last line says."""
        taken = len(self.outcomes)
        if self.gate is Gate.OPEN:
            proven = len(self.of(Verdict.PASS)) + len(self.of(Verdict.WARN))
            warned = len(self.of(Verdict.WARN))
            spare = len(self.of(Verdict.NOT_APPLICABLE))
            return (
                f"The gate is OPEN: {proven} of {taken} claims are proven"
                + (f", {warned} of them with a warning" if warned else "")
                + (f", {spare} not applicable" if spare else "")
                + "."
            )
        failed, unknown = self.of(Verdict.FAIL), self.of(Verdict.UNKNOWN)
        missing = f", {len(unknown)} could not be verified" if unknown else ""
        if failed:
            return f"The gate is CLOSED: {len(failed)} of {taken} claims failed{missing}."
        if unknown:
            return f"The gate is CLOSED: could not verify {len(unknown)} of {taken} claims."
        return "The gate is CLOSED: nothing was proven."

    def of(self, verdict: Verdict) -> tuple[Outcome, ...]:
        """The outcomes of one verdict."""
        return tuple(each for each in self.outcomes if each.verdict is verdict)


def ruling(
    outcomes: Sequence[Outcome], stage_of: Mapping[str, str], notes: tuple[str, ...] = ()
) -> Ruling:
    """Open only if every stage that was asked for had a claim that is proven, and none is worse.

    Args:
        outcomes: one for each claim that was selected, taken or not.
        stage_of: the stage of each check by id, in the catalogue's order.
    """
    order = {check: position for position, check in enumerate(stage_of)}
    worst = max((each.verdict for each in outcomes), default=Verdict.UNKNOWN)
    proven = {stage_of[each.check] for each in outcomes if each.verdict in PROVEN}
    if any(each.verdict is Verdict.FAIL for each in outcomes):
        gate = Gate.CLOSED
    elif worst is Verdict.UNKNOWN or proven != {stage_of[each.check] for each in outcomes}:
        gate = Gate.COULD_NOT_VERIFY
    else:
        gate = Gate.OPEN
    return Ruling(gate, tuple(sorted(outcomes, key=lambda each: order[each.check])), notes)
