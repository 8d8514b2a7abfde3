"""Print how many seconds each gate took that ran last in a lab with Argo CD.

Run after `make test-argocd` with a lab of your choice, or after a sync: bench/hooks.py LAB
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from meshgate.collect.rights import GATES

LAB = Path(__file__).parents[1] / "ci/lab/lab"


def read(lab: str, kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind in istiod's namespace."""
    words = [
        str(LAB),
        "exec",
        "--name",
        lab,
        "kubectl",
        "get",
        kind,
        "-n",
        "istio-system",
        "-o",
        "json",
    ]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    items: list[dict[str, Any]] = json.loads(found)["items"]
    return items


def seconds(start: str, end: str) -> float:
    """Return the time between two timestamps of the API."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def rows(lab: str) -> Iterator[tuple[str, float, float, float]]:
    """Yield each gate with the seconds until its container ran, that it ran, and until its end.

    The last one is what Kubernetes needs to report the end, before Argo CD continues.
    """
    pods = {each["metadata"]["labels"].get("job-name"): each for each in read(lab, "pods")}
    for job in read(lab, "jobs"):
        name, status = job["metadata"]["name"], job["status"]
        if name not in GATES or "completionTime" not in status or name not in pods:
            continue
        (container,) = pods[name]["status"]["containerStatuses"]
        ran = container["state"]["terminated"]
        yield (
            name,
            seconds(job["metadata"]["creationTimestamp"], ran["startedAt"]),
            seconds(ran["startedAt"], ran["finishedAt"]),
            seconds(ran["finishedAt"], status["completionTime"]),
        )


def main(lab: str) -> None:
    """Print the table."""
    print("| gate | pod start | run | reported |\n|---|---|---|---|")
    total = 0.0
    for name, start, run, end in sorted(rows(lab), key=lambda row: GATES.index(row[0])):
        total += start + run + end
        print(f"| `{name}` | {start:.0f} s | {run:.0f} s | {end:.0f} s |")
    print(f"| all | | | {total:.0f} s |")


if __name__ == "__main__":
    main(sys.argv[1])
