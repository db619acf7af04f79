"""What can go wrong with an identity."""

from base.errors import DomainError, Kind


class RefreshRefused(DomainError):
    """The refresh token is unknown, expired or of an ended session."""

    code, title, kind = "refresh-refused", "The refresh token is not good", Kind.UNAUTHENTICATED
    next_step = "Ask the person to sign in again; a guest device begins anew with POST /v1/devices."


class RefreshReused(DomainError):
    """An older refresh token came back: a copy exists, so the whole session has ended."""

    code, title, kind = (
        "refresh-reused",
        "The refresh token was used before; the session has ended",
        Kind.UNAUTHENTICATED,
    )
    next_step = "Ask the person to sign in again; keep only the newest refresh token."


class OwnerUnknown(DomainError):
    """The token is good but its owner is gone (erased)."""

    code, title, kind = "owner-unknown", "This person is not known any more", Kind.GONE
    next_step = "Begin anew with POST /v1/devices."
