"""What all evidence is made of."""

import msgspec


class Base(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Frozen, with the API's camelCase names on the wire; defaults are left out of the file.

    A tree that is decoded or built once holds no cycles: the garbage collector need not look at it.
    """


class Present(Base, frozen=True):
    """An object of which only the presence is used."""
