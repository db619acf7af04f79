"""Erasing a person: at once, on request, with a receipt."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from app.kernel.erasers import Kept
from app.kernel.events import Event, event
from base.ids import OwnerId

EVENT_MONTHS: Final = 120
"""Ten years, as long as accounts must be explained; events are dropped by whole months. Apps are promised 30 days."""


@event
class OwnerErased(Event, frozen=True, kw_only=True):
    """A person's key is destroyed and everything of theirs is on its way out."""

    type: ClassVar[str] = "owner.erased"
    owner_id: OwnerId
    assets: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure did: when, how many photos go, and what is kept, why and until when."""

    erased_at: datetime
    assets: int
    kept: tuple[Kept, ...]
