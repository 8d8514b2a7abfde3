"""The metrics of istiod that checks read: their names, and how they grow within a window."""

from meshgate.snapshot.istiod import IstiodMetrics

# What istiod counts each time that something goes wrong, in words.
ERRORS = {
    "pilot_total_xds_rejects": "pushes were rejected by proxies",
    "pilot_total_xds_internal_errors": "requests of proxies ended in an internal error",
    "pilot_xds_write_timeout": "pushes timed out",
    "pilot_xds_pushes": "pushes could not be sent",
    "pilot_sds_certificate_errors_total": "certificates could not be read for a gateway",
    "webhook_patch_failures_total": "updates of a webhook's caBundle failed",
    "galley_validation_config_update_error": "updates of the validating webhook failed",
}
# Of these series only these labels: the others count what went well.
ONLY = {"pilot_xds_pushes": ("_senderr", "_builderr")}

CONVERGENCE, PUSHED = "pilot_proxy_convergence_time_bucket", "pilot_proxy_convergence_time_count"
STARTED = "process_start_time_seconds"

# Every istiod has this series, also one that has not counted anything yet
# (pilot/pkg/bootstrap/monitoring.go).
INFO = "pilot_info"

# What the Go runtime has obtained from the system, and what it has returned.  The resident size
# would also count the pages of the program itself, which the kernel can drop at any time.
OBTAINED, RELEASED = "go_memstats_sys_bytes", "go_memstats_heap_released_bytes"

# How often istiod could not fetch a key set (JWKS), and how often it could, since it started.
JWKS_FAILURES = "pilot_jwks_resolver_network_fetch_fail_total"
JWKS_FETCHES = "pilot_jwks_resolver_network_fetch_success_total"

# Seconds after which istiod tries again (pilot/pkg/model/jwks_resolver.go).
JWKS_RETRY = 60.0

# From this release on, a push of endpoints alone clears /debug/push_status.
CLEARS_PUSH_STATUS = (1, 31)

# Every series that is collected.
SERIES = (
    *ERRORS,
    CONVERGENCE,
    PUSHED,
    INFO,
    STARTED,
    OBTAINED,
    RELEASED,
    JWKS_FAILURES,
    JWKS_FETCHES,
)


def from_istiod(metrics: IstiodMetrics) -> bool:
    """Return whether both readings have a series that only istiod has.

    Without one, a counter that is missing does not mean that nothing was counted.
    """
    every_program = {STARTED, OBTAINED, RELEASED}
    return all(reading.keys() - every_program for reading in (metrics.before, metrics.after))


def growth(metrics: IstiodMetrics) -> dict[str, float]:
    """Return by how much each series grew within the window; one that is new began at 0.

    A process that started within the window began at 0 too.
    """
    before = metrics.before
    if before.get(STARTED) != metrics.after.get(STARTED):
        before = {}
    return {key: count - before.get(key, 0.0) for key, count in metrics.after.items()}
