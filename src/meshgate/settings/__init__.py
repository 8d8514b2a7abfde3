"""Every setting of meshgate, defined once: its option, unit, default, help and validation.

A topic is a frozen dataclass, and a setting is a field of it.  The options of pytest and of the
`meshgate` commands, `docs/reference/options.md` and the keys of `meshgate.toml` follow from them.
To add a setting, add a field to its topic and use it.
"""

from meshgate.settings.definition import Setting, definitions
from meshgate.settings.naming import CLUSTER_OPTIONS, SHADOW_OPTIONS, flag, named, with_flags
from meshgate.settings.probing import Ingress, Probes, Simulation
from meshgate.settings.sources import SettingsError, read_file, resolve
from meshgate.settings.topics import TOPICS, Access, Criteria, Reports, Run, Settings

__all__ = [
    "CLUSTER_OPTIONS",
    "SHADOW_OPTIONS",
    "TOPICS",
    "Access",
    "Criteria",
    "Ingress",
    "Probes",
    "Reports",
    "Run",
    "Setting",
    "Settings",
    "SettingsError",
    "Simulation",
    "definitions",
    "flag",
    "named",
    "read_file",
    "resolve",
    "with_flags",
]
