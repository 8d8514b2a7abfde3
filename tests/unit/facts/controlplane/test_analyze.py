"""What analyze says: errors one by one, warnings by code, and nothing of what it could not see."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.controlplane.analyze import AnalyzeMessages
from meshgate.facts.mesh import Mesh
from meshgate.snapshot import model
from meshgate.snapshot.istio import HttpRoute, VirtualService, VirtualServiceSpec
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.model import Before, KnownProblem
from meshgate.verdict import CouldNotVerify
from tests.support.builders import AT, expecting, mesh, message, without

ERROR = message("IST0101", text='Referenced gateway not found: "shop/missing"')
CREDENTIAL = message(
    "IST0101", text='Referenced credentialName not found: "web-tls"', origin="Gateway shop/web"
)
WARNING = message("IST0107", "Warning", "Misplaced annotation", "Pod shop/web-1")
REGISTRY = message("IST0126", text="Unknown service registry west in network n1")
INFO = message("IST0102", "Info", "not injected", "Namespace legacy")


def analysis(
    *messages: AnalysisMessage, refused: tuple[str, ...] = (), threshold: str = "Error"
) -> AnalyzeMessages:
    """What analyze said."""
    said = Analysis(istioctl_version="1.29.1", messages=messages, refused=refused)
    return mesh(analysis=said, **expecting(failure_threshold=threshold)).analysis


def test_every_error_is_a_finding_with_its_object_its_code_and_its_page() -> None:
    (finding,) = analysis(ERROR, WARNING, INFO).errors

    assert finding.subject == "VirtualService shop/web"
    assert finding.seen == 'IST0101 Referenced gateway not found: "shop/missing"'
    assert "https://istio.io/v1.29/ist0101/" in finding.remedy
    assert "?ref=" not in finding.remedy
    assert not finding.transient


def test_istioctl_of_another_minor_version_than_the_target_is_no_pass() -> None:
    facts = mesh(**expecting(target_version="1.30.0"))

    with pytest.raises(CouldNotVerify, match=r"version 1\.29\.1, and the target is 1\.30") as error:
        facts.analysis.errors  # noqa: B018

    assert "-istio1.30.0" in error.value.remedy
    assert mesh(**expecting(target_version="1.29.4")).analysis.errors == []


def test_an_error_of_no_object_is_the_meshes() -> None:
    (finding,) = analysis(message("IST0001", origin="")).errors

    assert finding.subject == "the mesh"


def test_every_error_is_told() -> None:
    assert len(analysis(ERROR, ERROR, message("IST0145")).errors) == 3


def test_from_the_threshold_on_everything_is_told_one_by_one() -> None:
    strict = analysis(ERROR, WARNING, WARNING, INFO, threshold="Warning")

    assert [finding.seen[:7] for finding in strict.errors] == ["IST0101", "IST0107", "IST0107"]
    assert strict.warnings == []


@pytest.mark.parametrize("seeming", [CREDENTIAL, REGISTRY], ids=["credential", "registry"])
def test_what_only_seems_missing_is_left_out(seeming: AnalysisMessage) -> None:
    assert analysis(seeming).errors == []


def test_how_many_were_left_out_is_told() -> None:
    words = analysis(CREDENTIAL, CREDENTIAL, REGISTRY, ERROR).left_out

    assert words.startswith("3 messages of istioctl analyze (IST0101, IST0126) are omitted")
    assert analysis(ERROR).left_out == ""


@pytest.mark.parametrize(
    "other",
    [ERROR, message("IST0161", text=CREDENTIAL.message), message("IST0101", text="")],
    ids=["another reference", "another code", "no text"],
)
def test_nothing_else_is_left_out(other: AnalysisMessage) -> None:
    assert len(analysis(CREDENTIAL, other).errors) == 1


def test_warnings_are_one_finding_a_code_that_says_how_many() -> None:
    first, second = analysis(WARNING, ERROR, WARNING, message("IST0133", "Warning")).warnings

    assert first.subject == "Pod shop/web-1"
    assert first.seen.startswith("IST0107 Misplaced annotation (1 more")
    assert "IST0133" in second.seen
    assert "more" not in second.seen


def test_no_message_is_no_finding() -> None:
    assert (analysis().errors, analysis().warnings) == ([], [])


@pytest.mark.parametrize("fact", ["errors", "warnings"])
def test_an_analysis_that_was_refused_something_proves_nothing(fact: str) -> None:
    with pytest.raises(CouldNotVerify, match="refused 2 reads, the first was GET /a") as raised:
        getattr(analysis(refused=("GET /a", "GET /b")), fact)

    assert "1.29.1" in raised.value.remedy
    assert not raised.value.transient


def test_what_could_disprove_a_message_must_have_been_read() -> None:
    said = Analysis(istioctl_version="1.29.1", messages=(ERROR,))
    unread = msgspec.structs.replace(without("virtual_services"), analysis=said)

    with pytest.raises(CouldNotVerify):
        _ = Mesh(unread).analysis.errors


def test_two_messages_about_one_object_are_two_problems() -> None:
    first, second = analysis(
        ERROR, message("IST0101", text='Referenced gateway not found: "b"')
    ).errors

    assert first.identity != second.identity


@pytest.mark.parametrize(
    ("analyzed_by", "closes"), [("1.29.1", False), ("1.30.4", True), ("", True)]
)
def test_a_code_that_the_baselines_istioctl_did_not_have_is_a_warning(
    analyzed_by: str, closes: bool
) -> None:
    new = message("IST0175", "Warning", "jwksUri is not restricted")
    said = Analysis(istioctl_version="1.30.4", messages=(new,))
    before = Before(taken=AT, analyzed_by=analyzed_by)
    facts = mesh(analysis=said, **expecting(failure_threshold="Warning", before=before)).analysis

    assert bool(facts.errors) is closes
    assert ["1.29.1" in each.seen for each in facts.warnings] == ([] if closes else [True])


def now_and_before(
    message: AnalysisMessage,
    *,
    uid: str = "a",
    generation: int = 4,
    analyzed_by: str = "1.29.1",
    reported: tuple[AnalysisMessage, ...] = (),
    known: tuple[KnownProblem, ...] = (),
    others: tuple[VirtualService, ...] = (),
) -> AnalyzeMessages:
    """The same mesh, analyzed by istioctl 1.30.4, and its baseline by another version."""
    said = Analysis(istioctl_version="1.30.4", messages=(message,))
    baseline = mesh(
        analysis=Analysis(istioctl_version=analyzed_by, messages=reported),
        virtual_services=(virtual_service(uid, generation),),
    )
    criteria = expecting(before=model.before(baseline.evidence.snapshot), known_problems=known)
    services = (virtual_service("a", 4), *others)
    return mesh(analysis=said, virtual_services=services, **criteria).analysis


def virtual_service(uid: str, generation: int, name: str = "web") -> VirtualService:
    metadata = Metadata(name=name, namespace="shop", uid=uid, generation=generation)
    spec = VirtualServiceSpec(hosts=("web",), http=(HttpRoute(),))
    return VirtualService(metadata=metadata, spec=spec)


INVALID = message("IST0106", text="Schema validation error: a route needs a destination")
CONFLICT = message("IST0109", text="The VirtualServices shop/web,shop/old define the same host")
OLD = virtual_service("b", 1, "old")


def test_a_validation_error_of_a_newer_istioctl_about_an_unchanged_object_is_a_warning() -> None:
    found = now_and_before(INVALID)

    assert found.errors == []
    (finding,) = found.warnings
    assert finding.subject == "VirtualService shop/web"
    assert "a route needs a destination New only because istioctl is newer" in finding.seen
    assert "istioctl 1.29.1, which analyzed the baseline, did not report it" in finding.seen
    assert "the object has not changed since (validation reads only the object)" in finding.seen


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"generation": 3}, id="changed"),
        pytest.param({"uid": "c"}, id="created again"),
        pytest.param({"uid": ""}, id="without an identity"),
        pytest.param({"analyzed_by": "1.30.4"}, id="same istioctl"),
        pytest.param({"analyzed_by": "1.31.0"}, id="older istioctl"),
        pytest.param({"analyzed_by": ""}, id="version not known"),
        pytest.param({"reported": (INVALID,)}, id="reported before"),
        pytest.param(
            {"reported": (message("IST0106", text="another sentence"),)}, id="worded otherwise"
        ),
        pytest.param({"message": ERROR}, id="a code that depends on other kinds"),
        pytest.param(
            {"message": message("IST0106", origin="VirtualService shop/new")}, id="a new object"
        ),
        pytest.param(
            {"message": message("IST0106", origin="Sidecar shop/web")}, id="a kind that is not read"
        ),
        pytest.param({"message": CONFLICT, "others": (OLD,)}, id="conflict with a new object"),
    ],
)
def test_other_messages_of_a_newer_istioctl_close_the_gate(changes: dict[str, Any]) -> None:
    assert len(now_and_before(**{"message": INVALID, **changes}).errors) == 1


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        pytest.param(CONFLICT, {}, id="no object of the kind has changed"),
        pytest.param(INVALID, {"others": (OLD,)}, id="another object has changed"),
        pytest.param(
            INVALID,
            {
                "reported": (message("IST0106", text="another sentence"),),
                "known": (KnownProblem("CP006", "VirtualService shop/web", "IST0106"),),
            },
            id="accepted, and worded otherwise",
        ),
    ],
)
def test_what_a_message_depends_on_has_not_changed(
    message: AnalysisMessage, changes: dict[str, Any]
) -> None:
    found = now_and_before(message, **changes)

    assert (len(found.errors), len(found.warnings)) == (0, 1)


def test_a_baseline_of_an_earlier_release_proves_no_object_unchanged() -> None:
    before = Before(taken=AT, analyzed_by="1.29.1")
    said = Analysis(istioctl_version="1.30.4", messages=(INVALID,))
    services = (virtual_service("a", 4),)

    facts = mesh(analysis=said, virtual_services=services, **expecting(before=before)).analysis

    assert len(facts.errors) == 1
