"""`istioctl`, run so that it can neither hang nor write nor read a secret.

`analyze` exits 0 whatever it finds when it prints JSON, `x precheck` exits 1 for any warning, and
both wait for ever for a right that they lack: so the JSON is read, the time is bounded, and they
see the cluster only through the read-only façade.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.facade import Facade
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow.processes import NO_PROGRAM, guarded
from meshgate.collect.temporary import temporary_folder
from meshgate.settings import flag
from meshgate.snapshot.base import Base
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage


class _Client(Base, frozen=True):
    version: str = ""


class _Version(Base, frozen=True):
    client_version: _Client = _Client()


def analyze(cluster: Cluster, *, istioctl: str, istio_namespace: str, timeout: float) -> Analysis:
    """Analyze every namespace; raise ReadError when it did not finish or cannot be believed.

    Args:
        cluster: the cluster, read through the read-only façade.
        istioctl: the program's name or path.
        istio_namespace: istiod's namespace.
        timeout: seconds for the whole of it.

    Returns:
        The messages of `istioctl analyze`.
    """
    words = ["analyze", "--all-namespaces", f"--istioNamespace={istio_namespace}"]
    return _messages(cluster, istioctl, words, timeout)


def precheck(cluster: Cluster, *, istioctl: str, istio_namespace: str, timeout: float) -> Analysis:
    """Return what its own version finds in the way of an upgrade to it; raise ReadError.

    Args:
        cluster: the cluster, read through the read-only façade.
        istioctl: the program's name or path.
        istio_namespace: istiod's namespace.
        timeout: seconds for the whole run.

    Returns:
        The messages of `istioctl x precheck`.
    """
    words = ["x", "precheck", f"--istioNamespace={istio_namespace}"]
    return _messages(cluster, istioctl, words, timeout, fails=(1,))


def version(istioctl: str, timeout: float) -> str:
    """Its own version; raise ReadError."""
    with temporary_folder() as home:
        return _version(_program(istioctl, "print its version"), _environment(home), timeout)


def _messages(
    cluster: Cluster,
    istioctl: str,
    words: list[str],
    timeout: float,
    fails: tuple[int, ...] = (),
) -> Analysis:
    program = _program(istioctl, " ".join(each for each in words if not each.startswith("-")))
    facade = Facade(cluster)
    with facade.serving(), temporary_folder() as home:
        kubeconfig = home / "kubeconfig"
        kubeconfig.write_text(facade.kubeconfig())
        kubeconfig.chmod(0o600)
        environment = {
            **_environment(home),
            "KUBECONFIG": str(kubeconfig),
            # istioctl would otherwise keep trying a streamed list that the façade refuses
            "KUBE_FEATURE_WatchListClient": "false",
        }
        client = _version(program, environment, timeout)
        answer = _run(
            # 1.28 logs to the standard output, before the JSON
            [program, *words, "--output=json", "--log_target=stderr"],
            environment,
            timeout,
            missing=lambda name: _check_rights(name, facade),
            fails=fails,
        )
    try:
        # an empty finding list may be printed as null, or as nothing at all
        messages = msgspec.json.decode(answer or b"[]", type=tuple[AnalysisMessage, ...] | None)
    except ValueError as error:
        raise _unreadable(istioctl, words[0], error) from error
    return Analysis(istioctl_version=client, messages=messages or (), refused=facade.refused)


def _program(istioctl: str, use: str) -> str:
    program = shutil.which(istioctl)
    if program is None:
        raise ReadError(
            f"there is no {istioctl} to run {use} with",
            f"install istioctl of the target version, or name it with {flag('access.istioctl')}",
        )
    return program


def _environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ.get("PATH", "")}


def _version(program: str, environment: dict[str, str], timeout: float) -> str:
    answer = _run([program, "version", "--remote=false", "-o", "json"], environment, timeout)
    try:
        return msgspec.json.decode(answer, type=_Version).client_version.version
    except ValueError as error:
        raise _unreadable(Path(program).name, "version", error) from error


def _unreadable(istioctl: str, verb: str, error: ValueError) -> ReadError:
    return ReadError(
        f"cannot read what istioctl printed: {error}", f"run `{istioctl} {verb}` by hand"
    )


def _run(
    command: list[str],
    environment: dict[str, str],
    timeout: float,
    *,
    missing: Callable[[str], None] = lambda name: None,
    fails: tuple[int, ...] = (),
) -> bytes:
    """Return the output; exit codes in `fails` mean the same as 0."""
    name = " ".join([Path(command[0]).name, *command[1 : 3 if command[1] == "x" else 2]])
    try:
        process = subprocess.Popen(
            guarded(command),  # a run that is killed leaves no istioctl behind
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ReadError(
            f"cannot run {command[0]}: {error}", f"check {flag('access.istioctl')}"
        ) from error
    with process:
        try:
            output, errors = _wait(process, name, timeout, missing)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a wrapper's children too
    if process.returncode == NO_PROGRAM:
        reason = errors.decode(errors="replace").strip()
        raise ReadError(f"cannot run {command[0]}: {reason}", f"check {flag('access.istioctl')}")
    # it may well end, and say that all is well, without what it was not given
    missing(name)
    if process.returncode != 0 and not (process.returncode in fails and output.strip()):
        words = errors.decode(errors="replace").strip().splitlines()
        raise ReadError(
            f"{name} failed with {process.returncode}: {words[-1] if words else 'no message'}",
            f"run `{name}` by hand to see why",
        )
    return output


def _check_rights(name: str, facade: Facade) -> None:
    if facade.unserved:
        raise ReadError(
            f"the read-only view does not serve {facade.unserved[0]}, which {name} requests",
            f"run `{name}` by hand, and report this with the version of istioctl",
        )
    if missing := facade.denied:
        raise ReadError(
            f"no right to {', '.join(missing)}, which {name} needs",
            f"grant `{missing[0]}` (`meshgate rbac` prints all that is needed)",
        )


def _wait(
    process: subprocess.Popen[bytes],
    name: str,
    timeout: float,
    missing: Callable[[str], None],
) -> tuple[bytes, bytes]:
    """Return its output; give up as soon as a read fails that it would wait for without end."""
    end = time.monotonic() + timeout
    while True:
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired as error:
            missing(name)
            if time.monotonic() > end:
                raise ReadError(
                    f"{name} did not finish within {timeout:g} s",
                    f"give it more time with {flag('access.analyze_timeout')}, or run it by hand "
                    "to see why",
                ) from error
