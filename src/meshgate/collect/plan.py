"""What istioctl and the shadow istiod read of a cluster, release by release: the roles grant it."""

# What else is read by a list: how istiod is set, and what a restart reaches.
ALSO_READ = (
    ("", ("configmaps",)),
    ("apps", ("daemonsets", "deployments", "statefulsets")),
    ("batch", ("cronjobs",)),
)

# What `istioctl x precheck` reads; whether it may create things is answered by the façade.
PRECHECK_READS = (
    ("", ("configmaps", "namespaces", "pods", "services")),
    ("apiextensions.k8s.io", ("customresourcedefinitions",)),
    ("apps", ("deployments",)),
)

# Istio's own kinds, and what stands around them: read by istiod and by istioctl alike.
_ISTIO_READS = (
    (
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    ),
    ("apiextensions.k8s.io", ("customresourcedefinitions",)),
    ("extensions.istio.io", ("trafficextensions", "wasmplugins")),
    (
        "networking.istio.io",
        (
            "destinationrules",
            "envoyfilters",
            "gateways",
            "proxyconfigs",
            "serviceentries",
            "sidecars",
            "virtualservices",
            "workloadentries",
            "workloadgroups",
        ),
    ),
    (
        "security.istio.io",
        ("authorizationpolicies", "peerauthentications", "requestauthentications"),
    ),
    ("telemetry.istio.io", ("telemetries",)),
)

# What `istioctl analyze` 1.28 to 1.31 lists and watches: the roles grant it.  The façade passes on
# more; a kind that the cluster serves and the role lacks is named.  Secrets are not among them: the
# façade answers those itself, as empty.
ANALYZE_READS = (
    *_ISTIO_READS,
    ("", ("configmaps", "namespaces", "nodes", "pods", "services")),
    ("apps", ("deployments",)),
    ("gateway.networking.k8s.io", ("gateways", "grpcroutes", "httproutes")),
)

# What an istiod reads to make configuration, where it may write nothing.
SHADOW_READS = (
    *_ISTIO_READS,
    ("", ("configmaps", "endpoints", "namespaces", "nodes", "pods", "serviceaccounts", "services")),
    ("discovery.k8s.io", ("endpointslices",)),
    (
        "gateway.networking.k8s.io",
        (
            "backendtlspolicies",
            "gatewayclasses",
            "gateways",
            "grpcroutes",
            "httproutes",
            "listenersets",
            "referencegrants",
            "tcproutes",
            "tlsroutes",
            "udproutes",
        ),
    ),
    # 1.28 and 1.29 watch them with PILOT_ENABLE_ALPHA_GATEWAY_API
    ("gateway.networking.x-k8s.io", ("xbackendtrafficpolicies", "xlistenersets")),
    ("inference.networking.k8s.io", ("inferencepools",)),
    ("networking.k8s.io", ("ingressclasses", "ingresses")),
)
