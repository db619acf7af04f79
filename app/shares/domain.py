"""Shares and public pictures: two lifetimes beside a person's own previews, each with a type of its own.

A share shows some of a person's photos, small, to whoever has its addresses, until it is revoked. A public picture is
the shop's: it stays where it is until it is withdrawn, and is then gone for good.
"""

from datetime import datetime
from typing import ClassVar

import msgspec

from app.kernel.events import Event, event
from base.ids import AssetId, OwnerId, ShareId


@event
class ShareCreated(Event, frozen=True, kw_only=True):
    """A person shares so many photos."""

    type: ClassVar[str] = "share.created"
    share_id: ShareId
    photos: int


@event
class ShareRevoked(Event, frozen=True, kw_only=True):
    """The share's addresses end: every edge is told."""

    type: ClassVar[str] = "share.revoked"
    share_id: ShareId


@event
class PicturePublished(Event, frozen=True, kw_only=True):
    """An operator made a photo a public picture."""

    type: ClassVar[str] = "picture.published"
    asset_id: AssetId


@event
class PictureWithdrawn(Event, frozen=True, kw_only=True):
    """A public picture is public no more, for good."""

    type: ClassVar[str] = "picture.withdrawn"
    asset_id: AssetId


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One share, its photos in the order given."""

    id: ShareId
    owner_id: OwnerId
    photos: tuple[AssetId, ...]
    created_at: datetime
    revoked_at: datetime | None


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One public picture and who published it."""

    asset_id: AssetId
    published_by: str
    published_at: datetime
    withdrawn_at: datetime | None
