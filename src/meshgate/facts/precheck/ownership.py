"""Conflicts over injection: webhooks, revisions and tags, and the managers of their fields."""

from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics.webhooks import Hook, Webhooks, injection_enabled
from meshgate.snapshot.kubernetes import Namespace
from meshgate.verdict import Finding, NotApplicable

# The managers argocd-controller and, of older versions, argocd-application-controller.
ARGO = "argocd"


class Ownership:
    """Istio's webhook configurations, and the namespace labels that select them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Istio's webhooks; raises NotApplicable if there are none."""
        found = Webhooks(
            self._evidence.mutating_webhooks, self._evidence.validating_webhooks, (), ()
        )
        if not found.all:
            raise NotApplicable(
                "Istio has no webhook in this cluster: this is a first installation"
            )
        return found

    @cached_property
    def _revisions(self) -> set[str]:
        return {
            each.metadata.labels.get("istio.io/rev", "default")
            for each in self._control_plane.deployments
        }

    @property
    def conflicts(self) -> list[Finding]:
        """Return namespaces that two webhooks inject, and tags without exactly one revision."""
        return [*self._injected_twice(), *self._bad_tags()]

    def _injected_twice(self) -> list[Finding]:
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                f"{len(names)} webhook configurations inject its pods: "
                f"{' and '.join(sorted(names))}",
                "one webhook configuration that selects it",
                "delete the webhook configuration of the older installation, or change the labels "
                f"of the namespace {each.metadata.name}",
                problem="injected-twice",
                about=tuple(("webhook", name) for name in sorted(names)),
            )
            for each in injection_enabled(self._evidence.namespaces)
            if len(names := self._injected_by(each)) > 1
        ]

    def _injected_by(self, namespace: Namespace) -> set[str]:
        return {hook.configuration.metadata.name for hook in self.webhooks.selecting(namespace)}

    def _bad_tags(self) -> list[Finding]:
        found = []
        tags = {hook.subject: hook for hook in self.webhooks.injectors if hook.tag}
        for subject, hook in tags.items():
            if not self._is_own(hook):
                continue
            if hook.tag in self._revisions - {"default"}:
                found.append(
                    Finding(
                        subject,
                        f"the tag {hook.tag} has the name of a revision",
                        "a tag with a different name",
                        f"istioctl tag remove {hook.tag}",
                        problem="tag-named-like-revision",
                        about=(("tag", hook.tag),),
                    )
                )
            elif hook.revision not in self._revisions:
                found.append(
                    Finding(
                        subject,
                        f"the tag {hook.tag} points to the revision {hook.revision}, which has no "
                        "istiod",
                        f"an existing revision: {', '.join(sorted(self._revisions)) or '(none)'}",
                        f"istioctl tag set {hook.tag} --revision REVISION --overwrite",
                        problem="tag-without-istiod",
                        about=(("revision", hook.revision), ("tag", hook.tag)),
                    )
                )
        return found

    def _is_own(self, hook: Hook) -> bool:
        """Return whether an istiod of this mesh, which runs in this cluster, serves a webhook."""
        namespace = self._control_plane.namespace
        service = hook.service
        return bool(self._revisions) and service is not None and service.namespace == namespace

    @property
    def ambiguous(self) -> list[Finding]:
        """Return namespaces with both labels, of which `istio-injection` takes precedence."""
        return [
            Finding(
                f"Namespace {each.metadata.name}",
                "has the labels istio-injection and istio.io/rev="
                f"{labels['istio.io/rev']}: istio-injection takes precedence, so a revision "
                "upgrade skips it",
                "one of the two labels",
                f"kubectl label namespace {each.metadata.name} istio-injection-, or the same with "
                "istio.io/rev-",
                problem="two-injection-labels",
                about=(("revision", labels["istio.io/rev"]),),
            )
            for each in self._evidence.namespaces
            if (labels := each.metadata.labels).get("istio-injection")
            and labels.get("istio.io/rev")
        ]

    @property
    def contested(self) -> list[Finding]:
        """Return the webhook fields that istiod sets and that Argo CD manages, too."""
        return [
            Finding(
                subject,
                f"{manager} manages {field} of its webhooks, which istiod sets: a sync reverts it",
                "istiod as the only manager",
                "add the field to ignoreDifferences of the Application (group "
                "admissionregistration.k8s.io) with RespectIgnoreDifferences=true",
                problem="managed-by-argocd",
                about=(("field", field), ("manager", manager)),
            )
            for subject, manager, field in sorted(self._held_by_argo())
        ]

    def _held_by_argo(self) -> set[tuple[str, str, str]]:
        return {
            (hook.subject, entry.manager, field)
            for hook in self.webhooks.all
            for entry in hook.configuration.metadata.managed_fields
            if entry.manager.startswith(ARGO)
            for owned in entry.fields.webhooks.values()
            for field, held in (
                ("caBundle", owned.client_config.ca_bundle),
                # istiod sets this field only on validating webhooks.
                ("failurePolicy", owned.failure_policy if hook.kind.startswith("Val") else None),
            )
            if held is not None
        }
