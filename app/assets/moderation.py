"""The port of moderation: who looks at a photo before it may be made. Nobody does by default; operators can flag."""

from typing import Protocol

import msgspec


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a moderator said: a code why the photo must wait for a person, or None."""

    reason: str | None


class Moderator(Protocol):
    """Something that judges photos, called by a record job outside any transaction; it may be asked again."""

    async def look(self, asset: str, sha256: str) -> Looked:
        """Judge a ready photo (TypeID, SHA-256 in hex); raises `ServiceUnavailable` to be asked later."""
        ...
