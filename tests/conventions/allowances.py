"""What does not meet a convention yet. Remove entries; never add one for new code."""

LONG_CLASSES = frozenset({"facts/precheck/upgrade_path.py:Upgrade"})
