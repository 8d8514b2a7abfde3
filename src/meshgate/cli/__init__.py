"""`meshgate`: the gates, and everything around them.  pytest underneath gives the verdict.

gates.py       verify, demo, replay: pytest with the project's checks
options.py     settings as options of the commands, and errors as exit codes
evidence.py    capture, watch, shadow: what needs a mesh
recordings.py  diff: what needs a snapshot
revisions.py   revisions: who uses which revision
reports.py     last, fetch, index: the reports of earlier runs
rollout.py     restart: the one command that changes workloads
init.py        init argocd: the files of a pipeline
reference.py   list, explain, schema, rbac: what meshgate knows of itself
"""

from meshgate.cli import (
    evidence,
    gates,
    init,
    recordings,
    reference,
    reports,
    revisions,
    rollout,
)
from meshgate.cli.options import app

__all__ = [
    "app",
    "evidence",
    "gates",
    "init",
    "kubectl",
    "recordings",
    "reference",
    "reports",
    "revisions",
    "rollout",
]


def kubectl() -> None:
    """Run as a plugin of kubectl: `kubectl meshgate`."""
    app(prog_name="kubectl meshgate")
