"""What can be wrong with an upload."""

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
    """Storage does not hold the declared bytes."""

    code, title, kind = "upload-incomplete", "The bytes have not arrived yet", Kind.CONFLICT
    next_step = "Ask for the missing part's address, send the bytes, then complete again; the session stays open."


class UploadNotOpen(DomainError):
    """The session takes no bytes any more."""

    code, title, kind = "upload-not-open", "This upload takes no more bytes", Kind.CONFLICT
    next_step = "Read the upload: a completed one names its asset; for any other create a new session."


class UploadExpiredGone(DomainError):
    """The session's time is over."""

    code, title, kind = "upload-expired", "This upload has expired", Kind.GONE
    next_step = "Create a new upload session and send the photo again."


class UploadReferenceReused(DomainError):
    """A living session of the same reference was declared differently."""

    code, title, kind = "upload-reference-reused", "This reference is in use for another photo", Kind.CONFLICT
    next_step = "Use another clientReference, or the declared values of the first call."
