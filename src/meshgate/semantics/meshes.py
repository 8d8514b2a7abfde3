"""Which mesh and which cluster an object belongs to, where there are several."""

from collections import Counter
from collections.abc import Iterable, Mapping

from meshgate.semantics.hosts import DEFAULT_DOMAIN
from meshgate.semantics.kubernetes_ingress import IngressSettings
from meshgate.semantics.selectors import selects
from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.injector import DefaultExports, InjectorConfig
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Namespace, Pod

DEFAULT = "default"


def revision(labels: Mapping[str, str]) -> str:
    """Return the revision of an istiod's Deployment, pod or webhook."""
    return labels.get("istio.io/rev", DEFAULT)


class OwnMesh:
    """The mesh of one istiod namespace: its configuration, and what belongs to it.

    Control planes that share a cluster usually have different revisions.  Where they have the same
    one, discoverySelectors divide the namespaces between them.

    Args:
        pods: the cluster's pods.
        istio_namespace: the namespace of the mesh's istiod.
        configs: the configuration of its revisions.
        namespaces: the cluster's namespaces.
    """

    def __init__(
        self,
        pods: Iterable[Pod],
        istio_namespace: str,
        configs: Iterable[InjectorConfig] = (),
        namespaces: Iterable[Namespace] = (),
    ) -> None:
        ours: set[str] = set()
        others: set[str] = set()
        self._other_namespaces: set[str] = set()
        for pod in pods:
            labels = pod.metadata.labels
            if labels.get("app") == "istiod" and pod.metadata.deletion_timestamp is None:
                if pod.metadata.namespace == istio_namespace:
                    ours.add(revision(labels))
                else:
                    others.add(revision(labels))
                    self._other_namespaces.add(pod.metadata.namespace)
        self.istio_namespace = istio_namespace
        self.foreign_revisions = frozenset(others - ours)
        self.revisions = frozenset(ours)
        self._shared_revisions = frozenset(others & ours)
        # the revision `default` decides where they differ
        self._configs = sorted(configs, key=lambda each: (each.revision != DEFAULT, each.revision))
        self._namespaces = {each.metadata.name: each for each in namespaces}

    # --- configuration --------------------------------------------------------------------------

    @property
    def is_configured(self) -> bool:
        """Whether the configuration of an istiod is known; recordings of release 0.1 lack it."""
        return bool(self._configs)

    @property
    def root_namespace(self) -> str:
        """The namespace whose policies apply to the whole mesh."""
        return self._first("root_namespace") or self.istio_namespace

    @property
    def trust_domain(self) -> str:
        return self._first("trust_domain") or DEFAULT_DOMAIN

    @property
    def trust_domain_aliases(self) -> frozenset[str]:
        """Other trust domains whose identities count as the mesh's own."""
        return frozenset(alias for each in self._configs for alias in each.trust_domain_aliases)

    @property
    def cluster_domain(self) -> str:
        """The domain of Services: `cluster.local`."""
        return self._first("cluster_domain") or DEFAULT_DOMAIN

    @property
    def cluster_id(self) -> str:
        """The ID of this cluster; empty if no istiod's environment contains it."""
        return self._first("cluster_id")

    @property
    def scoped_gateways(self) -> bool:
        """Whether a Gateway selects only pods in its namespace."""
        return any(each.scoped_gateways for each in self._configs)

    @property
    def ingress_settings(self) -> IngressSettings:
        """How istiod serves Kubernetes Ingress."""
        return IngressSettings(
            self._first("ingress_mode") or "STRICT",
            self._first("ingress_class") or "istio",
            self._first("ingress_selector") or "ingressgateway",
        )

    @property
    def least_tls(self) -> str:
        """tlsDefaults.minProtocolVersion of the mesh config; empty if it sets none."""
        return self._first("least_tls")

    @property
    def refuses_several_providers(self) -> bool:
        """Whether an istiod denies what CUSTOM policies match if they name several providers."""
        return any(not each.several_providers for each in self._configs)

    @property
    def gateway_controller(self) -> str:
        """The controllerName of the GatewayClasses whose Gateways let clients in."""
        return self._first("gateway_controller") or "istio.io/gateway-controller"

    @property
    def default_exports(self) -> DefaultExports:
        """Where objects without exportTo are exported to."""
        return next((each.default_exports for each in self._configs), DefaultExports())

    @property
    def serves_mcs_hosts(self) -> bool:
        """Whether every istiod serves the hosts of ServiceImports."""
        known = {each.revision for each in self._configs if each.mcs_hosts}
        return bool(known) and known >= self.revisions | {e.revision for e in self._configs}

    def has_auto_mtls(self, pod: Pod) -> bool:
        """Return whether a pod's proxy uses mTLS where no DestinationRule says otherwise."""
        name = injected_revision(pod) or DEFAULT
        own = [each for each in self._configs if each.revision == name] or self._configs
        return all(each.auto_mtls for each in own)

    def _first(self, field: str) -> str:
        return next((value for each in self._configs if (value := getattr(each, field))), "")

    # --- membership -----------------------------------------------------------------------------

    def discovers(self, namespace: Namespace) -> bool:
        """Return whether an istiod of the mesh watches a namespace, by discoverySelectors.

        An istiod without selectors watches all.
        """
        if namespace.metadata.name in (self.istio_namespace, self.root_namespace):
            return True
        return not self._configs or any(
            not each.discovery
            or any(selects(selector, namespace.metadata.labels) for selector in each.discovery)
            for each in self._configs
        )

    def watches(self, namespace: str) -> bool:
        """Return whether an istiod of the mesh watches the namespace of this name."""
        found = self._namespaces.get(namespace)
        return found is None or self.discovers(found)

    def is_foreign(self, pod: Pod) -> bool:
        """Return whether a pod's proxy belongs to another mesh in this cluster."""
        name = injected_revision(pod)
        if name in self.foreign_revisions:
            return True
        shared = (name or DEFAULT) in self._shared_revisions
        return shared and not self.watches(pod.metadata.namespace)

    def own(self, pods: Iterable[Pod]) -> list[Pod]:
        """Return the pods whose proxy does not belong to another mesh."""
        return [each for each in pods if not self.is_foreign(each)]

    def serves(self, name: str, namespace: str = "") -> bool:
        """Return whether a webhook of this revision, whose Service is there, is the mesh's own.

        Args:
            name: the revision.
            namespace: of the Service that the API server calls; empty if it calls a URL.
        """
        return name not in self.foreign_revisions and namespace not in self._other_namespaces


def own_mesh(items: Items, istio_namespace: str) -> OwnMesh:
    """Return the mesh of an istiod namespace, from a capture or from the evidence of facts."""
    return OwnMesh(items.pods, istio_namespace, items.injector_configs, items.namespaces)


def local_clusters(
    readings: Iterable[IstiodReading], pods: Mapping[str, Pod], cluster_id: str = ""
) -> frozenset[str]:
    """Return the IDs that this cluster can have.

    Args:
        readings: what istiod's replicas reported; they know the proxies of all clusters.
        pods: this cluster's pods with a proxy, by `pod.namespace`.
        cluster_id: the ID in istiod's environment, if that is known.

    Returns:
        That ID if it is known.  Otherwise the proxies that run here decide.  A StatefulSet has
        pods of the same names in every cluster, so the names of Deployments, which are random,
        decide before those.
    """
    if cluster_id:
        return frozenset({cluster_id})
    unique: Counter[str] = Counter()
    all_names: Counter[str] = Counter()
    for reading in readings:
        for proxy in reading.proxies:
            if (pod := pods.get(proxy.proxy)) is not None:
                all_names[proxy.cluster_id] += 1
                if "pod-template-hash" in pod.metadata.labels:
                    unique[proxy.cluster_id] += 1
    counts = unique or all_names
    most = max(counts.values(), default=0)
    return frozenset(cluster for cluster, count in counts.items() if count == most)
