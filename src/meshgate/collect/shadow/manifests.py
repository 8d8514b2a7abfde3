"""Read the target's rendered manifests, and replace the Secrets that istiod must not read."""

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from meshgate.collect.api import Api
from meshgate.collect.errors import ReadError
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.sources import Kind

# The group, resource, namespace and name of an object.
Key = tuple[str, str, str, str]


class Rendered(msgspec.Struct, frozen=True):
    """The parts of the target's manifests that affect configuration.

    Attributes:
        maps: istiod's ConfigMaps by key.
        environment: the environment variables of istiod's containers.
    """

    maps: dict[Key, dict[str, Any]]
    environment: dict[str, str]

    def mesh(self) -> dict[str, Any]:
        """Return the mesh config, with the names of the manifest (camelCase)."""
        for (*_, name), item in self.maps.items():
            if "sidecar-injector" not in name:
                return yaml.safe_load(item["data"].get("mesh", "")) or {}
        return {}


def rendered(file: Path) -> Rendered:
    """Return the relevant parts of what `helm template` or `istioctl manifest generate` prints.

    Raise ReadError if the file cannot be read or has no istiod with its ConfigMaps.
    """
    remedy = "render the target's chart with the Application's values: `helm template istiod …`"
    try:
        objects = [each for each in yaml.safe_load_all(file.read_text()) if each]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ReadError(f"cannot read the target's manifests: {error}", remedy) from error
    try:
        maps, environment = _relevant(objects)
    except (AttributeError, KeyError, TypeError) as error:
        raise ReadError(
            f"{file} contains something that is not a Kubernetes object: {error!r}", remedy
        ) from error
    if len(maps) < 2 or not environment:
        raise ReadError(
            f"{file} contains no istiod with its ConfigMaps istio and istio-sidecar-injector",
            remedy,
        )
    return Rendered(maps, environment)


def _relevant(objects: list[Any]) -> tuple[dict[Key, dict[str, Any]], dict[str, str]]:
    """Return istiod's ConfigMaps and its environment."""
    maps: dict[Key, dict[str, Any]] = {}
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
    return maps, environment


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


def placeholder_secrets(api: Api) -> dict[Key, dict[str, Any]]:
    """Return a Secret with a self-signed certificate for each that a Gateway (Gateway API) names.

    istiod creates no listener without one, and meshgate never reads real Secrets.  Raise ReadError
    if the Gateways cannot be read.
    """
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
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshgate-placeholder")])
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
