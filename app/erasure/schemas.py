"""Erasure on the wire."""

from datetime import datetime
from typing import Annotated, Self

from msgspec import Meta

from app.erasure.domain import Receipt
from app.web.wire import WireOut


class KeptOut(WireOut, frozen=True, kw_only=True):
    """Something that is kept after an erasure."""

    what: Annotated[str, Meta(description="What is kept.")]
    reason: Annotated[str, Meta(description="Why: a code.")]
    until: Annotated[
        str, Meta(description="Until when: an ISO date, a time such as `120-months-after-each`, or `unlimited`.")
    ]


class ReceiptOut(WireOut, frozen=True, kw_only=True):
    """The receipt of an erasure."""

    erased_at: Annotated[datetime, Meta(description="When, UTC. From then on nothing sealed can be read.")]
    assets: Annotated[int, Meta(description="How many photos are being removed.")]
    kept: Annotated[list[KeptOut], Meta(description="What stays, why, and until when.")]

    @classmethod
    def of(cls, receipt: Receipt) -> Self:
        """From the domain."""
        return cls(
            erased_at=receipt.erased_at,
            assets=receipt.assets,
            kept=[KeptOut(what=k.what, reason=k.reason, until=k.until) for k in receipt.kept],
        )
