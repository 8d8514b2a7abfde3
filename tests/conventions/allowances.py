"""What does not meet a convention yet. Remove entries; never add one for new code."""

LONG_CLASSES: frozenset[str] = frozenset()
