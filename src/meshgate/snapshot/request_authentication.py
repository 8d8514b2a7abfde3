"""Istio's RequestAuthentication, as far as facts use it."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.istio import PeerSelector, TargetRef
from meshgate.snapshot.kubernetes import Metadata


class JwtRule(Base, frozen=True):
    jwks_uri: str = ""


class RequestAuthenticationSpec(Base, frozen=True):
    selector: PeerSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    jwt_rules: tuple[JwtRule, ...] = ()


class RequestAuthentication(Base, frozen=True):
    metadata: Metadata
    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
