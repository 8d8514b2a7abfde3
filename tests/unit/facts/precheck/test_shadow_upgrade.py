"""What an upgrade changes: by name, by meaning, told once where it is the release's own."""

from collections.abc import Iterable
from typing import Any

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.facts.precheck import shadow_upgrade as facts
from meshgate.facts.precheck.shadow_upgrade import difference, unseen
from meshgate.snapshot.kubernetes import Owner
from meshgate.snapshot.shadow import (
    Change,
    Injection,
    ProxyClass,
    Refusal,
    Shadow,
    TemplateReview,
)
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support.builders import expecting, mesh, pod


def shadow(*classes: ProxyClass, refused: tuple[str, ...] = ()) -> Shadow:
    """A look at 1.29.1."""
    return Shadow(version="1.29.1", classes=classes, refused=refused)


def findings(seen: Shadow, accepted: Iterable[str] = ()) -> list[Finding]:
    """What would break by it."""
    return facts.findings(seen, difference(seen), accepted)


def proxies(*names: str, **fields: Any) -> ProxyClass:
    """A class of proxies."""
    return ProxyClass(proxies=names, resources=1, **fields)


def change(**fields: Any) -> Change:
    """A value that changes on a cluster."""
    given = {"kind": "changed", "type": "cluster", "resource": "a", "path": "/timeout"}
    return Change(**(given | {"before": "1s", "after": "2s"} | fields))


GONE = {"kind": "removed", "type": "listener", "path": "/filterChains[x]/filters[lua]"}


def test_what_all_see_alike_is_one_line_with_a_count() -> None:
    wide = [change(resource=name) for name in ("a", "b")]

    result = difference(shadow(proxies("x", changes=tuple(wide)), proxies("y", changes=(wide[0],))))

    assert [each.places for each in result.widespread] == [3]
    assert result.partial == ()


def test_what_some_see_is_told_for_each() -> None:
    result = difference(shadow(proxies("x", changes=(change(),)), proxies("y")))

    assert result.widespread == ()
    assert result.partial == ((change(), ("x",)),)


def test_a_loss_is_never_the_releases_own_even_if_all_see_it() -> None:
    gone = change(**GONE, brought_by="EnvoyFilter root/lua")
    seen = shadow(proxies("x", "x2", changes=(gone,)), proxies("y", changes=(gone,)))

    (found,) = findings(seen)

    assert found.subject == "EnvoyFilter root/lua"
    assert "istiod 1.29.1 removes a filter: listener a" in found.seen
    assert found.seen.endswith("on x, x2, y")


def test_a_loss_that_somebody_accepts_is_none() -> None:
    seen = shadow(proxies("x", changes=(change(**GONE),)))

    assert findings(seen)
    assert findings(seen, ["listener a */filters*lua*"]) == []


def test_the_value_that_the_remedy_names_accepts_the_loss() -> None:
    seen = shadow(proxies("x", changes=(change(**GONE),)))

    assert findings(seen, [f"listener a {GONE['path']}"]) == []
    assert findings(seen, ["listener a /filterChains[y]/filters[lua]"])


@pytest.mark.parametrize(
    ("kind", "type", "path", "words"),
    [
        ("removed", "cluster", "", "removes a cluster"),
        ("removed", "listener", "/filterChains[a]", "removes a filter chain"),
        ("removed", "listener", "/filterChains[a]/filters[b]/httpFilters[c]", "removes a filter"),
        ("removed", "route", "/virtualHosts[a]/routes[b]", "removes a route"),
        ("changed", "listener", "/f[r]/rules/policies/a/x[0]", "changes an authorization rule"),
        ("reordered", "listener", "/f/httpFilters", "reorders filters"),
    ],
)
def test_the_table_says_what_breaks(kind: str, type: str, path: str, words: str) -> None:
    seen = shadow(proxies("x", changes=(change(kind=kind, type=type, path=path),)))

    (found,) = findings(seen)

    assert words in found.seen


@pytest.mark.parametrize(
    ("kind", "path"), [("changed", "/timeout"), ("added", ""), ("removed", "/filters[a]/typed/x")]
)
def test_what_only_changes_breaks_nothing(kind: str, path: str) -> None:
    assert findings(shadow(proxies("x", changes=(change(kind=kind, path=path),)))) == []


def test_a_refusal_names_who_brings_it_and_envoys_words() -> None:
    refusal = Refusal(part="listener in", words="no such filter", culprits=("EnvoyFilter a/b",))

    (found,) = findings(shadow(proxies("x", refusals=(refusal,))))

    assert found.subject == "EnvoyFilter a/b"
    assert found.seen == "Envoy 1.29.1 rejects listener in of x: no such filter"


def test_what_was_not_seen_is_told() -> None:
    seen = shadow(proxies("x", error="no answer"), refused=("POST /api/v1/pods",))

    assert unseen(seen) == [
        "Proxy x: no answer",
        "the read-only API denied the target's istiod POST /api/v1/pods",
    ]
    assert unseen(shadow(proxies("x"))) == []


# --- as claims ----------------------------------------------------------------------------------


def tried(*classes: ProxyClass, **expectations: Any) -> Mesh:
    """A mesh of which the upgrade to 1.29.1 was tried."""
    return mesh(shadow=shadow(*classes), **expecting(**expectations))


def test_what_changes_for_some_is_one_warning_for_each_change() -> None:
    rows = (change(resource="a"), change(resource="b"))

    (found,) = tried(proxies("x", changes=rows), proxies("y")).shadow.changed

    assert found.subject == "Proxy x"
    assert "cluster a /timeout is changed, 1s -> 2s, and in 1 more places, on x" in found.seen


def test_another_version_than_the_target_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match=r"used istiod 1\.29\.1, and the target is 1\.29\.2"):
        tried(proxies("x"), target_version="1.29.2").shadow.refused  # noqa: B018


def test_what_was_not_seen_is_no_pass_but_what_was_is_a_failure() -> None:
    blind, refusal = proxies("x", error="no answer"), Refusal(part="listener in", words="no")

    with pytest.raises(CouldNotVerify, match="Proxy x: no answer"):
        tried(blind).shadow.refused  # noqa: B018
    with pytest.raises(CouldNotVerify, match="Proxy x: no answer"):
        tried(blind).shadow.gone  # noqa: B018
    assert tried(blind, proxies("y", refusals=(refusal,))).shadow.refused


def test_where_it_was_not_tried_there_is_nothing_to_say() -> None:
    not_tried = {"shadow": Shadow(skipped_reason="no programs")}

    with pytest.raises(NotApplicable, match="no programs"):
        mesh(**not_tried).shadow.gone  # noqa: B018
    with pytest.raises(CouldNotVerify, match="no programs"):
        mesh(**not_tried, **expecting(require_shadow=True)).shadow.gone  # noqa: B018


def test_every_finding_has_a_problem_and_the_workload_of_its_proxy() -> None:
    name = "web-7d9f-x.shop"
    replicas = Owner(kind="ReplicaSet", name="web-7d9f", controller=True)
    web = pod("web-7d9f-x", owner=replicas, labels={"pod-template-hash": "7d9f"})
    gone, other = change(**GONE), change(resource="b")
    refusal = Refusal(part="listener in", words="no")
    seen = mesh(
        pods=(web,),
        shadow=shadow(proxies(name, changes=(gone, other), refusals=(refusal,)), proxies("y")),
    ).shadow

    for (found,), problem in (
        (seen.refused, "rejected-by-envoy"),
        (seen.gone, "removed-from-proxy"),
        (seen.changed, "configuration-changed"),
    ):
        assert (found.owner, found.problem) == ("Deployment shop/web", problem)
        assert found.about == tuple(sorted(found.about)) != ()


def injected(*injections: Injection) -> Mesh:
    """A mesh of whose namespaces the target's injector was asked."""
    return mesh(shadow=Shadow(version="1.29.1", injections=injections))


def test_a_namespace_that_would_be_left_out_is_named() -> None:
    seen = injected(Injection(namespace="shop", refused="no template"), Injection(namespace="ok"))

    (found,) = seen.shadow.left_out

    assert found.subject == "Namespace shop"
    assert found.seen.endswith("adds no sidecar to its pods: no template")


def test_what_an_injected_pod_would_be_otherwise_is_told_once_for_all_namespaces() -> None:
    new = change(type="pod", path="/initContainers/istio-proxy/env/X", kind="added")
    rows = [Injection(namespace=name, changes=(new,)) for name in ("a", "b")]

    (found,) = injected(*rows).shadow.reshaped

    assert found.subject == "Namespace a and 1 more"
    assert "/initContainers/istio-proxy/env/X of a pod is added" in found.seen


def test_an_injection_that_could_not_be_compared_is_no_pass() -> None:
    with pytest.raises(CouldNotVerify, match="Namespace shop: no answer"):
        injected(Injection(namespace="shop", error="no answer")).shadow.left_out  # noqa: B018


def test_without_an_enrolled_namespace_there_is_no_injection() -> None:
    with pytest.raises(NotApplicable, match="no namespace is injection-enabled"):
        injected().shadow.left_out  # noqa: B018


def reviewed(*reviews: TemplateReview, **expectations: Any) -> Mesh:
    seen = Shadow(version="1.29.1", templates=reviews)
    return mesh(shadow=seen, **expecting(**expectations))


def test_a_workload_whose_pods_the_injector_rejects_is_named() -> None:
    seen = reviewed(
        TemplateReview(workload="Deployment shop/api", error="no answer"),
        TemplateReview(workload="Deployment shop/web", refused="invalid port"),
    )
    (found,) = seen.shadow.rejected

    assert (found.subject, found.problem) == ("Deployment shop/web", "rejected-by-injector")
    assert found.seen == "the injector of 1.29.1 rejects its pods: invalid port"


def test_the_command_reports_rejected_templates_and_those_without_an_answer() -> None:
    seen = Shadow(
        version="1.29.1",
        templates=(
            TemplateReview(workload="Deployment shop/api", error="no answer"),
            TemplateReview(workload="Deployment shop/web", refused="invalid port"),
        ),
    )

    assert [each.subject for each in findings(seen)] == ["Deployment shop/web"]
    assert facts.unanswered(seen) == ["Deployment shop/api: no answer"]


def test_templates_that_the_injector_accepts_are_no_findings() -> None:
    assert reviewed(TemplateReview(workload="Deployment shop/web")).shadow.rejected == []


def test_a_template_without_an_answer_is_unknown() -> None:
    seen = reviewed(TemplateReview(workload="Deployment shop/web", error="no answer"))

    with pytest.raises(CouldNotVerify, match="Deployment shop/web: no answer"):
        seen.shadow.rejected  # noqa: B018


def test_without_injected_workloads_there_are_no_templates() -> None:
    with pytest.raises(NotApplicable, match="no workload has pods that are injected"):
        reviewed().shadow.rejected  # noqa: B018


@pytest.mark.parametrize(("required", "error"), [(False, NotApplicable), (True, CouldNotVerify)])
def test_a_simulation_of_an_older_meshgate_sent_no_templates(
    required: bool, error: type[Exception]
) -> None:
    seen = mesh(shadow=Shadow(version="1.29.1"), **expecting(require_shadow=required))

    with pytest.raises(error, match="sent no pod templates"):
        seen.shadow.rejected  # noqa: B018
