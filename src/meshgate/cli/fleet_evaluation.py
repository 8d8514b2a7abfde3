"""Evaluate the recording of one cluster, in a separate process, and remember the result."""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from meshgate import __version__
from meshgate.cli.options import say, words_of
from meshgate.cli.pytest_command import NoVerdict, judge
from meshgate.cli.recordings import connect
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.processes import end_with
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.temporary import temporary_folder
from meshgate.pipeline.recordings import open_place, read
from meshgate.report.fleet import Evaluation, seen_changes
from meshgate.semantics.sources import sources
from meshgate.semantics.versions import Version
from meshgate.settings import Settings, flag
from meshgate.settings.sources import FILE_OPTION
from meshgate.snapshot.items import OFFLINE_BUNDLE, SHADOW
from meshgate.snapshot.model import Gap, Snapshot
from meshgate.snapshot.recording import Recording
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.store import UnusableSnapshot, save

# The settings that the verdict on a recording depends on.
CRITERIA = (
    "run.only",
    "run.skip",
    "criteria.target_version",
    "criteria.allow_rollback",
    "criteria.support_matrix",
    "criteria.accept_unverified",
    "criteria.waivers",
    "simulation.allow_removal",
)
_FILES = ("support_matrix", "waivers")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One cluster to evaluate.

    Attributes:
        place: where its recording is.
        head: the recording.
        programs: the target's programs, with the manifests of this cluster.
        settings: the settings of the command.
        cache: the folder for results and for configurations that Envoy accepted.
        digest: the digest of the programs.
    """

    place: str
    head: Recording
    programs: Programs
    settings: Settings
    cache: Path
    digest: str

    @property
    def file(self) -> Path:
        """Return the file of the result: its name is a digest of all that the result depends on."""
        words = words_of(self.settings, CRITERIA)
        files = (getattr(self.settings.criteria, name) for name in _FILES)
        parts = (
            *(__version__, self.digest, self.head.sha256, *words),
            *(file_digest(file) for file in (self.programs.manifests, *files) if file),
        )
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return self.cache / "results" / f"{name}.json"


def file_digest(file: str) -> str:
    """Return the SHA-256 of a file; raise OSError."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class AcceptedFolder:
    """The fingerprints of accepted configurations as empty files, for several processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, fingerprint: str) -> bool:
        """Return whether Envoy has accepted such a configuration."""
        return (self._folder / fingerprint).exists()

    def add(self, fingerprint: str) -> None:
        """Remember that it has."""
        (self._folder / fingerprint).touch()


def evaluate_all(tasks: Iterable[Task], parallel: int) -> list[Evaluation]:
    """Return the result of each cluster; several are evaluated at the same time.

    A result is stored as soon as it is known, so an interrupted run continues where it ended.

    Args:
        tasks: the clusters.
        parallel: how many are evaluated at the same time.
    """
    given = list(tasks)
    known = {task.head.cluster: found for task in given if (found := _stored(task))}
    todo = [task for task in given if task.head.cluster not in known]
    if known:
        say(f"{len(known)} of {len(given)} clusters are unchanged since an earlier run")
    if not todo:
        return list(known.values())
    say(f"evaluating {len(todo)} clusters, {min(parallel, len(todo))} at a time")
    started = time.monotonic()
    with ThreadPoolExecutor(min(parallel, len(todo))) as pool:
        running: dict[Future[Evaluation], Task] = {pool.submit(_alone, t): t for t in todo}
        try:
            for number, done in enumerate(as_completed(running), 1):
                name = running[done].head.cluster
                known[name] = _result(done, running[done])
                seconds = time.monotonic() - started
                say(f"[{number}/{len(todo)}] {name} ({seconds:.0f} s)")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return list(known.values())


def _alone(task: Task) -> Evaluation:
    """Evaluate a cluster in a separate process.

    Its end returns the memory of a large cluster, and if it is killed, the others have a result.

    Raises:
        EOFError: it ended without a result.
    """
    spawn = get_context("spawn")
    receiving, sending = spawn.Pipe(duplex=False)
    with receiving:
        with sending:
            process = spawn.Process(target=_send, args=(task, os.getpid(), sending))
            process.start()
        found: Evaluation | None = None
        with suppress(EOFError):
            found = receiving.recv()
    process.join()
    if found is None:
        raise EOFError(f"exit code {process.exitcode}")
    return found


def _send(task: Task, parent: int, sending: "Connection[Evaluation, None]") -> None:
    end_with(parent)
    try:
        found = evaluate(task)
    except Exception as error:
        found = _ended_early(task, error)
    sending.send(found)


def _result(done: "Future[Evaluation]", task: Task) -> Evaluation:
    try:
        return done.result()
    except Exception as error:  # a process that was killed, too: this cluster is UNKNOWN
        return _ended_early(task, error)


def _ended_early(task: Task, error: Exception) -> Evaluation:
    why = f"its evaluation ended early: {type(error).__name__}: {error}"
    return Evaluation(cluster=task.head.cluster, recording=task.head, why=why)


def _stored(task: Task) -> Evaluation | None:
    try:
        return msgspec.json.decode(task.file.read_bytes(), type=Evaluation)
    except (OSError, ValueError):
        return None


def evaluate(task: Task) -> Evaluation:
    """Return the result of one cluster, and store it unless time alone may change it."""
    try:
        snapshot = read(open_place(task.place, connect(task.settings)), task.head)
    except (ReadError, UnusableSnapshot, OSError, ValueError) as error:
        return Evaluation(cluster=task.head.cluster, recording=task.head, why=str(error))
    accepted = AcceptedFolder(task.cache / "accepted" / task.digest)
    shadow: Shadow | None = None
    gap: Gap | None = None
    try:
        shadow = _simulate(snapshot, task.programs, accepted)
    except ReadError as error:
        gap = Gap(item=SHADOW, why=error.why, remedy=error.remedy)
    judged = _with_shadow(snapshot, shadow, gap)
    words = ["-m", "precheck", *words_of(task.settings, CRITERIA), *_skipped(snapshot, task)]
    try:
        with temporary_folder() as folder:
            save(judged, folder / "recording.json.gz")
            # the file with settings of this directory was read already
            (folder / "settings.toml").touch()
            words.append(f"{FILE_OPTION}={folder}/settings.toml")
            report = judge(folder / "recording.json.gz", *words)
    except NoVerdict as error:
        return Evaluation(cluster=task.head.cluster, recording=task.head, why=str(error)[-500:])
    classes = shadow.classes if shadow else ()
    result = Evaluation(
        cluster=task.head.cluster,
        recording=task.head,
        report=report,
        proxies=sum(len(each.proxies) for each in classes),
        classes=len(classes),
        changes=seen_changes(shadow) if shadow else (),
        sources=sources(snapshot.offline_bundle) if snapshot.offline_bundle else {},
    )
    if shadow and not _incomplete(shadow) and not report.reason:
        _store(task.file, msgspec.json.encode(result))
    return result


def _simulate(snapshot: Snapshot, programs: Programs, accepted: AcceptedFolder) -> Shadow:
    from meshgate.collect.shadow import simulation  # protobuf's messages: only where needed

    return simulation.simulate_recorded(snapshot, programs, accepted=accepted)


def _incomplete(shadow: Shadow) -> bool:
    return (
        any(each.error for each in shadow.classes)
        or any(each.error for each in shadow.injections)
        or any(each.error for each in shadow.templates or ())
    )


def _with_shadow(snapshot: Snapshot, shadow: Shadow | None, gap: Gap | None) -> Snapshot:
    """Return the recording as a capture with a simulation: what stage A is judged by.

    Args:
        snapshot: the recording.
        shadow: the result of the simulation.
        gap: why there is none.
    """
    read_items = {*snapshot.read} - {OFFLINE_BUNDLE, SHADOW} | ({SHADOW} if shadow else set())
    gaps = [each for each in snapshot.gaps if each.item not in (OFFLINE_BUNDLE, SHADOW)]
    return msgspec.structs.replace(
        snapshot,
        shadow=shadow,
        offline_bundle=None,
        read=tuple(sorted(read_items)),
        gaps=(*gaps, gap) if gap else tuple(gaps),
    )


def _skipped(snapshot: Snapshot, task: Task) -> list[str]:
    """Return the options that leave out what this recording cannot answer for this target.

    istioctl of another minor release has checked something else (PC001).
    """
    recorded = Version.parse(snapshot.istioctl or "")
    target = Version.parse(task.settings.criteria.target_version or "")
    same = recorded and target and recorded[:2] == target[:2]
    return [] if same else [flag("run.skip", "PC001")]


def _store(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
        temporary.write(content)
    Path(temporary.name).replace(file)
