"""istiod as certificate authority: what it signs, and what the workloads trust."""

from collections.abc import Iterator
from datetime import timedelta

from meshgate.facts.evidence import Evidence
from meshgate.semantics.certificates import described, fingerprint, parse, remaining
from meshgate.semantics.webhooks import injection_enabled
from meshgate.snapshot.wire import Certificate, Signature
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# What must remain of a root's or an intermediate's own lifetime: below, it warns, and fails.
SOON, TOO_LATE = 0.20, 0.05

# What a proxy needs at the least, to renew at leisure.
SHORTEST = timedelta(minutes=10)

CONFIG_MAP = "istio-ca-root-cert"


class Authority:
    """The mesh's CA."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def _namespace(self) -> str:
        return self._evidence.expectations.istio_namespace

    @property
    def unsigned(self) -> list[Finding]:
        """Replicas that did not sign our request as a proxy needs it."""
        signing = self._evidence.signing
        if signing.skipped_reason:
            raise NotApplicable(signing.skipped_reason)
        if not signing.signatures:
            raise CouldNotVerify("no istiod runs that could sign", transient=True)
        for each in signing.signatures:
            if each.denied:
                raise CouldNotVerify(
                    f"Pod {self._namespace}/{each.pod} does not sign for us: {each.denied}",
                    "it must be a valid ServiceAccount token of audience istio-ca",
                )
        return [
            finding
            for each in signing.signatures
            for finding in self._unsigned(each, signing.identity)
        ]

    def _unsigned(self, signature: Signature, identity: str) -> Iterator[Finding]:
        subject = f"Pod {self._namespace}/{signature.pod}"
        logs = f"kubectl -n {self._namespace} logs {signature.pod}"
        if signature.error or signature.message:
            yield Finding(
                subject,
                "does not sign certificates: " + (signature.error or signature.message),
                "a signed certificate",
                logs,
                transient=bool(signature.error),
            )
            return
        if signature.distrust:
            yield Finding(
                subject,
                f"signs what workloads do not trust: {signature.distrust}",
                f"a chain that leads to the root in {CONFIG_MAP}",
                f"compare the CA that istiod uses with the ConfigMap {CONFIG_MAP}",
                transient=True,  # a new root reaches the ConfigMaps a moment later
            )
            return
        if not signature.chain:
            yield Finding(subject, "sent no certificate", "a signed certificate", logs)
            return
        leaf, *issuers = signature.chain
        _, _, namespace, account = identity.split(":")
        wanted = f"/ns/{namespace}/sa/{account}"
        if len(leaf.sans) != 1 or not (
            leaf.sans[0].startswith("spiffe://") and leaf.sans[0].endswith(wanted)
        ):
            yield Finding(
                subject,
                f"signed for {', '.join(leaf.sans) or 'nobody'}",
                f"spiffe://…{wanted}",
                logs,
            )
        ends = min((each.not_after for each in issuers), default=leaf.not_after)
        lifetime = leaf.not_after - leaf.not_before
        if leaf.not_after > ends:
            yield Finding(
                subject,
                f"signs until {leaf.not_after:%Y-%m-%d %H:%M}, its issuer ends on "
                f"{ends:%Y-%m-%d %H:%M}",
                "an issuer that outlives what it signs",
                "renew the issuing CA",
            )
        elif lifetime < SHORTEST:
            yield Finding(
                subject,
                f"signs for no longer than {lifetime}",
                f"at least {SHORTEST}, so that a proxy can renew in time",
                "look at istiod's MAX_WORKLOAD_CERT_TTL",
            )

    # --- what is trusted ------------------------------------------------------------------------

    @property
    def split_trust(self) -> list[Finding]:
        """Namespaces whose workloads trust another root than istiod's own namespace, or none."""
        roots = {
            each.metadata.namespace: each.data.pem for each in self._evidence.root_certificates
        }
        reference = roots.get(self._namespace, "")
        if not parse(reference):
            return [
                Finding(
                    f"ConfigMap {self._namespace}/{CONFIG_MAP}",
                    "holds no certificate" if self._namespace in roots else "does not exist",
                    "the mesh's root",
                    "istiod writes it: look at its log",
                    transient=True,
                )
            ]
        wanted = fingerprint(reference.encode())
        return [
            Finding(
                f"ConfigMap {namespace}/{CONFIG_MAP}",
                "does not exist: no proxy can start there"
                if namespace not in roots
                else "holds other roots than istiod's own namespace: its workloads trust others",
                f"the roots of {self._namespace}/{CONFIG_MAP}",
                "istiod writes it: look at its log, and that nobody else does; delete it and it "
                "comes back",
                transient=True,
            )
            for namespace in self._concerned
            if fingerprint(roots.get(namespace, "").encode()) != wanted
        ]

    @property
    def _concerned(self) -> list[str]:
        """Namespaces that ask for sidecars, or that hold a proxy."""
        asking = {each.metadata.name for each in injection_enabled(self._evidence.namespaces)}
        holding = {
            pod.metadata.namespace
            for pod in self._evidence.pods
            if pod.metadata.annotations.revision and pod.metadata.deletion_timestamp is None
        }
        return sorted(asking | holding)

    @property
    def expiring(self) -> list[Finding]:
        """Roots and intermediates that end before anybody would notice."""
        return [finding for share, finding in self._ageing if share < TOO_LATE]

    @property
    def ageing(self) -> list[Finding]:
        """Roots and intermediates that it is time to replace."""
        return [finding for share, finding in self._ageing if share >= TOO_LATE]

    @property
    def _ageing(self) -> Iterator[tuple[float, Finding]]:
        taken = self._evidence.snapshot.taken
        for subject, certificate in self._issuers():
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
                            else f"ended on {certificate.not_after:%Y-%m-%d}"
                            if left < 0
                            else f"ends on {certificate.not_after:%Y-%m-%d}, in {left} days: "
                            f"{share:.0%} of its lifetime is left"
                        ),
                        f"at least {SOON:.0%}",
                        "plan the rotation of the root: every workload must trust the new one "
                        "before the old one ends",
                    ),
                )

    def _issuers(self) -> Iterator[tuple[str, Certificate]]:
        for each in self._evidence.root_certificates:
            if each.metadata.namespace == self._namespace:
                for root in parse(each.data.pem):
                    yield f"ConfigMap {self._namespace}/{CONFIG_MAP}", described(root)
        for signature in self._evidence.signing.signatures:
            for issuer in signature.chain[1:]:
                yield f"Pod {self._namespace}/{signature.pod}", issuer
