"""Nouns with properties, computed from a Snapshot alone.  Pure: the same file, the same facts."""
