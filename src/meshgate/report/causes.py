"""Which findings have one cause, and which cause to fix first.

Findings of several checks have one cause if they name the same object.  Equal findings of many
objects are one cause too.  UNKNOWN checks have one cause if the reason is the same.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from meshgate.catalogue import STAGES, check
from meshgate.settings import flag
from meshgate.verdict import Finding, Outcome, Ruling, Verdict


class Rank(IntEnum):
    """The order in which causes are fixed: each may be the consequence of an earlier one."""

    ACCESS = 0
    NODE = 1
    CONTROL_PLANE = 2
    CONFIGURATION = 3
    GATEWAY = 4
    RESTART = 5
    WORKLOAD = 6


# Checks whose rank is not that of their stage.
RANKS = {
    "CP004": Rank.CONFIGURATION,
    "CP006": Rank.CONFIGURATION,
    "PC101": Rank.CONFIGURATION,
    "PC102": Rank.CONFIGURATION,
    "PC103": Rank.CONFIGURATION,
}
STAGE_RANKS = {
    "precheck": Rank.CONTROL_PLANE,
    "controlplane": Rank.CONTROL_PLANE,
    "ambient": Rank.CONTROL_PLANE,
    "ingress": Rank.GATEWAY,
    "dataplane": Rank.WORKLOAD,
}
# Problems of stage D that a restart of the workload solves.
RESTARTS = frozenset({"wrong-version", "no-sidecar", "not-reinjected", "injection-changed"})

NOT_RUN = "it did not run"  # how the reason of a check begins that a run did not reach

CONFIGURATION_KINDS = frozenset(
    {
        "AuthorizationPolicy",
        "DestinationRule",
        "EnvoyFilter",
        "Gateway",
        "GRPCRoute",
        "HTTPRoute",
        "Ingress",
        "PeerAuthentication",
        "ProxyConfig",
        "RequestAuthentication",
        "ServiceEntry",
        "Sidecar",
        "TCPRoute",
        "Telemetry",
        "TLSRoute",
        "VirtualService",
        "WasmPlugin",
        "WorkloadEntry",
        "WorkloadGroup",
    }
)
_UNSCHEDULABLE = re.compile(r"not PodScheduled|unschedulable|nodes are available|FailedScheduling")
_UNREACHABLE = re.compile(r"cannot reach the API server")
_NO_RIGHT = re.compile(r"no right to ([a-z]+ [\w./, -]+?)(?=:|;|, which|$)")
_REJECTED = re.compile(r"API server \S+ does not accept our credentials")
_REFERENCE = re.compile(r"([A-Z]\w+) (?:([a-z0-9.-]+)/)?([a-z0-9.-]+)")
_TOKEN = re.compile(r"[\w/-]+(?:\.[\w/-]+)*")
_NAMED = re.compile(r"[a-z0-9][a-z0-9.-]*(?:/[a-z0-9][a-z0-9.-]*)?")


class Reference(NamedTuple):
    """An object of the cluster; `namespace` is empty for one that has none."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, subject: str) -> "Reference | None":
        """Return the object that a finding's subject or owner begins with."""
        found = _REFERENCE.match(subject)
        return cls(found[1], found[2] or "", found[3]) if found else None

    def replaced(self, text: str) -> str:
        """Return the text with `it` for this object, however it is named there."""
        if self.name not in text:
            return text
        path = f"{self.namespace}/{self.name}" if self.namespace else self.name
        names = (path, self.name)
        words = _TOKEN.sub(lambda found: "it" if found[0] in names else found[0], text)
        return words.replace(f"{self.kind} it", "it")

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


class Member(NamedTuple):
    """One finding of one check."""

    check: str
    finding: Finding

    @property
    def object(self) -> Reference | None:
        """Return the object that outlives the subject: the workload of a Pod."""
        return Reference.parse(self.finding.owner or self.finding.subject)

    @property
    def rank(self) -> Rank:
        """Return when it is fixed."""
        row = check(self.check)
        if _UNSCHEDULABLE.search(self.finding.seen):
            return Rank.NODE
        if row.stage == "dataplane" and self.finding.problem in RESTARTS:
            return Rank.RESTART
        return _rank(self.check)

    @property
    def sentence(self) -> str:
        """Return what was seen and expected, with `it` for the object that it is about."""
        expected = f" (expected {self.finding.expected.strip(' .')})"
        seen = self.finding.seen.strip().rstrip(".")
        words = f"{seen}{expected if self.finding.expected else ''}"
        for text in (self.finding.subject, self.finding.owner):
            if each := Reference.parse(text):
                words = each.replaced(words)
        return words


class Cause(NamedTuple):
    """One thing to fix.

    Attributes:
        rank: when to fix it.
        title: what it is, in a few words.
        checks: the ids of the checks that it closes, the one that shows it best first.
        members: the findings; empty for UNKNOWN checks.
        why: why the checks are UNKNOWN, or failed without a finding.
        basis: the evidence of the first check, such as `14 sidecars`.
        remedy: a command, or what to do.
        unknown: whether the checks are UNKNOWN.
    """

    rank: Rank
    title: str
    checks: tuple[str, ...]
    members: tuple[Member, ...] = ()
    why: str = ""
    basis: str = ""
    remedy: str = ""
    unknown: bool = False

    @property
    def stage(self) -> str:
        """Return the stage under which it is shown."""
        return check(self.checks[0]).stage

    def of(self, id: str) -> tuple[Member, ...]:
        """Return the findings of one check."""
        return tuple(each for each in self.members if each.check == id)


def causes(ruling: Ruling, target: str = "") -> tuple[Cause, ...]:
    """Return what closes the gate, in the order in which to fix it.

    Args:
        ruling: the outcomes of a run.
        target: the version of the upgrade, for the command that restarts workloads.
    """
    failed = ruling.of(Verdict.FAIL)
    members = [Member(each.check, finding) for each in failed for finding in each.findings]
    bases = {each.check: each.basis for each in failed}
    found = [
        *(_cause(group, bases, target) for group in _groups(members)),
        *(_bare(each) for each in failed if not each.findings),
        *_unknown(ruling.of(Verdict.UNKNOWN)),
    ]
    order = {each.check: number for number, each in enumerate(ruling.outcomes)}
    return tuple(
        sorted(
            found,
            key=lambda each: (each.rank, order[each.checks[0]], -len(each.members), each.title),
        )
    )


# --- findings -----------------------------------------------------------------------------------


def _groups(members: Sequence[Member]) -> Iterable[list[Member]]:
    """Return the findings by cause: linked by objects, then equal ones of the same check."""
    sets = _Sets(len(members))
    first: dict[object, int] = {}
    for number, member in enumerate(members):
        for key in _keys(member):
            sets.join(number, first.setdefault(key, number))
    named = {
        name: (each.kind, number)
        for number, member in enumerate(members)
        if (each := Reference.parse(member.finding.subject))
        for name in _names(each)
    }
    for number, member in enumerate(members):
        text = f"{member.finding.seen} {member.finding.remedy}"
        for word in _NAMED.findall(text):
            kind, other = named.get(word, ("", number))
            named_here = kind == "Pod" or (kind and kind in text)
            if named_here and _family(members[other]) == _family(member):
                sets.join(number, other)
    groups: defaultdict[int, list[Member]] = defaultdict(list)
    for number, member in enumerate(members):
        groups[sets.root(number)].append(member)
    return _merged(groups.values())


def _family(member: Member) -> str:
    """Return what findings of one cause share: a rejected configuration needs no restart."""
    rank = member.rank
    if rank in (Rank.NODE, Rank.CONTROL_PLANE, Rank.GATEWAY):
        return "rollout"
    return rank.name


def _keys(member: Member) -> Iterator[object]:
    """Yield what two findings of one cause have in common."""
    if " rollout restart " in member.finding.remedy:
        yield member.finding.remedy  # one restart solves both
    for text in (member.finding.subject, member.finding.owner):
        each = Reference.parse(text)
        if each is None or not each.namespace:
            continue
        yield each, "" if each.kind in CONFIGURATION_KINDS else _family(member)


def _names(each: Reference) -> Iterator[str]:
    """Yield how other findings name an object."""
    if each.namespace:
        yield f"{each.namespace}/{each.name}"
    if each.kind == "Pod":
        yield from (f"{each.name}.{each.namespace}", each.name)


def _merged(groups: Iterable[list[Member]]) -> Iterator[list[Member]]:
    """Yield the groups; those of one check whose findings are equal are one."""
    alike: defaultdict[object, list[Member]] = defaultdict(list)
    for group in groups:
        kinds = {
            (each.check, each.rank, each.finding.problem, each.finding.about, each.sentence)
            for each in group
        }
        one = len(kinds) == 1 and len({each.check for each in group}) == 1
        if one:
            alike[kinds.pop()].extend(group)
        else:
            yield group
    yield from alike.values()


def _cause(group: Sequence[Member], bases: Mapping[str, str], target: str) -> Cause:
    """Return the cause of a group of findings.

    Args:
        group: the findings.
        bases: what each failed check is based on.
        target: the version of the upgrade.

    Returns:
        The cause.
    """
    first = min(group, key=_lead)
    order = sorted(dict.fromkeys(each.check for each in group), key=_position)
    checks = (first.check, *(each for each in order if each != first.check))
    rank = min(each.rank for each in group)
    roots = _roots(group)
    return Cause(
        rank,
        _title(rank, group, roots),
        checks,
        tuple(group),
        basis=bases[first.check],
        remedy=_remedy(rank, group, roots, target) or first.finding.remedy or _hint(first.check),
    )


def _lead(member: Member) -> tuple[Rank, bool, int]:
    """Return what sorts the finding first that shows the cause best: seen, not predicted."""
    return member.rank, check(member.check).stage == STAGES[0], _position(member.check)


def _position(id: str) -> int:
    row = check(id)
    number = int("".join(filter(str.isdigit, id)) or 0)
    return STAGES.index(row.stage) * 10_000 + number if row.stage in STAGES else 10**6


def _roots(group: Iterable[Member]) -> list[Reference]:
    """Return the configuration objects in a cause."""
    found = (Reference.parse(each.finding.subject) for each in group)
    return list(dict.fromkeys(each for each in found if each and each.kind in CONFIGURATION_KINDS))


def _title(rank: Rank, group: Sequence[Member], roots: Sequence[Reference]) -> str:
    if rank is Rank.NODE:
        return "unschedulable node"
    found = list(dict.fromkeys(each.object or each.finding.subject for each in group))
    objects = list(roots) if rank is Rank.CONFIGURATION and roots else found
    verb = "restart " if all(each.finding.problem in RESTARTS for each in group) else ""
    if len(objects) == 1:
        return f"{verb}{objects[0]}"
    kinds = {each.kind if isinstance(each, Reference) else "" for each in objects}
    noun = "workloads" if verb else f"{kinds.pop()}s" if len(kinds) == 1 else "objects"
    return f"{verb}{len(objects)} {noun}"


def _remedy(
    rank: Rank, group: Sequence[Member], roots: Sequence[Reference], target: str
) -> str | None:
    """Return a remedy for the whole cause; None if that of its first finding serves."""
    if rank is Rank.RESTART and len(group) > 1 and target:
        return f"meshgate restart {flag('criteria.target_version', target)}"
    if rank is Rank.CONFIGURATION and len(roots) == 1 and roots[0].namespace:
        kind, namespace, name = roots[0]
        return f"kubectl -n {namespace} get {kind.lower()} {name} -o yaml"
    return None


def _hint(id: str) -> str:
    return check(id).hint


def _bare(outcome: Outcome) -> Cause:
    """Return the cause of a check that failed without a finding."""
    id = outcome.check
    return Cause(_rank(id), id, (id,), why=outcome.why, remedy=_hint(id))


# --- UNKNOWN checks -----------------------------------------------------------------------------


def _unknown(outcomes: Iterable[Outcome]) -> Iterator[Cause]:
    """Yield one cause for each reason; missing permissions are one reason."""
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        groups[_reason(each.why)].append(each)
    for reason, group in groups.items():
        checks = tuple(each.check for each in group)
        why, remedy = group[0].why, group[0].remedy or _hint(checks[0])
        if reason == "missing permissions":
            rights = sorted({right for each in group for right in _NO_RIGHT.findall(each.why)})
            why = f"no right to {', '.join(rights)}"
            remedy = "meshgate rbac | kubectl apply -f -"
        rank = Rank.ACCESS
        if reason == group[0].why:
            rank = Rank.WORKLOAD if reason.startswith(NOT_RUN) else _rank(checks[0])
            reason = f"verify {checks[0] if len(checks) == 1 else f'{len(checks)} checks'}"
        yield Cause(rank, reason, checks, why=why, remedy=remedy, unknown=True)


def _rank(id: str) -> Rank:
    row = check(id)
    return RANKS.get(row.id, STAGE_RANKS.get(row.stage, Rank.WORKLOAD))


def _reason(why: str) -> str:
    if _UNREACHABLE.search(why):
        return "unreachable API server"
    if _REJECTED.search(why):
        return "rejected credentials"
    return "missing permissions" if _NO_RIGHT.search(why) else why


class _Sets:
    """Disjoint sets of the numbers below `size`."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, number: int) -> int:
        """Return the number that stands for the set of this one."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Unite two sets."""
        self._parent[self.root(one)] = self.root(other)
