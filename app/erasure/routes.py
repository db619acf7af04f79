"""Erasure over HTTP."""

from litestar import delete

from app.erasure.schemas import ReceiptOut
from app.erasure.service import Erasure, NobodyToErase
from app.identity.routes import MeController
from app.identity.service import IdentityService
from app.web.guards import customer
from app.web.openapi import fails


class ErasureController(MeController):
    """The caller, and the caller's end: one controller a path, since Litestar answers OPTIONS for each."""

    identity: IdentityService
    erasure: Erasure

    @delete(
        "/", operation_id="EraseMe", summary="Erase everything of mine", status_code=200, responses=fails(NobodyToErase)
    )
    async def erase(self) -> ReceiptOut:
        """Erase the caller: photos, sessions, keys. It cannot be undone; asked again, the same receipt."""
        who = customer()
        return ReceiptOut.of(await self.erasure.erase(who.owner_id))
