"""Webhooks, injection and validation: what is whole, and each way in which it is not."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.kubernetes import LabelSelector
from meshgate.snapshot.wire import Certificate
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support import builders
from tests.support import webhook_builders as build


def mesh(**changes: Any) -> Mesh:
    return builders.mesh(**{**build.HEALTHY, **changes})


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_a_healthy_mesh_has_no_finding() -> None:
    admission = mesh().admission

    assert admission.broken_webhooks == []
    assert admission.uninjected == []
    assert admission.unvalidated == []


# --- whole --------------------------------------------------------------------------------------


def test_no_webhook_at_all_is_a_finding() -> None:
    found = mesh(mutating_webhooks=(), validating_webhooks=()).admission.broken_webhooks

    assert "istiod has no webhook configuration" in told(found)


def test_webhooks_of_others_are_not_ours() -> None:
    foreign = build.injector("vault-agent", service="vault")
    hook = foreign.webhooks[0]
    renamed = type(hook)(name="vault.example.test", client_config=hook.client_config)
    changed = type(foreign)(metadata=foreign.metadata, webhooks=(renamed,))

    assert mesh(mutating_webhooks=(build.injector(), changed)).admission.broken_webhooks == []


@pytest.mark.parametrize(
    ("webhook", "seen", "transient"),
    [
        ({"bundle": ""}, "has no caBundle", True),
        ({"policy": "Ignore"}, "has failurePolicy Ignore", False),
        ({"service": "istiod-x"}, "Service istio-system/istiod-x, which does not exist", False),
        ({"port": 444}, "calls port 444 of Service istio-system/istiod", False),
    ],
)
def test_an_injector_that_is_not_whole(webhook: Any, seen: str, transient: bool) -> None:
    (found,) = mesh(mutating_webhooks=(build.injector(**webhook),)).admission.broken_webhooks

    assert found.subject == "MutatingWebhookConfiguration istio-sidecar-injector"
    assert seen in found.seen
    assert found.transient is transient


def test_the_validator_s_ignore_may_pass_by_itself() -> None:
    (found,) = mesh(
        validating_webhooks=(build.validator(policy="Ignore"),)
    ).admission.broken_webhooks

    assert found.transient


def test_webhooks_of_one_configuration_tell_what_they_share_once() -> None:
    one = build.injector(policy="Ignore")
    twice = type(one)(metadata=one.metadata, webhooks=one.webhooks * 2)

    assert len(mesh(mutating_webhooks=(twice,)).admission.broken_webhooks) == 1


def test_no_ready_endpoint() -> None:
    slices = (build.slice_of(build.endpoint(ready=False)),)

    found = mesh(endpoint_slices=slices).admission.broken_webhooks

    assert "has no ready endpoint" in told(found)
    assert all(each.transient for each in found)


def test_an_endpoint_that_says_nothing_of_readiness_is_ready() -> None:
    slices = (build.slice_of(build.endpoint(ready=None)),)

    assert mesh(endpoint_slices=slices).admission.broken_webhooks == []


def test_what_is_served_is_not_trusted() -> None:
    served = Certificate(subject="", not_before=build.AT, not_after=build.AT, sans=("other.svc",))
    restarted = build.handshake(distrust="unable to get local issuer certificate", served=served)

    found = told(mesh(admission=build.admission(handshakes=[restarted])).admission.broken_webhooks)

    assert "does not verify the certificate of istiod-1 for istiod.istio-system.svc" in found
    assert "unable to get local issuer certificate (served: other.svc" in found


def test_an_endpoint_that_does_not_answer() -> None:
    restarted = build.handshake(error="timed out")

    found = mesh(admission=build.admission(handshakes=[restarted])).admission.broken_webhooks

    assert "Pod istio-system/istiod-1, which serves it, does not answer: timed out" in told(found)


def test_an_endpoint_that_was_not_called_proves_nothing() -> None:
    two = (build.slice_of(build.endpoint(), build.endpoint("istiod-2", "10.0.0.2")),)

    with pytest.raises(CouldNotVerify, match="istiod-2 was not called"):
        _ = mesh(endpoint_slices=two).admission.broken_webhooks


def test_a_service_of_another_namespace_is_looked_for_there() -> None:
    away = (build.injector(service_namespace="istio-canary"),)

    found = mesh(mutating_webhooks=away).admission.broken_webhooks

    assert "calls Service istio-canary/istiod, which does not exist" in told(found)


# --- inject -------------------------------------------------------------------------------------


def test_nobody_asks_for_sidecars() -> None:
    with pytest.raises(NotApplicable, match="no namespace and no pod enables injection"):
        _ = mesh(namespaces=(build.namespace(),)).admission.uninjected


def test_a_label_that_no_webhook_knows() -> None:
    found = mesh(namespaces=(build.namespace(rev="ghost"),)).admission.uninjected

    assert "Namespace shop: istio.io/rev=ghost: no webhook selects its pods" in told(found)
    assert "revisions and tags: default" in found[0].remedy


def test_two_webhooks_for_one_pod() -> None:
    found = mesh(mutating_webhooks=(build.injector(), build.injector("again"))).admission.uninjected

    assert "2 webhooks inject the same pod: again and istio-sidecar-injector" in told(found)


@pytest.mark.parametrize(
    ("answer", "seen", "transient"),
    [
        ({"error": "answered 500"}, "got no answer: answered 500", True),
        ({"allowed": False, "message": "no template"}, "is refused: no template", False),
        ({"containers": ()}, "gets no istio-proxy container", False),
        ({"image": "x/proxyv2:1.28.2"}, "gets the proxy x/proxyv2:1.28.2", False),
    ],
)
def test_a_sample_that_is_not_injected(answer: Any, seen: str, transient: bool) -> None:
    reviews = build.admission(build.review("pod", namespace="shop", **answer))

    (found,) = mesh(admission=reviews).admission.uninjected

    assert found.subject == "Namespace shop"
    assert seen in found.seen
    assert found.transient is transient


def test_an_image_by_digest_is_not_compared() -> None:
    digest = build.review("pod", namespace="shop", image="x:5000/proxyv2@sha256:12")

    assert mesh(admission=build.admission(digest)).admission.uninjected == []


def test_a_namespace_that_nobody_was_asked_about() -> None:
    reviews = build.admission(build.review("pod", namespace="other"))

    (found,) = mesh(admission=reviews).admission.uninjected

    assert "no pod can be created" in found.seen


def opting(**labels: str) -> Any:
    """A pod that chooses its sidecar itself, in a namespace that chooses nothing."""
    keys = {"inject": "sidecar.istio.io/inject", "rev": "istio.io/rev"}
    return builders.sidecar("job-1", labels={keys[key]: value for key, value in labels.items()})


BY_POD = LabelSelector(match_expressions=(build.row("sidecar.istio.io/inject", "In", "true"),))


def by_pod(*pods: Any, **changes: Any) -> Mesh:
    """A mesh whose pods opt in one by one."""
    hook = build.injector()
    webhook = msgspec.structs.replace(
        hook.webhooks[0], namespace_selector=LabelSelector(), object_selector=BY_POD
    )
    injector = msgspec.structs.replace(hook, webhooks=(webhook,))
    return mesh(
        namespaces=(build.namespace(),),
        mutating_webhooks=(injector,),
        pods=(builders.istiod(), *pods),
        **changes,
    )


def test_a_pod_that_opts_in_is_a_sample_of_its_own() -> None:
    labels = {"app": "meshgate-sample", "sidecar.istio.io/inject": "true"}
    injected = build.review("pod", namespace="shop", labels=labels)
    empty = build.review("pod", namespace="shop", labels=labels, containers=())
    pod = opting(inject="true")

    assert by_pod(pod, admission=build.admission(injected)).admission.uninjected == []
    (found,) = by_pod(pod, admission=build.admission(empty)).admission.uninjected
    assert "gets no istio-proxy container" in found.seen
    assert found.about == (("labels", "sidecar.istio.io/inject=true"),)


def test_a_pod_that_opts_in_and_was_not_asked_about_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match="was not called for pods with sidecar"):
        _ = by_pod(opting(inject="true")).admission.uninjected


def test_a_pod_that_opts_in_to_a_revision_that_no_webhook_serves() -> None:
    (found,) = by_pod(opting(rev="ghost")).admission.uninjected

    assert "istio.io/rev=ghost: no webhook selects its pods" in found.seen


@pytest.mark.parametrize("pod", [opting(inject="false", rev="prod"), builders.sidecar()])
def test_a_pod_that_does_not_opt_in_is_not_asked_about(pod: Any) -> None:
    with pytest.raises(NotApplicable):
        _ = by_pod(pod).admission.uninjected


def test_the_webhooks_of_another_mesh_are_not_judged() -> None:
    theirs = build.injector("b", revision="mesh-b", service="gone", service_namespace="b")
    istiod = builders.istiod("b-1", namespace="b", revision="mesh-b")
    hooks = (build.injector(), theirs)

    two = mesh(mutating_webhooks=hooks, pods=(builders.istiod(), istiod))

    assert two.admission.broken_webhooks == []
    assert mesh(mutating_webhooks=hooks).admission.broken_webhooks


# --- validate -----------------------------------------------------------------------------------


def test_no_validator() -> None:
    found = mesh(validating_webhooks=()).admission.unvalidated

    assert "has no ValidatingWebhookConfiguration" in told(found)


@pytest.mark.parametrize(
    ("sample", "answer", "seen", "transient"),
    [
        ("invalid", {"allowed": True}, "admits a Gateway that no proxy can use", False),
        ("valid", {"allowed": False, "message": "no"}, "refuses a valid Gateway: no", False),
        ("valid", {"error": "timed out"}, "does not answer at /validate: timed out", True),
    ],
)
def test_a_validator_that_errs(sample: str, answer: Any, seen: str, transient: bool) -> None:
    (found,) = mesh(admission=build.admission(build.review(sample, **answer))).admission.unvalidated

    assert found.subject == "ValidatingWebhookConfiguration istio-validator-istio-system"
    assert seen in found.seen
    assert found.transient is transient
