"""What does not meet a convention yet. Remove entries; never add one for new code."""

LONG_MODULES: frozenset[str] = frozenset()
LONG_CLASSES = frozenset(
    {
        "facts/precheck/upgrade_path.py:Upgrade",
    }
)
UNDESCRIBED_PARAMETERS = frozenset(
    {
        "collect/capture.py",
        "collect/decode.py",
        "collect/istioctl.py",
        "collect/istiod.py",
        "collect/istiod_metrics.py",
        "collect/kubernetes.py",
        "collect/lists.py",
        "collect/retry_after.py",
        "collect/settle.py",
        "deadline.py",
        "plugin/evidence.py",
        "plugin/settling.py",
        "probe/admission.py",
        "probe/ads.py",
        "probe/mtls.py",
        "probe/pair.py",
        "probe/peer.py",
        "probe/signing.py",
        "report/json.py",
        "report/short.py",
        "report/text.py",
        "semantics/certificates.py",
        "semantics/config_diff.py",
        "semantics/retry_after.py",
        "semantics/workloads.py",
        "settings/definition.py",
        "suppressions.py",
        "verdict.py",
    }
)
UNNAMED_OBJECTS: frozenset[str] = frozenset()
UNKNOWN_OPTIONS: frozenset[str] = frozenset()
INCOMPLETE_PAGES: frozenset[str] = frozenset()
IDIOMS = frozenset(
    {
        "docs/checks/CP001.md",
        "docs/checks/CP002.md",
        "docs/checks/CP009.md",
        "docs/checks/PC001.md",
        "docs/checks/RA001.md",
        "pyproject.toml",
        "src/meshgate/catalogue.py",
        "src/meshgate/collect/capture.py",
        "src/meshgate/collect/config_map_store.py",
        "src/meshgate/collect/facade.py",
        "src/meshgate/collect/istioctl.py",
        "src/meshgate/collect/istiod.py",
        "src/meshgate/collect/kubernetes.py",
        "src/meshgate/collect/readers.py",
        "src/meshgate/collect/retry_after.py",
        "src/meshgate/collect/rights.py",
        "src/meshgate/collect/settle.py",
        "src/meshgate/collect/shadow/processes.py",
        "src/meshgate/collect/snapshot_location.py",
        "src/meshgate/facts/controlplane/control_plane.py",
        "src/meshgate/facts/controlplane/node_agents.py",
        "src/meshgate/facts/controlplane/proxies.py",
        "src/meshgate/facts/dataplane/authorization.py",
        "src/meshgate/facts/precheck/istioctl_precheck.py",
        "src/meshgate/facts/precheck/restart.py",
        "src/meshgate/plugin/worker.py",
        "src/meshgate/probe/signing.py",
        "src/meshgate/semantics/certificates.py",
        "src/meshgate/semantics/pods.py",
        "src/meshgate/semantics/selectors.py",
        "src/meshgate/semantics/webhooks.py",
        "src/meshgate/snapshot/istio.py",
        "src/meshgate/snapshot/istioctl.py",
        "src/meshgate/snapshot/kubernetes.py",
        "src/meshgate/snapshot/migrate.py",
        "src/meshgate/snapshot/model.py",
        "src/meshgate/snapshot/offline_bundle.py",
        "src/meshgate/snapshot/pair.py",
        "src/meshgate/snapshot/store.py",
        "src/meshgate/verdict.py",
    }
)
