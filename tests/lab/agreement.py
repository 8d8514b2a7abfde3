"""How much of what was predicted of an upgrade its proxies really get.

    python -m tests.lab.agreement predict TARGET FILE    # before it; `lab target` writes TARGET
    python -m tests.lab.agreement compare FILE           # after the workloads were restarted

Both in the lab's network.  A prediction is what the target's istiod gives each proxy in the shadow,
so FILE holds whole configurations: it is for a lab, and no part of what meshgate keeps.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from meshgate.collect.capture import connect
from meshgate.collect.shadow import proxies, running, simulation, target
from meshgate.collect.shadow.proxies import Proxy
from meshgate.semantics.config_diff import changes, resources
from meshgate.settings import Settings
from meshgate.snapshot.items import SHADOW, requires
from meshgate.snapshot.model import Expectations

NAMESPACE = "istio-system"
ORDINAL = "statefulset.kubernetes.io/pod-name"

# What a restart changes whatever the version is; these stand for their workload instead.
VOLATILE = ("the addresses of the pods that are restarted", "their names")

Given = dict[str, dict[str, Any]]  # workload → "type name" → resource


def main(verb: str, *words: str) -> int:
    """One of the two."""
    source = connect(Settings(), Expectations(istio_namespace=NAMESPACE))
    if verb == "predict":
        folder, file = map(Path, words)
        wanted = target.rendered(folder / "istiod.yaml")
        launch = target.Launch(
            program=str(folder / "pilot-discovery"),
            rendered=wanted,
            istio_namespace=NAMESPACE,
            timeout=60,
        )
        with launch.running(source.cluster) as target_istiod:
            found = proxies.read(source.cluster, wanted.mesh(), target_istiod.version)

            def predictions() -> Iterator[tuple[Proxy, Any]]:
                for proxy in found:
                    with simulation.connected(target_istiod, proxy, 60):
                        yield proxy, resources(target_istiod.config_dump(proxy.key))

            file.write_bytes(msgspec.json.encode(_lasting(found, predictions())))
        return 0
    found = proxies.read(source.cluster, {}, "")
    snapshot = source.capture(requires(SHADOW))
    with running.asked(source.transport, snapshot, NAMESPACE) as current:
        got = _lasting(found, ((proxy, current.given(proxy.key)) for proxy in found))
    return _compare(msgspec.json.decode(Path(words[0]).read_bytes(), type=Given), got)


def _lasting(found: tuple[Proxy, ...], received: Iterator[tuple[Proxy, Any]]) -> Given:
    """What each workload's proxy is given, without what is volatile."""
    stands_for: dict[str, str] = {}
    for proxy in found:
        workload = _workload(proxy)
        stands_for[proxy.id.split("~")[1]] = f"(address of {workload})"
        stands_for[proxy.name] = f"(pod of {workload})"
    given: Given = {}
    for proxy, of_proxy in received:
        rows = {f"{type} {name}": body for (type, name), body in of_proxy.items()}
        text = msgspec.json.encode(rows).decode()
        # the longest first: one address may be the beginning of another
        for name in sorted(stands_for, key=len, reverse=True):
            text = text.replace(name, stands_for[name])
        given[_workload(proxy)] = msgspec.json.decode(text)
    return given


def _workload(proxy: Proxy) -> str:
    return (
        f"{proxy.labels[ORDINAL]}.{proxy.namespace}" if ORDINAL in proxy.labels else proxy.cluster
    )


def _compare(predicted: Given, got: Given) -> int:
    alike = total = 0
    for workload in sorted({*predicted, *got}):
        before, after = predicted.get(workload, {}), got.get(workload, {})
        total += len({*before, *after})
        alike += sum(before[name] == after[name] for name in before.keys() & after.keys())
        for change in changes(_keyed(before), _keyed(after), {}):
            print(f"{workload}: {change.kind} {change.resource} {change.path}")
    print(f"not compared: {', '.join(VOLATILE)}")
    share = 100 * alike / total if total else 0.0
    print(f"agreement: {share:.2f} % of {total} resources of {len(got)} proxies")
    return 0 if predicted and alike == total else 1


def _keyed(rows: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {("", name): body for name, body in rows.items()}


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
