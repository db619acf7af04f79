"""What can be wrong with an asset."""

from base.errors import DomainError, Kind


class AssetNotFound(DomainError):
    """There is no such asset, or it is somebody else's."""

    code, title, kind = "asset-not-found", "There is no such photo", Kind.NOT_FOUND
    next_step = "List your photos and use an id from the list."


class AssetNotViewable(DomainError):
    """The asset has no previews (yet, or ever)."""

    code, title, kind = "asset-not-viewable", "This photo has no previews", Kind.CONFLICT
    next_step = "Wait for the event asset.preview_ready; a rejected or erased photo never gets one."


class AssetNotReady(DomainError):
    """The asset's size is not known (yet, or ever)."""

    code, title, kind = "asset-not-ready", "This photo cannot be judged", Kind.CONFLICT
    next_step = "Wait for the event asset.validated; a rejected photo never gets there."


class AssetNotProcessable(DomainError):
    """The asset is rejected, a duplicate or gone."""

    code, title, kind = "asset-not-processable", "This photo cannot be worked on again", Kind.CONFLICT
    next_step = "Upload the photo again; a duplicate names the photo that came first."


class OriginalGone(DomainError):
    """The original's bytes are not kept any more."""

    code, title, kind = "original-gone", "The original is gone", Kind.GONE
    next_step = "Use the previews, or upload the photo again."


class PrintImpossible(DomainError):
    """The photo has no part of this shape."""

    code, title, kind = "print-impossible", "This photo cannot have that shape", Kind.CONFLICT
    next_step = "Ask for a size nearer to the photo's own shape."
