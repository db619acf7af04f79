"""What can be wrong with an upload."""

from collections.abc import Sequence

from base.errors import DomainError, Kind


class UploadNotFound(DomainError):
    """There is no such session, or it is somebody else's."""

    code, title, kind = "upload-not-found", "There is no such upload", Kind.NOT_FOUND
    next_step = "Create a new upload session."


class UploadTooLarge(DomainError):
    """The declared size is over the limit."""

    code, title, kind = "upload-too-large", "The photo is too large", Kind.TOO_LARGE
    next_step = "Send a photo within the limit that the message names."

    def __init__(self, limit: int) -> None:
        super().__init__(f"a photo may have at most {limit} bytes")


class UploadIncomplete(DomainError):
    """Storage does not hold the declared bytes; the detail names the missing ranges."""

    code, title, kind = "upload-incomplete", "The bytes have not arrived yet", Kind.CONFLICT
    next_step = "Ask for the missing parts' addresses, send the bytes, then complete again; the session stays open."

    def __init__(self, gaps: Sequence[tuple[int, int]] = ()) -> None:
        named = ", ".join(f"{first}-{last}" for first, last in gaps[:20])
        super().__init__(f"missing bytes: {named}" if named else "the parts changed meanwhile")


class UploadStorageLost(DomainError):
    """Storage has forgotten the parts; the session begins anew."""

    code, title, kind = "upload-storage-lost", "Storage has lost what was sent of this upload", Kind.GONE
    next_step = "Ask for the parts' addresses again: the same session takes the bytes from where `missing` says."


class UploadBytesDiffer(DomainError):
    """Other bytes than those this session has or declared."""

    code, title, kind = "upload-bytes-differ", "These are other bytes than this upload's", Kind.CONFLICT
    next_step = "Create a new upload session for these bytes; this one stands."


class UploadDigestMismatch(DomainError):
    """The bytes that came do not have the digest that was declared; nothing of them is kept."""

    code, title, kind = "upload-digest-mismatch", "The bytes do not have the declared digest", Kind.INVALID
    next_step = "Read the file again and send it again; if it was changed meanwhile, create a new session for it."


class UploadTooSlow(DomainError):
    """The body came too slowly; what came is kept."""

    code, title, kind = "upload-too-slow", "The bytes come too slowly", Kind.UNAVAILABLE
    next_step = "Read the upload's offset and go on from there, with smaller requests."
    retry_after_s = 1


class UploadsAtOnce(DomainError):
    """One owner sends too many bodies at once."""

    code, title, kind = "uploads-at-once", "Too many uploads at once", Kind.LIMITED
    next_step = "Wait until one of the running uploads ends, then send this one again."
    retry_after_s = 5


class UploadsUnfinished(DomainError):
    """The owner's open sessions declared as many bytes as they may at once."""

    code, title, kind = "uploads-unfinished", "Too many bytes are promised and not sent", Kind.LIMITED
    next_step = "Complete or abort sessions that are open, then send the same request again; sessions end after a week."
    retry_after_s = 60

    def __init__(self, limit: int) -> None:
        super().__init__(f"open uploads may have at most {limit} bytes together")


class UploadsHeld(DomainError):
    """This process takes as many bodies at once as it can, in all or from one address; nothing of this one was read."""

    code, title, kind = "uploads-held", "Too many uploads are on their way", Kind.UNAVAILABLE
    next_step = "Send the same request again after Retry-After seconds."
    retry_after_s = 5


class UploadInPieces(DomainError):
    """The upload was appended in more pieces than one may have."""

    code, title, kind = "upload-in-pieces", "This upload came in too many pieces", Kind.CONFLICT
    next_step = "Send its parts to the addresses of `…/parts`, or the whole file to its background path."


class UploadNotOpen(DomainError):
    """The session takes no bytes any more."""

    code, title, kind = "upload-not-open", "This upload takes no more bytes", Kind.CONFLICT
    next_step = "Read the upload: a completed one names its asset; for any other create a new session."


class UploadGivenUp(UploadNotOpen):
    """The session was given up by its owner, or ended with its erased photo."""

    code, title, kind = "upload-given-up", "This upload was given up", Kind.GONE
    next_step = "Create a new upload session if the photo is to be sent after all."


class UploadExpiredGone(DomainError):
    """The session's time is over."""

    code, title, kind = "upload-expired", "This upload has expired", Kind.GONE
    next_step = "Create a new upload session and send the photo again."


class UploadReferenceReused(DomainError):
    """A living session of the same reference was declared differently."""

    code, title, kind = "upload-reference-reused", "This reference is in use for another photo", Kind.CONFLICT
    next_step = "Use another clientReference, or the declared values of the first call."


class UploadOffsetMismatch(DomainError):
    """An append does not begin where the upload ends."""

    code, title, kind = "upload-offset-mismatch", "The upload is at another offset", Kind.CONFLICT
    next_step = "Read the upload's offset (HEAD) and go on from there."

    def __init__(self, offset: int) -> None:
        super().__init__(f"the upload is at offset {offset}")


class UploadPastEnd(DomainError):
    """More bytes than the upload or one request may have."""

    code, title, kind = "upload-past-end", "More bytes than there can be", Kind.TOO_LARGE
    next_step = "Send no more than the declared size, and checked requests in pieces of at most 8 MiB."

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit} bytes")


class UploadChecksumMalformed(DomainError):
    """`Upload-Checksum` names an algorithm we do not have, or no digest."""

    code, title, kind = "upload-checksum-malformed", "The Upload-Checksum is not one we can check", Kind.MALFORMED
    next_step = "Send `sha1`, `sha256` or `md5`, a space, and the digest in base64."


class TusMediaType(DomainError):
    """The body of an append is not declared as one."""

    code, title, kind = "tus-media-type", "This is not the media type of an append", Kind.INVALID
    next_step = "Send `Content-Type: application/offset+octet-stream`."


class TusVersion(DomainError):
    """The request speaks another version of tus."""

    code, title, kind = "tus-version", "Only tus 1.0.0 is spoken here", Kind.INVALID
    next_step = "Send `Tus-Resumable: 1.0.0`."
