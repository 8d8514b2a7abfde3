"""`meshgate`: the gates, and everything around them.  pytest underneath gives the verdict.

gates.py       verify, demo, replay: pytest with the project's checks
options.py     settings as options of the commands, and errors as exit codes
evidence.py    capture, watch, shadow: what needs a mesh
recordings.py  diff, revisions: what needs a snapshot
reports.py     last, fetch, index: the reports of earlier runs
rollout.py     restart: the one command that changes workloads
reference.py   list, explain, schema, rbac: what meshgate knows of itself
"""

from meshgate.cli import evidence, gates, recordings, reference, reports, rollout
from meshgate.cli.options import app

__all__ = ["app", "evidence", "gates", "kubectl", "recordings", "reference", "reports", "rollout"]


def kubectl() -> None:
    """Run as a plugin of kubectl: `kubectl meshgate`."""
    app(prog_name="kubectl meshgate")
