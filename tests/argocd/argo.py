"""Argo CD in the lab, as a platform team uses it: commits, Applications, what became of syncs."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.lab.harness import ROOT, Lab, until

Object = dict[str, Any]

VALUES = "hooks/examples/upgrade/values.yaml"

# The deadline of a gate is 600 s, a sync has two of them, and the parent's sync waits for several.
# These limits are only reached if something is wrong.
SYNC, UPGRADE = 1300.0, 2600.0  # seconds

_SERVER = ("--server=127.0.0.1:18080", "--plaintext")


class Application:
    """An Application as the API has it."""

    def __init__(self, body: Object) -> None:
        status = body.get("status", {})
        self.name: str = body["metadata"]["name"]
        self.pending = "operation" in body
        self.operation: Object = status.get("operationState") or {}
        self.phase: str = self.operation.get("phase", "")
        self.message: str = self.operation.get("message", "")
        self.synced: str = status.get("sync", {}).get("status", "")
        self.health: str = status.get("health", {}).get("status", "")
        self.resources: list[Object] = status.get("resources", [])
        self.conditions: list[Object] = status.get("conditions", [])
        self.hydration: Object = status.get("sourceHydrator", {}).get("currentOperation") or {}
        # the resources of a selective sync
        request = self.operation.get("operation", {})
        self.selected: list[Object] = request.get("sync", {}).get("resources", [])
        started = self.operation.get("operation", {}).get("initiatedBy", {})
        self.automated: bool = started.get("automated", False)

    @property
    def over(self) -> bool:
        """Whether a sync has ended and none is about to begin."""
        return bool(self.operation.get("finishedAt")) and not self.pending

    @property
    def done(self) -> bool:
        """Whether all that it asks for is so."""
        return self.over and (self.phase, self.synced, self.health) == (
            *("Succeeded", "Synced"),
            "Healthy",
        )

    @property
    def gates(self) -> dict[str, str]:
        """What became of each hook of the last sync; one that never ran is absent."""
        return {row["name"]: row.get("hookPhase", "") for row in self._hooks}

    @property
    def messages(self) -> dict[str, str]:
        """What the last sync's result says of each hook: what `argocd app get` and the UI show."""
        return {row["name"]: row.get("message", "") for row in self._hooks}

    @property
    def _hooks(self) -> Iterable[Object]:
        rows: list[Object] = self.operation.get("syncResult", {}).get("resources", [])
        return (row for row in rows if row.get("hookType"))

    def __repr__(self) -> str:
        state = f"{self.phase} {self.synced} {self.health}"
        return f"{self.name}: {state} {self.message}\n  {self.gates}\n  {self.messages}"


class Argo:
    """What the tests do with it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        printed = dict(
            line.split(": ", 1) for line in lab.verb("argocd").splitlines() if ": " in line
        )
        self.repository = Path(printed["repository"])
        self.charts = printed["charts"]

    def commit(self, message: str, values: Object, folders: dict[str, Path] | None = None) -> None:
        """Commit the values of the example's chart, and folders.

        Args:
            message: the commit's.
            values: what differs from the chart's own values.
            folders: folders that are copied first, by their path in the repository.
        """
        for name, source in (folders or {}).items():
            shutil.rmtree(self.repository / name, ignore_errors=True)
            shutil.copytree(source, self.repository / name)
        file = self.repository / VALUES
        defaults = yaml.safe_load((ROOT / VALUES).read_text())
        file.write_text(yaml.safe_dump(defaults | values))
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)

    def commit_objects(self, folder: str, objects: Iterable[Object]) -> None:
        """Commit a folder that contains these objects and nothing else."""
        place = self.repository / folder
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for number, each in enumerate(objects):
            (place / f"{number}.json").write_text(json.dumps(each, indent=1))
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", folder)

    @property
    def release(self) -> tuple[int, int]:
        """Return the running release of Argo CD: (3, 6)."""
        answer = self.lab.run("labapp", "get", "http://127.0.0.1:18080/api/version").stdout
        version = json.loads(answer.partition("\n\n")[2])["Version"].removeprefix("v")
        major, minor, *_ = version.split("+")[0].split(".")
        return int(major), int(minor)

    @staticmethod
    def now() -> str:
        """Return the time as the UI writes it in an approval."""
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def until_gone(self, name: str, timeout: float = 180) -> None:
        """Wait until an Application does not exist."""
        until(lambda: name not in self.names(), timeout)

    def application(self, name: str) -> Application:
        """As it is now."""
        return Application(self.lab.get("-n", "argocd", f"application/{name}"))

    def sync(self, name: str, *, only: list[Object] | None = None) -> Application:
        """A sync that somebody starts, from its start to its end."""
        self.begin(name, only=only)
        return self.until(name, lambda app: app.over)

    def begin(self, name: str, *, only: list[Object] | None = None, prune: bool = False) -> None:
        """The same, without waiting for its end.

        Args:
            name: the Application's.
            only: the resources of a selective sync.
            prune: whether resources that are not in the repository are deleted.

        The old state goes with the same patch: else the new operation can inherit its result.
        """
        self.refresh(name)
        sync: Object = {"syncStrategy": {"hook": {}}, "prune": prune}
        if only:
            sync["resources"] = only
        operation = {"initiatedBy": {"username": "test"}, "sync": sync}
        self._patch(name, {"operation": operation, "status": {"operationState": None}})

    def names(self) -> list[str]:
        """Of all Applications."""
        return [each["metadata"]["name"] for each in self.lab.get("-n", "argocd", "app")["items"]]

    def refresh(self, name: str) -> None:
        """Has Argo CD look at the repository and the cluster now, and waits until it has."""
        asked = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "hard"}}}
        self._patch(name, asked)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            metadata = self.lab.get("-n", "argocd", f"application/{name}")["metadata"]
            if "argocd.argoproj.io/refresh" not in metadata.get("annotations", {}):
                return
            time.sleep(0.5)
        raise AssertionError(f"{name} was not refreshed")

    def until(
        self, name: str, holds: Callable[[Application], bool], timeout: float = SYNC
    ) -> Application:
        """The Application, once that holds."""
        deadline = time.monotonic() + timeout
        while not holds(app := self.application(name)):
            assert time.monotonic() < deadline, f"after {timeout:.0f} s: {app}"
            time.sleep(1)
        return app

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`argocd`, as a person or a pipeline runs it."""
        return self.lab.run("argocd", *words, *_SERVER)

    def chain(self) -> subprocess.CompletedProcess[str]:
        """The chain of the examples, as a pipeline runs it."""
        options = f"ARGOCD_OPTS={' '.join(_SERVER)}"
        return self.lab.run("env", options, "sh", str(ROOT / "hooks/examples/chain.sh"))

    def health_becomes(self, parent: str, child: str, words: str) -> None:
        """Waits until what the parent takes its child's health to be begins with these words."""
        self.until(parent, lambda _: self._healths(parent)[child].startswith(words))

    def links(self, name: str, resource: Object) -> dict[str, str]:
        """Return the deep links that the UI shows for a resource: title to URL."""
        group, _, version = resource["apiVersion"].rpartition("/")
        metadata = resource["metadata"]
        query = {
            "resourceName": metadata["name"],
            "namespace": metadata["namespace"],
            "kind": resource["kind"],
            "group": group,
            "version": version,
        }
        found = self._answer(f"{name}/resource/links?{urlencode(query)}")
        return {each["title"]: each["url"] for each in found.get("items", [])}

    def unhealthy(self, parent: str) -> dict[str, str]:
        """The parent's children that it does not take to be healthy."""
        found = self._healths(parent)
        return {name: words for name, words in found.items() if not words.startswith("Healthy ")}

    def _healths(self, parent: str) -> dict[str, str]:
        return {
            each["name"]: f"{each['health']['status']} {each['health'].get('message', '')}"
            for each in self._answer(f"{parent}/resource-tree")["nodes"]
            if each["kind"] == "Application"
        }

    def _answer(self, path: str) -> Any:
        """Return what the API server answers about Applications."""
        url = f"http://127.0.0.1:18080/api/v1/applications/{path}"
        return json.loads(self.lab.run("labapp", "get", url).stdout.partition("\n\n")[2])

    def fresh(self, app: Application) -> bool:
        """Whether its last sync was of the repository's last commit."""
        head = self._git("rev-parse", "HEAD").strip()
        return bool(app.operation.get("syncResult", {}).get("revision") == head)

    def _patch(self, name: str, patch: Object) -> None:
        words = ("-n", "argocd", f"application/{name}", "--type=merge", "--patch")
        self.lab.kubectl("patch", *words, json.dumps(patch))

    def _git(self, *words: str) -> str:
        command = ["git", "-C", str(self.repository), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def moment(text: str) -> datetime:
    """A time of the API's."""
    return datetime.fromisoformat(text)
