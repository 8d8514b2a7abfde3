"""Publish a verdict so that it stays after the pod: its Job, an Event, reports, metrics.

A failure to publish is reported and does not change the verdict or the exit code.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from meshgate.collect.errors import NoCluster, ReadError
from meshgate.deadline import bounded
from meshgate.pipeline import metrics
from meshgate.pipeline.events import publish_event
from meshgate.pipeline.reports import Run, keep
from meshgate.report.short import RUN, Short
from meshgate.report.visible import visible, visible_parts
from meshgate.settings.reference import ObjectReference
from meshgate.verdict import Gate

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

LONGEST = 60.0  # seconds for one target
ANNOTATION = "meshgate/"
GATE, VERDICT = f"{ANNOTATION}gate", f"{ANNOTATION}verdict"
SUMMARY, EXIT = f"{ANNOTATION}summary", f"{ANNOTATION}exit"
OPEN, CLOSED = "open", "closed"
LINK = "link.argocd.argoproj.io/report"


class _Metadata(msgspec.Struct, frozen=True):
    annotations: dict[str, str] = {}


class _Annotated(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class Targets(msgspec.Struct, frozen=True):
    """Where a verdict is published; empty targets are skipped.

    Attributes:
        job: The Job of this run.
        shard: `I/N` if the Job has N pods and this run is the pod with index I.
        report: Where the files are stored: `configmap://NAMESPACE/NAME`, a folder or a URL.
        keep: How many runs are stored.
        url: A link to the report; `{run}` and `{job}` are replaced.
        metrics: A file, or the URL of a Pushgateway.
        cluster: The cluster's name, or empty.
        watch: The Pod of a watch, which is deleted if the gate is open.
    """

    job: ObjectReference | None = None
    shard: str = ""
    report: str = ""
    keep: int = 5
    url: str = ""
    metrics: str = ""
    cluster: str = ""
    watch: ObjectReference | None = None

    @property
    def any(self) -> bool:
        """Return whether there is a target."""
        return bool(self.job or self.report or self.metrics)


def publish(
    verdict: Short,
    version: str,
    targets: Targets,
    files: dict[str, Path],
    connect: "Callable[[], Cluster]",
) -> list[str]:
    """Publish a verdict to every target.

    Args:
        verdict: The verdict.
        version: The target version of the upgrade, or empty.
        targets: Where it is published.
        files: The files of the report by name; missing files are skipped.
        connect: Returns the cluster; raises NoCluster.

    Returns:
        One line for each target that failed.
    """
    return list(map(visible, _Publisher(verdict, version, targets, files, connect).run()))


class _Publisher:
    def __init__(
        self,
        verdict: Short,
        version: str,
        targets: Targets,
        files: dict[str, Path],
        connect: "Callable[[], Cluster]",
    ) -> None:
        self._verdict = verdict
        self._version = version
        self._targets = targets
        self._files = files
        self._connect = connect
        self._at = datetime.now(UTC)
        self._kept = ""

    def run(self) -> Iterator[str]:
        job = self._targets.job
        steps: list[tuple[str, Callable[[], None]]] = []
        if self._targets.report:
            steps.append((f"the report to {self._targets.report}", self._keep))
        if job:
            where = f"Job {job.namespace}/{job.name}"
            steps.append((f"the verdict to {where}", lambda: self._annotate(job)))
            steps.append((f"an Event of {where}", lambda: self._event(job)))
        if self._targets.metrics:
            steps.append((f"metrics to {self._targets.metrics}", self._measure))
        watch = self._targets.watch
        if watch and self._verdict.open:
            name = f"{watch.namespace}/{watch.name}"
            steps.append((f"the end of the watch to Pod {name}", lambda: self._end(watch)))
        for what, step in steps:
            try:
                bounded(step, LONGEST, f"publish {what}")
            except TimeoutError:
                yield f"could not publish {what}: it took longer than {LONGEST:.0f} s"
            except ReadError as error:
                yield f"could not publish {what}: {error.why} (fix: {error.remedy})"
            except NoCluster as error:
                yield f"could not publish {what}: no cluster ({error})"
            except Exception as error:  # other targets still need the verdict
                words = " ".join(str(error).split())
                yield f"could not publish {what}: {type(error).__name__}: {words}"

    def _keep(self) -> None:
        place = self._targets.report
        cluster = self._connect() if place.startswith("configmap://") else None
        self._kept = keep(place, self._run, self._files, cluster, self._targets.keep)

    @property
    def _name(self) -> str:
        return self._at.strftime(RUN)

    @property
    def _run(self) -> Run:
        verdict = self._verdict
        return Run(self._name, self._at, self._version, verdict.exit, verdict.line, verdict.stages)

    def _annotate(self, job: ObjectReference) -> None:
        verdict = self._verdict
        annotations = {
            GATE: OPEN if verdict.open else CLOSED,
            VERDICT: verdict.line,
            SUMMARY: verdict.page,
            EXIT: str(verdict.exit),
            f"{ANNOTATION}judged": f"{self._at:%Y-%m-%dT%H:%M:%SZ}",
            f"{ANNOTATION}target-version": self._version,
            f"{ANNOTATION}report": self._kept,
        }
        if self._targets.cluster:
            annotations[f"{ANNOTATION}cluster"] = self._targets.cluster
        if self._targets.url:
            url = self._targets.url.replace("{run}", self._name).replace("{job}", job.name)
            annotations[LINK] = url
        if self._targets.shard:
            self._annotate_shard(job, annotations)
        else:
            self._merge(job, annotations)

    def _merge(self, job: ObjectReference, annotations: dict[str, str]) -> dict[str, str]:
        """Patch the Job, and return all its annotations."""
        metadata = {"annotations": visible_parts(annotations)} | (
            {"uid": job.uid} if job.uid else {}
        )
        written = self._connect().merge(
            f"/apis/batch/v1/namespaces/{job.namespace}/jobs/{job.name}",
            {"metadata": metadata},
            right=f"patch jobs.batch {job.name} in {job.namespace}",
        )
        return msgspec.json.decode(written, type=_Annotated).metadata.annotations

    def _annotate_shard(self, job: ObjectReference, annotations: dict[str, str]) -> None:
        """Write the verdict of this shard, and the combined verdict of all shards so far."""
        index, _, count = self._targets.shard.partition("/")
        names = [f"{ANNOTATION}shard-{each}" for each in range(int(count))]
        own = names[int(index)]
        published = self._merge(job, {own: f"{annotations[GATE]}: {self._verdict.line}"})
        verdicts: list[str] = []
        summary = ""
        # another shard may write between the two patches: the last one to write has read all
        while verdicts != (verdicts := [published.get(name, "") for name in names]):
            closed = next(
                (name for name in names if published.get(name, "").startswith(CLOSED)), ""
            )
            missing = verdicts.count("")
            if closed:
                line = published[closed].partition(": ")[2]
            elif missing:
                line = f"GATE CLOSED so far: {missing} of {count} shards have no verdict"
            else:
                line = f"GATE OPEN: all {count} shards are open"
            common = {} if closed and closed != own else dict(annotations)
            # what an open shard says of itself is not the verdict of all
            if (missing and not closed) or (closed != own and published.get(SUMMARY) == summary):
                common[SUMMARY] = summary = line
            code = Gate.COULD_NOT_VERIFY if missing else Gate.OPEN
            common |= {
                GATE: CLOSED if closed or missing else OPEN,
                EXIT: str(_exit(line) if closed else int(code)),
                VERDICT: line,
            }
            published = self._merge(job, common)

    def _event(self, job: ObjectReference) -> None:
        verdict, shard = self._verdict, self._targets.shard
        reason = ("Shard" if shard else "Gate") + ("Open" if verdict.open else "Closed")
        line = f"shard {shard}: {verdict.line}" if shard else verdict.line
        kind = ("batch/v1", "Job")
        publish_event(self._connect(), kind, job, reason, line, self._at, warning=not verdict.open)

    def _end(self, watch: ObjectReference) -> None:
        """Delete the Pod of the watch, which then deletes its observers."""
        self._connect().delete(
            f"/api/v1/namespaces/{watch.namespace}/pods/{watch.name}",
            right=f"delete pods {watch.name} in {watch.namespace}",
        )

    def _measure(self) -> None:
        targets = self._targets
        metrics.push_metrics(self._verdict, self._at, targets.metrics, targets.cluster)


def _exit(line: str) -> int:
    """Return the exit code in the last line of a run that closed its gate."""
    named = re.search(r"\(exit (\d+)", line)
    return int(named[1]) if named else int(Gate.CLOSED)
