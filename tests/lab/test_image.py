"""The image: built from the Dockerfile, pulled by the lab's containerd, run like a hook Job."""

import base64
import json
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from meshgate.collect.rights import REPORTS
from meshgate.snapshot.store import load
from tests.chart.conftest import rendered
from tests.lab.harness import NEW, OLD, ROOT, VERSIONS, Lab, gateway_outage, until
from tests.lab.rights import NAMESPACE, VERIFIER, grant
from tests.support.verdict_lines import unwrapped

MIB = 2**20
GATE = "control-plane-precheck"
SECRET = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"  # the words alone are in parsers
    rb"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[bapr]-[0-9A-Za-z-]{20}"
)
# How long the interpreter works until the first claim is ruled on; what else the machine does can
# only add to that, so the least of three runs is the nearest to it.
COLD_START = """
import os, subprocess
for _ in range(3):
    before = os.times()
    subprocess.run(["pytest", "-m", "controlplane", "--snapshot=/demo/healthy.json.gz"], check=True)
    after = os.times()
    spent = after.children_user - before.children_user
    print("seconds:", spent + after.children_system - before.children_system)
"""
# All that the shadow of an upgrade loads of Envoy's messages, and a bootstrap made of them.
BOOTSTRAP = """
from meshgate.collect.shadow import batches, envoy, simulation as trial
from meshgate.probe import ads
types = (ads.CLUSTERS, ads.ENDPOINTS, ads.LISTENERS, ads.ROUTES, ads.EXTENSIONS)
node = ads.node("sidecar~192.0.2.1~a.b~c", "a.b", {"LABELS": {"app": "a"}}, {"region": "here"})
given = ads.Configuration(node, dict.fromkeys(types, ()))
assembled = envoy.Assembler().assembled(given)
print(assembled.bootstrap(), len(batches.batches([assembled, assembled])[0]))
"""


@pytest.fixture(scope="module")
def image(running_lab: Lab) -> str:
    """What pods call it, by digest: a registry in the lab has it."""
    return running_lab.printed("image", "image")


@pytest.fixture(scope="module")
def files(
    running_lab: Lab, image: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Every file of every layer, also those that a later layer covers."""
    layout = tmp_path_factory.mktemp("image")
    running_lab.verb("image", f"--layout={layout}")
    found = {}
    for number, layer in enumerate(_layers(layout)):
        with tarfile.open(layout / "blobs/sha256" / layer) as tar:
            for member in tar:
                if member.isfile():
                    file = tar.extractfile(member)
                    assert file
                    found[f"{number}/{member.name}"] = member, file.read()
    return found


def _manifest(layout: Path) -> str:
    (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    digest: str = manifest["digest"].removeprefix("sha256:")
    return digest


def _blob(layout: Path, digest: str) -> Any:
    return json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())


def _layers(layout: Path) -> list[str]:
    layers = _blob(layout, _manifest(layout))["layers"]
    return [layer["digest"].removeprefix("sha256:") for layer in layers]


def test_it_is_small(files: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    sizes = {name.partition("/")[2]: member.size for name, (member, _) in files.items()}
    ours = [size for name, size in sizes.items() if name.startswith(("opt/meshgate/", "meshgate/"))]

    assert sum(sizes.values()) <= 250 * MIB
    assert 0 < sum(ours) <= 90 * MIB


def test_no_layer_has_a_secret_or_what_is_not_needed(
    files: dict[str, tuple[tarfile.TarInfo, bytes]],
) -> None:
    assert [name for name, (_, content) in files.items() if SECRET.search(content)] == []
    names = [PurePosixPath(name.partition("/")[2]) for name in files]
    unwanted = {".git", "tests", ".netrc", "pip.conf", "sources.list", "id_rsa"}
    ours = [name for name in names if not str(name).startswith(("usr/lib", "opt"))]
    assert [str(name) for name in ours if unwanted.intersection(name.parts)] == []


def test_its_sbom_lists_what_is_installed(
    files: dict[str, tuple[tarfile.TarInfo, bytes]],
) -> None:
    paths = {name.partition("/")[2]: content for name, (_, content) in files.items()}
    installed = re.compile(
        r"opt/meshgate/lib/.*/site-packages/([^/]+)-([^-/]+)\.dist-info/METADATA"
    )
    found = {(_plain(match[1]), match[2]) for path in paths if (match := installed.fullmatch(path))}

    listed = json.loads(paths["opt/meshgate/sbom.cdx.json"])

    assert listed["bomFormat"] == "CycloneDX"
    components = [listed["metadata"]["component"], *listed["components"]]
    assert {(_plain(each["name"]), each["version"]) for each in components} == found
    assert found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_its_labels_describe_it(running_lab: Lab, tmp_path: Path) -> None:
    running_lab.verb("image", f"--layout={tmp_path}")

    config = _blob(tmp_path, _blob(tmp_path, _manifest(tmp_path))["config"]["digest"])["config"]

    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "meshgate"
    assert labels["org.opencontainers.image.revision"] == _head()
    assert labels["org.opencontainers.image.version"]
    assert labels["io.istio.version"] == NEW
    assert labels["io.meshgate.sbom"] == "/opt/meshgate/sbom.cdx.json"
    assert config["User"] == "65532:65532"


def _head() -> str:
    """The commit that this is, where it is in git."""
    command = ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def test_builds_are_reproducible(running_lab: Lab, tmp_path: Path) -> None:
    for name, words in (("once", []), ("again", ["--no-cache"])):
        running_lab.verb("image", *words, f"--layout={tmp_path / name}")

    assert _manifest(tmp_path / "once") == _manifest(tmp_path / "again")


def test_a_hook_job_pulls_it_and_passes(lab: Lab, image: str) -> None:
    grant(lab)

    log = _run(lab, image, "pytest", "-m", "controlplane", "--settle=20")

    assert "GATE OPEN" in log


@pytest.mark.parametrize(
    "release",
    [
        *(pytest.param(each, marks=pytest.mark.every_release) for each in VERSIONS[:-2]),
        *VERSIONS[-2:],
    ],
)
def test_it_has_the_istioctl_of_each_release_and_a_tag_with_both_versions(
    lab: Lab, release: str
) -> None:
    grant(lab)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    image = lab.printed("image", "image", "--istio", release)

    tags = lab.run("labapp", "get", "http://127.0.0.1:5000/v2/meshgate/tags/list").stdout
    assert f'"{project}-istio{release}"' in tags
    log = _run(lab, image, "istioctl", "version", "--remote=false", "--short")
    assert log.strip() == f"client version: {release}"


def test_an_image_of_another_release_than_the_target_is_reported(lab: Lab) -> None:
    grant(lab)
    image = lab.printed("image", "image", "--istio", OLD)

    log = _run(
        *(lab, image, "pytest", "-m", "controlplane", f"--target-version={NEW}", "--settle=20"),
        exit=10,
    )

    (line,) = [each for each in unwrapped(log) if each.startswith("? ")]
    assert line.startswith("? CP006 could not verify: ")
    assert f"istioctl has the version {OLD}, and the target is {NEW}" in line
    assert f"use the image whose tag has -istio{NEW}" in line


def test_the_shadow_works_with_the_reduced_packages(lab: Lab, image: str) -> None:
    grant(lab)

    log = _run(lab, image, "python3", "-c", BOOTSTRAP)

    assert "internal_listener" in log


def test_the_watch_of_the_chart_sees_a_gateway_replaced(lab: Lab, image: str) -> None:
    grant(lab)
    chart = yaml.safe_load_all((ROOT / "hooks/manifests/ingress.yaml").read_text())
    (watch,) = [each for each in chart if each and each["kind"] == "Pod"]
    (container,) = watch["spec"]["containers"]
    container["image"], place = image, container["args"][0]
    # pods in the mesh are for the whole upgrade
    container["args"] = [each for each in container["args"] if not each.startswith("--image=")]
    pod = "pod/upgrade-watch"
    judged = ("-m", "ingress", "--settle=30", f"--watch={place}")

    lab.apply(watch)
    lab.kubectl("wait", "-n", NAMESPACE, pod, "--for=condition=Ready", "--timeout=90s")
    well = lab.pytest(*judged, identity=VERIFIER)
    gateway_outage(lab)
    # it keeps every 5 s what it has seen until then
    kept = _kept(lab, place)
    until(lambda: _kept(lab, place) != kept)
    lost = lab.pytest(*judged, identity=VERIFIER)
    # once it has ended none takes its place in silence
    lab.kubectl("delete", "events", "--all", "-n", NAMESPACE)
    lab.kubectl("exec", "-n", NAMESPACE, pod, "--", "python3", "-c", "import os; os.kill(1, 15)")

    def events() -> list[str]:
        found = lab.get("events", "-n", NAMESPACE)["items"]
        return [each["message"] for each in found if each["reason"] == "WatchFailed"]

    until(lambda: any("an earlier watch has ended" in each for each in events()), timeout=120)
    # it does not hold the pipeline up, and overwrites nothing
    lab.kubectl("wait", "-n", NAMESPACE, pod, "--for=condition=Ready", "--timeout=90s")
    ended = _kept(lab, place)
    lab.kubectl("delete", "-n", NAMESPACE, pod)

    assert well.exit == 0, well.output
    assert "n/a  IG011 " not in well.output
    assert lost.exit == 1, lost.output
    assert {line.split()[1] for line in lost.failures} == {"IG011"}, lost.output
    assert " lost, " in lost.first
    assert ended == _kept(lab, place)


def _kept(lab: Lab, place: str) -> str:
    """Which state of its watch is kept at a place, by its digest."""
    namespace, _, name = place.removeprefix("configmap://").partition("/")
    digest: str = lab.get("configmap", name, "-n", namespace)["data"]["sha256"]
    return digest


def test_a_precheck_job_brings_the_targets_programs_and_tries_them(
    lab: Lab, image: str, tmp_path: Path
) -> None:
    lab.verb("target", NEW, str(tmp_path))
    objects = yaml.safe_load_all((tmp_path / "istiod.yaml").read_text())
    wanted = [each for each in objects if each and each["kind"] in ("ConfigMap", "Deployment")]
    repository, _, digest = image.partition("@")
    values = {
        "stages": ["precheck"],
        "rbac": "resource",
        "targetVersion": NEW,
        "deadline": 900,
        "syncFail": False,
        "image": {"repository": repository, "digest": digest},
        "shadow": {"enabled": True, "manifests": "\n---\n".join(map(json.dumps, wanted))},
        # only the shadow: an upgrade to the version that runs has other findings
        "stageArguments": {"precheck": ["-k", "targets_envoy or would_be_gone or injected"]},
    }
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    lab.kubectl("delete", "job", GATE, "-n", NAMESPACE, "--ignore-not-found")
    lab.kubectl("apply", "-f", "-", input=rendered(f"--values={file}"))

    _ended(lab, GATE, timeout=900)
    log = lab.kubectl("logs", "-n", NAMESPACE, f"job/{GATE}")
    assert "GATE OPEN  3 passed" in log
    lab.verb("reset")


def test_a_gate_runs_the_custom_checks_of_a_config_map(
    lab: Lab, image: str, tmp_path: Path
) -> None:
    repository, _, digest = image.partition("@")
    pack = ROOT / "examples/checks"
    values = {
        "stages": ["precheck"],
        "rbac": "resource",
        "targetVersion": NEW,
        "syncFail": False,
        "image": {"repository": repository, "digest": digest},
        "checks": {
            "files": {
                file.name: file.read_text()
                for pattern in ("verify_*.py", "*.toml", "ACME-*.md")
                for file in pack.glob(pattern)
            }
        },
        "stageArguments": {"precheck": ["--check=ACME-*", "-v"]},
    }
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    lab.kubectl("delete", "job", GATE, "-n", NAMESPACE, "--ignore-not-found")
    lab.kubectl("apply", "-f", "-", input=rendered(f"--values={file}"))

    _ended(lab, GATE, timeout=240)
    log = lab.kubectl("logs", "-n", NAMESPACE, f"job/{GATE}")
    assert "ACME-001" in log
    assert "ACME-002" not in log  # of another stage
    assert "GATE OPEN  1 passed" in log
    lab.verb("reset")


def test_it_starts_fast(lab: Lab, image: str) -> None:
    grant(lab)
    demo = base64.b64encode((ROOT / "demo/healthy.json.gz").read_bytes()).decode()
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "demo", "namespace": NAMESPACE},
            "binaryData": {"healthy.json.gz": demo},
        }
    )

    log = _run(lab, image, "python3", "-c", COLD_START)

    seconds = re.findall(r"^seconds: (\S+)$", log, re.MULTILINE)
    assert len(seconds) == 3
    assert min(map(float, seconds)) <= 1.5, log


def _ended(lab: Lab, name: str, timeout: float) -> dict[str, Any]:
    """The Job of that name once it has ended: when it is about to, not all pods are counted."""

    def job() -> dict[str, Any]:
        found: dict[str, Any] = lab.get("job", name, "-n", NAMESPACE)
        return found

    def ended() -> bool:
        conditions = job()["status"].get("conditions", ())
        true = {each["type"] for each in conditions if each["status"] == "True"}
        return not true.isdisjoint({"Complete", "Failed"})

    until(ended, timeout)
    return job()


SHARDED = "data-plane-verification"


@pytest.fixture
def shared_out(lab: Lab, image: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs the data-plane gate as the chart makes it for two shards: its Job, once it has ended."""
    repository, _, digest = image.partition("@")

    def delete() -> None:
        lab.kubectl("delete", "job", SHARDED, "-n", NAMESPACE, "--ignore-not-found")

    def run(*words: str) -> dict[str, Any]:
        values = (
            *("stages={dataplane}", "rbac=resource", "shards=2", "settle=30", "syncFail=false"),
            *(f"image.repository={repository}", f"image.digest={digest}", *words),
        )
        objects = rendered(*(f"--set={each}" for each in values))
        delete()
        lab.kubectl("apply", "-f", "-", input=objects)
        return _ended(lab, SHARDED, timeout=240)

    yield run
    delete()


def test_shards_cover_all_ports_and_all_of_them_must_pass(
    lab: Lab, shared_out: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    done = shared_out(f"targetVersion={NEW}")

    log = lab.kubectl("logs", "-n", NAMESPACE, f"job/{SHARDED}", "--all-pods", "--prefix")
    assert done["status"]["succeeded"] == 2, log
    assert done["metadata"]["annotations"]["meshgate/gate"] == "open"
    first, second = (_connected(lab, tmp_path / str(shard), shard) for shard in (0, 1))
    assert first
    assert second
    assert not first & second
    alone = lab.pytest("verification/check_mtls.py", "--settle=0", identity=VERIFIER)
    assert first | second == _contacts(alone.reports / "snapshot.json.gz")

    done = shared_out("targetVersion=9.9.9")

    assert done["metadata"]["annotations"]["meshgate/gate"] == "closed"
    assert "exit code 1" in done["status"]["conditions"][0]["message"]


def _connected(lab: Lab, folder: Path, shard: int) -> set[tuple[str, int]]:
    """The ports that one shard connected to, as its kept snapshot has them."""
    place = f"configmap://{REPORTS}/{SHARDED}-reports-{shard}"
    program = str(ROOT / ".venv/bin/meshgate")
    last = lab.run(program, "last", place)
    run = last.stdout.partition(", run ")[2].partition(":")[0]
    fetched = lab.run(program, "fetch", place, run, str(folder))
    assert fetched.returncode == 0, last.stdout + fetched.stderr
    return _contacts(folder / "snapshot.json.gz")


def _contacts(snapshot: Path) -> set[tuple[str, int]]:
    port_probes = load(snapshot).port_probes
    assert port_probes
    return {(each.pod, each.port) for each in port_probes.probes}


def _run(lab: Lab, image: str, *command: str, exit: int = 0) -> str:
    """Return what a pod of this image prints, under the restrictions of a hook Job.

    Args:
        lab: where it runs.
        image: its name in the lab's registry.
        command: the program and its arguments.
        exit: the exit code that it must end with.
    """
    pod = "pod/image-under-test"
    lab.kubectl("delete", "-n", NAMESPACE, pod, "--ignore-not-found")
    lab.apply(_pod(image, command))
    ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
    lab.kubectl("wait", "-n", NAMESPACE, pod, ended, "--timeout=180s")
    log = lab.kubectl("logs", "-n", NAMESPACE, pod)
    (status,) = lab.get("-n", NAMESPACE, pod)["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == exit, log
    return log


def _pod(image: str, command: tuple[str, ...]) -> dict[str, Any]:
    token = {"serviceAccountToken": {"audience": "istio-ca", "path": "istio-token"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "image-under-test",
            "namespace": NAMESPACE,
            "labels": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "serviceAccountName": "istio-verification-sa",
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "gate",
                    "image": image,
                    "command": list(command),
                    "securityContext": {
                        "runAsNonRoot": True,
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumeMounts": [
                        {"name": "token", "mountPath": "/var/run/secrets/tokens"},
                        {"name": "demo", "mountPath": "/demo"},
                    ],
                }
            ],
            "volumes": [
                {"name": "token", "projected": {"sources": [token]}},
                {"name": "demo", "configMap": {"name": "demo", "optional": True}},
            ],
        },
    }
