"""`meshgate`: the gates, and everything around them.  pytest underneath gives the verdict.

commands.py    which module has which command; a module is imported when its command runs
gates.py       verify, demo, replay: pytest with the project's checks
options.py     settings as options of the commands, and errors as exit codes
evidence.py    capture, shadow: what needs a mesh
watch.py       watch: requests during the whole upgrade
recordings.py  record, recordings, diff: what is about snapshots
attestations.py  attest: signed verdicts, and the proof of them by a replay
fleet.py       fleet: an upgrade of many clusters, by their recordings
pairs.py       pairs: declared pairs from the policies
revisions.py   revisions: who uses which revision
reports.py     last, commit-status, fetch, index, comment: the reports of earlier runs
rollout.py     restart: the one command that changes workloads
init.py        init argocd: the files of a pipeline
reference.py   list, explain, schema, rbac: what meshgate knows of itself
"""

from meshgate.cli.options import app

__all__ = ["app", "kubectl"]


def kubectl() -> None:
    """Run as a plugin of kubectl: `kubectl meshgate`."""
    app(prog_name="kubectl meshgate")
