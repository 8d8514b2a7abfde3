"""Admission: are istiod's webhooks whole, do they inject, do they refuse what is invalid?"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics.versions import Version
from meshgate.semantics.webhooks import Backend, Hook, Webhooks, injection_enabled
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.kubernetes import Namespace
from meshgate.snapshot.wire import Handshake, Review
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class AdmissionControl:
    """Istio's webhooks: what is configured, held against what is served."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    @cached_property
    def webhooks(self) -> Webhooks:
        """All webhooks of Istio."""
        return Webhooks(
            self._evidence.mutating_webhooks,
            self._evidence.validating_webhooks,
            self._evidence.services,
            self._evidence.endpoint_slices,
        )

    # --- whole ----------------------------------------------------------------------------------

    @property
    def broken_webhooks(self) -> list[Finding]:
        """Webhooks that the API server cannot call, or that nobody has to answer."""
        if not self.webhooks.all:
            return [
                Finding(
                    "the mesh",
                    "has no webhook configuration of Istio",
                    "an injector and a validator",
                    "install istiod's chart, webhooks included",
                )
            ]
        # the webhooks of one configuration mostly share what is wrong: told once
        return list(
            dict.fromkeys(each for hook in self.webhooks.all for each in self._broken(hook))
        )

    def _broken(self, hook: Hook) -> Iterator[Finding]:
        if hook.webhook.failure_policy != "Fail":
            yield Finding(
                hook.subject,
                f"has the failurePolicy {hook.webhook.failure_policy}: while istiod does not "
                "answer, what it should check is let through",
                "Fail",
                "istiod sets its validator's once it answers; see what keeps it Ignore, and that "
                "no sync puts it back",
                # istiod flips the validator's itself when it has seen that it works
                transient=hook in self.webhooks.validators,
            )
        if reason := self._unreachable(hook):
            yield reason
            return
        if not hook.webhook.client_config.ca_bundle:
            yield Finding(
                hook.subject,
                "carries no caBundle: the API server can verify nobody by it",
                "the root that istiod's certificate leads to",
                "istiod writes it: look at its log, and that no sync empties it again",
                transient=True,
            )
            return
        for backend in self.webhooks.backends(hook):
            yield from self._distrusted(hook, self._handshake(hook, backend))

    def _unreachable(self, hook: Hook) -> Finding | None:
        service = hook.service
        if service is None:
            raise CouldNotVerify(
                f"{hook.subject} points to {hook.webhook.client_config.url or 'nowhere'}",
                "only webhooks that stand behind a Service can be verified yet",
            )
        name = f"Service {service.namespace}/{service.name}"
        found = self.webhooks.service_of(hook)
        if found is None:
            return Finding(
                hook.subject,
                f"points to {name}, which does not exist",
                "a Service of istiod",
                "remove the configuration of a revision that is gone, or install that revision",
            )
        if service.port not in {port.port for port in found.spec.ports}:
            return Finding(hook.subject, f"{name} has no port {service.port}", "istiod's port 443")
        if not self.webhooks.backends(hook):
            return Finding(
                hook.subject,
                f"{name} has no ready endpoint",
                "a ready istiod behind it",
                f"kubectl -n {service.namespace} get endpointslices,pods -l app=istiod",
                transient=True,
            )
        return None

    def _handshake(self, hook: Hook, backend: Backend) -> Handshake:
        for each in self._evidence.admission.handshakes:
            if (each.pod, each.server_name, each.bundle) == (
                backend.pod,
                hook.server_name,
                hook.bundle,
            ):
                return each
        raise CouldNotVerify(
            f"{backend.pod} was not called for {hook.subject}", "capture it again", transient=True
        )

    @staticmethod
    def _distrusted(hook: Hook, seen: Handshake) -> Iterator[Finding]:
        if seen.error:
            yield Finding(
                hook.subject,
                f"Pod {hook.service.namespace if hook.service else ''}/{seen.pod} behind it does "
                f"not answer: {seen.error}",
                "a TLS handshake",
                "look for a NetworkPolicy or firewall between the API server and istiod's port "
                "15017",
                transient=True,
            )
        elif seen.distrust:
            served = seen.served
            what = (
                f" (served: {', '.join(served.sans) or served.subject or 'no name'}, valid until "
                f"{served.not_after:%Y-%m-%d})"
                if served
                else ""
            )
            yield Finding(
                hook.subject,
                f"its caBundle does not verify what {seen.pod} serves as {seen.server_name}: "
                f"{seen.distrust}{what}",
                "a chain that the API server trusts",
                "istiod writes the caBundle: look at its log, and that no sync puts an old one "
                "back",
                transient=True,
            )

    # --- inject ---------------------------------------------------------------------------------

    @property
    def uninjected(self) -> list[Finding]:
        """Namespaces that ask for sidecars, and whose next pod would not get one, or not one."""
        namespaces = injection_enabled(self._evidence.namespaces)
        if not namespaces:
            raise NotApplicable("no namespace asks for sidecars")
        return [finding for each in namespaces for finding in self._uninjected(each)]

    def _uninjected(self, namespace: Namespace) -> Iterator[Finding]:
        subject = f"Namespace {namespace.metadata.name}"
        hooks = self.webhooks.selecting(namespace)
        if len(hooks) != 1:
            names = sorted(hook.subject.split()[-1] for hook in hooks)
            there = sorted({hook.tag or hook.revision for hook in self.webhooks.injectors})
            yield Finding(
                subject,
                f"{_asked(namespace)}: "
                + (
                    f"{len(hooks)} webhooks inject the same pod, {' and '.join(names)}"
                    if hooks
                    else "no webhook selects its pods, so they get no sidecar"
                ),
                "exactly one webhook",
                "correct the label or the selectors; there are the revisions and tags "
                + (", ".join(there) or "(none)"),
            )
        for hook in hooks:
            yield from self._answers(subject, namespace, hook)

    def _answers(self, subject: str, namespace: Namespace, hook: Hook) -> Iterator[Finding]:
        reviews = self._reviews(hook, namespace.metadata.name, "pod")
        if not reviews:
            yield Finding(
                subject,
                f"no pod can be created there: {hook.subject} cannot be called",
                "an answer",
                "mend that webhook first",
                transient=True,
            )
        for review in reviews:
            if reason := self._not_injected(review):
                what, transient = reason
                yield Finding(
                    subject,
                    f"a sample pod there {what}, says {review.pod}",
                    "one with a sidecar of istiod's version",
                    f"kubectl -n {self._control_plane.namespace} logs {review.pod}",
                    transient=transient,
                )

    def _not_injected(self, review: Review) -> tuple[str, bool] | None:
        if review.error:
            return f"got no answer ({review.error})", True
        if not review.allowed:
            return f"is refused: {review.message or 'without a reason'}", False
        proxies = [each for each in review.containers if each.name == PROXY]
        if not proxies:
            return f"gets no {PROXY} container", False
        reading = self._control_plane.readings.get(review.pod)
        expected = Version.parse(reading.version) if reading else None
        brings = Version.of_image(proxies[0].image)
        if brings and expected and brings != expected:
            return f"gets the proxy {proxies[0].image}, and istiod is {expected}", False
        return None

    def _reviews(self, hook: Hook, namespace: str, sample: str) -> list[Review]:
        return self._answered.get((hook.server_name, hook.bundle, hook.path, namespace, sample), [])

    @cached_property
    def _answered(self) -> dict[tuple[str, ...], list[Review]]:
        """What istiod's replicas answered, by what they were asked."""
        found: defaultdict[tuple[str, ...], list[Review]] = defaultdict(list)
        for each in self._evidence.admission.reviews:
            found[each.server_name, each.bundle, each.path, each.namespace, each.sample].append(
                each
            )
        return found

    # --- validate -------------------------------------------------------------------------------

    @property
    def unvalidated(self) -> list[Finding]:
        """Validators that let an invalid resource in, or keep a valid one out."""
        if not self.webhooks.validators:
            return [
                Finding(
                    "the mesh",
                    "has no ValidatingWebhookConfiguration of Istio",
                    "one that refuses invalid resources",
                    "install it with istiod's chart (global.configValidation)",
                )
            ]
        return [finding for hook in self.webhooks.validators for finding in self._unvalidated(hook)]

    def _unvalidated(self, hook: Hook) -> Iterator[Finding]:
        reviews = [*self._reviews(hook, "", "valid"), *self._reviews(hook, "", "invalid")]
        if not reviews:
            yield Finding(
                hook.subject,
                "cannot be called: what it selects can be neither created nor changed",
                "an answer",
                "mend that webhook first",
                transient=True,
            )
        for review in reviews:
            if review.error:
                seen = f"gives no answer at {review.path}: {review.error}"
            elif review.sample == "valid" and not review.allowed:
                seen = f"refuses a valid Gateway: {review.message or 'without a reason'}"
            elif review.sample == "invalid" and review.allowed:
                seen = "accepts a Gateway that no proxy can use (a server without hosts)"
            else:
                continue
            yield Finding(
                hook.subject,
                f"{seen}, says {review.pod}",
                "valid resources in, invalid ones out",
                "compare its clientConfig and rules with the chart's",
                transient=bool(review.error),
            )


def _asked(namespace: Namespace) -> str:
    labels = namespace.metadata.labels
    return ", ".join(
        f"{key}={labels[key]}" for key in ("istio-injection", "istio.io/rev") if key in labels
    )
