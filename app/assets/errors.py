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
