"""One report over many clusters: its verdict, its causes once, and its pages."""

import time
from datetime import timedelta
from typing import Any

import jsonschema
import msgspec
import pytest

from meshgate.report.fleet import (
    Evaluation,
    FleetReport,
    SeenChange,
    fleet_lines,
    fleet_report,
    schema,
    seen_changes,
)
from meshgate.report.fleet_comment import MARKER, comment
from meshgate.report.fleet_page import fleet_page
from meshgate.report.json import report
from meshgate.report.run import Run
from meshgate.snapshot.recording import Recording
from meshgate.snapshot.shadow import Change, ProxyClass, Shadow
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.conftest import ROOT
from tests.support.builders import AT, snapshot

STAGE = {"PC101": "precheck", "PC103": "precheck", "PC009": "precheck"}
PASSED = Outcome("PC101", Verdict.PASS)
SCRIPT = Finding(
    "EnvoyFilter payments/script",
    "Envoy 1.31.0 rejects listener virtualInbound of web-1.payments: no such filter",
    remedy="correct the object that causes it before the upgrade",
    problem="rejected-by-envoy",
    about=(("part", "listener virtualInbound"),),
)
SIDECAR = Finding(
    "Namespace shop", "the injector of 1.31.0 adds no sidecar to its pods: no", problem="no-sidecar"
)
EVERYWHERE = SeenChange("added: cluster commonLbConfig/healthyPanicThreshold", 40, everywhere=True)
EVIL = "<script>alert(1)</script> @all `x` [a](b) | c"


def head(cluster: str, hours: float = 2) -> Recording:
    """The head of a recording that is so many hours old."""
    return Recording(
        cluster=cluster,
        taken=AT - timedelta(hours=hours),
        sha256="0123456789abcdef" * 4,
        size=1,
        meshgate_version="0.0.0",
        versions="1.30.4",
        revisions="default",
    )


def evaluated(cluster: str, *outcomes: Outcome, hours: float = 2, **fields: Any) -> Evaluation:
    """The result of a cluster with these outcomes."""
    run = Run(ruling(outcomes or (PASSED,), STAGE), snapshot())
    given = {"proxies": 20, "classes": 4, **fields}
    return Evaluation(cluster=cluster, recording=head(cluster, hours), report=report(run), **given)


def failed(check: str, *findings: Finding) -> Outcome:
    """A check with these findings."""
    return Outcome(check, Verdict.FAIL, findings=findings)


def fleet(*evaluations: Evaluation) -> FleetReport:
    """The report at a certain time."""
    return fleet_report(
        evaluations,
        target="1.31.0",
        made=AT,
        max_age=timedelta(days=1),
        meshgate_version="0.2.0",
    )


UNKNOWN = Outcome("PC009", Verdict.UNKNOWN, why="no right to list pods")
MIXED = fleet(
    evaluated("eu-1", changes=(EVERYWHERE,)),
    evaluated("eu-2", failed("PC101", SCRIPT), sources={SCRIPT.subject: "apps/payments/f.yaml"}),
    evaluated("eu-3", failed("PC101", SCRIPT), changes=(EVERYWHERE,)),
    evaluated("us-1", failed("PC103", SIDECAR), PASSED),
    evaluated("us-2", UNKNOWN, PASSED),
    evaluated("us-3", hours=49),
    evaluated("us-4"),
    Evaluation(cluster="us-5", why="it has no recording in s3://bucket"),
)


def test_a_fleet_without_breakage_is_open() -> None:
    found = fleet(evaluated("a"), evaluated("b", changes=(EVERYWHERE,)))

    assert (found.gate, found.exit) == ("open", 0)
    assert [each.state for each in found.clusters] == ["would change", "no change"]
    assert found.sentence == "Istio 1.31.0: 2 clusters without breakage"


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (evaluated("b", failed("PC101", SCRIPT)), 1),
        (evaluated("b", UNKNOWN), 10),
        (evaluated("b", hours=25), 10),
        (Evaluation(cluster="b", why="it has no recording"), 10),
        (evaluated("b", Outcome("PC101", Verdict.NOT_APPLICABLE, why="no proxies")), 10),
        (evaluated("b", failed("PC101")), 1),
    ],
    ids=["breaks", "unknown", "too old", "no recording", "no evidence", "no finding"],
)
def test_one_cluster_closes_the_gate_of_all(other: Evaluation, code: int) -> None:
    assert fleet(evaluated("a"), other).exit == code
    assert fleet(evaluated("a"), other).gate == "closed"


def test_breakage_outweighs_what_is_unknown() -> None:
    assert MIXED.exit == 1


def test_without_clusters_nothing_was_verified() -> None:
    assert fleet().exit == 10


def test_an_old_recording_that_breaks_is_reported_as_breakage() -> None:
    (found,) = fleet(evaluated("a", failed("PC101", SCRIPT), hours=49)).clusters

    assert found.state == "would break"


def test_a_cause_of_several_clusters_is_shown_once() -> None:
    first, second = MIXED.causes

    assert (first.subject, first.clusters) == ("EnvoyFilter payments/script", ("eu-2", "eu-3"))
    assert first.source == "apps/payments/f.yaml"
    assert (second.check, second.clusters) == ("PC103", ("us-1",))
    assert {each.name: each.causes for each in MIXED.of("would break")} == {
        "eu-2": (0,),
        "eu-3": (0,),
        "us-1": (1,),
    }


def test_the_sentence_counts_every_cluster_once() -> None:
    assert MIXED.sentence == (
        "Istio 1.31.0: 3 clusters would break · 2 clusters could not be verified · 1 recording "
        "older than 1 day · 2 clusters without breakage"
    )


def test_what_changes_everywhere_is_one_line_with_counts() -> None:
    (change,) = MIXED.changes

    assert (change.clusters, change.places, change.everywhere) == (2, 80, True)
    assert f"change all proxies of 2 clusters: {EVERYWHERE.what}" in list(fleet_lines(MIXED))


def test_the_last_line_is_the_verdict() -> None:
    assert list(fleet_lines(MIXED))[-1] == f"GATE CLOSED  {MIXED.sentence}"


def test_the_document_fits_its_schema() -> None:
    document = msgspec.json.decode(msgspec.json.encode(MIXED))

    jsonschema.validate(document, schema())


def test_changes_are_counted_without_the_names_of_list_items() -> None:
    def change(name: str, path: str = "", kind: str = "added") -> Change:
        return Change(kind=kind, type="cluster", resource=name, path=path)

    shadow = Shadow(
        version="1.31.0",
        classes=(
            ProxyClass(
                proxies=("a.b", "c.b"),
                changes=(change("x", "/endpoints[1]"), change("y", "/endpoints[2]"), change("z")),
            ),
            ProxyClass(proxies=("d.b",), changes=(change("z"), change("gone", kind="removed"))),
        ),
    )

    assert set(seen_changes(shadow)) == {
        SeenChange("added: cluster", 2, everywhere=True),
        SeenChange("added: cluster /endpoints[]", 2, everywhere=False),
    }


# --- the page -------------------------------------------------------------------------------------


def test_the_page_names_each_cluster_and_cause() -> None:
    page = fleet_page(MIXED)

    for words in (*(each.name for each in MIXED.clusters), "apps/payments/f.yaml", "Gate closed."):
        assert words in page
    assert '<a href="#cause-0">PC101</a>' in page


def test_the_page_of_forty_clusters_is_small_and_made_quickly() -> None:
    many = [
        evaluated(
            f"cluster-{number}",
            failed(
                "PC101",
                *(msgspec.structs.replace(SCRIPT, subject=f"EnvoyFilter a/{n}") for n in range(50)),
            ),
            changes=tuple(SeenChange(f"added: {n}", 3, everywhere=False) for n in range(500)),
        )
        for number in range(40)
    ]
    found = fleet(*many)

    begun = time.process_time()
    page = fleet_page(found)

    assert time.process_time() - begun < 1
    # a browser shows this much text without a script at once
    assert len(page) < 500_000


def test_text_of_a_mesh_is_no_markup() -> None:
    evil = fleet(evaluated(EVIL, failed("PC101", Finding(EVIL, EVIL, remedy=EVIL))))

    assert "<script" not in fleet_page(evil)
    made = comment(evil)
    assert "<script" not in made
    assert "@all" not in made
    assert "[a](b)" not in made


# --- the comment ----------------------------------------------------------------------------------


def test_the_comment_is_as_it_was_reviewed() -> None:
    assert comment(MIXED) == (ROOT / "tests/fixtures/fleet-comment.md").read_text()


def test_a_comment_fits_into_what_a_forge_accepts() -> None:
    long = Finding("Pod " + "a" * 300, "x" * 2000, problem="p")
    many = [
        evaluated(f"cluster-{number}-" + "x" * 200, failed("PC101", long)) for number in range(900)
    ]

    made = comment(fleet(*many))

    assert len(made.encode()) < 65_536
    assert made.startswith(MARKER)
