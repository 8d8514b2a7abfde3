"""Print how many seconds each gate added to the last syncs in a lab with Argo CD.

Run after `make test-argocd` with a lab of your choice, or after a sync: bench/hooks.py LAB
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from meshgate.collect.rights import GATES

LAB = Path(__file__).parents[1] / "ci/lab/lab"
CONTROLLER = "argocd-controller"

Object = dict[str, Any]


class Gate(NamedTuple):
    """When a gate's Job was created, its container ran, and Argo CD continued."""

    name: str
    created: datetime
    started: datetime
    finished: datetime
    completed: datetime
    continued: datetime


def read(lab: str, *words: str) -> list[Object]:
    """Return the objects that kubectl lists."""
    command = [str(LAB), "exec", "--name", lab, "kubectl", "get", *words, "-o", "json"]
    found = subprocess.run(
        [*command, "--show-managed-fields"], capture_output=True, text=True, check=True
    ).stdout
    items: list[Object] = json.loads(found)["items"]
    return items


def written(body: Object) -> Iterator[datetime]:
    """Yield when Argo CD created or changed an object."""
    metadata = body["metadata"]
    yield datetime.fromisoformat(metadata["creationTimestamp"])
    for each in metadata.get("managedFields", ()):
        if each["manager"] == CONTROLLER and "time" in each:
            yield datetime.fromisoformat(each["time"])


def gates(lab: str) -> Iterator[Gate]:
    """Yield each gate that ran in the last sync of its Application."""
    everything = ("jobs,configmaps,deployments,pods", "--all-namespaces")
    objects: dict[tuple[str, str, str], Object] = {}
    pods: dict[str, Object] = {}
    for each in read(lab, *everything):
        metadata = each["metadata"]
        objects[each["kind"], metadata["namespace"], metadata["name"]] = each
        if each["kind"] == "Pod":
            pods[metadata["labels"].get("job-name", "")] = each
    for app in read(lab, "applications", "-n", "argocd"):
        operation = app["status"].get("operationState", {})
        rows = operation.get("syncResult", {}).get("resources", [])
        keys = [(row["kind"], row["namespace"], row["name"]) for row in rows]
        for row, key in zip(rows, keys, strict=True):
            if row["name"] not in GATES or key not in objects:
                continue
            job, pod = objects[key], pods[row["name"]]
            (container,) = pod["status"]["containerStatuses"]
            ran = container["state"]["terminated"]
            completed = datetime.fromisoformat(job["status"]["completionTime"])
            # the next object that Argo CD wrote in this sync, or the end of the sync
            later = chain.from_iterable(written(objects[each]) for each in keys if each in objects)
            end = datetime.fromisoformat(operation["finishedAt"])
            yield Gate(
                row["name"],
                datetime.fromisoformat(job["metadata"]["creationTimestamp"]),
                datetime.fromisoformat(ran["startedAt"]),
                datetime.fromisoformat(ran["finishedAt"]),
                completed,
                min([end, *(each for each in later if each >= completed)]),
            )


def together(found: list[Gate]) -> float:
    """Return the seconds in which at least one gate delayed a sync."""
    total, until = 0.0, None
    for each in sorted(found, key=lambda gate: gate.created):
        start = each.created if until is None else max(each.created, until)
        total += max((each.continued - start).total_seconds(), 0)
        until = each.continued if until is None else max(until, each.continued)
    return total


def main(lab: str) -> None:
    """Print the table."""
    found = sorted(gates(lab), key=lambda gate: GATES.index(gate.name))
    print("| gate | pod start | run | Job complete | Argo CD continues |\n|---|---|---|---|---|")
    for each in found:
        times = (each.created, each.started, each.finished, each.completed, each.continued)
        steps = [f"{(after - before).total_seconds():.0f} s" for before, after in pairwise(times)]
        print(f"| `{each.name}` | {' | '.join(steps)} |")
    print(f"| all {len(found)} | | | | {together(found):.0f} s |")


if __name__ == "__main__":
    main(sys.argv[1])
