"""How messages name options: by the setting, so that they follow when an option is renamed."""

import re
from functools import cache

from meshgate.settings.definition import Setting, definitions
from meshgate.settings.topics import TOPICS

# in a text that is not code: `{criteria.target_version}`, or with a value after `=`
_PLACEHOLDER = re.compile(r"\{(?P<name>\w+\.\w+)(?:=(?P<value>[^{}]+))?\}")


@cache
def named() -> dict[str, Setting]:
    """Return every setting by `topic.field`."""
    return {
        f"{topic}.{each.name}": each
        for topic, fields in TOPICS.items()
        for each in definitions(fields)
    }


def flag(name: str, value: object = "") -> str:
    """Return the option of a setting for a message: `--settle`, or `--settle=30`.

    Args:
        name: the setting, as `topic.field`.
        value: the value to show; the option alone if empty.

    Returns:
        The option's text.

    Raises:
        KeyError: there is no such setting.
    """
    found = named()[name].flag
    return f"{found}={value}" if value != "" else found


# two groups that many messages name
CLUSTER_OPTIONS = f"{flag('access.kubeconfig')} and {flag('access.context')}"
SHADOW_OPTIONS = (
    f"{flag('simulation.istiod')}, {flag('simulation.envoy')} and {flag('simulation.manifests')}"
)


def with_flags(text: str) -> str:
    """Return a text with each placeholder of a setting, `{topic.field}`, as its option.

    Other words in braces stay: the text may be a custom check's.
    """
    return _PLACEHOLDER.sub(
        lambda found: (
            flag(found["name"], found["value"] or "") if found["name"] in named() else found.group()
        ),
        text,
    )
