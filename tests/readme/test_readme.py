"""Every command of the README and of its how-to pages, in a fresh copy with a fresh .venv."""

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from meshgate.suppressions import read_waivers
from tests.conftest import ROOT
from tests.conventions.test_tree import FILES
from tests.webhook_builders import issued

PAGES = ("README.md", "docs/run.md", "docs/simulate.md")
README = "\n".join((ROOT / page).read_text() for page in PAGES)
PROGRAMS = ("make", "docker", "helm", ".venv/bin/")


class Expected(msgspec.Struct, frozen=True):
    """What a command comes to on a machine without a cluster; `words` are in what it prints."""

    code: int
    words: str


OPEN = Expected(0, "GATE OPEN")
# it was understood to its last word, and then looked for a cluster; tests/lab has the rest
NO_CLUSTER = Expected(4, "no cluster to ")

# in the README's order
RUN = {
    "make demo": OPEN,
    "make demo-broken": Expected(0, "GATE CLOSED"),
    "make setup": Expected(0, ""),
    ".venv/bin/pytest -m controlplane": NO_CLUSTER,
    ".venv/bin/pytest -m precheck --context=prod --target-version=1.31.0": NO_CLUSTER,
    ".venv/bin/pytest -m ingress --dry-run": NO_CLUSTER,
    ".venv/bin/pytest --snapshot=reports/snapshot.json.gz": OPEN,
    ".venv/bin/meshgate diff demo/healthy.json.gz demo/broken.json.gz": Expected(0, "CP004"),
    ".venv/bin/meshgate explain CP004": Expected(0, "CP004"),
    # docs/run.md
    ".venv/bin/pytest -m controlplane --context=prod --target-version=1.31.0": NO_CLUSTER,
    ".venv/bin/python verification/verify_controlplane.py --context=prod": NO_CLUSTER,
    ".venv/bin/pytest -m precheck --target-version=1.31.0": NO_CLUSTER,
    ".venv/bin/pytest -m ingress --ingress-url=https://shop.example.com --ingress-ca=ca.pem": (
        NO_CLUSTER
    ),
    ".venv/bin/meshgate capture mesh.json.gz": NO_CLUSTER,
    ".venv/bin/meshgate index reports-of-all": Expected(1, "1 runs of 1 gates"),
    # docs/simulate.md
    (
        ".venv/bin/meshgate shadow --shadow-istiod=./pilot-discovery --shadow-envoy=./envoy"
        " --shadow-manifests=target.yaml"
    ): NO_CLUSTER,
    ".venv/bin/meshgate capture mesh.json.gz --for-shadow": NO_CLUSTER,
    # with the programs and a recording: tests/lab/test_shadow.py
    (
        ".venv/bin/meshgate shadow --snapshot=mesh.json.gz --shadow-istiod=./pilot-discovery"
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
    "make image": "it needs docker; make lab-image builds the same",
}


def commands(readme: str) -> list[str]:
    """The lines of the README's blocks that are commands, without their comments."""
    blocks = [line[4:] for line in readme.splitlines() if line.startswith("    ")]
    found = [re.split(r"\s+#", line)[0] for line in blocks if line.startswith(PROGRAMS)]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, and the files that the README's commands find already there."""
    folder = tmp_path_factory.mktemp("fresh")
    for file in FILES:
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        copy.chmod(file.stat().st_mode)
    (folder / "ca.pem").write_text(issued("root").pem)
    run = folder / "reports-of-all/eu-1/control-plane/1"
    run.mkdir(parents=True)
    (run / "verdict.json").write_text(CLOSED)
    return folder


def run(fresh: Path, home: Path, command: str) -> "subprocess.CompletedProcess[str]":
    """What a shell makes of it, for somebody who has nothing but what Debian brings."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=fresh,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


def test_every_command_is_run_or_said_to_be_run_elsewhere() -> None:
    written = commands(README)
    elsewhere = [each for each in written if each not in RUN]

    assert [each for each in elsewhere if not each.startswith(tuple(ELSEWHERE))] == []
    assert [each for each in RUN if each not in written] == [], "the README has it no more"
    assert [each for each in ELSEWHERE if not any(e.startswith(each) for e in elsewhere)] == []


@pytest.mark.parametrize("command", [each for each in commands(README) if each in RUN])
def test_a_command_does_what_the_readme_says(fresh: Path, tmp_path: Path, command: str) -> None:
    expected = RUN[command]
    if "reports/snapshot.json.gz" in command:
        # a run on a cluster would have left it
        (fresh / "reports/snapshot.json.gz").write_bytes(
            (ROOT / "demo/healthy.json.gz").read_bytes()
        )

    done = run(fresh, tmp_path, command)

    assert done.returncode == expected.code, done.stdout
    assert expected.words in done.stdout


def test_the_waiver_that_is_shown_is_one(tmp_path: Path) -> None:
    shown = README.split("    [[waiver]]")[1].split("\n\n")[0]
    file = tmp_path / "waivers.toml"
    file.write_text("[[waiver]]" + shown.replace("\n    ", "\n"))

    (waiver,) = read_waivers(file)

    assert waiver.subject == "VirtualService shop/lost"


# options of docker and pip, and the one that typer adds to `meshgate` itself
FOREIGN = {
    *("--find-links", "--no-index", "--read-only", "--rm", "--timestamp"),
    "--install-completion",
}


def test_every_option_that_is_named_exists(fresh: Path, tmp_path: Path) -> None:
    commands = set(re.findall(r"(?:`|bin/)meshgate ([a-z]+)", README))
    helps = ["pytest --help", *(f"meshgate {each} --help" for each in commands)]
    ours = "".join(run(fresh, tmp_path, f".venv/bin/{each}").stdout for each in helps)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - FOREIGN

    assert named
    assert sorted(each for each in named if each not in ours) == []
