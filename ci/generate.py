"""Write the files that follow from the code (`make generate`); --check fails if one is stale.

The roles (hooks/meshgate/files), the schema of verdict.json, the pages of docs/reference, the
README's table of stages and the output of commands that the pages show need only Python.
hooks/manifests is what helm renders of the chart: it needs Go, and tests/chart compares it, so that
--check leaves it out.
"""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from meshgate.catalogue import STAGES, checks
from meshgate.collect import rights
from meshgate.report import fleet
from meshgate.report.json import schema
from meshgate.settings import reference_page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "ci"))
import reference  # noqa: E402  # beside this file

# pages that show the output of a command
SHOWING = ("docs/first-verdict.md",)
SHOWN = re.compile(r"(<!-- output: (?P<command>.+?) -->\n).*?(<!-- end of output -->)", re.DOTALL)
# lines of pytest and its plugins that differ from run to run
CHANGING = re.compile(r"Generated html report| in \d+\.\d+s$")
SCREENSHOT = ROOT / "docs/images/demo-broken.svg"
KUBERNETES = "1.34.4"
NAME = "istio-verification"
# The bases of hooks/kustomize: a gate alone, without the Jobs that only Argo CD needs.
KUSTOMIZE = ["--set=targetVersion=1.31.0,verifyNow=false,syncFail=false"]
BEGIN, END = "<!-- stages: make generate -->", "<!-- end of stages -->"

WHEN = {
    "precheck": ("A pre-flight", "before anything is applied"),
    "controlplane": ("B control plane", "right after istiod"),
    "ambient": ("ambient mode", "after istio-cni, and again after ztunnel"),
    "ingress": ("C ingress", "after the gateways"),
    "dataplane": ("D data plane", "after the workloads were restarted"),
}


def generated() -> dict[Path, str]:
    """Return the files that Python alone makes, by path."""
    readme = (ROOT / "README.md").read_text()
    return {
        ROOT / "hooks/meshgate/files/rbac.json": roles(),
        ROOT / "hooks/meshgate/files/rbac-shadow.json": roles(shadow=True),
        ROOT / "hooks/meshgate/files/restart.json": listed([rights.restart_role("istio-restart")]),
        ROOT / "src/meshgate/cli/argocd.json": argocd_templates(),
        ROOT / "docs/verdict.schema.json": pretty(schema()),
        ROOT / "docs/fleet.schema.json": pretty(fleet.schema()),
        ROOT / "docs/reference/options.md": reference_page.page(),
        ROOT / "README.md": between(readme, stages()),
        **{ROOT / "docs/reference" / name: page for name, page in reference.pages().items()},
        **{ROOT / name: with_output((ROOT / name).read_text()) for name in SHOWING},
        SCREENSHOT: screenshot("meshgate demo --broken | tail -34"),
    }


def with_output(text: str) -> str:
    """Return a page with what its commands print today between its markers."""

    def shown(found: re.Match[str]) -> str:
        lines = output(found["command"]).splitlines()
        block = "\n".join(f"    {line}".rstrip() for line in lines)
        return f"{found[1]}\n{block}\n\n{found[3]}"

    return SHOWN.sub(shown, text)


@cache
def output(command: str) -> str:
    """Return what a command of meshgate prints; `| tail -N` after it keeps the last N lines.

    Paths of this machine and durations are left out.
    """
    words, _, last = command.partition(" | tail -")
    done = subprocess.run(
        [sys.executable, "-m", "meshgate", *words.split()[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.replace(f"{ROOT}/", "").strip().splitlines()
    lines = [line for line in lines if not CHANGING.search(line)]
    return "\n".join(lines[-int(last) if last else 0 :])


def screenshot(command: str) -> str:
    """Return the output of a command as an SVG image."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command.partition(' | ')[0]}", style="bold"))
    for line in output(command).splitlines():
        style = "red" if line.startswith(("FAIL", "GATE CLOSED")) else ""
        console.print(Text(line, style=style))
    image = console.export_svg(title="meshgate", theme=DIMMED_MONOKAI, unique_id="meshgate")
    # its fonts would come from a CDN
    return re.sub(r"@font-face \{.*?\}", "", image, flags=re.DOTALL)


def argocd_templates() -> str:
    """Return the files that `meshgate init argocd` writes: {name: text}."""
    health, examples = ROOT / "hooks/argocd", ROOT / "hooks/examples"
    chart = sorted(path for path in (examples / "upgrade").rglob("*") if path.is_file())
    paths = [health / f"{name}-cm.yaml" for name in ("argocd", "deep-links", "notifications")]
    paths += [examples / "app-of-apps.yaml", *chart]
    found = {}
    for path in paths:
        folder = examples if examples in path.parents else health
        found[str(path.relative_to(folder))] = path.read_text()
    return pretty(found)


def roles(*, shadow: bool = False) -> str:
    """Return what `meshgate rbac` prints."""
    return listed(
        [
            rights.cluster_role(NAME, shadow=shadow),
            rights.role(NAME, "istio-system"),
            rights.reports_namespace(),
            rights.reports_role(f"{NAME}-reports"),
            rights.probes_namespace(),
            rights.probes_role(f"{NAME}-probes"),
        ]
    )


def listed(items: list[dict[str, Any]]) -> str:
    """Return a Kubernetes List of objects as JSON."""
    return pretty({"apiVersion": "v1", "kind": "List", "items": items})


def pretty(value: Mapping[str, Any]) -> str:
    """Return JSON as meshgate prints it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def stages() -> str:
    """Return the README's table: one row for each stage, from the catalogue."""
    rows = ["| stage | marker | when | checks |", "|---|---|---|---|"]
    for stage in STAGES:
        title, when = WHEN[stage]
        ids = [id for id, row in checks().items() if row.stage == stage]
        rows.append(f"| {title} | `{stage}` | {when} | {'; '.join(ranges(ids))} |")
    return "\n".join(rows)


def ranges(ids: Iterable[str]) -> Iterable[str]:
    """Return ids as links, those that follow each other as `first to last`."""
    runs: list[list[str]] = []
    for id in ids:
        if runs and id[:2] == runs[-1][-1][:2] and int(id[2:]) == int(runs[-1][-1][2:]) + 1:
            runs[-1].append(id)
        else:
            runs.append([id])
    for run in runs:
        ends = dict.fromkeys((run[0], run[-1]))
        yield " to ".join(f"[{id}](docs/checks/{id}.md)" for id in ends)


def between(text: str, content: str) -> str:
    """Return the text with the lines between its markers, if it has them, replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}" if begin and end else text


def manifests() -> dict[Path, str]:
    """Return hooks/manifests and hooks/kustomize as helm renders them from the chart; needs Go."""
    chart, found = ROOT / "hooks/meshgate", {}
    for path in sorted((ROOT / "hooks/manifests").glob("*.yaml")):
        found[path] = rendered("--values", chart / f"ci/{path.stem}-values.yaml")
    for stage in ("rights", *STAGES):
        words = KUSTOMIZE if stage == "rights" else [*KUSTOMIZE, f"--set=stages={{{stage}}}"]
        rights = "--set=rbac=resource" if stage == "rights" else "--set=rbac=none"
        found[ROOT / f"hooks/kustomize/{stage}/objects.yaml"] = rendered(*words, rights)
    return found


def rendered(*words: object) -> str:
    """Return what helm renders of the chart with these words."""
    all_words = ["template", "meshgate", ROOT / "hooks/meshgate", *words]
    return subprocess.run(
        ["go", "tool", "helm", *map(str, all_words), f"--kube-version={KUBERNETES}"],
        cwd=ROOT / "ci/lab/go/helm",
        env={**os.environ, "GOFLAGS": "-buildvcs=false -trimpath", "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def main(words: list[str]) -> int:
    """Write the files, or name those that are stale."""
    check = "--check" in words
    stale = _stale(generated())
    for path in stale:
        name = path.relative_to(ROOT)
        print(f"{name} is stale: run `make generate`" if check else f"wrote {name}")
    if check:
        return 1 if stale else 0
    _write(stale)
    # helm reads the roles that were just written
    _write(_stale(manifests()))
    return 0


def _stale(files: Mapping[Path, str]) -> dict[Path, str]:
    return {
        path: text for path, text in files.items() if not path.is_file() or path.read_text() != text
    }


def _write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
