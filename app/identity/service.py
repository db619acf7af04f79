"""Use cases of identity: begin as a guest, refresh, who am I."""

from datetime import timedelta

import msgspec

from app.identity import store
from app.identity.domain import (
    DeviceRegistered,
    Grant,
    Move,
    Owner,
    Platform,
    RefreshTokens,
    Session,
    SessionRevoked,
    judge,
)
from app.identity.errors import OwnerUnknown, RefreshRefused, RefreshReused
from app.kernel.access import AccessTokens
from app.kernel.alerts import Severity, alert
from app.kernel.db import Database, Transaction
from app.kernel.events import Origin
from app.kernel.persons import PersonKeys
from app.kernel.spine import Spine
from base import ids
from base.ids import DeviceId, OwnerId, SessionId

OWNER = Origin(actor="owner")


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long tokens are good, in whole seconds."""

    access_s: int
    refresh_s: int


class IdentityService:
    """Owners, devices and their tokens."""

    def __init__(
        self,
        db: Database,
        spine: Spine,
        persons: PersonKeys,
        access: AccessTokens,
        refresh: RefreshTokens,
        lifetimes: Lifetimes,
    ) -> None:
        self._db, self._spine, self._persons = db, spine, persons
        self._access, self._refresh, self._lifetimes = access, refresh, lifetimes

    async def register_device(self, platform: Platform) -> Grant:
        """A new guest with one device and a session. A lost answer leaves an empty guest behind, nothing more."""
        owner_id, device_id = OwnerId(ids.new_id()), DeviceId(ids.new_id())
        session_id = SessionId(ids.new_id())
        async with self._db.transaction() as tx:
            await store.register(tx, owner_id, device_id, platform)
            await self._persons.create(tx, owner_id)
            await store.open_session(
                tx, session_id, owner_id, device_id, self._refresh.current, self._lifetimes.refresh_s
            )
            told = DeviceRegistered(platform=platform)
            await self._spine.record(tx, told, aggregate_id=device_id, owner_id=owner_id, origin=OWNER)
        return self._grant(owner_id, device_id, self._refresh.derive(session_id, 1, self._refresh.current))

    async def refresh(self, token: str) -> Grant:
        """A fresh access token and the next refresh token; raises `RefreshRefused` or `RefreshReused`."""
        found = self._refresh.read(token)
        if found is None:
            raise RefreshRefused()
        session_id, generation = found
        async with self._db.transaction() as tx:
            session = await store.lock_session(tx, session_id)
            if session is None or not session.usable:
                raise RefreshRefused()
            successor = await self._move(tx, session, generation)
        if successor is None:
            raise RefreshReused()
        return self._grant(session.owner_id, session.device_id, successor)

    async def _move(self, tx: Transaction, session: Session, generation: int) -> str | None:
        """The successor of the presented token, or None when the session had to be ended (which must commit)."""
        move = judge(generation, session.generation)
        if move is Move.REUSED:
            await self._revoke(tx, session, "refresh-reused")
            return None
        if move is Move.REPEAT:
            return self._refresh.derive(session.id, session.generation, session.key_id)
        await store.advance(tx, session.id, self._refresh.current, self._lifetimes.refresh_s)
        return self._refresh.derive(session.id, session.generation + 1, self._refresh.current)

    async def _revoke(self, tx: Transaction, session: Session, reason: str) -> None:
        await store.revoke(tx, session.id, reason)
        told = SessionRevoked(device_id=session.device_id, reason=reason)
        system = Origin(actor="system")
        await self._spine.record(tx, told, aggregate_id=session.id, owner_id=session.owner_id, origin=system)
        await alert(tx, "refresh-token-reused", Severity.WARNING, ids.encode("session", session.id))

    def _grant(self, owner_id: OwnerId, device_id: DeviceId, refresh_token: str) -> Grant:
        seconds = self._lifetimes.access_s
        token, expires = self._access.customer(owner_id, device_id, timedelta(seconds=seconds))
        return Grant(
            owner_id=owner_id,
            device_id=device_id,
            access_token=token,
            expires_at=expires,
            expires_in_s=seconds,
            refresh_token=refresh_token,
        )

    async def read_owner(self, owner_id: OwnerId) -> Owner:
        """The owner; raises `OwnerUnknown` after erasure."""
        async with self._db.reading() as db:
            owner = await store.read_owner(db, owner_id)
        if owner is None:
            raise OwnerUnknown()
        return owner
