"""Certificates and keys of a kubeconfig in memory: a run that is killed leaves no key on a disk."""

import os
from pathlib import Path

from kubernetes import client
from kubernetes.config import kube_config

_FIELDS = ("ssl_ca_cert", "cert_file", "key_file")


def keep_in_memory(settings: client.Configuration) -> None:
    """Move what the client library wrote to temporary files into files without a name.

    The library writes the inline certificates and keys of a kubeconfig to such files, and removes
    them only at a normal end of the process.  The new ones end with the process in any case.
    """
    if not hasattr(os, "memfd_create"):
        return
    temporary = set(kube_config._temp_files.values())
    for field in _FIELDS:
        path = getattr(settings, field)
        if path in temporary:
            setattr(settings, field, _in_memory(Path(path).read_bytes()))
    kube_config._cleanup_temp_files()


def _in_memory(content: bytes) -> str:
    handle = os.memfd_create("meshgate")  # open until the process ends, and not inherited
    with os.fdopen(os.dup(handle), "wb") as file:
        file.write(content)
    return f"/proc/self/fd/{handle}"
