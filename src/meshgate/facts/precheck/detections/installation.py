"""Detections in how Istio is installed: istiod, its chart, the CNI, ztunnel and the nodes."""

from collections.abc import Iterator

from meshgate.facts.precheck.detections.base import Detection, Mesh, Sign, named, ztunnels
from meshgate.facts.precheck.proxy_skew import ProxySkew
from meshgate.semantics import pods, workloads
from meshgate.semantics.releases import ALPHA_GATEWAY_API, Rule
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify


def variable(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods that set one of the variables."""
    for each in mesh.settings:
        for name in sorted(each.variables.keys() & {*rule.names}):
            yield Sign(each.deployment, f"sets {name}", (("variable", name),))


def proxy_metadata(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods whose mesh config sets one of the variables for proxies."""
    for each in mesh.settings:
        for name in sorted(each.proxy_metadata.keys() & {*rule.names}):
            yield Sign(
                each.deployment,
                f"its mesh config sets {name} in proxyMetadata",
                (("variable", name),),
            )


def mesh_config(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods whose mesh config sets one of the fields."""
    for each in mesh.settings:
        for name in sorted({*each.mesh} & {*rule.names}):
            yield Sign(each.deployment, f"its mesh config sets {name}", (("field", name),))


def tracing(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods whose mesh config turns tracing on."""
    for each in mesh.settings:
        kinds = sorted(
            {*each.tracers, *(one.kind for one in each.providers if one.kind in TRACING)}
        )
        if kinds:
            yield Sign(each.deployment, f"its mesh config configures tracing ({', '.join(kinds)})")


TRACING = frozenset({"opentelemetry", "zipkin", "datadog", "skywalking", "stackdriver"})


def compatibility(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods whose chart sets one of the compatibility versions."""
    for each in mesh.settings:
        if each.compatibility in rule.names:
            yield Sign(each.deployment, f"sets compatibilityVersion {each.compatibility}")


def nftables(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods whose chart turns nftables on."""
    for each in mesh.settings:
        if each.native_nftables:
            yield Sign(each.deployment, "sets global.nativeNftables=true")


def crd(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield CRDs of these names that the cluster serves."""
    for each in mesh.evidence.definitions:
        if each.metadata.name in rule.names:
            served = [version.name for version in each.spec.versions if version.served]
            yield Sign(
                f"CustomResourceDefinition {each.metadata.name}",
                f"serves {', '.join(served) or 'no version'}",
            )


def alpha_crd(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield CRDs of these names where an istiod reads alpha kinds."""
    if any(each.variables.get(ALPHA_GATEWAY_API) == "true" for each in mesh.settings):
        yield from crd(mesh, rule)


def tool(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield pods of a known client of istiod's debug endpoints outside its namespace."""
    home = mesh.evidence.expectations.istio_namespace
    for pod in mesh.evidence.pods:
        labels = pod.metadata.labels
        names = {labels.get("app", ""), labels.get("app.kubernetes.io/name", "")}
        if names & {*rule.names} and pod.metadata.namespace != home:
            yield Sign(
                pods.name(pod),
                f"reads istiod's debug endpoints from outside {home}",
                owner=workloads.owner(pod),
            )


def ambient_reconcile(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield ztunnel if the CNI agent does not reconcile pods today.

    The chart always renders the key, so `false` is not a deliberate choice.
    """
    (name,) = rule.names
    if any(each.cni.get(name) != "true" for each in mesh.settings):
        yield from _ambient(mesh)


def _ambient(mesh: Mesh, seen: str = "the mesh has ambient workloads") -> Iterator[Sign]:
    for pod in ztunnels(mesh.evidence.pods)[:1]:
        yield Sign(pods.name(pod), seen, owner=workloads.owner(pod))


def ambient_entry(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield ServiceEntries of these resolutions where ztunnel runs."""
    ambient = bool(ztunnels(mesh.evidence.pods))
    for each in mesh.evidence.service_entries:
        if ambient and each.spec.resolution in rule.names:
            yield Sign(
                named("ServiceEntry", each.metadata), f"has the resolution {each.spec.resolution}"
            )


def dry_run(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield ztunnels older than the change while istiod sends dry-run policies to them."""
    (name,) = rule.names
    if not any(each.variables.get(name) == "true" for each in mesh.settings):
        return
    versions = ProxySkew(mesh.evidence).versions
    for pod in ztunnels(mesh.evidence.pods):
        version = versions.get(pods.name(pod))
        if version is None:
            raise CouldNotVerify(
                f"the version of {pods.name(pod)} is unknown",
                workloads.restart_command(pod),
                transient=True,
            )
        if not rule.holds(version):
            yield Sign(
                pods.name(pod), f"runs {version}, and {name} is true", owner=workloads.owner(pod)
            )


def excluded_ambient(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield namespaces with ambient workloads that the CNI excludes."""
    excluded = {name for each in mesh.settings for name in each.excluded_namespaces}
    for namespace in mesh.evidence.namespaces:
        name, labels = namespace.metadata.name, namespace.metadata.labels
        if name not in excluded:
            continue
        enrolled = labels.get(workloads.DATAPLANE_MODE) == "ambient" or any(
            _enrolled(pod) for pod in mesh.evidence.pods if pod.metadata.namespace == name
        )
        if enrolled:
            yield Sign(
                f"Namespace {name}", "has ambient workloads and is in excludeNamespaces of the CNI"
            )


def _enrolled(pod: Pod) -> bool:
    return pod.metadata.labels.get(workloads.DATAPLANE_MODE) == "ambient" or workloads.is_captured(
        pod
    )


def ambient_size(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield ztunnel if the mesh has as many ambient workloads as the rule names."""
    (limit,) = map(int, rule.names)
    if sum(_enrolled(pod) for pod in mesh.evidence.pods) >= limit:
        yield from _ambient(mesh, f"the mesh has more than {limit} ambient workloads")


def networks(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield istiods whose mesh config names networks."""
    for each in mesh.settings:
        if each.networks:
            yield Sign(each.deployment, "its mesh config names several networks")


def image_verifier(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield webhooks of programs that can verify image signatures."""
    for kind, found in (
        ("MutatingWebhookConfiguration", mesh.evidence.mutating_webhooks),
        ("ValidatingWebhookConfiguration", mesh.evidence.validating_webhooks),
    ):
        for each in found:
            if each.metadata.name.startswith(rule.names):
                yield Sign(f"{kind} {each.metadata.name}", "may verify image signatures")


ALL: tuple[Detection, ...] = (
    *(variable, proxy_metadata, mesh_config, tracing, compatibility, nftables),
    *(crd, alpha_crd, tool, ambient_reconcile, ambient_entry, dry_run, excluded_ambient),
    *(ambient_size, networks, image_verifier),
)
