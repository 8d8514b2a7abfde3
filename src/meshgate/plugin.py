"""The engine inside pytest: options, one capture, settling, outcomes, and a gate that fails closed.

The only module of the package that imports pytest.  With xdist the controller captures and settles;
its workers load the file that it wrote, so that all claims are taken on the same evidence.
"""

import argparse
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from meshgate.catalogue import Check, check, checks
from meshgate.collect.capture import Access, Live, Replay, Source, connect
from meshgate.collect.errors import NoCluster, ReadError
from meshgate.collect.settle import Unsettled, settle
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.facts.mesh import Mesh
from meshgate.pipeline.events import Named
from meshgate.pipeline.publish import Targets, publish
from meshgate.probe.plan import Plan
from meshgate.probe.target import Target
from meshgate.probe.traffic import Traffic
from meshgate.report import html, json, text
from meshgate.report.short import Short, broken, short
from meshgate.report.visible import visible_outcome
from meshgate.semantics.declared_answers import missing, read_answers
from meshgate.semantics.planned import summary
from meshgate.semantics.releases import read_support
from meshgate.snapshot.ingress import INSIDE, OUTSIDE, PROBER, VANTAGES, Answer, Watch
from meshgate.snapshot.model import Before, Expectations, KnownProblem, Snapshot, before
from meshgate.snapshot.store import UnusableSnapshot, load, save
from meshgate.snapshot.upgrade import Support
from meshgate.suppressions import (
    UnusableWaivers,
    known_problems,
    read_waivers,
    sighting,
    suppress,
    uids,
    waiver_notes,
)
from meshgate.verdict import (
    PROVEN,
    Basis,
    Finding,
    Gate,
    Outcome,
    Ruling,
    Verdict,
    Warn,
    outcome,
    ruling,
)

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster
    from meshgate.report.live import View


class Past(NamedTuple):
    """A baseline: the keys of what was wrong in it, and what it saw; and what a watch saw."""

    known: tuple[KnownProblem, ...] | None = None
    before: Before | None = None
    watch: Watch | None = None


# The arguments that a claim may take: with no other it can be taken without pytest, to settle.
ARGUMENTS = frozenset({"mesh", "warn", "basis"})

# pytest's verbosity as pytest.ini has it; with another -q there is nothing but the last line
USUAL = -1

_VERSION = re.compile(r"v?\d+\.\d+(\.\d+)?(-[\w.-]+)?")

DEFAULT_SNAPSHOT = "reports/snapshot.json.gz"


def run_alone(file: str) -> int:
    """Runs one file of claims as a program: `python verification/verify_controlplane.py …`."""
    return int(pytest.main([file, *sys.argv[1:]]))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("meshgate", "meshgate: what to look at, and how long")
    add = group.addoption
    add("--snapshot", metavar="FILE", help="replay this snapshot; no cluster is touched")
    add(
        "--save-snapshot",
        metavar="FILE",
        default=DEFAULT_SNAPSHOT,
        help="where the evidence of a live run is kept (%(default)s)",
    )
    add("--kubeconfig", metavar="FILE", help="instead of the usual ones")
    add("--context", metavar="NAME", help="a context of the kubeconfig")
    add(
        "--istio-namespace",
        metavar="NAME",
        help="istiod's namespace (istio-system)",
    )
    add(
        "--target-version",
        metavar="X.Y[.Z]",
        type=_checked(_version),
        help="the version that must run; X.Y takes any patch release",
    )
    add("--allow-rollback", action="store_true", help="the target may be one minor version older")
    add(
        "--support-matrix",
        metavar="FILE",
        help="which Kubernetes each Istio supports, and until when (TOML), instead of ours",
    )
    add(
        "--settle",
        metavar="SECONDS",
        type=_checked(_seconds),
        default=120.0,
        help="how long to wait, over all claims, for what is transient (120)",
    )
    add(
        "--stale-after",
        metavar="SECONDS",
        type=_checked(_seconds),
        help="how long a proxy may leave a push unanswered (30)",
    )
    add(
        "--istiod-access",
        choices=("auto", "direct", "port-forward"),
        default="auto",
        help="auto: directly from inside the cluster, else through a port-forward",
    )
    add(
        "--window",
        metavar="SECONDS",
        type=_checked(_seconds),
        default=5.0,
        help="over which istiod's own numbers are watched, at each look (5)",
    )
    add("--istiod-token-file", metavar="FILE", help="a token of audience istio-ca, for direct")
    add(
        "--require-mtls",
        choices=("strict",),
        help="strict: a port that takes plaintext beside mTLS, or instead, fails",
    )
    add(
        "--exclude-port",
        metavar="NAMESPACE/WORKLOAD:PORT",
        action="append",
        type=_checked(_pattern),
        help="ports not to connect to, a glob (legacy/*:*, *:9090); may be given again",
    )
    add(
        "--sample",
        metavar="N",
        type=_checked(_count),
        help="connect to N ports of each workload (0: to all)",
    )
    add(
        "--shard",
        metavar="I/N",
        type=_checked(_shard),
        help="connect to this share of the ports alone, 0/N to (N-1)/N",
    )
    add(
        "--probe-rate",
        metavar="N",
        type=_checked(_seconds),
        default=500.0,
        help="connections a second to the workloads, at the most; 0: no limit (500)",
    )
    add("--waivers", metavar="FILE", help="findings to excuse, each with a reason and a day (TOML)")
    add(
        "--baseline",
        metavar="PLACE",
        help="a snapshot from before the upgrade, in a file or in configmap://NAMESPACE/NAME: "
        "what was wrong in it already only warns",
    )
    add(
        "--save-baseline",
        "--keep-baseline",
        metavar="PLACE",
        help="read all that any stage reads, and keep it there for the stages that follow",
    )
    add(
        "--fail-on-baseline-findings",
        "--old-findings-fail",
        action="store_true",
        help="findings that the baseline has too fail like new ones",
    )
    add(
        "--require-retry-after",
        action="store_true",
        default=None,
        help="a mesh in which no EnvoyFilter is about Retry-After fails",
    )
    add(
        "--retry-after-target",
        metavar="URL[ via HOST:PORT]",
        action="append",
        type=_checked(_target),
        help="what is to answer 429 or 503 with Retry-After to a short burst of GETs; may be "
        "repeated",
    )
    add(
        "--retry-after-burst",
        metavar="REQUESTS",
        type=int,
        default=20,
        help="how many each target gets at the most (20)",
    )
    add(
        "--json",
        metavar="FILE",
        default="reports/verdict.json",
        help="where the outcomes are kept for programs (%(default)s)",
    )
    add(
        "--failure-threshold",
        choices=("Error", "Warning"),
        help="from which level on a message of istioctl analyze fails (Error)",
    )
    add(
        "--accept-unverified",
        metavar="WHAT",
        choices=("CA",),
        action="append",
        help="accept what meshgate cannot verify: CA, an external certificate authority; may be "
        "repeated",
    )
    pair = parser.getgroup(
        "meshgate-probes", "meshgate: two pods that call each other from inside the mesh"
    ).addoption
    pair(
        "--probe-pair",
        metavar="IMAGE",
        default="",
        help="make them, of this image (it needs Python; meshgate's own will do)",
    )
    pair(
        "--probe-namespace",
        metavar="NAME",
        default=Plan().namespace,
        help="where: a namespace of their own, labeled for injection (%(default)s)",
    )
    pair(
        "--probe-call",
        metavar="URL",
        action="append",
        default=[],
        type=_checked(_call),
        help="http://SERVICE.NAMESPACE[:PORT]/PATH, which they call too, with OPTIONS; may be "
        "repeated",
    )
    pair(
        "--probe-sample",
        metavar="N",
        type=_checked(_count),
        default=3,
        help="so many other HTTP Services are called too, and only warn (3)",
    )
    pair(
        "--probe-deadline",
        metavar="SECONDS",
        type=_checked(_seconds),
        default=Plan().seconds,
        help="how long they may take, at each look (60)",
    )
    traffic = parser.getgroup(
        "meshgate-ingress", "meshgate: traffic through the gateways"
    ).addoption
    traffic(
        "--ingress-url",
        metavar="[NS/SERVICE=]URL",
        action="append",
        default=[],
        help="an address that clients from outside use; several may be given",
    )
    traffic(
        "--vantage",
        action="append",
        choices=VANTAGES,
        help="where requests must have been sent from (inside, and what the options below name)",
    )
    traffic(
        "--ingress-resolver",
        metavar="ADDRESS[:PORT]",
        default="",
        help="resolves the public names that are then asked from outside",
    )
    traffic(
        "--ingress-prober",
        metavar="URL",
        default="",
        help="a prober elsewhere that answers as Prometheus' blackbox exporter does",
    )
    traffic(
        "--ingress-client-cert",
        metavar="FILE",
        help="shown to listeners with mutual TLS: certificate, chain and key in one file (PEM)",
    )
    traffic(
        "--watch",
        metavar="PLACE",
        help="what `meshgate watch` saw: a file, or configmap://NAMESPACE/NAME",
    )
    traffic(
        "--expect",
        metavar="FILE",
        help="requests that somebody declared, and the answers that they must get (YAML)",
    )
    traffic("--ingress-ca", metavar="FILE", help="roots that gateways' certificates must lead to")
    traffic(
        "--ingress-proxy-protocol",
        action="store_true",
        help="the gateways expect the PROXY protocol",
    )
    for name, default, words in (
        ("rate", 200.0, "requests a second"),
        ("limit", 5000, "requests at the most"),
        ("deadline", 60.0, "seconds for all requests"),
        ("timeout", 5.0, "seconds for one"),
    ):
        traffic(
            f"--ingress-{name}",
            type=type(default),
            default=default,
            metavar="N",
            help=f"{words} (%(default)s)",
        )
    traffic(
        "--dry-run",
        action="store_true",
        help="print every request that would be sent through the gateways; verify nothing",
    )
    shadow = parser.getgroup(
        "meshgate-shadow", "meshgate: the upgrade, tried with nothing applied"
    ).addoption
    shadow("--shadow-istiod", metavar="PROGRAM", help="the target's pilot-discovery")
    shadow("--shadow-envoy", metavar="PROGRAM", help="the target's envoy")
    shadow(
        "--shadow-manifests",
        metavar="FILE",
        help="the target's istiod as `helm template` renders it",
    )
    shadow(
        "--shadow-timeout",
        metavar="SECONDS",
        type=_checked(_seconds),
        default=60.0,
        help="how long a single step of it may take (60)",
    )
    shadow(
        "--shadow-deadline",
        metavar="SECONDS",
        type=_checked(_seconds),
        default=900.0,
        help="how long all of it may take (900)",
    )
    shadow(
        "--shadow-classes",
        metavar="N",
        type=int,
        default=500,
        help="as many classes of proxies, no more (500)",
    )
    shadow(
        "--shadow-memory",
        metavar="MIB",
        type=int,
        default=2048,
        help="what each of the programs may use, 0 for all there is (2048)",
    )
    shadow(
        "--require-shadow",
        action="store_true",
        default=None,
        help="without the three of them it could not be verified, instead of not applicable",
    )
    shadow(
        "--allow-removal",
        "--accept-loss",
        metavar="GLOB",
        action="append",
        help="over `TYPE RESOURCE PATH`: what a proxy may lose by the upgrade; may be repeated",
    )
    told = parser.getgroup("meshgate-told", "meshgate: where the verdict is told").addoption
    told(
        "--job",
        metavar="NAMESPACE/NAME[@UID]",
        type=_checked(Named.parse),
        help="the Job that this run is of: gets the verdict as annotations, and an Event",
    )
    told(
        "--report-to",
        metavar="PLACE",
        default="",
        help="where the reports outlive the pod: configmap://NAMESPACE/NAME, or a URL of fsspec's",
    )
    told("--keep-reports", metavar="N", type=int, default=5, help="of how many runs, there (5)")
    told(
        "--report-url",
        metavar="URL",
        default="",
        help="how people reach the report: a link in Argo CD ({job} and {run} are filled in)",
    )
    told(
        "--metrics",
        metavar="FILE|URL",
        default="",
        help="the verdict for Prometheus: a textfile, or a Pushgateway",
    )
    add("--istioctl", metavar="PROGRAM", default="istioctl", help="istioctl (of the PATH)")
    add("--analyze-timeout", metavar="SECONDS", type=_checked(_seconds), default=60.0, help="(60)")
    add("--request-timeout", metavar="SECONDS", type=_checked(_seconds), default=30.0, help="(30)")


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the parser of an option's value with its own message as the usage error."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def _seconds(text: str) -> float:
    value = float(text.removesuffix("s"))
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r} is no number of seconds")
    return value


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise ValueError(f"{text!r} is not a version: use X.Y.Z, or X.Y for any patch release")
    return text


def _target(text: str) -> str:
    Target.parse(text)
    return text


def _call(text: str) -> str:
    if Target.parse(text).address or not text.startswith("http://"):
        raise ValueError(f"{text!r} is no Service of the mesh: http://SERVICE.NAMESPACE/PATH")
    return text


def _pattern(text: str) -> str:
    if ":" not in text:
        raise ValueError(f"{text!r} names no port: NAMESPACE/WORKLOAD:PORT")
    # `*:9090` is the port wherever it is
    return text if "/" in text else f"*/{text}"


def _count(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _shard(text: str) -> str:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"{text!r} is no share: 0/N to (N-1)/N")
    return text


def pytest_configure(config: pytest.Config) -> None:
    worker = hasattr(config, "workerinput")
    if not worker:
        _check_options(config.getoption)
        if not config.option.collectonly:
            _remove_reports(config.getoption)
    config.pluginmanager.register(Worker(config) if worker else Gatekeeper(config), "meshgate-run")


def _check_options(option: Any) -> None:
    """Raise UsageError for options that contradict each other, and in a Job for foreign ones."""
    if option("--snapshot"):
        for name, why in (
            ("--context", "names a cluster, and --snapshot replays a file without one"),
            ("--dry-run", "plans requests to a cluster, and --snapshot replays a file"),
        ):
            if option(name):
                raise _usage_error(f"{name} {why}: use one of them.")
    words = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    if option("--job") and words[::2] != ["-p"] * len(words[::2]):
        raise _usage_error(
            f"PYTEST_ADDOPTS={' '.join(words)} may deselect checks, which a gate's Job does not "
            "allow: unset it."
        )


def _usage_error(message: str) -> pytest.UsageError:
    """Return the error that ends the run with exit 4; pytest prints it as the last lines."""
    last = text.last_line("GATE CLOSED: nothing was verified", int(pytest.ExitCode.USAGE_ERROR))
    return pytest.UsageError(f"{message}\n{last}")


def _reports(option: Any) -> dict[str, Path]:
    """Return the reports of a run by the name under which they are stored."""
    return {
        "junit.xml": Path(option("--junitxml") or "reports/junit.xml"),
        "index.html": Path(option("--html") or "reports/index.html"),
        "verdict.json": Path(option("--json")),
    }


def _remove_reports(option: Any) -> None:
    """Remove the reports of an earlier run: they would pass for this one's.

    Raises UsageError where a report cannot be written.
    """
    for file in _reports(option).values():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            if not os.access(file.parent, os.W_OK):
                raise PermissionError(f"no permission to write in {file.parent}")
        except OSError as error:
            raise _usage_error(
                f"cannot write the report {file}: {error}. Name another file with --json, --html "
                "or --junitxml."
            ) from error


# --- the fixtures -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mesh(pytestconfig: pytest.Config) -> Mesh:
    """The mesh, as this run's one capture shows it."""
    return pytestconfig.stash[_MESH]


@pytest.fixture
def warn(request: pytest.FixtureRequest) -> Warn:
    """Reports findings that close no gate."""
    collected = request.node.stash.setdefault(_WARNINGS, [])
    return collected.extend  # type: ignore[no-any-return]


@pytest.fixture
def basis(request: pytest.FixtureRequest) -> Basis:
    """Counts the objects that a check is based on: `basis(14, "pod")`."""
    return request.node.stash.setdefault(_BASIS, Basis())  # type: ignore[no-any-return]


_BASIS = pytest.StashKey[Basis]()
_MESH = pytest.StashKey[Mesh]()
_WARNINGS = pytest.StashKey[list[Finding]]()


# --- in every process ---------------------------------------------------------------------------


class Worker:
    """What happens where claims run: evidence is handed in, outcomes go out with the reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def _evidence(self) -> Mesh:
        """Loads what the controller wrote, at the first claim: none is sent here before that."""
        if _MESH not in self._config.stash:
            path = self._config.workerinput["meshgate_snapshot"]  # type: ignore[attr-defined]
            recording = _recording(Path(path), self._config.getoption, Past())
            self._config.stash[_MESH] = Mesh(recording.capture(()))
        return self._config.stash[_MESH]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Has the evidence at hand before fixtures ask for it."""
        if _row(item):
            self._evidence()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Takes no claim on evidence that is not whole."""
        if row := _row(item):
            _need_all(row, self._evidence())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turns what a claim raised into an outcome that travels with the report."""
        row = _row(item)
        raised = call.excinfo.value if call.excinfo else None
        if row is None or (call.when != "call" and raised is None):
            return (yield)
        warnings: list[Finding] = item.stash.get(_WARNINGS, [])
        mesh = self._evidence()
        counted = item.stash.get(_BASIS, None)
        taken = _excused(outcome(row.id, raised, warnings, counted), mesh)
        item.user_properties += _properties(row, taken, mesh)
        report = yield
        report.meshgate = msgspec.to_builtins(taken)  # type: ignore[attr-defined]
        lines = "\n".join(text.outcome_lines(taken))
        if taken.verdict in PROVEN:
            # what raised may be excused: then it is no failure any more
            report.outcome, report.longrepr = "passed", None
        elif taken.verdict is Verdict.NOT_APPLICABLE:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, taken.why)
        else:
            report.outcome = "failed"
            crash = taken.verdict is Verdict.UNKNOWN and "crashed" in taken.why
            report.longrepr = f"{lines}\n\n{report.longreprtext}" if crash else lines
        if taken.warnings:
            report.sections.append(("warnings", lines))
        return report


def _properties(row: Check, taken: Outcome, mesh: Mesh) -> Iterable[tuple[str, str]]:
    """What JUnit says of a claim beside its words; an `object` for each that it is about."""
    yield from (("check", row.id), ("stage", row.stage), ("claim", row.title))
    yield ("verdict", taken.verdict.word)
    yield from (
        ("version", mesh.control_plane_summary.versions),
        ("revision", mesh.control_plane_summary.revisions),
    )
    for finding in (*taken.findings, *taken.warnings):
        yield ("object", finding.subject)


def _row(item: pytest.Item) -> Check | None:
    marker = item.get_closest_marker("check")
    if marker is None:
        return None
    try:
        return check(*marker.args)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error


# --- in the process that decides ----------------------------------------------------------------


class Gatekeeper(Worker):
    """Captures, settles, and says whether the gate opens."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._selected: dict[str, Check] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._snapshot_file = Path(config.getoption("--save-snapshot"))
        self._why_broken = ""
        self._foreign_failure = ""
        self._view: View | None = None
        self._held: tuple[IO[str], io.StringIO] | None = None
        self.snapshot: Snapshot | None = None

    @property
    def _distributed(self) -> bool:
        return self._config.pluginmanager.hasplugin("dsession")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells an xdist worker where the evidence will be."""
        chosen = self._config.getoption("--snapshot") or self._snapshot_file
        node.workerinput["meshgate_snapshot"] = str(Path(chosen).absolute())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """With -q nothing is printed but the last line, whoever has more to say."""
        if self._config.get_verbosity() < USUAL and not self._config.option.collectonly:
            writer = self._config.get_terminal_writer()
            self._held = writer._file, io.StringIO()
            writer._file = self._held[1]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Looks at the world once it is known which claims are to be taken."""
        if self._distributed:
            # xdist keeps the controller from collecting; the workers wait for the evidence
            session.perform_collect()
        result = yield
        claims = {item: row for item in session.items if (row := _row(item))}
        self._selected = {row.id: row for row in claims.values()}
        if self._distributed:
            session.items, session.testscollected = [], 0
        if claims and not self._config.option.collectonly:
            try:
                self._look(claims)
            except pytest.UsageError as error:
                self._why_broken = str(error).partition("\n")[0]
                raise
        return result

    def _look(self, claims: dict[pytest.Item, Check]) -> None:
        kept = self._config.getoption("--save-baseline")
        rows = checks().values() if kept else claims.values()
        try:
            source = self._source(self._past(claims))
            if isinstance(source, Live) and self._config.getoption("--dry-run"):
                self._rehearse(source)
            with self._viewed():
                snapshot = settle(
                    source,
                    {item for row in rows for item in row.reads},
                    lambda snapshot: _judge(claims, snapshot),
                    deadline=self._config.getoption("--settle"),
                    watcher=self._watch,
                )
            if isinstance(source, Live):
                save(snapshot, self._snapshot_file)
                if kept:
                    SnapshotLocation(kept).save(snapshot, source.cluster)
        except NoCluster as error:
            raise _usage_error(
                f"no cluster to look at ({error}). Name one with --kubeconfig and --context, or "
                "replay a recording with --snapshot=FILE."
            ) from error
        except (UnusableSnapshot, UnusableWaivers, ValueError) as error:
            raise _usage_error(f"{error}.") from error
        except ReadError as error:
            raise _usage_error(
                f"cannot use the baseline: {error.why} (fix: {error.remedy}). "
            ) from error
        except OSError as error:
            raise _usage_error(
                f"cannot keep the evidence in {self._snapshot_file}: {error}. Name another file "
                "with --save-snapshot."
            ) from error
        self.snapshot = snapshot
        self._config.stash[_MESH] = Mesh(snapshot)

    def _past(self, claims: dict[pytest.Item, Check]) -> Past:
        """What the baseline saw, and the keys of what was wrong in it already."""
        option = self._config.getoption
        watch = self._watched()
        if not option("--baseline"):
            return Past(watch=watch)
        place = SnapshotLocation(option("--baseline"))
        snapshot = place.load(self._cluster() if place.in_cluster else None)
        # like the run itself: the same options, and nothing suppressed
        same = _asked_for(option, snapshot.expectations, Past())
        same = msgspec.structs.replace(same, waivers=(), known_problems=None, before=None)
        baseline = Mesh(msgspec.structs.replace(snapshot, expectations=same, unconfirmed=()))
        known = known_problems(
            (row.id, finding)
            for item, row in claims.items()
            for finding in _take(item, row, baseline).findings
        )
        return Past(known, before(snapshot), watch)

    def _watched(self) -> Watch | None:
        """What a watch saw until now."""
        if not (named := self._config.getoption("--watch")):
            return None
        place = SnapshotLocation(named)
        kept = place.load(self._cluster() if place.in_cluster else None)
        if kept.watch is None:
            raise UnusableSnapshot(f"{named} holds no watch: `meshgate watch` keeps one there")
        return kept.watch

    def _cluster(self) -> "Cluster":
        from meshgate.collect.kubernetes import Cluster  # a second to load: only where it is needed

        option = self._config.getoption
        return Cluster(config=option("--kubeconfig"), context=option("--context"))

    def _rehearse(self, source: Live) -> None:
        """Prints what would be sent, and ends the run: nothing is verified, no gate is opened."""
        lines, gaps = source.plan_requests()
        for gap in gaps:
            self._say(f"could not plan: {gap.why} (fix: {gap.remedy})")
        for line in lines:
            self._say(line)
        pytest.exit(
            f"dry run: {len(lines)} requests were planned, none was sent",
            returncode=int(Gate.COULD_NOT_VERIFY),
        )

    def _source(self, past: Past) -> Source:
        option = self._config.getoption
        if file := option("--snapshot"):
            recording = _recording(Path(file), option, past)
            taken, source = recording.snapshot.taken, recording.snapshot.source
            self._say(
                f"replaying the recording {file} of {taken:%Y-%m-%d %H:%M} UTC ({source}): "
                "no cluster is touched"
            )
            return recording
        # what an earlier run left must not pass for this one's evidence
        self._snapshot_file.unlink(missing_ok=True)
        asked = _asked_for(option, Expectations(), past)
        if unset := missing(asked.answers, os.environ):
            raise ValueError(
                f"{option('--expect')} names {', '.join(unset)}: not in the environment"
            )
        from meshgate.probe.client import unusable  # as above: not for a replay

        access = self._access(asked.answers)
        if why := unusable(access.traffic):
            raise ValueError(why)
        return connect(access, asked, progress=self._progress)

    def _access(self, answers: tuple[Answer, ...] = ()) -> Access:
        option = self._config.getoption
        return Access(
            kubeconfig=option("--kubeconfig"),
            context=option("--context"),
            request_timeout=option("--request-timeout"),
            istiod_access=option("--istiod-access"),
            istiod_token_file=option("--istiod-token-file"),
            istioctl=option("--istioctl"),
            programs=_programs(option),
            analyze_timeout=option("--analyze-timeout"),
            window=option("--window"),
            retry_after_burst=option("--retry-after-burst"),
            probe_rate=option("--probe-rate"),
            pair=Plan(
                image=option("--probe-pair"),
                namespace=option("--probe-namespace"),
                declared=tuple(option("--probe-call")),
                seconds=option("--probe-deadline"),
            ),
            pair_sample=option("--probe-sample"),
            traffic=Traffic(
                urls=tuple(option("--ingress-url")),
                answers=answers,
                ca=_path(option("--ingress-ca")),
                identity=_path(option("--ingress-client-cert")),
                resolver=option("--ingress-resolver"),
                prober=option("--ingress-prober"),
                proxy_protocol=option("--ingress-proxy-protocol"),
                rate=option("--ingress-rate"),
                limit=option("--ingress-limit"),
                deadline=option("--ingress-deadline"),
                timeout=option("--ingress-timeout"),
            ),
        )

    @contextmanager
    def _viewed(self) -> Iterator[None]:
        """Shows somebody who watches what is being done, in lines that change in place."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or not terminal.isatty or self._config.get_verbosity() != USUAL:
            yield
            return
        from meshgate.report.live import View  # only where it is looked at

        writer = self._config.get_terminal_writer()
        stages = dict.fromkeys(row.stage for row in self._selected.values())
        with View(writer._file, stages, time.monotonic, writer.fullwidth) as self._view:
            try:
                yield
            finally:
                self._view = None

    def _progress(self, words: str) -> None:
        if self._view:
            self._view.reading(words)
        else:
            self._say(words)

    def _watch(self, waits_for: tuple[str, ...], seconds_left: float) -> None:
        if self._view:
            self._view.waiting(waits_for, seconds_left)
            return
        more = f" and {len(waits_for) - 1} more" if len(waits_for) > 1 else ""
        self._say(f"waiting, {seconds_left:.0f} s at the most, for {waits_for[0]}{more}")

    def _say(self, words: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(words)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps the worst outcome of each claim; a set-up that crashed is one too."""
        if report.failed and not hasattr(report, "meshgate"):
            self._foreign_failure = f"a test that is not in the catalogue failed: {report.nodeid}"
        if taken := getattr(report, "meshgate", None):
            new = msgspec.convert(taken, Outcome)
            old = self._outcomes.get(new.check)
            if old is None or new.verdict > old.verdict:
                self._outcomes[new.check] = new

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport, config: pytest.Config
    ) -> tuple[str, str, str] | None:
        """No letter a claim: the verdict's lines follow at the end."""
        if hasattr(report, "meshgate") and config.get_verbosity() < 1:
            return report.outcome, "", ""
        return None

    @property
    def ruling(self) -> Ruling:
        """The verdict; a claim that was selected and never taken could not be verified."""
        outcomes = [
            self._outcomes.get(
                id, Outcome(id, Verdict.UNKNOWN, why="it was not taken: the run ended before")
            )
            for id in self._selected
        ]
        notes: tuple[str, ...] = ()
        if self.snapshot is not None:
            waivers = self.snapshot.expectations.waivers
            notes = waiver_notes(waivers, outcomes, self.snapshot.taken.date())
            seen = Mesh(self.snapshot)
            for id, item, facts in (
                ("PC001", "precheck", seen.precheck),
                ("CP006", "analysis", seen.analysis),
            ):
                if id in self._selected and item in self.snapshot.read and facts.left_out:
                    notes += (facts.left_out,)
            stages = {row.stage for row in self._selected.values()}
            notes += summary(self.snapshot.ingress) if "ingress" in stages else ()
        verdict = ruling(outcomes, {id: row.stage for id, row in checks().items()}, notes)
        if self._foreign_failure and verdict.gate is Gate.OPEN:
            reason = self._foreign_failure
            return msgspec.structs.replace(verdict, gate=Gate.CLOSED, reason=reason)
        return verdict

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        """Sets the exit code, and has the last word."""
        result = yield
        if self._config.option.collectonly:
            if self._config.getoption("--job"):
                code = session.exitstatus = int(Gate.COULD_NOT_VERIFY)
                reason = "--collect-only verifies nothing"
                self._broken_off(text.last_line(f"GATE CLOSED: {reason}", code), code)
            return result
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            verdict = self.ruling
            session.exitstatus = int(verdict.gate)
            if verdict.gate is Gate.OPEN and exitstatus != pytest.ExitCode.OK:
                self._foreign_failure = "pytest reports a failure that is not a check's"
                verdict = self.ruling
                session.exitstatus = int(verdict.gate)
            json.write(json.report(verdict, self.snapshot), Path(self._config.getoption("--json")))
            self._last_words(verdict, session.exitstatus)
        elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            self._broken_off(text.last_line("GATE CLOSED: no check was selected", 5), 5)
        else:
            code = int(session.exitstatus)
            why = f": {self._why_broken}" if self._why_broken else ""
            what = "nothing was verified" if why else "the run ended early, see above"
            self._broken_off(text.last_line(f"GATE CLOSED: {what}", code), code, why)
        return result

    def _last_words(self, verdict: Ruling, status: int) -> None:
        *lines, last = text.ruling_lines(verdict)
        for line in text.wrapped(lines):
            self._say(line)
        self._publish(short(verdict, status, last))
        self._release()
        self._say(last)

    def _broken_off(self, last: str, status: int, why: str = "") -> None:
        stages = {row.stage for row in self._selected.values()}
        self._write_broken_off(last, status, why)
        self._publish(broken(f"{last}{why}", status, stages))
        self._release(told=bool(why))
        if not why:
            self._say(last)  # pytest itself prints a usage error, whose last line is the same

    def _write_broken_off(self, last: str, status: int, why: str) -> None:
        verdict = self.ruling
        if verdict.gate is Gate.OPEN:
            verdict = msgspec.structs.replace(verdict, gate=Gate.COULD_NOT_VERIFY)
        sentence = last.rpartition(" (exit ")[0]
        reason = why.removeprefix(": ") or sentence.removeprefix("GATE CLOSED: ")
        document = json.report(
            verdict, self.snapshot, exit=status, sentence=sentence, reason=reason
        )
        try:
            json.write(document, _reports(self._config.getoption)["verdict.json"])
        except OSError as error:
            self._say(f"note could not write verdict.json: {error}")

    def _release(self, *, told: bool = True) -> None:
        """Lets words through again; what was held back too, unless all that counts is told."""
        if self._held:
            out, held = self._held
            self._config.get_terminal_writer()._file = out
            if not told:
                out.write(held.getvalue())

    def _publish(self, verdict: Short) -> None:
        option = self._config.getoption
        targets = Targets(
            job=option("--job"),
            shard=option("--shard") or "",
            report=option("--report-to"),
            keep=option("--keep-reports"),
            url=option("--report-url"),
            metrics=option("--metrics"),
        )
        files = {
            **_reports(option),
            "snapshot.json.gz": self._snapshot_file,
        }
        known = self.snapshot.expectations.target_version if self.snapshot else None
        version = known or option("--target-version") or ""
        for line in publish(verdict, version, targets, files, self._cluster):
            self._say(f"note {line}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_metadata(self, metadata: dict[str, Any]) -> None:
        """Nothing of this machine: CI's variables, which may hold credentials, would be in it."""
        metadata.clear()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """The page's title."""
        report.title = "meshgate"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """A claim's row says its id and its claim."""
        if taken := getattr(report, "meshgate", None):
            cells[1] = html.cell(msgspec.convert(taken, Outcome))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], summary: Any, postfix: Any) -> None:
        """The verdict on top."""
        prefix.extend(html.summary(self.ruling, self.snapshot))


def _programs(option: Any) -> Programs | None:
    names = ("--shadow-istiod", "--shadow-envoy", "--shadow-manifests")
    istiod, envoy, manifests = given = [option(name) for name in names]
    if not any(given):
        return None
    if not all(given):
        raise _usage_error(f"{', '.join(names)} are of use only together")
    return Programs(
        istiod=istiod,
        envoy=envoy,
        manifests=Path(manifests),
        timeout=option("--shadow-timeout"),
        deadline=option("--shadow-deadline"),
        classes=option("--shadow-classes"),
        memory=option("--shadow-memory"),
    )


def _asked_for(option: Any, otherwise: Expectations, past: Past) -> Expectations:
    """What the command line says; what it leaves open is as the recording or the default has it."""
    public = option("--ingress-url") or option("--ingress-resolver")
    places = {INSIDE: True, OUTSIDE: public, PROBER: option("--ingress-prober")}
    named = tuple(name for name, wanted in places.items() if wanted)
    given = {
        "istio_namespace": option("--istio-namespace"),
        "target_version": option("--target-version"),
        "stale_after": option("--stale-after"),
        "failure_threshold": option("--failure-threshold"),
        "require_mtls": option("--require-mtls"),
        "accepted_unverified": _several(option("--accept-unverified")),
        "excluded": tuple(option("--exclude-port")) if option("--exclude-port") else None,
        "sample": option("--sample"),
        "shard": option("--shard"),
        "waivers": read_waivers(Path(option("--waivers"))) if option("--waivers") else None,
        "require_retry_after": option("--require-retry-after"),
        "retry_after_targets": _several(option("--retry-after-target")),
        # asked for or not asked for: what a recording has is never taken back by silence
        "allow_rollback": option("--allow-rollback") or None,
        "support": _support(option("--support-matrix")),
        "known_problems": () if option("--fail-on-baseline-findings") else past.known,
        "before": past.before,
        "vantages": tuple(option("--vantage") or ()) or (named if len(named) > 1 else None),
        "require_shadow": option("--require-shadow"),
        "accepted_losses": _several(option("--allow-removal")),
        "watch": past.watch,
        "answers": _answers(option("--expect")),
    }
    return msgspec.structs.replace(
        otherwise, **{name: value for name, value in given.items() if value is not None}
    )


def _answers(file: str | None) -> tuple[Answer, ...] | None:
    if file is None:
        return None
    try:
        return read_answers(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot use the answers {file}: {error}") from error


def _path(file: str | None) -> Path | None:
    return Path(file) if file else None


def _several(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None


def _support(file: str | None) -> Support | None:
    if file is None:
        return None
    try:
        return read_support(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise _usage_error(f"cannot use the support matrix {file}: {error}.") from error


def _recording(file: Path, option: Any, past: Past) -> Replay:
    snapshot = load(file)
    return Replay(snapshot, _asked_for(option, snapshot.expectations, past))


def _judge(claims: dict[pytest.Item, Check], snapshot: Snapshot) -> Unsettled:
    """Run every check on this capture, and return what of its result may pass by itself."""
    mesh = Mesh(snapshot)
    waits_for: list[str] = []
    reads: set[str] = set()
    sightings: set[KnownProblem] = set()
    final = blocked = False
    uid_of = uids(snapshot)
    for item, row in claims.items():
        taken = _take(item, row, mesh)
        transient = [finding for finding in taken.findings if finding.transient]
        if (taken.verdict is Verdict.FAIL and len(transient) < max(len(taken.findings), 1)) or (
            taken.verdict is Verdict.UNKNOWN and not taken.transient
        ):
            final = True
        if transient or taken.transient:
            waits_for += [str(finding) for finding in transient] or [taken.why]
            reads.update(row.reads)
            sightings.update(
                sighting(row.id, each, uid_of.get(each.subject, "")) for each in transient
            )
            blocked = blocked or taken.transient
    return Unsettled(tuple(waits_for), frozenset(reads), final, frozenset(sightings), blocked)


def _take(item: pytest.Item, row: Check, mesh: Mesh) -> Outcome:
    if not isinstance(item, pytest.Function) or not ARGUMENTS.issuperset(_arguments(item)):
        # needs more than evidence: it is taken once, in its turn
        return Outcome(row.id, Verdict.NOT_APPLICABLE)
    given = {"mesh": mesh, "warn": lambda findings: None, "basis": (counted := Basis())}
    try:
        _need_all(row, mesh)
        item.obj(**{name: given[name] for name in _arguments(item)})
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:
        # pytest.skip and pytest.fail raise no Exception: they too say what the claim came to
        return _excused(outcome(row.id, error), mesh)
    return outcome(row.id, None, basis=counted)


def _excused(taken: Outcome, mesh: Mesh) -> Outcome:
    return visible_outcome(suppress(taken, mesh.evidence.snapshot))


def _need_all(row: Check, mesh: Mesh) -> None:
    """A claim that looks at nothing finds nothing wrong: all that it reads must be there first."""
    for item in row.reads:
        mesh.evidence.need(item)


def _arguments(item: pytest.Function) -> Iterable[str]:
    return item._fixtureinfo.argnames
