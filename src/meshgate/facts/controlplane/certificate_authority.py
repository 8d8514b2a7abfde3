"""istiod as certificate authority: what it signs, and what workloads trust."""

from collections.abc import Iterator
from datetime import timedelta

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.certificates import described, fingerprint, parse, remaining
from meshgate.semantics.webhooks import Webhooks
from meshgate.settings import flag
from meshgate.snapshot.model import EXTERNAL_CA, ISTIOD
from meshgate.snapshot.wire import Certificate, Signature
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# Below these shares of its lifetime a root or intermediate is a warning, and a failure.
SOON, TOO_LATE = 0.20, 0.05

# The shortest lifetime in which a proxy can renew its certificate.
SHORTEST = timedelta(minutes=10)

CONFIG_MAP = "istio-ca-root-cert"

# What gRPC answers where istiod serves no CA.
NO_CA = "UNIMPLEMENTED"


class Authority:
    """The mesh's CA."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def _namespace(self) -> str:
        return self._evidence.expectations.istio_namespace

    @property
    def signatures(self) -> int:
        """How many replicas were asked to sign."""
        return len(self._evidence.signing.signatures)

    @property
    def unsigned(self) -> list[Finding]:
        """Replicas that did not sign our request as a proxy needs it signed."""
        signing = self._evidence.signing
        if signing.skipped_reason:
            raise NotApplicable(signing.skipped_reason)
        if not signing.signatures and ISTIOD in self._evidence.expectations.accepted_unverified:
            raise NotApplicable(
                "no istiod runs in this cluster; its external control plane was accepted without "
                f"verification ({flag('criteria.accept_unverified', ISTIOD)})"
            )
        if not signing.signatures:
            raise CouldNotVerify(
                "no istiod pod is running that could sign",
                f"kubectl -n {self._namespace} get pods -l app=istiod",
                transient=True,
            )
        self._need_own_ca(signing.signatures)
        for each in signing.signatures:
            if each.denied:
                raise CouldNotVerify(
                    f"Pod {self._namespace}/{each.pod} does not accept our token: {each.denied}",
                    "mount a ServiceAccount token of audience istio-ca",
                )
        return [
            finding
            for each in signing.signatures
            for finding in self._unsigned(each, signing.identity)
        ]

    def _need_own_ca(self, signatures: tuple[Signature, ...]) -> None:
        """Raise unless a replica has a CA: with an external one istiod has none.

        istio-csr, SPIRE and others replace it (ENABLE_CA_SERVER=false): what they sign is not
        verified here, and must be accepted explicitly.
        """
        if not all(each.message.startswith(NO_CA) for each in signatures):
            return
        if EXTERNAL_CA in self._evidence.expectations.accepted_unverified:
            raise NotApplicable(
                "istiod's CA is disabled; the external CA was accepted without verification "
                f"({flag('criteria.accept_unverified', EXTERNAL_CA)})"
            )
        raise CouldNotVerify(
            "istiod's CA is disabled (ENABLE_CA_SERVER=false), and meshgate cannot verify an "
            "external CA such as istio-csr or SPIRE",
            "verify that CA by its own means, then pass "
            f"{flag('criteria.accept_unverified', EXTERNAL_CA)}; without an "
            "external CA remove ENABLE_CA_SERVER=false from istiod",
        )

    def _unsigned(self, signature: Signature, identity: str) -> Iterator[Finding]:
        owner = self._owner(signature)
        subject = f"Pod {self._namespace}/{signature.pod}"
        logs = f"kubectl -n {self._namespace} logs {signature.pod}"
        if signature.error or signature.message:
            yield Finding(
                subject,
                "does not sign certificates: " + (signature.error or signature.message),
                "a signed certificate",
                logs,
                transient=bool(signature.error),
                problem="not-signed",
                owner=owner,
            )
            return
        if signature.distrust:
            yield Finding(
                subject,
                f"signs certificates that workloads do not trust: {signature.distrust}",
                f"a chain to the root in ConfigMap {CONFIG_MAP}",
                f"compare istiod's CA with ConfigMap {self._namespace}/{CONFIG_MAP}",
                transient=True,  # a new root reaches the ConfigMaps a moment later
                problem="untrusted-chain",
                owner=owner,
            )
            return
        if not signature.chain:
            yield Finding(
                subject,
                "sent no certificate",
                "a signed certificate",
                logs,
                problem="no-certificate",
                owner=owner,
            )
            return
        leaf, *issuers = signature.chain
        _, _, namespace, account = identity.split(":")
        wanted = f"/ns/{namespace}/sa/{account}"
        if len(leaf.sans) != 1 or not (
            leaf.sans[0].startswith("spiffe://") and leaf.sans[0].endswith(wanted)
        ):
            yield Finding(
                subject,
                f"signed a certificate for {', '.join(leaf.sans) or 'no identity'}",
                f"spiffe://TRUST_DOMAIN{wanted}",
                logs,
                problem="wrong-identity",
                owner=owner,
            )
        ends = min((each.not_after for each in issuers), default=leaf.not_after)
        lifetime = leaf.not_after - leaf.not_before
        if leaf.not_after > ends:
            yield Finding(
                subject,
                f"signs certificates until {leaf.not_after:%Y-%m-%d %H:%M}, but their issuer "
                f"expires on {ends:%Y-%m-%d %H:%M}",
                "an issuer that expires after what it signs",
                "renew the issuing CA",
                problem="issuer-expires-first",
                owner=owner,
            )
        elif lifetime < SHORTEST:
            yield Finding(
                subject,
                f"signs certificates for only {lifetime}",
                f"at least {SHORTEST}, so that a proxy can renew in time",
                "raise MAX_WORKLOAD_CERT_TTL on istiod",
                problem="short-lifetime",
                owner=owner,
            )

    def _owner(self, signature: Signature) -> str:
        """Return the Deployment of the replica that signed."""
        for pod in self._evidence.pods:
            if (pod.metadata.namespace, pod.metadata.name) == (self._namespace, signature.pod):
                return workloads.owner(pod)
        return ""

    # --- trust ------------------------------------------------------------------------

    @property
    def split_trust(self) -> list[Finding]:
        """Namespaces whose workloads trust other roots than istiod's own namespace, or none."""
        roots = {
            each.metadata.namespace: each.data.pem for each in self._evidence.root_certificates
        }
        reference = roots.get(self._namespace, "")
        istiod_writes_it = f"kubectl -n {self._namespace} logs -l app=istiod (istiod writes it)"
        if not parse(reference):
            return [
                Finding(
                    f"ConfigMap {self._namespace}/{CONFIG_MAP}",
                    "contains no certificate" if self._namespace in roots else "does not exist",
                    "the mesh's root",
                    istiod_writes_it,
                    transient=True,
                    problem="no-root",
                )
            ]
        wanted = fingerprint(reference.encode())
        return [
            Finding(
                f"ConfigMap {namespace}/{CONFIG_MAP}",
                "does not exist: no proxy can start in this namespace"
                if namespace not in roots
                else f"contains other roots than {self._namespace}/{CONFIG_MAP}",
                f"the roots of {self._namespace}/{CONFIG_MAP}",
                istiod_writes_it
                if namespace not in roots
                else f"kubectl -n {namespace} delete configmap/{CONFIG_MAP} (istiod creates it "
                "again; make sure that nothing else writes it)",
                transient=True,
                problem="no-root" if namespace not in roots else "other-roots",
            )
            for namespace in self.namespaces
            if fingerprint(roots.get(namespace, "").encode()) != wanted
        ]

    @property
    def namespaces(self) -> list[str]:
        """Namespaces of this mesh that enable injection, or that contain a proxy.

        istiod writes no ConfigMap where discoverySelectors leave a namespace out.
        """
        own = self._evidence.own_mesh
        webhooks = Webhooks(self._evidence.mutating_webhooks, (), (), (), own)
        enabled = webhooks.injection_enabled(self._evidence.namespaces)
        return sorted(
            {each.metadata.name for each in enabled if own.discovers(each)}
            | {
                pod.metadata.namespace
                for pod in self._evidence.pods
                if pod.metadata.annotations.revision
                and pod.metadata.deletion_timestamp is None
                and not own.is_foreign(pod)
            }
        )

    @property
    def issuers(self) -> int:
        """How many roots and intermediates were looked at."""
        return len(list(self._issuers()))

    @property
    def expiring(self) -> list[Finding]:
        """Roots and intermediates that expire too soon to be replaced in time."""
        return [finding for share, finding in self._expiry if share < TOO_LATE]

    @property
    def ageing(self) -> list[Finding]:
        """Roots and intermediates that should be replaced."""
        return [finding for share, finding in self._expiry if share >= TOO_LATE]

    @property
    def _expiry(self) -> Iterator[tuple[float, Finding]]:
        taken = self._evidence.snapshot.taken
        for subject, owner, certificate in self._issuers():
            share = remaining(certificate, taken)
            if share < SOON:
                left = (certificate.not_after - taken).days
                yield (
                    share,
                    Finding(
                        subject,
                        f"{certificate.subject or 'a certificate without a name'} "
                        + (
                            f"is not valid before {certificate.not_before:%Y-%m-%d}"
                            if taken < certificate.not_before
                            else f"expired on {certificate.not_after:%Y-%m-%d}"
                            if left < 0
                            else f"expires on {certificate.not_after:%Y-%m-%d}, in {left} days: "
                            f"{share:.0%} of its lifetime is left"
                        ),
                        f"at least {SOON:.0%}",
                        "plan the rotation of the root: every workload must trust the new root "
                        "before the old one expires",
                        problem="expiring",
                        owner=owner,
                        about=(
                            ("certificate", certificate.subject),
                            ("expires", f"{certificate.not_after:%Y-%m-%d}"),
                        ),
                    ),
                )

    def _issuers(self) -> Iterator[tuple[str, str, Certificate]]:
        """Each issuer with the object that contains it, and that object's owner."""
        for each in self._evidence.root_certificates:
            if each.metadata.namespace == self._namespace:
                for root in parse(each.data.pem):
                    yield f"ConfigMap {self._namespace}/{CONFIG_MAP}", "", described(root)
        for signature in self._evidence.signing.signatures:
            for issuer in signature.chain[1:]:
                yield f"Pod {self._namespace}/{signature.pod}", self._owner(signature), issuer
