"""Who else wants what an upgrade is about to set: webhooks, revisions, tags, and their managers."""

from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics.webhooks import Webhooks, injection_enabled
from meshgate.snapshot.kubernetes import Namespace
from meshgate.verdict import Finding, NotApplicable

# its manager is called argocd-controller, and was called argocd-application-controller
ARGO = "argocd"


class Ownership:
    """Istio's webhook configurations, and the labels that lead to them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    @cached_property
    def _webhooks(self) -> Webhooks:
        found = Webhooks(
            self._evidence.mutating_webhooks, self._evidence.validating_webhooks, (), ()
        )
        if not found.all:
            raise NotApplicable("Istio has no webhook here: this is an installation")
        return found

    @cached_property
    def _revisions(self) -> set[str]:
        return {
            each.metadata.labels.get("istio.io/rev", "default")
            for each in self._control_plane.deployments
        }

    @property
    def conflicts(self) -> list[Finding]:
        """Namespaces that two webhooks want, and tags that are, or lead to, no one revision."""
        return [*self._wanted_twice(), *self._bad_tags()]

    def _wanted_twice(self) -> list[Finding]:
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"its pods are injected by {' and '.join(sorted(names))}",
                "one webhook configuration that selects it",
                "delete the one that an older installation left, or relabel the namespace",
            )
            for each in injection_enabled(self._evidence.namespaces)
            if len(names := self._wanted_by(each)) > 1
        ]

    def _wanted_by(self, namespace: Namespace) -> set[str]:
        return {hook.configuration.metadata.name for hook in self._webhooks.selecting(namespace)}

    def _bad_tags(self) -> list[Finding]:
        found = []
        tags = {hook.subject: hook for hook in self._webhooks.injectors if hook.tag}
        for subject, hook in tags.items():
            if hook.tag in self._revisions - {"default"}:
                found.append(
                    Finding(
                        subject,
                        f"the tag {hook.tag} has the name of a revision",
                        "a name of its own",
                        f"istioctl tag remove {hook.tag}, and set one of another name",
                    )
                )
            elif hook.revision not in self._revisions:
                found.append(
                    Finding(
                        subject,
                        f"the tag {hook.tag} points to the revision {hook.revision}, whose istiod "
                        "is gone",
                        f"one that exists: {', '.join(sorted(self._revisions)) or '(none)'}",
                        f"istioctl tag set {hook.tag} --revision REVISION --overwrite",
                    )
                )
        return found

    @property
    def ambiguous(self) -> list[Finding]:
        """Namespaces with both labels: `istio-injection` wins, whatever the revision says."""
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"has the labels istio-injection and istio.io/rev={labels['istio.io/rev']}: the "
                "first wins, so a revision upgrade passes it by",
                "one of them",
                "take one of the labels away",
            )
            for each in self._evidence.namespaces
            if (labels := each.metadata.labels).get("istio-injection")
            and labels.get("istio.io/rev")
        ]

    @property
    def contested(self) -> list[Finding]:
        """Fields that istiod sets by itself and that Argo CD holds for its own."""
        return [
            Finding(
                subject,
                f"{manager} manages {field} of its webhooks, which istiod sets by itself: a sync "
                "takes it back",
                "istiod alone",
                "let the Application ignore the field (ignoreDifferences for the group "
                "admissionregistration.k8s.io, with RespectIgnoreDifferences=true)",
            )
            for subject, manager, field in sorted(self._held_by_argo())
        ]

    def _held_by_argo(self) -> set[tuple[str, str, str]]:
        return {
            (hook.subject, entry.manager, field)
            for hook in self._webhooks.all
            for entry in hook.configuration.metadata.managed_fields
            if entry.manager.startswith(ARGO)
            for owned in entry.fields.webhooks.values()
            for field, held in (
                ("caBundle", owned.client_config.ca_bundle),
                # istiod turns this one on the validating webhooks alone
                ("failurePolicy", owned.failure_policy if hook.kind.startswith("Val") else None),
            )
            if held is not None
        }
