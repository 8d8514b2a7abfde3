"""Run the target's istiod as a local process that reads the cluster through the read-only API.

Everything that affects configuration (mesh config, injection template, istiod's environment) comes
from the target's rendered manifests.  Everything that writes, and every server that is not needed,
is disabled.  All sockets listen on loopback.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from meshgate.collect.api import Api
from meshgate.collect.errors import ReadError
from meshgate.collect.facade import Facade
from meshgate.collect.facade_changes import Changed
from meshgate.collect.shadow.manifests import Key, Rendered, placeholder_secrets, rendered
from meshgate.collect.shadow.processes import guarded
from meshgate.collect.temporary import temporary_folder
from meshgate.deadline import Deadline
from meshgate.settings import flag

# How often istiod is started at most.
_STARTS = 3
# The file of its output.
_LOG = "log"

# Disable everything that writes or reads Secrets.  Leader election stays enabled: without it the
# remaining writers would run, and without the right to write a Lease it never succeeds.
_QUIET = {
    "AMBIENT_ENABLE_STATUS": "false",
    "ENABLE_CA_SERVER": "false",
    "ENABLE_MCS_AUTO_EXPORT": "false",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "INJECT_ENABLED": "true",
    "KUBE_FEATURE_WatchListClient": "false",
    "LOCAL_CLUSTER_SECRET_WATCHER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "PILOT_ENABLE_ANALYSIS": "false",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    "PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER": "false",
    "PILOT_ENABLE_GATEWAY_API_STATUS": "false",
    "PILOT_ENABLE_IP_AUTOALLOCATE": "false",
    "PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS": "false",
    "PILOT_ENABLE_STATUS": "false",
    "PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION": "false",
    "PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS": "false",
    "PILOT_ENABLE_XDS_IDENTITY_CHECK": "false",
    "PILOT_MAX_REQUESTS_PER_SECOND": "1000",
    "POD_NAME": "meshgate-shadow",
    "SERVICE_ACCOUNT": "meshgate-shadow",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "XDS_AUTH": "false",
}


__all__ = ["Launch", "Rendered", "Running", "rendered"]


class Running(msgspec.Struct, frozen=True):
    """The target's istiod while it runs.

    Attributes:
        version: as istiod reports it, such as `1.29.1`.
        discovery: the address of its gRPC server, `127.0.0.1:PORT`.
        facade: the API server that it reads.
        debug: a client of its HTTP server.
    """

    version: str
    discovery: str
    facade: Facade
    debug: httpx.Client

    def review(self, body: bytes) -> bytes:
        """Return the injector's response to an AdmissionReview of a pod.

        Raise ReadError if it does not respond.
        """
        try:
            headers = {"Content-Type": "application/json"}
            answer = self.debug.post("/inject", content=body, headers=headers)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ReadError(f"the target's injector does not respond: {error}", "") from error
        return answer.content

    def config_dump(self, proxy: str) -> Any:
        """Return istiod's config_dump of a connected proxy (`pod.namespace`).

        Raise ReadError if it does not respond.
        """
        try:
            answer = self.debug.get("/debug/config_dump", params={"proxyID": proxy})
            answer.raise_for_status()
            return msgspec.json.decode(answer.content)
        except (httpx.HTTPError, ValueError) as error:
            raise ReadError(
                f"the target's istiod returns no configuration of {proxy}: {error}", ""
            ) from error


class _Addresses(NamedTuple):
    """Where istiod listens."""

    http: str
    discovery: str
    monitoring: str


class _AddressInUse(ReadError):
    """istiod exited because another process listens on one of its addresses."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start the target's istiod.

    Attributes:
        program: the path of pilot-discovery.
        rendered: the target's manifests.
        istio_namespace: the namespace of istiod.
        timeout: seconds within which it must be ready.
        memory: MiB that it may use; 0 for no limit.
    """

    program: str
    rendered: Rendered
    istio_namespace: str
    timeout: float
    memory: int = 0

    @contextmanager
    def running(self, api: Api, hidden: frozenset[Key] = frozenset()) -> Iterator[Running]:
        """Run the target's istiod while the block runs, and stop it then.

        Args:
            api: the API server that it reads.
            hidden: objects of the cluster that it must not read.

        Raises:
            ReadError: it cannot be started, is not ready in time, or exits early.
        """
        shown = self.rendered.maps | placeholder_secrets(api)
        facade = Facade(api, Changed(shown, hidden))
        with (
            facade.serving(),
            temporary_folder() as home,
            httpx.Client(trust_env=False, timeout=self.timeout) as client,
        ):
            kubeconfig = home / "kubeconfig"
            kubeconfig.write_text(facade.kubeconfig())
            kubeconfig.chmod(0o600)
            if not os.access(self.program, os.X_OK):
                raise ReadError(
                    f"the target's istiod {self.program} does not exist or is not executable",
                    f"pass the path of pilot-discovery as {flag('simulation.istiod')}",
                )
            with self._ready(kubeconfig, client, facade) as (process, addresses):
                version = client.get(f"http://{addresses.monitoring}/version").text
                match = re.search(r"\d+\.\d+\.\d+", version)
                version = match[0] if match else version.strip()
                yield Running(version, addresses.discovery, facade, client)
                if process.poll() is not None:
                    raise _ended(process, home / _LOG)

    @contextmanager
    def _ready(
        self, kubeconfig: Path, client: httpx.Client, facade: Facade
    ) -> Iterator[tuple["subprocess.Popen[bytes]", _Addresses]]:
        """Yield istiod once it is ready, with its addresses.

        A free port may be another process's when istiod listens: then others are tried.
        """
        home = kubeconfig.parent
        for left in reversed(range(_STARTS)):
            addresses = _Addresses(*_free_addresses(3))
            command = [
                *(self.program, "discovery", "--kubeconfig", str(kubeconfig)),
                *("-n", self.istio_namespace, "--monitoringAddr", addresses.monitoring),
                *("--httpAddr", addresses.http, "--grpcAddr", addresses.discovery),
                *("--secureGRPCAddr", "", "--httpsAddr", "", "--ctrlz_port", "0"),
                *("--log_output_level", "default:warn"),
            ]
            client.base_url = httpx.URL(f"http://{addresses.http}")
            running = _process(
                guarded(command, self.memory), self._environment(home), home, home / _LOG
            )
            with running as process:
                try:
                    _await_ready(process, client, facade, home / _LOG, self.timeout)
                except _AddressInUse:
                    if left:
                        continue
                    raise
                yield process, addresses
                return

    def _environment(self, home: Path) -> dict[str, str]:
        own = {"POD_NAMESPACE": self.istio_namespace, "HOME": str(home), "PATH": ""}
        if self.memory:
            # Go collects garbage well before istiod reaches the limit.
            own["GOMEMLIMIT"] = f"{self.memory * 3 // 4}MiB"
        defaults = {"REVISION": "default", "CLUSTER_ID": "Kubernetes"}
        return defaults | self.rendered.environment | _QUIET | own


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], home: Path, log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise ReadError(
            f"cannot run the target's istiod: {error}", f"check {flag('simulation.istiod')}"
        ) from error
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _await_ready(
    process: "subprocess.Popen[bytes]",
    client: httpx.Client,
    facade: Facade,
    log: Path,
    timeout: float,
) -> None:
    """Return when istiod is ready.

    Args:
        process: istiod.
        client: a client of its HTTP server.
        facade: the API server that it reads.
        log: its output.
        timeout: seconds.

    Raises:
        ReadError: it exited, is not ready in time, or needs what the API server does not provide.
    """
    deadline = Deadline(timeout)
    while True:
        with suppress(httpx.HTTPError):
            if client.get("/ready", timeout=1).status_code == 200:
                return
        if facade.unserved:
            raise ReadError(
                f"the read-only API does not serve {facade.unserved[0]}, which the target's "
                "istiod requests",
                "report this with the target's version",
            )
        if facade.denied:
            raise ReadError(
                f"no right to {', '.join(facade.denied)}, which the target's istiod needs",
                "grant it: `meshgate rbac` prints all rights that are needed",
            )
        if process.poll() is not None:
            raise _ended(process, log)
        if deadline.passed:
            raise ReadError(
                f"the target's istiod was not ready within {timeout:g} s: {_last(log)}",
                f"raise {flag('simulation.timeout')}",
            )
        time.sleep(0.1)


def _ended(process: "subprocess.Popen[bytes]", log: Path) -> ReadError:
    # Go reports that it is out of memory; the kernel kills without a message.
    output = log.read_text(errors="replace")
    out_of_memory = re.search(r"fatal error: runtime: (?:out of|cannot allocate) memory", output)
    if out_of_memory or process.returncode == -signal.SIGKILL:
        return ReadError(
            "the target's istiod ran out of memory", f"raise {flag('simulation.memory')}"
        )
    kind = _AddressInUse if "bind: address already in use" in output else ReadError
    return kind(
        f"the target's istiod exited with code {process.returncode}: {_last(log)}",
        "check that the manifests and the program have the same version",
    )


def _last(log: Path) -> str:
    """Return the last error that istiod logged, else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if "\terror\t" in line or line.startswith("Error")] or lines
    return errors[-1][:300] if errors else "no output"


def _free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
