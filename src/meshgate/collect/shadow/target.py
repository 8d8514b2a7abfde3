"""The target's istiod as a plain process on loopback, which sees the cluster through the façade.

What decides on configuration (mesh config, injection template, istiod's environment) comes from
the rendered manifests of the target; every writer and every server that is not needed is off.
"""

import base64
import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from meshgate.collect.errors import ReadError
from meshgate.collect.facade import Changed, Facade
from meshgate.collect.kubernetes import Api
from meshgate.collect.shadow.processes import guarded
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import Kind
from meshgate.snapshot.kubernetes import Metadata

# Writers, and what would ask for Secrets: off.  Leader election stays on: it never wins without
# the right to a Lease, and without it the writers would run.
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


class Rendered(msgspec.Struct, frozen=True):
    """What the target's manifests say, as far as configuration depends on it."""

    maps: dict[tuple[str, str, str, str], dict[str, Any]]
    environment: dict[str, str]

    def mesh(self) -> dict[str, Any]:
        """The mesh config."""
        for (*_, name), item in self.maps.items():
            if "sidecar-injector" not in name:
                return yaml.safe_load(item["data"].get("mesh", "")) or {}
        return {}


def rendered(file: Path) -> Rendered:
    """Reads what `helm template` or `istioctl manifest generate` printed; raises Unreadable."""
    remedy = "render the target's chart with the Application's values: `helm template istiod …`"
    try:
        objects = [each for each in yaml.safe_load_all(file.read_text()) if each]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ReadError(f"cannot read the target's manifests: {error}", remedy) from error
    maps: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    environment: dict[str, str] = {}
    for each in objects:
        kind, metadata = each.get("kind"), each.get("metadata", {})
        name = metadata.get("name", "")
        if kind == "ConfigMap" and re.fullmatch(r"istio(-sidecar-injector)?(-[\w-]+)?", name):
            if {"mesh", "config"} & {*each.get("data", {})}:
                maps["", "configmaps", metadata.get("namespace", ""), name] = each
        elif kind == "Deployment" and metadata.get("labels", {}).get("app") == "istiod":
            for container in each["spec"]["template"]["spec"]["containers"]:
                environment |= {
                    variable["name"]: str(variable["value"])
                    for variable in container.get("env", ())
                    if "value" in variable
                }
    if len(maps) < 2 or not environment:
        raise ReadError(
            f"{file} holds no istiod with its ConfigMaps istio and istio-sidecar-injector", remedy
        )
    return Rendered(maps, environment)


class _Reference(Base, frozen=True):
    name: str
    kind: str = "Secret"
    namespace: str = ""


class _Tls(Base, frozen=True):
    certificate_refs: tuple[_Reference, ...] = ()


class _Listener(Base, frozen=True):
    tls: _Tls = _Tls()


class _GatewaySpec(Base, frozen=True):
    listeners: tuple[_Listener, ...] = ()


class _Gateway(Base, frozen=True):
    metadata: Metadata
    spec: _GatewaySpec = _GatewaySpec()


def stand_ins(api: Api) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """An invented Secret for each that a Gateway of the Gateway API names: istiod makes no listener
    without one, and the real ones are nobody's to read."""
    gateways = api.objects(
        Kind("", "gateway.networking.k8s.io", "v1", "gateways", _Gateway, optional=True)
    )
    named = {
        (reference.namespace or gateway.metadata.namespace, reference.name)
        for gateway in gateways
        for listener in gateway.spec.listeners
        for reference in listener.tls.certificate_refs
        if reference.kind == "Secret"
    }
    if not named:
        return {}
    certificate, key = (base64.b64encode(pem).decode() for pem in _self_signed())
    return {
        ("", "secrets", namespace, name): {
            "metadata": {"namespace": namespace, "name": name},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": certificate, "tls.key": key},
        }
        for namespace, name in named
    }


def _self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


class Running(msgspec.Struct, frozen=True):
    """The target's istiod while it runs."""

    version: str
    discovery: str
    facade: Facade
    debug: httpx.Client

    def review(self, body: bytes) -> bytes:
        """Its answer to an AdmissionReview of a pod; raises Unreadable."""
        try:
            headers = {"Content-Type": "application/json"}
            answer = self.debug.post("/inject", content=body, headers=headers)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ReadError(f"the target's injector does not answer: {error}", "") from error
        return answer.content

    def config_dump(self, proxy: str) -> Any:
        """What it says that it gives a proxy that is connected; raises Unreadable."""
        try:
            answer = self.debug.get("/debug/config_dump", params={"proxyID": proxy})
            answer.raise_for_status()
            return msgspec.json.decode(answer.content)
        except (httpx.HTTPError, ValueError) as error:
            raise ReadError(f"the target's istiod does not tell {proxy}: {error}", "") from error


@contextmanager
def running(
    program: str,
    target: Rendered,
    api: Api,
    *,
    istio_namespace: str,
    timeout: float,
    memory: int = 0,
    hidden: frozenset[tuple[str, str, str, str]] = frozenset(),
) -> Iterator[Running]:
    """Has the target's istiod up while the block runs, and ends it.

    Raises Unreadable, also where it ended by itself meanwhile.

    Args:
        hidden: objects of the cluster that it is not to see.
        timeout: seconds within which it must be ready.
        memory: MiB that it may use, 0 for all there is.
    """
    shown = target.maps | stand_ins(api)
    facade = Facade(api, Changed(shown, hidden))
    with (
        facade.serving(),
        tempfile.TemporaryDirectory(prefix="meshgate-") as home,
        httpx.Client(trust_env=False, timeout=timeout) as client,
    ):
        kubeconfig = Path(home, "kubeconfig")
        kubeconfig.write_text(facade.kubeconfig())
        kubeconfig.chmod(0o600)
        http, discovery, monitoring = _free_ports(3)
        command = [
            *(program, "discovery", "--kubeconfig", str(kubeconfig), "-n", istio_namespace),
            *("--httpAddr", f"127.0.0.1:{http}", "--grpcAddr", f"127.0.0.1:{discovery}"),
            *("--monitoringAddr", f"127.0.0.1:{monitoring}", "--secureGRPCAddr", ""),
            *("--httpsAddr", "", "--ctrlz_port", "0", "--log_output_level", "default:warn"),
        ]
        log = Path(home, "log")
        environment = _environment(target.environment, istio_namespace, home)
        if memory:
            # it collects its garbage well before it meets the limit
            environment["GOMEMLIMIT"] = f"{memory * 3 // 4}MiB"
        if not os.access(program, os.X_OK):
            raise ReadError(f"there is no program {program}", "name the target's with --istiod")
        with _process(guarded(command, memory), environment, home, log) as process:
            client.base_url = httpx.URL(f"http://127.0.0.1:{http}")
            _await_ready(process, client, facade, log, timeout)
            version = client.get(f"http://127.0.0.1:{monitoring}/version").text
            match = re.search(r"\d+\.\d+\.\d+", version)
            yield Running(
                match[0] if match else version.strip(), f"127.0.0.1:{discovery}", facade, client
            )
            if process.poll() is not None:
                raise _ended(process, log)


def _environment(rendered: Mapping[str, str], namespace: str, home: str) -> dict[str, str]:
    given = {"REVISION": "default", "CLUSTER_ID": "Kubernetes", **rendered}
    return given | _QUIET | {"POD_NAMESPACE": namespace, "HOME": home, "PATH": ""}


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], home: str, log: Path
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
        raise ReadError(f"cannot run the target's istiod: {error}", "check --istiod") from error
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
    limit: float,
) -> None:
    end = time.monotonic() + limit
    while True:
        with suppress(httpx.HTTPError):
            if client.get("/ready", timeout=1).status_code == 200:
                return
        if facade.unserved:
            raise ReadError(
                f"the read-only view does not serve {facade.unserved[0]}, which the target's "
                "istiod requests",
                "report this with the target's version",
            )
        if facade.denied:
            raise ReadError(
                f"no right to {', '.join(facade.denied)}, which the target's istiod needs",
                "grant it (`meshgate rbac` prints all that is needed)",
            )
        if process.poll() is not None:
            raise _ended(process, log)
        if time.monotonic() > end:
            raise ReadError(
                f"the target's istiod was not ready within {limit:g} s: {_last(log)}",
                "give it more time (--ready-timeout; of a gate --shadow-timeout)",
            )
        time.sleep(0.1)


def _ended(process: "subprocess.Popen[bytes]", log: Path) -> ReadError:
    # its own word, or that of the kernel, which says nothing
    words = log.read_text(errors="replace")
    starved = re.search(r"fatal error: runtime: (?:out of|cannot allocate) memory", words)
    if starved or process.returncode == -signal.SIGKILL:
        remedy = "give it more (--memory; of a gate --shadow-memory)"
        return ReadError("the target's istiod ran out of the memory that it may use", remedy)
    return ReadError(
        f"the target's istiod ended with {process.returncode}: {_last(log)}",
        "are the manifests of the same version as the program?",
    )


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if "\terror\t" in line or line.startswith("Error")] or lines
    return told[-1][:300] if told else "it said nothing"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
