"""What probes saw on the wire."""

from datetime import datetime

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Container


class Certificate(Base, frozen=True):
    """The public facts of one certificate; `problem` says why it cannot be read."""

    subject: str
    not_before: datetime
    not_after: datetime
    sans: tuple[str, ...] = ()
    problem: str = ""


class Handshake(Base, frozen=True):
    """One TLS handshake with an endpoint of a webhook's service, as the API server makes it.

    `bundle` is the fingerprint of the caBundle that it was verified against.  `error` says why the
    endpoint did not answer; `distrust` that it answered, and why what it served is not trusted.
    """

    pod: str
    server_name: str
    bundle: str
    served: Certificate | None = None
    error: str = ""
    distrust: str = ""


class Review(Base, frozen=True):
    """One AdmissionReview that was posted to a webhook's path, and what came back.

    `sample` says what was asked about: `pod`, or a `valid` or `invalid` Istio resource; `labels`
    are those of that pod.  `message` is the webhook's own; `containers` are those that its patch
    would add.
    """

    pod: str
    server_name: str
    bundle: str
    path: str
    sample: str
    namespace: str = ""
    allowed: bool = False
    message: str = ""
    containers: tuple[Container, ...] = ()
    error: str = ""
    labels: dict[str, str] = {}


class Admission(Base, frozen=True):
    """What istiod's webhooks answered; nothing was created to learn it."""

    handshakes: tuple[Handshake, ...] = ()
    reviews: tuple[Review, ...] = ()


class Signature(Base, frozen=True):
    """What the CA of one replica made of a signing request.

    `chain` is the leaf and what was sent with it.  `error` says that there was no answer, `denied`
    that we were refused, `message` that the CA failed, `distrust` why the chain is not good.
    """

    pod: str
    chain: tuple[Certificate, ...] = ()
    error: str = ""
    denied: str = ""
    message: str = ""
    distrust: str = ""


class Signing(Base, frozen=True):
    """Who asked the CA to be signed (`system:serviceaccount:…`), or why it was not asked."""

    identity: str = ""
    skipped_reason: str = ""
    signatures: tuple[Signature, ...] = ()
