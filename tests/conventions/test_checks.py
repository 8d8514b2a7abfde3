"""A check is complete: its row, its test, its page, its replay case, and the items that it reads.

Each test here reports one of CONTRIBUTING's five steps and names the check; `make check` runs them.
"""

import ast
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest

from meshgate.catalogue import STAGES, checks
from meshgate.cli import options as cli
from meshgate.facts.evidence import Evidence
from meshgate.facts.mesh import Mesh
from meshgate.plugin.settling import ARGUMENTS
from meshgate.snapshot.declared_pairs import PairAnswers
from meshgate.snapshot.image_pulls import ImagePulls
from meshgate.snapshot.ingress import Answer
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    AuthorizationRule,
    ExtensionProvider,
)
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.items import ITEMS
from meshgate.snapshot.kubernetes import (
    Condition,
    Container,
    Controller,
    ControllerSpec,
    ControllerStatus,
    Job,
    Metadata,
    Namespace,
    PodSpec,
    PodTemplate,
)
from meshgate.snapshot.model import Before, Snapshot
from meshgate.snapshot.new_pods import NewPod, NewPods, ResourceQuota
from meshgate.snapshot.retry_after import HeaderRule, RetryFilters
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.store import load
from meshgate.snapshot.traffic_metrics import TrafficLimits, TrafficMetrics
from meshgate.snapshot.upgrade import Node, NodeStatus
from meshgate.verdict import Basis, CouldNotVerify, NotApplicable
from tests.conftest import ROOT
from tests.support import ambient_builders, ingress_builders, upgrade_builders, watch_builders
from tests.support.builders import (
    AT,
    HTTP,
    expecting,
    istiod,
    message,
    pod,
    pushed,
    reading,
    retry_filter,
    retry_patch,
    running,
    sidecar,
    snapshot,
    sync,
)
from tests.support.mtls_builders import (
    SILENT,
    declared_pair,
    destination_rule,
    port_probe,
    port_probes,
    service,
)
from tests.support.tunnel_builders import ambient_mesh, waypoint_mesh

FOLDER = ROOT / "verification"
SECTIONS = [
    *("What it proves", "Why it matters", "Fails when", "Unknown when", "False alarms"),
    *("Verify by hand", "Fix"),
]
FILES = sorted(FOLDER.glob("*.py"))


def imported(file: Path) -> ModuleType:
    """A file of claims, imported as what it is."""
    spec = importlib.util.spec_from_file_location(f"claims_of_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = {file.name: imported(file) for file in FILES}
CLAIMS: dict[str, Callable[..., None]] = {
    f"{file}::{name}": function
    for file, module in MODULES.items()
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if name.startswith("test_")
}
each_file = pytest.mark.parametrize("file", MODULES)
each_claim = pytest.mark.parametrize("claim", CLAIMS)
each_row = pytest.mark.parametrize("id", checks())


def marks(marked: Any) -> list[pytest.Mark]:
    """The marks of a module or a function."""
    found = getattr(marked, "pytestmark", [])
    return [each.mark if hasattr(each, "mark") else each for each in _several(found)]


def _several(found: Any) -> Iterable[Any]:
    return found if isinstance(found, list) else [found]


def ids(claim: str) -> list[str]:
    """The checks that a claim says that it is."""
    return [arg for mark in marks(CLAIMS[claim]) if mark.name == "check" for arg in mark.args]


# --- the files ----------------------------------------------------------------------------------


def test_the_folder_holds_claims_alone() -> None:
    assert FILES
    strangers = [
        file.name
        for file in FOLDER.iterdir()
        if file.name != "__pycache__" and not file.match("verify_*.py") | file.match("check_*.py")
    ]

    assert strangers == []


@each_file
def test_a_file_is_of_one_stage_and_its_checks_are_too(file: str) -> None:
    (stage,) = [mark.name for mark in marks(MODULES[file])]

    assert stage in STAGES
    rows = [checks()[id] for claim in CLAIMS if claim.startswith(f"{file}::") for id in ids(claim)]
    assert rows, "it claims nothing"
    assert {row.stage for row in rows} == {stage}


@each_file
def test_a_file_says_what_it_is_about_and_runs_by_itself(file: str) -> None:
    source = (FOLDER / file).read_text()

    assert ast.get_docstring(ast.parse(source))
    assert source.endswith(
        'if __name__ == "__main__":\n    raise SystemExit(run_alone(__file__))\n'
    )


# --- the claims ---------------------------------------------------------------------------------


@each_claim
def test_a_claim_is_one_check_and_marked_with_nothing_else(claim: str) -> None:
    assert [mark.name for mark in marks(CLAIMS[claim])] == ["check"], "one check, no parameters"
    assert len(ids(claim)) == 1


@each_claim
def test_a_claim_takes_only_what_it_can_be_settled_with(claim: str) -> None:
    assert set(inspect.signature(CLAIMS[claim]).parameters) <= ARGUMENTS


@each_claim
def test_a_claim_says_why_it_matters(claim: str) -> None:
    assert inspect.getdoc(CLAIMS[claim])


@each_claim
def test_a_claim_asserts_once_and_lists_its_offenders(claim: str) -> None:
    tree = ast.parse(inspect.getsource(CLAIMS[claim]))

    (assertion,) = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert isinstance(assertion.msg, ast.Call)
    assert ast.unparse(assertion.msg.func) == "listed"


@each_claim
def test_a_claim_warns_and_counts_before_it_asserts(claim: str) -> None:
    (function,) = ast.parse(inspect.getsource(CLAIMS[claim])).body

    assert isinstance(function, ast.FunctionDef)
    assert isinstance(function.body[-1], ast.Assert), "what follows is lost if the check fails"


@each_claim
def test_a_claim_counts_what_it_is_based_on(claim: str) -> None:
    assert "basis" in arguments(CLAIMS[claim])

    counted = [each for seen in MESHES.values() if (each := passed(CLAIMS[claim], seen))]

    assert [str(each) for each in counted if not str(each)] == [], "it passed and counted nothing"


def test_every_row_is_one_claim_and_every_claim_one_row() -> None:
    assert sorted(id for claim in CLAIMS for id in ids(claim)) == sorted(checks())


# --- the rows -----------------------------------------------------------------------------------


@each_row
def test_a_row_is_of_a_stage_and_reads_what_can_be_read(id: str) -> None:
    row = checks()[id]

    assert row.stage in STAGES
    assert row.reads, "a claim that reads nothing proves nothing"
    assert set(row.reads) <= ITEMS
    assert row.title
    assert row.hint


@each_row
def test_a_row_has_a_page_that_begins_with_its_claim(id: str) -> None:
    row = checks()[id]

    page = (ROOT / row.page).read_text()

    assert page.splitlines()[0] == f"# {id}: {row.title}"


@each_row
def test_a_page_has_the_same_sections_as_every_other(id: str) -> None:
    page = (ROOT / checks()[id].page).read_text()

    found = re.findall(r"^## (.+)$", page, re.MULTILINE)

    assert found == SECTIONS
    bodies = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    empty = [name for name, body in zip(found, bodies, strict=True) if len(body.split()) < 4]
    assert empty == [], "sections without content"


@each_row
def test_a_check_fails_in_a_replay(id: str) -> None:
    cases = "".join(file.read_text() for file in (ROOT / "tests/replay").glob("test_*.py"))

    assert re.search(rf'\(\s*\w+,\s*"{id}",|FAIL {id}\b', cases), (
        f"step 4: add a case to tests/replay in which {id} fails"
    )


def test_there_is_no_page_without_a_row() -> None:
    assert {page.stem for page in (ROOT / "docs/checks").iterdir()} == set(checks())


def test_the_stages_are_the_same_wherever_they_are_named(pytestconfig: pytest.Config) -> None:
    configured = (ROOT / "pytest.ini").read_text()
    offered = get_args(get_args(get_args(cli.Stage)[0])[0])

    assert [line.split(":")[0].strip() for line in configured.splitlines() if ": stage " in line]
    for stage in STAGES:
        assert f"    {stage}: stage " in configured
    assert offered == STAGES


# --- what a claim reads -------------------------------------------------------------------------

TLS_ROUTES = upgrade_builders.definition(
    "tlsroutes.gateway.networking.k8s.io", "v1alpha2", bundle="v1.4.1"
)
FULL = Node(
    metadata=Metadata(name="one"),
    status=NodeStatus(
        allocatable={"cpu": "1", "memory": "1Gi", "pods": "0"},
        conditions=(Condition(type="Ready", status="True"),),
    ),
)
CNI = {"k8s-app": "istio-cni-node", "app.kubernetes.io/version": "1.29.1"}

# between them they lead every claim down each of its ways
COMPARED = expecting(
    before=Before(taken=AT, port_probes=port_probes(port_probe(workload="Pod shop/web-1")))
)

MESHES = {
    "healthy": snapshot(),
    "rejecting": snapshot(
        istiod=(reading(proxies=[sync(listener=pushed(answered=False, error="no"))]),)
    ),
    "far behind": snapshot(
        istiod=(reading(version="1.24.0", proxies=[sync(version="1.24.0")]),),
        **upgrade_builders.CONCERNED,
    ),
    "on the way to the newest release": snapshot(
        istiod=(reading(version="1.27.0", proxies=[sync(version="1.27.0")]),),
        **upgrade_builders.CONCERNED,
        **expecting(target_version="1.31.1"),
    ),
    "with an istiod of an unknown version": snapshot(
        pods=(
            msgspec.structs.replace(
                istiod(), spec=PodSpec(containers=(Container(name="discovery"),))
            ),
            sidecar(),
        )
    ),
    "without istiod": snapshot(pods=(), istiod=()),
    "asked for a target": snapshot(**expecting(retry_after_targets=("http://web.shop/",))),
    "with a CNI plugin": snapshot(
        daemon_sets=(
            Controller(
                metadata=Metadata(name="istio-cni-node", labels=CNI),
                spec=ControllerSpec(
                    template=PodTemplate(spec=PodSpec(containers=(Container(name="install-cni"),)))
                ),
                status=ControllerStatus(desired_number_scheduled=1),
            ),
        )
    ),
    "with a workload that is injected": snapshot(
        new_pods=NewPods(pods=(NewPod(workload="Deployment shop/web", replicas=1, injected=True),)),
        authorization_policies=(
            AuthorizationPolicy(
                metadata=Metadata(name="login", namespace="shop"),
                spec=AuthorizationPolicySpec(
                    action="CUSTOM", provider=ExtensionProvider(name="oauth2-proxy")
                ),
            ),
        ),
        jobs=(Job(metadata=Metadata(name="export", namespace="shop")),),
        resource_quotas=(ResourceQuota(metadata=Metadata(name="all", namespace="shop")),),
    ),
    "with a pod that violates Pod Security": snapshot(
        namespaces=(
            Namespace(
                metadata=Metadata(
                    name="shop", labels={"pod-security.kubernetes.io/enforce": "baseline"}
                )
            ),
        ),
        new_pods=NewPods(
            pods=(
                NewPod(
                    workload="Deployment shop/web", replicas=1, injected=True, host_network=True
                ),
            )
        ),
    ),
    "with a baseline": snapshot(**COMPARED),
    "with a baseline, without a port": snapshot(pods=(istiod(),), **COMPARED),
    "in ambient mode": snapshot(**ambient_builders.HEALTHY),
    "in ambient mode, without agents": snapshot(
        **{
            **ambient_builders.HEALTHY,
            "pods": (istiod(), ambient_builders.app(phase="Pending", ip="")),
        }
    ),
    "without a sidecar": snapshot(pods=(istiod(), pod("bare", containers=[running("app")]))),
    "silent": snapshot(port_probes=port_probes(port_probe(plain=SILENT))),
    "with a declared pair": snapshot(
        pods=(istiod(), sidecar(labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.1")),
        services=(service(),),
        pair_answers=PairAnswers(),
        **expecting(pairs=(declared_pair(),)),
    ),
    "with a way back": snapshot(
        istiod=(reading(version="1.29.2"),),
        definitions=(TLS_ROUTES,),
        **expecting(target_version="1.30.4"),
    ),
    "that was upgraded": snapshot(
        istiod=(reading(version="1.30.4"),),
        definitions=(TLS_ROUTES,),
        shadow=Shadow(version="1.29.2"),
        **expecting(
            target_version="1.30.4",
            before=Before(taken=AT, istiod_versions=("1.29.2",), roots="none"),
        ),
    ),
    "that was upgraded to the version of istioctl": snapshot(
        **expecting(before=Before(taken=AT, istiod_versions=("1.28.2",)))
    ),
    "analyzed by a newer istioctl": snapshot(
        analysis=Analysis(istioctl_version="1.30.4", messages=(message("IST0106"),)),
        **expecting(before=Before(taken=AT, analyzed_by="1.29.1")),
    ),
    "with a full node": snapshot(
        nodes=(FULL,),
        new_pods=NewPods(
            pods=(NewPod(workload="Deployment shop/web", replicas=1, surge=1, injected=True),)
        ),
    ),
    "asked for images": snapshot(image_pulls=ImagePulls(), **expecting(images=("proxy",))),
    "with Prometheus": snapshot(
        traffic_metrics=TrafficMetrics(), **expecting(traffic=TrafficLimits(requested=True))
    ),
    "that was watched": msgspec.structs.replace(
        load(ROOT / "demo/healthy.json.gz"), **expecting(watch=watch_builders.watch())
    ),
    "with a DestinationRule": snapshot(
        pods=(istiod(), sidecar(labels={"app": "web"}, ports=(HTTP,))),
        services=(service(),),
        destination_rules=(destination_rule(),),
    ),
    "with a proxy that is to wait": snapshot(
        retry_filters=RetryFilters(
            filters=(retry_filter(retry_patch(HeaderRule(kind="back-off"))),)
        )
    ),
    "with a gateway that denies requests": ingress_builders.snapshot(
        ingress=ingress_builders.traffic(
            *(
                ingress_builders.answered(each, status=403, upstream=False, reason="RBAC")
                for each in ingress_builders.requests()
            )
        ),
        authorization_policies=(
            AuthorizationPolicy(
                metadata=Metadata(name="login", namespace=ingress_builders.NAMESPACE),
                spec=AuthorizationPolicySpec(
                    action="CUSTOM",
                    provider=ExtensionProvider(name="oauth2-proxy"),
                    rules=(AuthorizationRule(),),
                ),
            ),
        ),
    ),
    "with a listener without a TLSRoute": ingress_builders.snapshot(
        api_gateways=(ingress_builders.api_gateway(listener=ingress_builders.PASSED, attached=0),)
    ),
    "with a pod in ambient mode": ambient_mesh().evidence.snapshot,
    "with a waypoint": waypoint_mesh().evidence.snapshot,
    "recorded healthy": load(ROOT / "demo/healthy.json.gz"),
    "with a declared answer": msgspec.structs.replace(
        load(ROOT / "demo/healthy.json.gz"),
        **expecting(answers=(Answer(host="shop.example.com"), Answer(host="other.example.com"))),
    ),
    "recorded broken": load(ROOT / "demo/broken.json.gz"),
}


class Recorder(Evidence):  # type: ignore[misc] # frozen, as far as mypy knows
    """Evidence that keeps which items were asked for."""

    def __init__(self, seen: Snapshot) -> None:
        super().__init__(seen)
        self.touched: set[str] = set()

    def need(self, item: str) -> None:
        self.touched.add(item)
        super().need(item)


def arguments(claim: Callable[..., None]) -> list[str]:
    """Return the names of a check function's parameters."""
    return list(inspect.signature(claim).parameters)


def passed(claim: Callable[..., None], seen: Snapshot) -> Basis | None:
    """Return what a check counted that passed on a snapshot; None if it did not pass."""
    basis = Basis()
    given: dict[str, Any] = {"mesh": Mesh(seen), "warn": list, "basis": basis}
    try:
        claim(**{name: given[name] for name in arguments(claim)})
    except (AssertionError, CouldNotVerify, NotApplicable):
        return None
    return basis


def touched(claim: Callable[..., None], seen: Snapshot) -> set[str]:
    """The items that a claim asks for when it is taken on a snapshot."""
    mesh = Mesh(seen)
    recorder = mesh.evidence = Recorder(seen)
    given: dict[str, Any] = {"mesh": mesh, "warn": list, "basis": Basis()}
    with suppress(AssertionError, CouldNotVerify, NotApplicable):
        claim(**{name: given[name] for name in arguments(claim)})
    return recorder.touched


@each_claim
def test_a_claim_reads_what_its_row_says_and_all_of_it(claim: str) -> None:
    (id,) = ids(claim)

    read = set().union(*(touched(CLAIMS[claim], seen) for seen in MESHES.values()))

    assert read == set(checks()[id].reads)
