"""What can go wrong with pixels, free of any transport: a code each, a reason where a customer gets one."""

from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """Why a file is refused; these words are an interface (`tirage inspect`, results, the API's problem codes)."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not-an-image"
    UNSUPPORTED_TYPE = "unsupported-type"
    UNSUPPORTED_CODING = "unsupported-coding"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_BYTES = "too-many-bytes"
    TOO_MANY_PIXELS = "too-many-pixels"
    TOO_MANY_FRAMES = "too-many-frames"
    TOO_SMALL = "too-small"
    HDR_NOT_PRINTABLE = "hdr-not-printable"


class ImageError(Exception):
    """Base of all errors of the image core. `code` is stable; the text may name sizes, never places or people."""

    code: ClassVar[str] = "image-error"


class Rejected(ImageError):
    """The file is not a photo we can print, and trying again will not change that."""

    code = "rejected"

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class OutOfBounds(ImageError):
    """A number asked for lies outside what geometry or a recipe allows; nothing was computed."""

    code = "out-of-bounds"


class DeadlineExceeded(ImageError):
    """The work did not end in the time given, and was stopped."""

    code = "deadline-exceeded"


class OutOfMemory(ImageError):
    """The work needed more memory than its limit. The process that did it must not be used again."""

    code = "out-of-memory"


class ChildDied(ImageError):
    """The process that did the work ended by itself: a signal's number, or its exit status; `words` are its last ones,
    for the log."""

    code = "child-died"

    def __init__(self, *, signal: int | None, status: int | None, words: str = "") -> None:
        self.signal = signal
        self.status = status
        how = f"signal {signal}" if signal is not None else f"exit status {status}"
        super().__init__(f"{how}: {words}" if words else how)


class JailUnavailable(ImageError):
    """This machine cannot hold the decode child as it must be held; a worker must not start."""

    code = "jail-unavailable"


class PixelFailure(ImageError):
    """The pixel library gave up; `str()` is its own text, for logs."""

    code = "pixel-failure"


class EngineUnfit(ImageError):
    """Another pixel library than the pinned wheel was loaded: its bytes would not be ours."""

    code = "engine-unfit"


class RevisionRetired(ImageError):
    """A recipe names an engine revision that this process is not: only that engine could make these bytes."""

    code = "engine-revision-retired"
