"""What all evidence is made of."""

import msgspec


class Base(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Frozen, with the API's camelCase names on the wire; defaults are left out of the file."""
