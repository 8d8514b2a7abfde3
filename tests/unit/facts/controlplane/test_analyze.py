"""What analyze says: errors one by one, warnings by code, and nothing of what it could not see."""

import pytest

from meshgate.facts.controlplane.analyze import AnalyzeMessages
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from meshgate.verdict import CouldNotVerify
from tests.builders import expecting, mesh, message

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

    assert words.startswith("3 findings of istioctl analyze (IST0101, IST0126) were left out")
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
