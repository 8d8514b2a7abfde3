"""The ClusterRole: all that is read, nothing that writes, and no secret."""

import pytest

from meshgate.collect.plan import ALSO_READ, ANALYZE_READS, PRECHECK_READS, SHADOW_READS
from meshgate.collect.rights import (
    GATES,
    PROBES,
    REPORTS,
    cluster_role,
    probes_role,
    reports_role,
    restart_role,
    role,
    token_role,
)
from meshgate.snapshot.items import KINDS

RULES = cluster_role("verifier")["rules"]
GRANTED = {
    (group, name) for rule in RULES for group in rule["apiGroups"] for name in rule["resources"]
}


def test_it_is_a_cluster_role_of_that_name() -> None:
    role = cluster_role("verifier")

    assert (role["apiVersion"], role["kind"]) == ("rbac.authorization.k8s.io/v1", "ClusterRole")
    assert role["metadata"] == {"name": "verifier"}


def test_it_reads_and_does_nothing_else() -> None:
    assert {verb for rule in RULES for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert {key for rule in RULES for key in rule} == {"apiGroups", "resources", "verbs"}


@pytest.mark.parametrize("forbidden", ["*", "/", "secret"])
def test_no_wildcard_no_subresource_no_secret_is_granted(forbidden: str) -> None:
    assert [name for pair in GRANTED for name in pair if forbidden in name] == []


def test_all_that_is_read_is_granted_and_no_more() -> None:
    listed = {(kind.group, kind.resource) for kind in KINDS.values()}
    others = (*ANALYZE_READS, *PRECHECK_READS, *ALSO_READ)
    asked = {(group, name) for group, names in others for name in names}

    assert listed | asked == GRANTED


def test_what_the_shadow_reads_is_granted_only_where_it_is_wanted() -> None:
    rules = cluster_role("verifier", shadow=True)["rules"]
    granted = {(rule["apiGroups"][0], name) for rule in rules for name in rule["resources"]}
    read = {(group, name) for group, names in SHADOW_READS for name in names}

    assert granted == GRANTED | read != GRANTED
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not [name for _, name in granted if "secret" in name or "/" in name]


def test_where_it_runs_it_may_tell_and_write_nothing_else() -> None:
    granted = role("verifier", "istio-system")

    assert granted["kind"] == "Role"
    assert granted["metadata"] == {"name": "verifier", "namespace": "istio-system"}
    events, pods, jobs = granted["rules"]
    assert (pods["resources"], pods["verbs"]) == (["pods"], ["delete"])
    assert pods["resourceNames"] == ["upgrade-watch"]
    assert (events["resources"], events["verbs"]) == (["events"], ["create"])
    assert (jobs["resources"], jobs["verbs"]) == (["jobs"], ["patch"])
    assert jobs["resourceNames"] == list(GATES)


def test_what_it_keeps_is_in_a_namespace_of_its_own() -> None:
    granted = reports_role("reports")

    assert (granted["kind"], granted["metadata"]["namespace"]) == ("Role", REPORTS)
    (maps,) = granted["rules"]
    assert (maps["apiGroups"], maps["resources"]) == ([""], ["configmaps"])
    assert not {"*", "list", "watch", "deletecollection", "patch"} & set(maps["verbs"])


def test_a_token_is_that_of_one_account() -> None:
    granted = token_role("verifier", "shop/client")

    assert (granted["kind"], granted["metadata"]["namespace"]) == ("Role", "shop")
    (rule,) = granted["rules"]
    assert rule["resources"] == ["serviceaccounts/token"]
    assert rule["resourceNames"] == ["client"]
    assert rule["verbs"] == ["create"]


def test_what_makes_probes_is_for_their_namespace_alone() -> None:
    granted = probes_role("probes")

    assert (granted["kind"], granted["metadata"]["namespace"]) == ("Role", PROBES)
    assert {name for rule in granted["rules"] for name in rule["resources"]} == {
        *("jobs", "pods", "services")
    }
    assert {verb for rule in granted["rules"] for verb in rule["verbs"]} == {
        *("create", "delete", "list")
    }


def test_the_restart_deletes_nothing_and_reads_no_secret() -> None:
    rules = restart_role("restart")["rules"]

    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "patch"}
    assert [rule["resources"] for rule in rules if "patch" in rule["verbs"]] == [
        ["daemonsets", "deployments", "statefulsets"]
    ]
    names = {name for rule in rules for name in rule["resources"]}
    assert not {name for name in names if "secret" in name or "*" in name or "/" in name}


def test_every_group_has_one_rule() -> None:
    groups = [group for rule in RULES for group in rule["apiGroups"]]

    assert groups == sorted(set(groups))
