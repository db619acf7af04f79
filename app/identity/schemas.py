"""Identity on the wire."""

from datetime import datetime
from typing import Annotated, Self

from msgspec import Meta

from app.identity.domain import Grant, Owner, Platform
from app.web.wire import WireIn, WireOut
from base import ids


class RegisterDevice(WireIn, frozen=True, kw_only=True):
    """A device that begins as a guest."""

    platform: Annotated[Platform, Meta(description="What the app runs on.", examples=["ios"])]


class RefreshToken(WireIn, frozen=True, kw_only=True):
    """A refresh token to be exchanged."""

    refresh_token: Annotated[
        str,
        Meta(
            description="The newest refresh token this device was given.",
            min_length=1,
            max_length=200,
            examples=["rt1.AaIM2qPzcn6BI_XOMept5wAAAAHGvOkbvf4z_ThtOOZDerjwBxCB-rn1XbxCrt8EUXUH6g"],
        ),
    ]


class GrantOut(WireOut, frozen=True, kw_only=True):
    """Tokens of one device. Keep both secret; replace both with every answer of `POST /v1/tokens`."""

    owner_id: Annotated[str, Meta(description="Who owns everything made with these tokens.")]
    device_id: Annotated[str, Meta(description="This device.")]
    access_token: Annotated[str, Meta(description="Send as `Authorization: Bearer …`.")]
    expires_at: Annotated[datetime, Meta(description="When the access token ends, UTC.")]
    expires_in_s: Annotated[int, Meta(description="The same as whole seconds from now, for clocks that are wrong.")]
    refresh_token: Annotated[str, Meta(description="Exchange it for the next pair with `POST /v1/tokens`.")]

    @classmethod
    def of(cls, grant: Grant) -> Self:
        """From the domain."""
        return cls(
            owner_id=ids.encode("owner", grant.owner_id),
            device_id=ids.encode("device", grant.device_id),
            access_token=grant.access_token,
            expires_at=grant.expires_at,
            expires_in_s=grant.expires_in_s,
            refresh_token=grant.refresh_token,
        )


class MeOut(WireOut, frozen=True, kw_only=True):
    """The caller."""

    id: Annotated[str, Meta(description="The owner's id.")]
    kind: Annotated[str, Meta(description="`guest` until an account is claimed.", examples=["guest"])]
    created_at: Annotated[datetime, Meta(description="When the owner began, UTC.")]

    @classmethod
    def of(cls, owner: Owner) -> Self:
        """From the domain."""
        return cls(id=ids.encode("owner", owner.id), kind=owner.kind, created_at=owner.created_at)
