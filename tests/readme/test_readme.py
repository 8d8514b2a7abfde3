"""The README from top to bottom, and its how-to pages: every command, with the installed package.

The wheel is built and installed into a new environment from the package index; the commands run in
an empty directory, as on a machine without a cluster.
"""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from meshgate.catalogue import checks
from meshgate.suppressions import read_waivers
from tests.conftest import ROOT
from tests.conventions.test_tree import FILES
from tests.support.webhook_builders import issued
from tests.unit.test_autoload import SUITE, comparable

PAGES = ("README.md", "docs/first-verdict.md", "docs/run.md", "docs/simulate.md")
TUTORIAL = (ROOT / "docs/first-verdict.md").read_text()
README = "\n".join((ROOT / page).read_text() for page in PAGES)
PROGRAMS = ("pip ", "meshgate ", "make ", "docker ", "helm ", ".venv/bin/")


class Expected(msgspec.Struct, frozen=True):
    """What a command comes to on a machine without a cluster; `words` are in its output."""

    code: int
    words: str


OPEN = Expected(0, "GATE OPEN")
# all its options are valid, and then it needs a cluster; tests/lab has the rest
NO_CLUSTER = Expected(4, "no cluster to ")

# in the pages' order
RUN = {
    "pip install meshgate": Expected(0, ""),
    "meshgate demo": OPEN,
    "meshgate demo --broken": Expected(1, "GATE CLOSED"),
    "meshgate verify --stage=controlplane": NO_CLUSTER,
    "meshgate verify --stage=precheck --target-version=1.31.0": NO_CLUSTER,
    "meshgate verify --stage=ingress --dry-run": NO_CLUSTER,
    "meshgate replay reports/snapshot.json.gz": OPEN,
    "meshgate explain CP004": Expected(0, "CP004"),
    # docs/first-verdict.md
    "meshgate verify --snapshot=reports/snapshot.json.gz --check=CP004": OPEN,
    "meshgate demo --checks=rules --check=SHOP-001": Expected(0, "GATE OPEN  1 passed"),
    # docs/run.md
    "meshgate verify --stage=controlplane --context=prod --target-version=1.31.0": NO_CLUSTER,
    ".venv/bin/pytest -m controlplane --context=prod --target-version=1.31.0": NO_CLUSTER,
    ".venv/bin/python verification/verify_controlplane.py --context=prod": NO_CLUSTER,
    "meshgate verify --stage=ingress --ingress-url=https://shop.example.com --ingress-ca=ca.pem": (
        NO_CLUSTER
    ),
    "meshgate capture mesh.json.gz": NO_CLUSTER,
    "meshgate index reports-of-all": Expected(1, "1 runs of 1 gates"),
    # docs/simulate.md
    (
        "meshgate shadow --shadow-istiod=./pilot-discovery --shadow-envoy=./envoy"
        " --shadow-manifests=target.yaml"
    ): NO_CLUSTER,
    "meshgate capture mesh.json.gz --for-shadow": NO_CLUSTER,
    # with the programs and a recording: tests/lab/test_shadow.py
    (
        "meshgate shadow --snapshot=mesh.json.gz --shadow-istiod=./pilot-discovery"
        " --shadow-envoy=./envoy --shadow-manifests=target.yaml"
    ): Expected(10, "could not verify: "),
}

CLOSED = """{"version": 1, "gate": "closed", "sentence": "GATE CLOSED", "exit": 1,
 "taken": null, "source": "", "claims": [], "notes": []}"""

# what is not run here, and where it is
ELSEWHERE = {
    "docker build": "the lab builds the same Dockerfile with buildah (tests/lab/test_image.py)",
    "helm template": "it needs helm and Istio's charts; tests/lab/test_shadow.py renders them",
    "docker run": "the lab's containerd runs the image as a hook Job (tests/lab/test_image.py)",
    "meshgate watch": "it needs a cluster; tests/lab/test_traffic.py runs it",
    "make image": "it needs docker; make lab-image builds the same",
}


def commands(readme: str) -> list[str]:
    """Return the lines of the indented blocks that are commands, without their comments."""
    blocks = [line[4:] for line in readme.splitlines() if line.startswith("    ")]
    found = [re.split(r"\s+#", line)[0] for line in blocks if line.startswith(PROGRAMS)]
    return list(dict.fromkeys(found))


def block(text: str, begin: str) -> str:
    """Return the indented block that begins with this line."""
    lines = text[text.index(f"    {begin}") :].splitlines()
    end = next(
        (number for number, line in enumerate(lines) if line and not line.startswith("    ")),
        len(lines),
    )
    return dedent("\n".join(lines[:end]))


class Machine(msgspec.Struct, frozen=True):
    """A new environment with the wheel, and an empty directory."""

    bin: Path
    folder: Path
    wheel: Path

    def run(self, command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command in a shell, for somebody who has only this environment."""
        installed = re.sub(
            r"pip install '?meshgate(\[\w+\])?'?",
            lambda found: f"pip install --quiet '{self.wheel}{found[1] or ''}'",
            command,
        )
        return subprocess.run(
            ["bash", "-c", installed],
            cwd=cwd or self.folder,
            env={
                "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.folder.parent / "home"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return a new environment, in which the README's first command installs the wheel."""
    folder = tmp_path_factory.mktemp("machine")
    dist, empty = folder / "dist", folder / "empty"
    for each in (dist, empty, folder / "home"):
        each.mkdir()
    hatchling = Path(sys.executable).with_name("hatchling")
    subprocess.run([hatchling, "build", "-t", "wheel", "-d", dist], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (empty / "ca.pem").write_text(issued("root").pem)
    run = empty / "reports-of-all/eu-1/control-plane/1"
    run.mkdir(parents=True)
    (run / "verdict.json").write_text(CLOSED)
    (empty / "rules").mkdir()
    (empty / "rules/precheck.toml").write_text(block(TUTORIAL, "[SHOP-001]"))
    (empty / "rules/verify_shop.py").write_text(block(TUTORIAL, "import pytest"))
    (wheel,) = dist.glob("*.whl")
    made = Machine(folder / "venv/bin", empty, wheel)
    done = made.run("pip install meshgate")
    assert done.returncode == 0, done.stdout
    return made


def test_every_command_is_run_or_said_to_be_run_elsewhere() -> None:
    written = commands(README)
    elsewhere = [each for each in written if each not in RUN]

    assert [each for each in elsewhere if not each.startswith(tuple(ELSEWHERE))] == []
    assert [each for each in RUN if each not in written] == [], "the pages have it no more"
    assert [each for each in ELSEWHERE if not any(e.startswith(each) for e in elsewhere)] == []


def test_the_readme_has_about_ninety_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 95


@pytest.mark.parametrize("command", [each for each in commands(README) if each in RUN])
def test_a_command_does_what_the_page_says(machine: Machine, command: str) -> None:
    expected = RUN[command]
    if "reports/snapshot.json.gz" in command:
        # a run on a cluster would have left it
        (machine.folder / "reports").mkdir(exist_ok=True)
        healthy = (ROOT / "demo/healthy.json.gz").read_bytes()
        (machine.folder / "reports/snapshot.json.gz").write_bytes(healthy)

    if command.startswith(".venv/"):
        # in a checkout, with the environment of these tests
        there = f"PYTHONPATH={ROOT}/src {command}"
        done = machine.run(there.replace(".venv/bin", str(Path(sys.executable).parent)), cwd=ROOT)
    else:
        done = machine.run(command)

    assert done.returncode == expected.code, done.stdout
    assert expected.words in done.stdout


# --- the package --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "meshgate demo",
        "python -m meshgate replay {demo}",
        "meshgate verify --snapshot={demo} --checks={example}",
        "kubectl-meshgate verify --snapshot={demo} --stage=dataplane",
    ],
)
def test_three_commands_need_nothing_but_the_package(machine: Machine, command: str) -> None:
    named = {"demo": ROOT / "demo/healthy.json.gz", "example": ROOT / "examples/checks"}

    done = machine.run(command.format(**named))

    assert done.returncode == 0, done.stdout
    assert "GATE OPEN" in done.stdout


def test_it_contains_every_check_and_its_page(machine: Machine) -> None:
    done = machine.run("meshgate list && meshgate explain RA005")

    assert done.returncode == 0, done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[: len(checks())]] == list(checks())
    assert "## Verify by hand" in done.stdout


def test_an_unrelated_suite_does_not_notice_the_entry_point(
    machine: Machine, tmp_path: Path
) -> None:
    for name, text in SUITE.items():
        (tmp_path / name).write_text(dedent(text))

    without = machine.run("pytest -p no:meshgate -p no:cacheprovider", cwd=tmp_path)
    loaded = machine.run("pytest -p no:cacheprovider", cwd=tmp_path)

    assert loaded.returncode == without.returncode == 1
    assert comparable(loaded.stdout) == comparable(without.stdout)
    assert not (tmp_path / "reports").exists()


def test_a_stage_in_a_checkout_is_a_marker_as_before(machine: Machine) -> None:
    done = machine.run(
        f"pytest -m ingress --snapshot=demo/healthy.json.gz --reports={machine.folder}/aside",
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stdout
    assert done.stdout.count("GATE OPEN") == 1


# --- a clone ------------------------------------------------------------------------------------


def test_a_clone_needs_only_make(machine: Machine, tmp_path: Path) -> None:
    for file in FILES:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        copy.chmod(file.stat().st_mode)

    done = machine.run("make demo", cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "GATE OPEN" in done.stdout


# --- what the pages show ------------------------------------------------------------------------


def test_the_waiver_that_is_shown_is_one(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(block(README, "[[waiver]]"))

    (waiver,) = read_waivers(file)

    assert waiver.subject == "VirtualService shop/lost"


# options of docker and pip, and the one that typer adds to `meshgate` itself
FOREIGN = {
    *("--find-links", "--no-index", "--read-only", "--rm", "--timestamp"),
    "--install-completion",
}


def test_every_option_that_is_named_exists(machine: Machine) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - FOREIGN
    words = set(re.findall(r"(?:`|    )meshgate ([a-z]+)", README))
    ours = machine.run("pytest --help").stdout
    ours += "".join(machine.run(f"meshgate {each} --help").stdout for each in words)

    assert named
    assert sorted(each for each in named if each not in ours) == []
