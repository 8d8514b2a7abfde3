"""What an injector brings: by name, and without what anybody may have put into it."""

from typing import Any

from meshgate.semantics.config_diff import changes
from meshgate.semantics.injection import has_sidecar, shape

PROXY = {
    "name": "istio-proxy",
    "image": "proxyv2:1",
    "args": ["proxy", "--token=hidden"],
    "env": [{"name": "A", "value": "hidden"}],
    "resources": {"limits": {"cpu": "1"}},
    "volumeMounts": [{"mountPath": "/etc/certs", "name": "certs"}],
}


def patch(proxy: dict[str, Any] = PROXY) -> list[Any]:
    """A JSON patch as istiod makes it."""
    return [
        {"op": "add", "path": "/metadata/labels/security.istio.io~1tlsMode", "value": "istio"},
        {"op": "add", "path": "/metadata/annotations", "value": {"istio.io/rev": "default"}},
        {"op": "add", "path": "/spec/initContainers", "value": [{"name": "istio-init"}, proxy]},
        {"op": "add", "path": "/spec/volumes/0", "value": {"name": "certs", "emptyDir": {}}},
        {"op": "add", "path": "/spec/containers/0/env", "value": []},
    ]


def test_parts_are_known_by_name() -> None:
    made = shape(patch())

    assert {part: list(names) for part, names in made.items()} == {
        "containers": [],
        "initContainers": ["istio-init", "istio-proxy"],
        "volumes": ["certs"],
        "labels": ["security.istio.io/tlsMode"],
        "annotations": ["istio.io/rev"],
    }
    assert has_sidecar(made)
    assert not has_sidecar(shape([]))


def test_arguments_and_values_are_left_out() -> None:
    assert "hidden" not in str(shape(patch()))


def test_what_is_other_is_named() -> None:
    other = {**PROXY, "env": [{"name": "B"}], "resources": {"limits": {"cpu": "2"}}}

    found = changes({("pod", "x"): shape(patch())}, {("pod", "x"): shape(patch(other))}, {})

    assert [(each.kind, each.path) for each in found] == [
        ("removed", "/initContainers/istio-proxy/env/A"),
        ("added", "/initContainers/istio-proxy/env/B"),
        ("changed", "/initContainers/istio-proxy/resources/limits/cpu"),
    ]
