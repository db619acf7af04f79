"""What can be wrong with a share or a public picture."""

from base.errors import DomainError, Kind


class ShareNotFound(DomainError):
    """There is no such share, or it is somebody else's."""

    code, title, kind = "share-not-found", "There is no such share", Kind.NOT_FOUND
    next_step = "Create one with POST /v1/shares."


class PictureNotFound(DomainError):
    """No such photo was ever a public picture."""

    code, title, kind = "picture-not-found", "There is no such public picture", Kind.NOT_FOUND
    next_step = "Publish a photo with POST /ops/pictures."


class PictureNotStored(DomainError):
    """The renditions that would be public are not all stored, or are fallbacks."""

    code, title, kind = "picture-not-stored", "The photo's renditions are not stored yet", Kind.CONFLICT
    next_step = "Wait for `asset.ready`; after a fallback, process the photo again."


class PictureFlagged(DomainError):
    """Nothing is made public of a flagged photo."""

    code, title, kind = "picture-flagged", "The photo is flagged", Kind.CONFLICT
    next_step = "Clear the flag first, or publish another photo."


class PictureGone(DomainError):
    """The picture was withdrawn; edges deny it for good."""

    code, title, kind = "picture-withdrawn", "This picture was withdrawn", Kind.GONE
    next_step = "Publish another photo."
