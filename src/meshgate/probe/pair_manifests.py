"""The objects of a probe pair: a Job and a Service for each pod, and the calls that it makes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from meshgate.probe import peer
from meshgate.probe.plan import Plaintext, Plan

LABEL, OURS = "app.kubernetes.io/managed-by", "meshgate"
RUN, PEER = "meshgate.dev/run", "meshgate.dev/peer"
PEERS = ("a", "b")
SERVER, CALLER = "serve", "call"
LATER = ((503, 2), (429, 2))
# the labels of a pod that neither has a sidecar nor is in ambient mode
OUTSIDE = {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
MOST_PLAINTEXT = 80  # connections of one pod, which its report has room for
# satisfies the restricted Pod Security Standard
CONFINED: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
GRACE = 15  # seconds after our own deadline at which Kubernetes ends the Jobs


class PlannedCall(NamedTuple):
    """A call that a peer makes; `code` and `asked` are the first answer to a `later` call."""

    kind: str
    target: str
    method: str
    url: str
    code: int = 0
    asked: int = 0

    def instruction(self, most: int) -> dict[str, Any]:
        """Return the call as the peer receives it."""
        return {"method": self.method, "url": self.url, "most": most}


def throttled_pods(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the pods beside the pair that are only called, as names with their labels."""
    return {chr(ord("c") + n): labels for n, labels in enumerate(plan.throttled)}


def outside_pods(plan: Plan) -> dict[str, tuple[Plaintext, ...]]:
    """Return the pods outside the mesh, as names with what each connects to in plaintext."""
    return {
        f"outside-{n // MOST_PLAINTEXT}": plan.plaintext[n : n + MOST_PLAINTEXT]
        for n in range(0, len(plan.plaintext), MOST_PLAINTEXT)
    }


def names(plan: Plan) -> tuple[str, ...]:
    """Return the names of all pods: the pair, and those beside it."""
    return (*PEERS, *throttled_pods(plan), *outside_pods(plan))


def planned(plan: Plan, run: str, name: str) -> Iterable[PlannedCall]:
    """Yield the calls of one peer, in the order in which it reports them.

    Args:
        plan: the plan of the pair.
        run: the run's random name.
        name: the peer; those beside the pair make no calls.

    Returns:
        The calls, lazily.
    """
    for to in outside_pods(plan).get(name, ()):
        yield PlannedCall("plaintext", to.key, "PLAINTEXT", to.url)
    if name not in PEERS:
        return
    (other,) = (each for each in PEERS if each != name)
    there = f"http://{job_name(run, other)}.{plan.namespace}"
    # without sidecars no server can determine the caller's identity
    yield PlannedCall("peer", other, "REACH" if plan.ambient else "GET", f"{there}/")
    for kind, urls in (("declared", plan.declared), ("sampled", plan.sampled)):
        for url in urls:
            # OPTIONS changes nothing in an application
            yield PlannedCall(kind, url, "OPTIONS", url)
    if name == PEERS[0] and not plan.ambient:
        for code, asked in LATER:
            yield PlannedCall("later", other, "LATER", f"{there}/later/{code}/{asked}", code, asked)
        for each in throttled_pods(plan):
            url = f"http://{job_name(run, each)}.{plan.namespace}/"
            yield PlannedCall("burst", each, "BURST", url)


def job_name(run: str, peer: str) -> str:
    """Return the name of a peer's Job and Service."""
    return f"probe-{run}-{peer}"


def _labels(run: str, name: str) -> dict[str, str]:
    return {LABEL: OURS, RUN: run, PEER: name}


def manifest(plan: Plan, run: str, name: str) -> dict[str, Any]:
    """Return one peer's Job, which ends by itself and is deleted as soon as it has ended.

    Args:
        plan: the plan of the pair.
        run: the run's random name.
        name: the peer.

    Returns:
        The Job, as the API server accepts it.
    """
    calls = [each.instruction(plan.most) for each in planned(plan, run, name)]
    labels, patience = _labels(run, name), f"{plan.seconds / 2:.0f}"
    theirs = OUTSIDE if name in outside_pods(plan) else throttled_pods(plan).get(name, {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(run, name), "namespace": plan.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(plan.seconds) + GRACE,
            "ttlSecondsAfterFinished": 0,
            "template": {
                # only the namespace enables injection, as for any other pod
                "metadata": {"labels": {**theirs, **labels}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "containers": [
                        _container(plan, SERVER),
                        _container(plan, CALLER, msgspec.json.encode(calls).decode(), patience),
                    ],
                },
            },
        },
    }


def _container(plan: Plan, role: str, *words: str) -> dict[str, Any]:
    return {
        "name": role,
        "image": plan.image,
        "command": ["python3", "-c", Path(peer.__file__).read_text(), role, *words],
        **({"ports": [{"containerPort": peer.PORT, "name": "http"}]} if role == SERVER else {}),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": CONFINED,
    }


def service(plan: Plan, run: str, name: str, owner: str) -> dict[str, Any]:
    """Return the Service by which the other peer calls it; it is deleted with the Job.

    Args:
        plan: the plan of the pair.
        run: the run's random name.
        name: the peer.
        owner: the UID of the peer's Job.

    Returns:
        The Service, as the API server accepts it.
    """
    job = {"apiVersion": "batch/v1", "kind": "Job", "name": job_name(run, name), "uid": owner}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": job_name(run, name),
            "namespace": plan.namespace,
            "labels": _labels(run, name),
            "ownerReferences": [job],
        },
        "spec": {
            "selector": _labels(run, name),
            # a pod is not Ready any more when its caller has ended, but still serves
            "publishNotReadyAddresses": True,
            "ports": [{"name": "http", "port": 80, "targetPort": peer.PORT}],
        },
    }
