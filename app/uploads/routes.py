"""Uploads over HTTP: sessions here, bytes straight to storage."""

from typing import Any

from litestar import Request, Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from app.kernel.idempotency import Idempotency
from app.kernel.quotas import QuotaExceeded
from app.uploads.capability import Capabilities
from app.uploads.check import Checker
from app.uploads.domain import GRACE, Upload
from app.uploads.errors import (
    UploadBytesDiffer,
    UploadDigestMismatch,
    UploadExpiredGone,
    UploadGivenUp,
    UploadIncomplete,
    UploadNotFound,
    UploadNotOpen,
    UploadReferenceReused,
    UploadsAtOnce,
    UploadsHeld,
    UploadStorageLost,
    UploadsUnfinished,
    UploadTooLarge,
    UploadTooSlow,
)
from app.uploads.receive import Receiver
from app.uploads.schemas import (
    BackgroundOut,
    CheckUploads,
    CreateUpload,
    PartsOut,
    UploadOut,
    UploadProgressOut,
    VerdictOut,
    VerdictsOut,
    WantedParts,
)
from app.uploads.service import Uploads
from app.web.bodies import pieces
from app.web.call import call_of
from app.web.guards import CustomerController, PublicController, customer
from app.web.keyed import KEY_ERRORS, answered, as_json, keyed
from app.web.openapi import fails
from base import ids
from base.clock import Clock


class UploadController(CustomerController):
    """Upload sessions."""

    path = "/v1/uploads"
    tags = ("uploads",)
    uploads: Uploads
    checker: Checker
    capabilities: Capabilities
    clock: Clock
    idempotency: Idempotency

    @post(
        "/",
        operation_id="CreateUpload",
        summary="Begin an upload",
        status_code=201,
        responses=fails(*KEY_ERRORS, UploadTooLarge, UploadReferenceReused, QuotaExceeded, UploadsUnfinished),
    )
    async def create(self, data: JSONBody[CreateUpload], request: Request[Any, Any, Any]) -> Response[UploadOut]:
        """Open a session for one photo. Ask `…/parts` for where to send the bytes, then `…/complete`.

        Sessions and declared bytes are counted by the day, and the bytes of open sessions have a ceiling.
        """
        call = await keyed(request)
        given = await self.idempotency.once(
            call, lambda tx: self.uploads.open(tx, call.owner_id, data.declared()), as_json(201, UploadOut.of)
        )
        return answered(given)

    @get("/{upload_id:str}", operation_id="ReadUpload", summary="Read an upload", responses=fails(UploadNotFound))
    async def read(self, upload_id: FromPath[str]) -> UploadProgressOut:
        """The session, and how much of it storage holds."""
        who = customer()
        return UploadProgressOut.of(await self.uploads.get(who.owner_id, ids.decode("upload", upload_id)))

    @post(
        "/check",
        operation_id="CheckUploads",
        summary="Ask before sending",
        status_code=200,
    )
    async def check(self, data: JSONBody[CheckUploads]) -> VerdictsOut:
        """For up to 1,000 photos: which are here already, which are on their way, and which to send."""
        who = customer()
        found = await self.checker.check(who.owner_id, data.asked())
        return VerdictsOut(photos=[VerdictOut.of(verdict) for verdict in found])

    @post(
        "/{upload_id:str}/parts",
        operation_id="AddressParts",
        summary="Where to send the bytes",
        status_code=200,
        responses=fails(UploadNotFound, UploadExpiredGone, UploadGivenUp, UploadNotOpen),
    )
    async def parts(self, upload_id: FromPath[str], data: JSONBody[WantedParts | None] = None) -> PartsOut:
        """Short-lived addresses for the parts named, or without a body for the first that are missing.

        An address that ended is no loss: ask again. The same part may be sent again until the upload is complete.
        """
        who = customer()
        wanted = () if data is None else data.wanted()
        progress, parts = await self.uploads.parts(who.owner_id, ids.decode("upload", upload_id), wanted)
        return PartsOut.of(progress, parts, self._background(progress.upload))

    def _background(self, upload: Upload) -> BackgroundOut:
        until = upload.expires_at + GRACE
        return BackgroundOut(
            method="PUT",
            path=f"/v1/uploads/{ids.encode('upload', upload.id)}/content/{self.capabilities.of(upload.id, until)}",
            expires_in_s=int((until - self.clock.now()).total_seconds()),
        )

    @post(
        "/{upload_id:str}/complete",
        operation_id="CompleteUpload",
        summary="All bytes are sent",
        status_code=202,
        responses=fails(
            *KEY_ERRORS,
            UploadNotFound,
            UploadExpiredGone,
            UploadGivenUp,
            UploadNotOpen,
            UploadIncomplete,
            UploadStorageLost,
        ),
    )
    async def complete(self, upload_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[UploadOut]:
        """Turn the bytes into a photo; it is looked at afterwards (event `asset.preview_ready`)."""
        call = await keyed(request)
        wanted = ids.decode("upload", upload_id)
        given = await self.idempotency.once(
            call,
            lambda tx: self.uploads.complete(tx, call.owner_id, wanted),
            as_json(202, UploadOut.of),
            before=lambda: self.uploads.arrived(call.owner_id, wanted),
        )
        return answered(given)

    @post(
        "/{upload_id:str}/revive",
        operation_id="ReviveUpload",
        summary="Open an expired upload again",
        status_code=200,
        responses=fails(UploadNotFound, UploadExpiredGone, UploadNotOpen, UploadReferenceReused, UploadsUnfinished),
    )
    async def revive(self, upload_id: FromPath[str]) -> UploadOut:
        """Within a week after a session expired it can be opened again, with the bytes it holds.

        Its bytes count as those of an open session.
        """
        who = customer()
        return UploadOut.of(await self.uploads.revive(who.owner_id, ids.decode("upload", upload_id)))

    @delete(
        "/{upload_id:str}",
        operation_id="AbortUpload",
        summary="Give an upload up",
        responses=fails(UploadNotFound, UploadExpiredGone, UploadNotOpen),
    )
    async def abort(self, upload_id: FromPath[str]) -> None:
        """Give an open session up; its bytes are removed. Asked again, the same answer."""
        who = customer()
        await self.uploads.abort(who.owner_id, ids.decode("upload", upload_id))


class ContentController(PublicController):
    """Whole files in one request. The path is the permission: no access token lives as long as a phone's background."""

    path = "/v1/uploads/{upload_id:str}/content/{capability:str}"
    tags = ("uploads",)
    capabilities: Capabilities
    receiver: Receiver

    @put(
        "/",
        operation_id="SendContent",
        summary="Send a whole file",
        status_code=200,
        opt={"raw": True, "open": True},
        request_max_body_size=None,
        responses=fails(
            UploadNotFound,
            UploadBytesDiffer,
            UploadDigestMismatch,
            UploadNotOpen,
            UploadGivenUp,
            UploadExpiredGone,
            UploadReferenceReused,
            UploadTooSlow,
            UploadsAtOnce,
            UploadsHeld,
            UploadsUnfinished,
        ),
    )
    async def send(
        self, request: Request[Any, Any, Any], upload_id: FromPath[str], capability: FromPath[str]
    ) -> UploadOut:
        """Send the file's bytes as the body; the upload is complete with it. The path comes with `…/parts`.

        The same bytes again are the same answer, other bytes 409; an expired upload is opened again.
        """
        wanted = ids.decode("upload", upload_id)
        self.capabilities.require(wanted, capability)
        call = call_of(request.scope)
        call.run_long()
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdigit() else None
        body = pieces(request.receive, self.receiver.traffic.least_rate)
        return UploadOut.of(await self.receiver.content(wanted, size, body, call.address))
