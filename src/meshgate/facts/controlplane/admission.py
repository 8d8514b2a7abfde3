"""Admission: Istio's webhooks, what they inject, and what they validate."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics.versions import Version
from meshgate.semantics.webhooks import OPT_IN_LABELS, SAMPLE_LABELS, Backend, Hook, Webhooks
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.kubernetes import Namespace
from meshgate.snapshot.wire import Handshake, Review
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class AdmissionControl:
    """Istio's webhooks: their configuration, compared with what istiod serves."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)

    @cached_property
    def webhooks(self) -> Webhooks:
        """The webhooks of this mesh."""
        return Webhooks(
            self._evidence.mutating_webhooks,
            self._evidence.validating_webhooks,
            self._evidence.services,
            self._evidence.endpoint_slices,
            self._evidence.own_mesh,
        )

    # --- configuration --------------------------------------------------------------------------

    @property
    def broken_webhooks(self) -> list[Finding]:
        """Webhooks that the API server cannot call, or that let everything through."""
        if not self.webhooks.all:
            return [
                Finding(
                    f"Namespace {self._control_plane.namespace}",
                    "its istiod has no webhook configuration",
                    "a mutating and a validating webhook",
                    "install istiod's chart with its webhooks",
                    problem="no-webhook",
                )
            ]
        # the webhooks of one configuration usually share a problem: it is reported once
        return list(
            dict.fromkeys(each for hook in self.webhooks.all for each in self._broken(hook))
        )

    def _broken(self, hook: Hook) -> Iterator[Finding]:
        if hook.webhook.failure_policy != "Fail":
            yield Finding(
                hook.subject,
                f"has failurePolicy {hook.webhook.failure_policy}: it admits everything while "
                "istiod does not answer",
                "failurePolicy Fail",
                "istiod sets the validator's policy when it works: see istiod's log, and check "
                "that no sync resets it",
                # istiod changes the validator's policy itself when it has seen that it works
                transient=hook in self.webhooks.validators,
                problem="failure-policy",
            )
        if reason := self._unreachable(hook):
            yield reason
            return
        if not hook.webhook.client_config.ca_bundle:
            yield Finding(
                hook.subject,
                "has no caBundle: the API server cannot verify istiod's certificate",
                "the root of istiod's certificate",
                "see istiod's log (istiod writes the caBundle), and check that no sync removes it",
                transient=True,
                problem="no-ca-bundle",
            )
            return
        for backend in self.webhooks.backends(hook):
            yield from _distrusted(hook, self._handshake(hook, backend))

    def _unreachable(self, hook: Hook) -> Finding | None:
        service = hook.service
        if service is None:
            raise CouldNotVerify(
                f"{hook.subject} calls the URL {hook.webhook.client_config.url or '(none)'}",
                "meshgate can only verify webhooks that are called through a Service",
            )
        name = f"Service {service.namespace}/{service.name}"
        found = self.webhooks.service_of(hook)
        if found is None:
            kind, _, configuration = hook.subject.partition(" ")
            return Finding(
                hook.subject,
                f"calls {name}, which does not exist",
                "istiod's Service",
                f"if revision {hook.revision} was removed: "
                f"kubectl delete {kind.lower()}/{configuration}",
                problem="no-service",
                about=(("service", f"{service.namespace}/{service.name}"),),
            )
        if service.port not in {port.port for port in found.spec.ports}:
            return Finding(
                hook.subject,
                f"calls port {service.port} of {name}, which that Service does not expose",
                "istiod's port 443",
                problem="no-port",
                about=(("port", str(service.port)),),
            )
        if not self.webhooks.backends(hook):
            return Finding(
                hook.subject,
                f"{name} has no ready endpoint",
                "a ready istiod",
                f"kubectl -n {service.namespace} get endpointslices,pods -l app=istiod",
                transient=True,
                problem="no-endpoint",
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
            f"{backend.pod} was not called for {hook.subject}", "run meshgate again", transient=True
        )

    # --- injection ------------------------------------------------------------------------------

    @property
    def uninjected(self) -> list[Finding]:
        """Namespaces and pods that enable injection but would not get exactly one sidecar."""
        return [
            finding for each, labels in self.samples for finding in self._uninjected(each, labels)
        ]

    @cached_property
    def samples(self) -> list[tuple[Namespace, Mapping[str, str]]]:
        """The namespaces and labels of sample pods; raises NotApplicable if there are none."""
        namespaces = self._evidence.namespaces
        samples: list[tuple[Namespace, Mapping[str, str]]] = [
            (each, SAMPLE_LABELS)
            for each in self.webhooks.injection_enabled(namespaces)
            # istiod serves no namespace that its discoverySelectors leave out
            if self._evidence.own_mesh.discovers(each)
        ]
        samples += self.webhooks.opted_in(namespaces, self._evidence.pods)
        if not samples:
            raise NotApplicable("no namespace and no pod enables injection")
        return samples

    def _uninjected(self, namespace: Namespace, labels: Mapping[str, str]) -> Iterator[Finding]:
        subject = f"Namespace {namespace.metadata.name}"
        choice = _choice(labels) or _choice(namespace.metadata.labels)
        about = (("labels", choice),)
        hooks = self.webhooks.selecting(namespace, labels)
        if len(hooks) != 1:
            names = sorted(hook.subject.split()[-1] for hook in hooks)
            known = sorted({hook.tag or hook.revision for hook in self.webhooks.injectors})
            yield Finding(
                subject,
                f"{choice}: "
                + (
                    f"{len(hooks)} webhooks inject the same pod: {' and '.join(names)}"
                    if hooks
                    else "no webhook selects its pods, so that they get no sidecar"
                ),
                "exactly one webhook",
                "correct the label or the webhook's selectors; existing revisions and tags: "
                + (", ".join(known) or "(none)"),
                problem="several-webhooks" if hooks else "no-webhook",
                about=about,
            )
        for hook in hooks:
            yield from self._answers(namespace, hook, labels, about)

    def _answers(
        self,
        namespace: Namespace,
        hook: Hook,
        labels: Mapping[str, str],
        about: tuple[tuple[str, str], ...],
    ) -> Iterator[Finding]:
        subject = f"Namespace {namespace.metadata.name}"
        reviews = self._reviews(hook, namespace.metadata.name, "pod", labels)
        if not reviews and labels != SAMPLE_LABELS and self.webhooks.backends(hook):
            raise CouldNotVerify(
                f"the injector was not called for pods with {_choice(labels)} in {subject}",
                "run meshgate again: this snapshot is of an older version",
            )
        if not reviews:
            yield Finding(
                subject,
                f"no pod can be created: {hook.subject} cannot be called",
                "an answer of the injector",
                f"correct {hook.subject} first (see CP007)",
                transient=True,
                problem="no-answer",
                about=about,
            )
        for review in reviews:
            if reason := self._not_injected(review):
                problem, what, transient = reason
                yield Finding(
                    subject,
                    f"a sample pod {what} (answer of {review.pod})",
                    "one sidecar of istiod's version",
                    f"kubectl -n {self._control_plane.namespace} logs {review.pod}",
                    transient=transient,
                    problem=problem,
                    about=about,
                )

    def _not_injected(self, review: Review) -> tuple[str, str, bool] | None:
        """Return the problem, what is wrong in words, and whether time alone may resolve it."""
        if review.error:
            return "no-answer", f"got no answer: {review.error}", True
        if not review.allowed:
            return "refused", f"is refused: {review.message or 'without a reason'}", False
        proxies = [each for each in review.containers if each.name == PROXY]
        if not proxies:
            return "no-sidecar", f"gets no {PROXY} container", False
        reading = self._control_plane.readings.get(review.pod)
        expected = Version.parse(reading.version) if reading else None
        injected = Version.of_image(proxies[0].image)
        if injected and expected and injected != expected:
            return (
                "wrong-version",
                f"gets the proxy {proxies[0].image}, but istiod is {expected}",
                False,
            )
        return None

    def _reviews(
        self, hook: Hook, namespace: str, sample: str, labels: Mapping[str, str] = SAMPLE_LABELS
    ) -> list[Review]:
        choice = _choice(labels)
        key = (hook.server_name, hook.bundle, hook.path, namespace, sample, choice)
        return self._answered.get(key, [])

    @cached_property
    def _answered(self) -> dict[tuple[str, ...], list[Review]]:
        """What istiod's replicas answered, by the question."""
        found: defaultdict[tuple[str, ...], list[Review]] = defaultdict(list)
        for each in self._evidence.admission.reviews:
            found[
                each.server_name,
                each.bundle,
                each.path,
                each.namespace,
                each.sample,
                _choice(each.labels),
            ].append(each)
        return found

    # --- validation -----------------------------------------------------------------------------

    @property
    def unvalidated(self) -> list[Finding]:
        """Validators that admit an invalid resource, or refuse a valid one."""
        if not self.webhooks.validators:
            return [
                Finding(
                    f"Namespace {self._control_plane.namespace}",
                    "its istiod has no ValidatingWebhookConfiguration",
                    "one that refuses invalid resources",
                    "set global.configValidation=true in the values of istiod's chart",
                    problem="no-webhook",
                )
            ]
        return [finding for hook in self.webhooks.validators for finding in self._unvalidated(hook)]

    def _unvalidated(self, hook: Hook) -> Iterator[Finding]:
        reviews = [*self._reviews(hook, "", "valid", {}), *self._reviews(hook, "", "invalid", {})]
        if not reviews:
            yield Finding(
                hook.subject,
                "cannot be called: the resources that it selects cannot be created or changed",
                "an answer",
                f"correct {hook.subject} first (see CP007)",
                transient=True,
                problem="no-answer",
            )
        for review in reviews:
            if review.error:
                problem, seen = "no-answer", f"does not answer at {review.path}: {review.error}"
            elif review.sample == "valid" and not review.allowed:
                problem = "refuses-valid"
                seen = f"refuses a valid Gateway: {review.message or 'without a reason'}"
            elif review.sample == "invalid" and review.allowed:
                problem = "admits-invalid"
                seen = "admits a Gateway that no proxy can use (a server without hosts)"
            else:
                continue
            yield Finding(
                hook.subject,
                f"{seen} (answer of {review.pod})",
                "valid resources admitted, invalid ones refused",
                "compare its clientConfig and rules with istiod's chart",
                transient=bool(review.error),
                problem=problem,
            )


def _distrusted(hook: Hook, seen: Handshake) -> Iterator[Finding]:
    """Report an endpoint that did not answer, or whose certificate is not trusted."""
    if seen.error:
        yield Finding(
            hook.subject,
            f"Pod {hook.service.namespace if hook.service else ''}/{seen.pod}, which serves "
            f"it, does not answer: {seen.error}",
            "a TLS handshake",
            "check the NetworkPolicies and firewalls between the API server and istiod's port "
            "15017",
            transient=True,
            problem="no-answer",
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
            f"its caBundle does not verify the certificate of {seen.pod} for "
            f"{seen.server_name}: {seen.distrust}{what}",
            "a chain that the API server trusts",
            "see istiod's log (istiod writes the caBundle), and check that no sync resets it",
            transient=True,
            problem="untrusted-certificate",
        )


def _choice(labels: Mapping[str, str]) -> str:
    """Return the labels that choose an injector, in words."""
    return ", ".join(
        f"{key}={labels[key]}" for key in ("istio-injection", *OPT_IN_LABELS) if key in labels
    )
