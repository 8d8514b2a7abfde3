"""Running analyze: whatever istioctl does, it ends in time, leaves nothing, and is not believed
further than it could see."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.istioctl import analyze, precheck, version
from meshgate.collect.kubernetes import Cluster
from meshgate.snapshot.istioctl import Analysis, AnalysisMessage
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import snapshot
from tests.support.fakes import Server, refusal

MESSAGE = {
    "code": "IST0101",
    "documentationUrl": "https://istio.io/v1.29/docs/ist0101/?ref=istioctl-analyze",
    "level": "Error",
    "message": 'Referenced gateway not found: "shop/missing"',
    "origin": "VirtualService shop/lost",
}


@pytest.fixture
def api(serve: Serve) -> Server:
    """An API server."""
    return serve(fakes.api_answers(snapshot()))


Run = Callable[..., Analysis]


@pytest.fixture
def run(api: Server, tmp_path: Path) -> Run:
    """Analyses with an istioctl that does this."""
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    cluster = Cluster(config=str(config), patience=0.0)

    def analyzed(does: str, *, timeout: float = 20.0, **more: Any) -> Analysis:
        program = fakes.istioctl(tmp_path / "istioctl", analyze=does, **more)
        return analyze(cluster, istioctl=str(program), istio_namespace="mesh", timeout=timeout)

    return analyzed


# What a fake istioctl asks the view for, as client-go would: with its kubeconfig alone.
ASK = """{python} - "$KUBECONFIG" {verb} {path} <<'END'
import json, sys, urllib.request
server = json.load(open(sys.argv[1]))["clusters"][0]["cluster"]["server"]
request = urllib.request.Request(server + sys.argv[3], method=sys.argv[2])
try:
    urllib.request.urlopen(request).read()
except urllib.error.HTTPError:
    pass
END"""


def asks(path: str, verb: str = "GET") -> str:
    """The part of a script that asks the view for something, whatever the answer."""
    return ASK.format(python=sys.executable, verb=verb, path=path)


def prints(value: Any) -> str:
    """The part of a script that prints JSON."""
    return f"cat <<'END'\n{json.dumps(value)}\nEND\n"


# --- what it says -------------------------------------------------------------------------------


def test_its_messages_and_its_version_are_read(run: Run) -> None:
    assert run(prints([MESSAGE])) == Analysis(
        istioctl_version="1.29.1",
        messages=(
            AnalysisMessage(
                code="IST0101",
                level="Error",
                message='Referenced gateway not found: "shop/missing"',
                origin="VirtualService shop/lost",
                documentation_url="https://istio.io/v1.29/docs/ist0101/?ref=istioctl-analyze",
            ),
        ),
    )


@pytest.mark.parametrize("empty", ["echo '[]'", "echo null", "true"])
def test_no_message_may_be_said_in_several_ways(run: Run, empty: str) -> None:
    assert run(empty).messages == ()


def test_what_it_logs_is_no_part_of_its_answer(run: Run) -> None:
    assert run("echo a warning >&2; echo '[]'").messages == ()


def test_it_is_told_to_look_everywhere_and_where_istiod_is(run: Run, tmp_path: Path) -> None:
    run(f"echo \"$@\" > {tmp_path}/arguments; echo '[]'")

    arguments = (tmp_path / "arguments").read_text().split()
    assert {"analyze", "--all-namespaces", "--output=json", "--istioNamespace=mesh"} <= set(
        arguments
    )


def test_it_sees_the_cluster_through_the_view_alone(
    run: Run, api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somewhere/else")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("A_TOKEN", "planted")

    run(f"env > {tmp_path}/env; cp $KUBECONFIG {tmp_path}/seen; {asks('/api/v1/pods')}\necho '[]'")

    assert api.asked == ["GET /api/v1/pods"]
    assert api.url not in (tmp_path / "seen").read_text()
    environment = (tmp_path / "env").read_text()
    assert "planted" not in environment
    assert "PROXY" not in environment


def test_its_kubeconfig_is_gone_afterwards(run: Run, tmp_path: Path) -> None:
    run(f"echo $KUBECONFIG > {tmp_path}/where; echo '[]'")

    assert not Path((tmp_path / "where").read_text().strip()).exists()


# --- what it could not see ----------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["echo '[]'", "exit 1", "sleep 60"])
def test_a_read_that_the_view_does_not_serve_is_named_at_once(run: Run, ends: str) -> None:
    path = "/api/v1/namespaces/shop/pods/web-1/log"
    began = time.monotonic()

    with pytest.raises(ReadError, match=f"does not serve GET {path}, which istioctl analyze"):
        run(f"{asks(path)}\n{ends}", timeout=30.0)

    assert time.monotonic() - began < 20


@pytest.mark.parametrize("ends", ["echo '[]'", "exit 1", "sleep 60"])
def test_a_right_that_is_missing_is_named_however_it_ends(run: Run, api: Server, ends: str) -> None:
    api.answers["/apis/apps/v1/deployments"] = refusal(403, "forbidden")
    began = time.monotonic()

    with pytest.raises(ReadError, match=r"no right to list deployments\.apps") as raised:
        run(f"{asks('/apis/apps/v1/deployments')}\n{ends}", timeout=30.0)

    assert "grant `list deployments.apps`" in raised.value.remedy
    assert time.monotonic() - began < 20


# --- what goes wrong ----------------------------------------------------------------------------


def test_one_that_hangs_is_ended_in_time_with_all_that_it_started(run: Run, tmp_path: Path) -> None:
    began = time.monotonic()

    with pytest.raises(ReadError, match=r"istioctl analyze did not finish within 0\.5 s"):
        run(f"sleep 61 & echo $$ $! > {tmp_path}/pids; sleep 62", timeout=0.5)

    assert time.monotonic() - began < 10
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert [pid for pid in pids if lives(pid)] == []


def lives(pid: str) -> bool:
    """Whether a process runs, or is on its way out for more than some seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state == "Z":
            return False
        os.sched_yield()
    return True


def test_one_whose_version_hangs_is_ended_in_time(run: Run) -> None:
    with pytest.raises(ReadError, match="istioctl version did not finish"):
        run("echo '[]'", version="sleep 60", timeout=0.3)


def test_one_that_fails_says_its_last_words(run: Run) -> None:
    with pytest.raises(ReadError, match="istioctl analyze failed with 64: unknown flag --output"):
        run("echo usage >&2; echo unknown flag --output >&2; exit 64")


def test_one_that_fails_is_not_believed_whatever_it_printed(run: Run) -> None:
    with pytest.raises(ReadError, match="failed with 3: no message"):
        run("echo '[]'; exit 3")


@pytest.mark.parametrize(
    "junk",
    [
        "echo no validation issues found",
        'echo \'{"code": "IST0101"}\'',
        'echo \'[{"code": "IST0101"}]\'',
        'printf \'[{"code": "\\377"}]\'',
        "echo '[] and more'",
    ],
)
def test_what_is_no_list_of_messages_is_not_believed(run: Run, junk: str) -> None:
    with pytest.raises(ReadError, match="cannot read what istioctl printed"):
        run(junk)


def test_a_version_that_is_none_is_not_believed(run: Run) -> None:
    with pytest.raises(ReadError, match="cannot read what istioctl printed"):
        run("echo '[]'", version="echo 1.29.1")


@pytest.mark.parametrize("named", ["{tmp_path}/missing", "no-such-istioctl", "{tmp_path}"])
def test_a_program_that_is_not_there_is_told(api: Server, tmp_path: Path, named: str) -> None:
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    name = named.format(tmp_path=tmp_path)

    with pytest.raises(ReadError, match=r"there is no .* to run analyze with") as raised:
        analyze(Cluster(config=str(config)), istioctl=name, istio_namespace="x", timeout=5.0)

    assert "--istioctl" in raised.value.remedy


def test_a_program_that_cannot_be_run_is_told(api: Server, tmp_path: Path) -> None:
    broken = tmp_path / "istioctl"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(0o755)
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)

    with pytest.raises(ReadError, match="cannot run"):
        analyze(Cluster(config=str(config)), istioctl=str(broken), istio_namespace="x", timeout=5.0)


# --- precheck -----------------------------------------------------------------------------------

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture
def checked(api: Server, tmp_path: Path) -> Run:
    """Prechecks with an istioctl that does this."""
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    cluster = Cluster(config=str(config), patience=0.0)

    def run(does: str) -> Analysis:
        program = fakes.istioctl(tmp_path / "istioctl", precheck=does)
        return precheck(cluster, istioctl=str(program), istio_namespace="mesh", timeout=20.0)

    return run


def test_a_precheck_that_finds_something_fails_and_is_read(checked: Run) -> None:
    found = checked(f"{prints([MESSAGE])}\nexit 1")

    assert [each.code for each in found.messages] == ["IST0101"]
    assert found.istioctl_version == "1.29.1"


def test_a_precheck_that_finds_nothing_prints_nothing(checked: Run) -> None:
    assert checked("echo 'No issues found' >&2").messages == ()


@pytest.mark.parametrize("does", ["echo 'no such host' >&2; exit 1", "echo '[]'; exit 64"])
def test_a_precheck_that_did_not_run_is_told(checked: Run, does: str) -> None:
    with pytest.raises(ReadError, match="istioctl x precheck failed with"):
        checked(does)


def test_whether_it_may_create_is_answered_by_the_view(checked: Run, api: Server) -> None:
    found = checked(f"{asks(REVIEWS, 'POST')}\ntrue")

    assert found.refused == ()
    assert api.asked == []


def test_its_version_is_told_without_a_cluster(tmp_path: Path) -> None:
    assert version(str(fakes.istioctl(tmp_path / "istioctl")), 20.0) == "1.29.1"
