"""One cause for findings that name the same object, ordered by what has to be fixed first."""

import pytest

from meshgate.catalogue import checks
from meshgate.report.causes import Cause, Member, Rank, causes
from meshgate.verdict import Finding, Outcome, Verdict, ruling

STAGES = {id: row.stage for id, row in checks().items()}

FILTER = Finding(
    "EnvoyFilter shop/broken",
    "Envoy 1.31.0 rejects listener virtualInbound of web-5d4-abcde.shop: no such filter",
    problem="rejected-by-envoy",
)
PUSH = Finding(
    "Pod shop/web-5d4-abcde",
    "rejected its Listener configuration: no such filter",
    remedy="correct EnvoyFilter shop/other or shop/broken",
    problem="rejected-push",
    owner="Deployment shop/web",
)
PENDING = Finding(
    "Pod istio-system/istiod-7d9-fghij",
    "not PodScheduled: 0/1 nodes are available",
    problem="not-ready",
    owner="Deployment istio-system/istiod",
)
ROLLOUT = Finding("Deployment istio-system/istiod", "1 of 2 available", problem="not-rolled-out")


def old(name: str, version: str = "1.30.4", kind: str = "Deployment") -> Finding:
    """A sidecar that was not restarted."""
    return Finding(
        f"Pod shop/{name}-6c7-xyzab",
        f"its sidecar is {version}: {kind} {name} was not restarted",
        "1.31.0",
        f"kubectl -n shop rollout restart {kind.lower()}/{name}",
        problem="wrong-version",
        owner=f"{kind} shop/{name}",
        about=(("version", version),),
    )


def found(**outcomes: tuple[Finding, ...] | str) -> tuple[Cause, ...]:
    """The causes of failed checks (findings) and of UNKNOWN ones (why)."""
    taken = [
        Outcome(id, Verdict.UNKNOWN, why=each, remedy="do this")
        if isinstance(each, str)
        else Outcome(id, Verdict.FAIL, findings=each)
        for id, each in outcomes.items()
    ]
    return causes(ruling(taken, STAGES), "1.31.0")


def test_a_rejected_push_and_the_filter_that_it_names_are_one_cause() -> None:
    (cause,) = found(PC101=(FILTER,), CP004=(PUSH,))

    assert cause.checks == ("CP004", "PC101"), "what was seen comes before what was simulated"
    assert cause.title == "EnvoyFilter shop/broken"
    assert cause.remedy == "kubectl -n shop get envoyfilter broken -o yaml"


def test_a_restart_does_not_solve_a_rejected_configuration_of_the_same_pod() -> None:
    first, second = found(CP004=(PUSH,), DP002=(old("web"),))

    assert (first.checks, second.checks) == (("CP004",), ("DP002",))
    assert second.title == "restart Deployment shop/web"
    assert second.remedy == "kubectl -n shop rollout restart deployment/web"


def test_two_filters_that_break_two_pods_are_two_causes() -> None:
    other = Finding("EnvoyFilter pay/odd", "rejects listener of api-1.pay", problem="x")

    assert {each.title for each in found(PC101=(FILTER, other), CP004=(PUSH,))} == {
        "EnvoyFilter shop/broken",
        "EnvoyFilter pay/odd",
    }


def test_a_pod_that_is_not_scheduled_explains_the_rollout() -> None:
    (cause,) = found(CP001=(ROLLOUT,), CP002=(PENDING,))

    assert cause.rank is Rank.NODE
    assert cause.title == "unschedulable node"
    assert cause.checks == ("CP002", "CP001")


def test_equal_findings_of_many_objects_are_one_cause_with_one_remedy() -> None:
    (cause,) = found(DP002=(old("web"), old("api"), old("cache", kind="StatefulSet")))

    assert len(cause.members) == 3
    assert cause.title == "restart 3 workloads"
    assert cause.remedy == "meshgate restart --target-version=1.31.0"


def test_what_one_restart_solves_is_one_cause() -> None:
    gateway = old("gw")
    pod = Finding("Pod edge/gw-2", "its proxy is 1.30.4", remedy=gateway.remedy, problem="old")

    (cause,) = found(DP002=(gateway,), IG001=(pod,))

    assert cause.checks == ("IG001", "DP002")


def test_different_problems_of_one_check_are_different_causes() -> None:
    assert len(found(DP002=(old("web"), old("api", "1.29.1")))) == 2


def test_causes_come_in_the_order_in_which_they_are_fixed() -> None:
    gateway = Finding("Pod edge/gw-1", "its proxy is 1.30.4", problem="wrong-version")

    ranks = [
        each.rank
        for each in found(
            DP002=(old("web"),),
            IG001=(gateway,),
            CP004=(PUSH,),
            CP001=(ROLLOUT,),
            CP002=(PENDING,),
            CP003="no right to list pods: forbidden",
        )
    ]

    assert ranks == [
        Rank.ACCESS,
        Rank.NODE,
        Rank.CONFIGURATION,
        Rank.GATEWAY,
        Rank.RESTART,
    ]


def test_missing_permissions_are_one_cause_that_names_all_of_them() -> None:
    (cause,) = found(
        CP001="no right to list pods: pods is forbidden",
        CP004="no right to list pods: pods is forbidden",
        CP006="no right to list gateways, list services, which istioctl analyze needs",
    )

    assert cause.checks == ("CP001", "CP004", "CP006")
    assert cause.why == "no right to list gateways, list services, list pods"
    assert cause.remedy == "meshgate rbac | kubectl apply -f -"


@pytest.mark.parametrize(
    "why",
    [
        "cannot reach the API server 10.0.0.1:6443: connection refused",
        "the API server 10.0.0.1 does not accept our credentials (401 Unauthorized)",
    ],
)
def test_an_api_server_that_does_not_answer_is_one_cause(why: str) -> None:
    (cause,) = found(CP001=why, CP002=why, DP001=why)

    assert cause.rank is Rank.ACCESS
    assert cause.checks == ("CP001", "CP002", "DP001")
    assert cause.remedy == "do this"


def test_checks_that_are_unknown_for_different_reasons_are_different_causes() -> None:
    assert len(found(CP001="istiod did not answer", CP006="there is no istioctl")) == 2


def test_every_finding_is_in_exactly_one_cause() -> None:
    given = {"PC101": (FILTER,), "CP004": (PUSH,), "DP002": (old("web"), old("api"))}

    members = [member for cause in found(**given) for member in cause.members]

    assert sorted(members) == sorted(
        Member(id, each) for id, findings in given.items() for each in findings
    )


def test_a_check_that_failed_without_a_finding_is_a_cause() -> None:
    (cause,) = causes(ruling([Outcome("CP002", Verdict.FAIL, why="2 != 3")], STAGES))

    assert (cause.checks, cause.why) == (("CP002",), "2 != 3")


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        ("its sidecar is old: Deployment web was not restarted", "it was not restarted"),
        ("shop/web is red", "it is red"),
        ("web.example.com is red", "web.example.com is red"),
        ("web-2 is red", "web-2 is red"),
    ],
)
def test_a_sentence_names_its_own_object_it(seen: str, sentence: str) -> None:
    assert Member("DP002", Finding("Deployment shop/web", seen)).sentence.endswith(sentence)
