"""Kubernetes Ingress objects and their classes, as far as istiod uses them."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata


class BackendPort(Base, frozen=True):
    """A Service's port, by number or by name."""

    number: int = 0
    name: str = ""


class BackendService(Base, frozen=True):
    name: str
    port: BackendPort = BackendPort()


class IngressBackend(Base, frozen=True):
    service: BackendService | None = None


class IngressPath(Base, frozen=True):
    path: str = ""
    path_type: str = ""
    backend: IngressBackend = IngressBackend()


class IngressPaths(Base, frozen=True):
    paths: tuple[IngressPath, ...] = ()


class IngressRule(Base, frozen=True):
    host: str = ""
    http: IngressPaths | None = None


class IngressTls(Base, frozen=True):
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(Base, frozen=True):
    ingress_class_name: str = ""
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTls, ...] = ()
    default_backend: IngressBackend | None = None


class Ingress(Base, frozen=True):
    """A Kubernetes Ingress; the traffic of stage C is `snapshot.ingress.Ingress`."""

    metadata: Metadata
    spec: IngressSpec = IngressSpec()


class IngressClassSpec(Base, frozen=True):
    controller: str = ""


class IngressClass(Base, frozen=True):
    metadata: Metadata
    spec: IngressClassSpec = IngressClassSpec()
