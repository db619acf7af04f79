"""Asking before sending: what an owner already has, and why we think so. Nothing is told of other owners.

The answer for what somebody else has is the answer for what nobody has, from the same queries: they name the owner.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from app.assets.domain import Known
from app.assets.service import Assets
from app.kernel.db import Database
from app.uploads import store
from app.uploads.domain import Sent, UploadState
from base.ids import AssetId, OwnerId, UploadId

LIMIT: Final = 1000


class Reason(StrEnum):
    """Why a photo need not be sent, or not as asked."""

    EXACT = "exact"
    SAME_SOURCE = "same_source"
    UPLOADING_NOW = "uploading_now"
    IN_TRASH = "in_trash"
    CLIENT_HASH_STALE = "client_hash_stale"
    REJECTED = "rejected"


class Do(StrEnum):
    """What to do with a photo."""

    SEND = "send"
    SKIP = "skip"
    HASH = "hash"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A photo that might be sent: its SHA-256 (hex), its source id with the time of its last change, its size."""

    sha256: str | None
    source_id: str | None
    source_modified_at: datetime | None
    bytes: int | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with it, why, and what it is: the asset, the session, the hash that we computed."""

    do: Do
    reason: Reason | None = None
    asset_id: AssetId | None = None
    upload_id: UploadId | None = None
    sha256: str | None = None


class Checker:
    """The use case."""

    def __init__(self, db: Database, assets: Assets) -> None:
        self._db, self._assets = db, assets

    async def check(self, owner_id: OwnerId, asked: Sequence[Asked]) -> list[Verdict]:
        """A verdict for each, in order; two queries for all."""
        digests = list({one.sha256 for one in asked if one.sha256 is not None})
        sources = list({one.source_id for one in asked if one.source_id is not None})
        sizes = list({one.bytes for one in asked if one.bytes is not None and one.sha256 is None})
        async with self._db.transaction(readonly=True) as tx:
            sent = await store.sent(tx, owner_id, digests, sources)
            known = await self._assets.known(tx, owner_id, digests, [one.asset_id for one in sent], sizes)
        memory = _Memory(sent, known)
        return [memory.verdict(one) for one in asked]


class _Memory:
    """What one owner has, by what it can be asked by."""

    def __init__(self, sent: Sequence[Sent], known: Sequence[Known]) -> None:
        self._by_digest = {one.sha256: one for one in known if one.sha256 is not None}
        self._by_id = {name: one for one in known for name in (one.id, *one.duplicates)}
        self._sizes = {one.bytes for one in known}
        self._running = {one.sha256: one for one in sent if one.sha256 is not None and one.state in _RUNNING}
        self._sources = {(one.source_id, one.source_modified_at): one for one in sent if one.source_id is not None}

    def verdict(self, one: Asked) -> Verdict:
        """The first reason that holds, surest first."""
        if one.sha256 is not None and one.sha256 in self._by_digest:
            return _of_known(self._by_digest[one.sha256], Reason.EXACT)
        if one.sha256 is not None and one.sha256 in self._running:
            return _of_running(self._running[one.sha256])
        source = None if one.source_id is None else self._sources.get((one.source_id, one.source_modified_at))
        if source is not None:
            found = self._of_source(one, source)
            if found is not None:
                return found
        if one.sha256 is None and one.bytes in self._sizes:
            return Verdict(do=Do.HASH)
        return Verdict(do=Do.SEND)

    def _of_source(self, one: Asked, source: Sent) -> Verdict | None:
        known = self._by_id.get(source.asset_id)
        if known is None:
            stale = one.sha256 is not None and source.sha256 not in (None, one.sha256)
            return None if stale else _of_session(source)
        if one.sha256 is None or known.sha256 is None:
            return _of_known(known, Reason.SAME_SOURCE)
        return Verdict(do=Do.HASH, reason=Reason.CLIENT_HASH_STALE, asset_id=known.id, sha256=known.sha256)


_RUNNING: Final = frozenset({UploadState.OPEN, UploadState.VERIFYING})
ON_THE_WAY: Final = frozenset({"file-digest-mismatch", "size-mismatch", "original-gone"})
"""Reasons that lie in how the bytes came, not in the photo: sent again it may be accepted."""


def _of_known(known: Known, reason: Reason) -> Verdict:
    told = Reason.IN_TRASH if known.in_trash else reason
    return Verdict(do=Do.SKIP, reason=told, asset_id=known.id, sha256=known.sha256)


def _of_session(sent: Sent) -> Verdict | None:
    if sent.state is UploadState.REJECTED and sent.reason not in ON_THE_WAY:
        return Verdict(do=Do.SKIP, reason=Reason.REJECTED, upload_id=sent.id)
    return _of_running(sent) if sent.state in _RUNNING else None


def _of_running(sent: Sent) -> Verdict:
    return Verdict(do=Do.SKIP, reason=Reason.UPLOADING_NOW, upload_id=sent.id)
