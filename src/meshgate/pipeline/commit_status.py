"""The verdicts of stored runs as a CommitStatus of GitOps Promoter."""

import re
from collections.abc import Mapping
from typing import Any

from meshgate.pipeline.reports import Run
from meshgate.report.short import cut
from meshgate.verdict import Gate

DESCRIPTION = 140  # GitHub rejects more characters
SHA = re.compile(r"[a-f0-9]{40}|[a-f0-9]{64}")
KEY = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def commit_status(
    runs: Mapping[str, Run | None], sha: str, repository: str, *, key: str, url: str = ""
) -> dict[str, Any]:
    """Return a CommitStatus: `success` only if the last run of every place is open.

    Args:
        runs: the last run of each place, or None for a place without a verdict of the target.
        sha: the hydrated commit.
        repository: the name of the GitRepository object.
        key: what `proposedCommitStatuses` or `activeCommitStatuses` contain.
        url: a page with the reports, or empty.

    Returns:
        The object.

    Raises:
        ValueError: if the commit is not a full SHA, or the key is not a label value.
    """
    if not SHA.fullmatch(sha):
        raise ValueError(f"{sha!r} is not a full commit SHA: pass 40 or 64 hexadecimal digits")
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key: use lowercase letters, digits and dashes")
    phase = _phase(runs)
    words = [_line(place, run) for place, run in runs.items() if run is None or run.exit]
    description = "; ".join(words) or ("all gates are open" if runs else "no gate")
    spec = {
        "gitRepositoryRef": {"name": repository},
        "sha": sha,
        "name": key,
        "description": cut(description, DESCRIPTION),
        "phase": phase,
    }
    return {
        "apiVersion": "promoter.argoproj.io/v1alpha1",
        "kind": "CommitStatus",
        "metadata": {
            "name": f"{key}-{sha[:12]}",
            "labels": {"promoter.argoproj.io/commit-status": key},
        },
        "spec": spec | ({"url": url} if url else {}),
    }


def _phase(runs: Mapping[str, Run | None]) -> str:
    """Return the phase; what could not be verified is pending, so nothing is promoted."""
    codes = [Gate.COULD_NOT_VERIFY if run is None else run.exit for run in runs.values()]
    if Gate.CLOSED in codes:
        return "failure"
    return "success" if codes and not any(codes) else "pending"


def _line(place: str, run: Run | None) -> str:
    return run.line if run else f"no verdict in {place}"
