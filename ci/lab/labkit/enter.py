"""Runs a user's command in a lab. The lab's own process becomes the command, so that signals and
the exit status are the command's."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.node import Node
from labkit.steps import LabError

# What a Pod finds mounted. The mounts are seen by this command only, and go with it.
_AS_POD = r"""
set -e
mount -t tmpfs tmpfs /run
accounts=/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$accounts" /run/secrets/tokens
printf %s "$POD_TOKEN" > "$accounts/token"
printf %s "$POD_NAMESPACE" > "$accounts/namespace"
printf %s "$POD_ISTIO_TOKEN" > /run/secrets/tokens/istio-token
cp "$POD_CA" "$accounts/ca.crt"
[ -e /var/run/secrets ] || mount --bind /run /var/run
resolv=$(realpath -m /etc/resolv.conf)
mkdir -p "$(dirname "$resolv")"
[ -e "$resolv" ] || : > "$resolv"
domains="$POD_NAMESPACE.svc.cluster.local svc.cluster.local cluster.local"
printf 'nameserver 10.96.0.10\nsearch %s\noptions ndots:5\n' "$domains" > /run/resolv.conf
mount --bind /run/resolv.conf "$resolv"
mkdir /run/home
export HOME=/run/home
unset POD_TOKEN POD_NAMESPACE POD_ISTIO_TOKEN POD_CA
exec "$@"
"""


def outside(node: Node, command: Sequence[str]) -> None:
    """In the node's network, with the host's files."""
    _become(node.outside(command), node.env)


def inside(node: Node, command: Sequence[str]) -> None:
    """In all of the node's namespaces."""
    _become(node.inside(command), node.env)


def as_pod(node: Node, account: str, command: Sequence[str]) -> None:
    """As a Pod of that ServiceAccount: its tokens, its names, no kubeconfig."""
    namespace, _, name = account.partition("/")
    if not name:
        raise LabError(f"{account!r} is not NAMESPACE/SERVICEACCOUNT")
    token = ["create", "token", name, f"--namespace={namespace}"]
    env = {
        **node.env,
        "POD_TOKEN": node.kubectl(*token).strip(),
        "POD_ISTIO_TOKEN": node.kubectl(*token, "--audience=istio-ca").strip(),
        "POD_NAMESPACE": namespace,
        "POD_CA": str(node.lab.shared / "ca.crt"),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    del env["KUBECONFIG"]
    private = ["unshare", "--mount", "sh", "-c", _AS_POD, "sh"]
    _become(node.outside([*private, *command]), env)


def _become(argv: Sequence[str | Path], env: Mapping[str, str]) -> None:
    os.execvpe(argv[0], [str(word) for word in argv], env)
