"""What goes over the wire: JSON in camelCase, unknown fields refused on the way in, nothing left out on the way out."""

import msgspec


class WireIn(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of request bodies. Every field carries `Meta` with a description and its bounds."""


class WireOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of answers. No defaults: a field is always there, `null` where there is nothing to say."""
