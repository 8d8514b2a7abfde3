"""Rebuild the manifests beside this file from the Istio modules in Go's module cache.

A manifest lists what a minor release changed: release notes, environment variables, entries of the
compatibility profiles, and the CRD versions that istiod watches.  It holds ids and hashes, no text.
Each id has a class: `rule:NAME`, `check:ID`, `undetectable:WHY`, `irrelevant:WHY`, or `open` for an
id that nobody has classified yet.  A changed hash opens its id again.

    python ci/ledger/build.py
"""

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent

# The commit of the newest release of each minor that the lab builds.
MODULES = {
    "1.28": "v0.0.0-20251217200826-ab413ac6c1f4",
    "1.29": "v0.0.0-20260306174214-6991a379e1fc",
    "1.30": "v0.0.0-20260826214018-9739e10eb9d7",
    "1.31": "v0.0.0-20260827124520-eed52ebb66ad",
}
GROUPS = ("gateway.networking.k8s.io", "gateway.networking.x-k8s.io", "inference.networking.k8s.io")
VARIABLE = re.compile(r'env\.Register(?:\[[^\]]*\])?\w*\(\s*"(\w+)",\s*([^\n]*?),\s*\n')
WATCHED = re.compile(r'(\w+)\s*=.*Group: "([^"]+)", Version: "([^"]+)", Resource: "([^"]+)"')

# What a bug fix ends without changing any behavior that a mesh can rely on.
FAILURE = re.compile(r"\b(leak\w*|deadlock\w*|panic\w*|crash\w*|segfault\w*|nil pointer)\b")

Rows = dict[str, str]


def main() -> None:
    """Write a manifest for each minor release, keeping the classes of unchanged ids."""
    cache = subprocess.run(
        ["go", "env", "GOMODCACHE"], check=True, capture_output=True, text=True
    ).stdout.strip()
    before: Path | None = None
    for minor, version in MODULES.items():
        module = Path(cache, "istio.io", f"istio@{version}")
        if not module.is_dir():
            raise SystemExit(f"no {module}: run `go mod download istio.io/istio@{version}`")
        file = HERE / f"{minor}.toml"
        sections = {
            "note": changed(notes(module), notes(before))
            if before
            else listed(file, "note", notes(module)),
            "variable": variables(module, before)
            if before
            else listed(file, "variable", registered(module)),
            "profile": profiles(module),
            "crd": crds(module),
        }
        write(file, minor, sections, module)
        before = module


def notes(module: Path) -> Rows:
    """Return the hash of every release note by its file name."""
    files = sorted(Path(module, "releasenotes", "notes").glob("*.yaml"))
    return {file.stem: hashed(file.read_text()) for file in files}


def listed(file: Path, section: str, current: Rows) -> Rows:
    """Return the rows of the first release, for ids that its manifest lists.

    The module of the release before it is not published.  Its ids are those of the notes that
    istio.io publishes for 1.28.0 to 1.28.2, and the variables that these notes name.
    """
    ids = tomllib.loads(file.read_text()).get(section, {})
    return {name: current.get(name, hashed("")) for name in ids}


def changed(after: Rows, before: Rows) -> Rows:
    """Return the rows that are new or have another hash."""
    return {name: hash for name, hash in after.items() if before.get(name) != hash}


def variables(module: Path, before: Path) -> Rows:
    """Return added, removed and changed environment variables; the hash is that of the default."""
    now, then = registered(module), registered(before)
    gone = {f"-{name}": hashed(then[name]) for name in then.keys() - now.keys()}
    return {**changed(now, then), **gone}


def registered(module: Path) -> Rows:
    """Return the hash of the default of every registered variable."""
    found: Rows = {}
    for file in sorted(module.rglob("*.go")):
        if "tests" not in file.parts and "tools" not in file.parts and "_test" not in file.name:
            text = file.read_text(errors="replace")
            found |= {match[1]: hashed(match[2]) for match in VARIABLE.finditer(text)}
    return found


def profiles(module: Path) -> Rows:
    """Return every variable and value of the compatibility profiles."""
    found: Rows = {}
    for file in sorted(Path(module, "manifests", "helm-profiles").glob("compatibility-*.yaml")):
        version = file.stem.rpartition("-")[2]
        values = yaml.safe_load(file.read_text()) or {}
        for name, value in (values.get("pilot") or {}).get("env", {}).items():
            found[f"{version}/{name}"] = hashed(str(value))
        for name, value in ((values.get("cni") or {}).get("ambient") or {}).items():
            found[f"{version}/cni.ambient.{name}"] = hashed(str(value))
    return found


def crds(module: Path) -> Rows:
    """Return the version that istiod reads of every watched CRD outside Istio's own groups."""
    text = Path(module, "pkg/config/schema/gvr/resources.gen.go").read_text()
    return {
        f"{resource}.{group}": version
        for name, group, version, resource in WATCHED.findall(text)
        if group in GROUPS and "_v" not in name
    }


def hashed(text: str) -> str:
    """Return the first eight digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def suggested(module: Path, section: str, name: str) -> str:
    """Return the class of a new id where its own data decides it, else `open`."""
    if section == "crd":
        return "check:PC007"
    if section != "note":
        return "open"
    text = Path(module, "releasenotes", "notes", f"{name}.yaml").read_text()
    note: dict[str, Any] = next(iter(yaml.safe_load_all(text)))
    if note.get("kind") in ("test", "documentation") or note.get("area") == "documentation":
        return "irrelevant:documentation or tests"
    if note.get("area") == "istioctl":
        return "irrelevant:changes istioctl and no running component"
    texts = [str(each).strip() for each in note.get("releaseNotes") or ()]
    if not texts or note.get("upgradeNotes"):
        return "open"
    if note.get("kind") == "feature" and all(text.startswith("**Added**") for text in texts):
        return "irrelevant:adds a feature that is not in use before the upgrade"
    if note.get("kind") == "bug-fix" and all(FAILURE.search(text) for text in texts):
        return "irrelevant:fixes a leak, a deadlock or a crash"
    return "open"


def write(file: Path, minor: str, sections: dict[str, Rows], module: Path) -> None:
    """Write one manifest; ids with an unchanged hash keep their class."""
    old = tomllib.loads(file.read_text()) if file.is_file() else {}
    lines = [f"# Istio {minor}: written by build.py; only the classes are edited by hand."]
    for section, rows in sections.items():
        lines += ["", f"[{section}]"]
        for name, hash in sorted(rows.items()):
            known = old.get(section, {}).get(name, ["", ""])
            kept = known[1] if known[0] == hash else "open"
            kept = suggested(module, section, name) if kept == "open" else kept
            lines.append(f'"{name}" = ["{hash}", "{kept}"]')
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
