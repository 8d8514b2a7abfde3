"""The observer as one command: its modules travel in an argument."""

import json
from pathlib import Path

_PROBES = Path(__file__).parents[1]
# each after those that it imports
_MODULES = ("peer", "observer.evidence", "observer.http2", "observer.calls", "observer.program")
_PACKAGES = ("meshgate", "meshgate.probe", "meshgate.probe.observer")


def command(given: dict[str, object]) -> list[str]:
    """Return the command that runs the observer with these settings (program.main)."""
    modules = {
        f"meshgate.probe.{name}": (_PROBES / f"{name.replace('.', '/')}.py").read_text()
        for name in _MODULES
    }
    return [
        "python3",
        "-c",
        _BOOTSTRAP,
        json.dumps(_PACKAGES),
        json.dumps(modules),
        json.dumps(given),
    ]


_BOOTSTRAP = """import json, sys, types
packages, modules = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in [*packages, *modules]:
    module = sys.modules[name] = types.ModuleType(name)
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    if name in packages:
        module.__path__ = []
    else:
        exec(compile(modules[name], name, "exec"), module.__dict__)
module.main(sys.argv[3])
"""
