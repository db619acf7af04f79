"""tus 1.0 (tus.io, core with creation, expiration, checksum, termination) on the same sessions.

Every answer under its path carries `Tus-Resumable`, whoever made it (`TusWire`). An offset is only told when the bytes
before it are in storage.
"""

import base64
import binascii
from collections.abc import Callable, Coroutine
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, head, patch, post
from litestar.params import FromPath

from app.uploads.domain import Declared, Upload
from app.uploads.errors import TusMediaType, TusVersion, UploadDigestMismatch
from app.uploads.receive import ALGORITHMS, Receiver, checksum_of
from app.uploads.schemas import CreateUpload
from app.uploads.service import MAX_BYTES, Uploads
from app.web import problems
from app.web.bodies import pieces
from app.web.call import call_of
from app.web.guards import PublicController, customer
from base import ids
from base.errors import DomainError, InvalidInput

VERSION: Final = "1.0.0"
PATH: Final = "/v1/tus"
APPEND: Final = "application/offset+octet-stream"
_SPOKEN: Final = {
    "Tus-Resumable": VERSION,
    "Tus-Version": VERSION,
    "Tus-Extension": "creation,expiration,checksum,termination",
    "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    "Tus-Max-Size": str(MAX_BYTES),
}
_NAMES: Final = {
    "filetype": "contentType",
    "sha256": "sha256",
    "reference": "clientReference",
    "sourceId": "sourceId",
    "sourceModifiedAt": "sourceModifiedAt",
    "country": "country",
}
_STATUS: Final[dict[type[DomainError], int]] = {
    UploadDigestMismatch: 460,
    TusVersion: 412,
    TusMediaType: 415,
}
METADATA_MAX: Final = 4096

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


class TusWire:
    """What tus asks of every request and answer under its path, whatever becomes of it.

    A client that can send no other methods names the one it means in `X-HTTP-Method-Override`.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        """Serve one HTTP request."""
        if not (scope["path"] == PATH or scope["path"].startswith(f"{PATH}/")):
            return self._app(scope, receive, send)
        meant = dict(scope["headers"]).get(b"x-http-method-override")
        if meant is not None:
            scope["method"] = meant.decode("latin-1")
        return self._app(scope, receive, lambda message: send(_marked(message)))


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] != "http.response.start":
        return message
    kept = [(name, value) for name, value in message["headers"] if name.lower() != b"tus-resumable"]
    return {**message, "headers": [*kept, (b"tus-resumable", VERSION.encode())]}


def _refused(request: Request[Any, Any, Any], error: DomainError) -> Response[bytes]:
    """tus's own statuses where it has some, and the versions there are."""
    answer: Response[bytes] = problems.HANDLERS[DomainError](request, error)
    answer.status_code = _STATUS.get(type(error), answer.status_code)
    answer.headers["Tus-Version"] = VERSION
    return answer


class TusController(PublicController):
    """Uploads as tus 1.0. `Upload-Metadata`: `filetype` is needed, what else `_NAMES` has as in JSON.

    Public, since OPTIONS is for all; every other handler asks for its customer.
    """

    path = PATH
    tags = ("uploads",)
    response_headers = _SPOKEN  # also of OPTIONS, which Litestar answers
    exception_handlers = {DomainError: _refused}  # noqa: RUF012 Litestar's own field
    include_in_schema = False
    uploads: Uploads
    receiver: Receiver

    @post("/", status_code=201)
    async def create(self, request: Request[Any, Any, Any]) -> Response[None]:
        """Open a session."""
        who = customer()
        _speaks(request)
        made = await self.uploads.create(who.owner_id, declared_in(request))
        headers = {"Location": f"{PATH}/{ids.encode('upload', made.id)}", **_expiry(made.expires_at)}
        return Response(None, status_code=201, headers=headers)

    @head("/{upload_id:str}")
    async def look(self, request: Request[Any, Any, Any], upload_id: FromPath[str]) -> Response[None]:
        """Where to go on."""
        who = customer()
        _speaks(request)
        upload, offset = await self.receiver.offset(who.owner_id, ids.decode("upload", upload_id))
        told = {} if upload.metadata is None else {"Upload-Metadata": upload.metadata}
        return Response(None, headers={**_state(upload, offset), **told, "Cache-Control": "no-store"})

    @patch("/{upload_id:str}", status_code=204, opt={"raw": True}, request_max_body_size=None)
    async def append(self, request: Request[Any, Any, Any], upload_id: FromPath[str]) -> Response[None]:
        """Go on."""
        who = customer()
        _speaks(request)
        offset, checksum = _offset_in(request), checksum_of(request.headers.get("upload-checksum"))
        call = call_of(request.scope)
        call.run_long()
        wanted = ids.decode("upload", upload_id)
        body = pieces(request.receive, self.receiver.traffic.least_rate)
        length = _whole(request, "content-length") if "content-length" in request.headers else None
        upload, at = await self.receiver.append(who.owner_id, wanted, offset, body, checksum, length, call.address)
        return Response(None, status_code=204, headers=_state(upload, at))

    @delete("/{upload_id:str}", status_code=204)
    async def abort(self, request: Request[Any, Any, Any], upload_id: FromPath[str]) -> Response[None]:
        """Give it up."""
        who = customer()
        _speaks(request)
        await self.uploads.abort(who.owner_id, ids.decode("upload", upload_id))
        return Response(None, status_code=204)


def _speaks(request: Request[Any, Any, Any]) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise TusVersion()


def _expiry(when: datetime) -> dict[str, str]:
    return {"Upload-Expires": format_datetime(when, usegmt=True)}


def _state(upload: Upload, offset: int) -> dict[str, str]:
    return {"Upload-Offset": str(offset), "Upload-Length": str(upload.bytes), **_expiry(upload.expires_at)}


def _offset_in(request: Request[Any, Any, Any]) -> int:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != APPEND:
        raise TusMediaType()
    return _whole(request, "upload-offset")


def _whole(request: Request[Any, Any, Any], name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidInput("a whole number is needed", field=name)
    return int(text)


def declared_in(request: Request[Any, Any, Any]) -> Declared:
    """What `Upload-Length` and `Upload-Metadata` declare, by the rules of the JSON face; raises `InvalidInput`."""
    fields: dict[str, Any] = {"bytes": _whole(request, "upload-length")}
    told = request.headers.get("upload-metadata")
    if told is not None and len(told) > METADATA_MAX:
        raise InvalidInput(f"at most {METADATA_MAX} characters", field="upload-metadata")
    for pair in filter(None, (told or "").split(",")):
        name, _, encoded = pair.strip().partition(" ")
        if name in _NAMES:
            fields[_NAMES[name]] = _text(encoded)
    try:
        declared = msgspec.convert(fields, CreateUpload).declared()
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error), field="upload-metadata") from error
    return msgspec.structs.replace(declared, metadata=told)


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("values are base64", field="upload-metadata") from error
