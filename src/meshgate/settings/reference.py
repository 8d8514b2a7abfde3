"""A reference to one object, as an option gives it."""

import re

import msgspec

_REFERENCE = re.compile(r"(?P<namespace>[^/@]+)/(?P<name>[^/@]+)(?:@(?P<uid>[^/@]*))?")


class ObjectReference(msgspec.Struct, frozen=True):
    """One object; with `uid`, a later object of the same name is another one."""

    namespace: str
    name: str
    uid: str = ""

    @classmethod
    def parse(cls, text: str) -> "ObjectReference":
        """Return the reference of `namespace/name[@uid]`; raise ValueError for other text."""
        found = _REFERENCE.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not NAMESPACE/NAME or NAMESPACE/NAME@UID")
        return cls(found["namespace"], found["name"], found["uid"] or "")
