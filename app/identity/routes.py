"""Identity over HTTP."""

from litestar import get, post
from litestar.params import JSONBody

from app.identity.errors import OwnerUnknown, RefreshRefused, RefreshReused
from app.identity.schemas import GrantOut, MeOut, RefreshToken, RegisterDevice
from app.identity.service import IdentityService
from app.web.guards import CustomerController, PublicController, customer
from app.web.openapi import fails


class DeviceController(PublicController):
    """How a device begins and stays known."""

    tags = ("identity",)
    identity: IdentityService

    @post(
        "/v1/devices",
        operation_id="RegisterDevice",
        summary="Begin as a guest",
        opt={"limit": "devices", "open": True},
    )
    async def register(self, data: JSONBody[RegisterDevice]) -> GrantOut:
        """A new guest owner, this device, and its first tokens."""
        return GrantOut.of(await self.identity.register_device(data.platform))

    @post(
        "/v1/tokens",
        operation_id="RefreshTokens",
        summary="Exchange a refresh token",
        status_code=200,
        opt={"open": True},
        responses=fails(RefreshRefused, RefreshReused),
    )
    async def refresh(self, data: JSONBody[RefreshToken]) -> GrantOut:
        """The next pair of tokens. The last refresh token gives the same next one again until that one is used; an
        older one ends the session."""
        return GrantOut.of(await self.identity.refresh(data.refresh_token))


class MeController(CustomerController):
    """The caller."""

    path = "/v1/me"
    tags = ("identity",)
    identity: IdentityService

    @get("/", operation_id="ReadMe", summary="Who am I", responses=fails(OwnerUnknown))
    async def read(self) -> MeOut:
        """The owner the access token speaks for."""
        who = customer()
        return MeOut.of(await self.identity.read_owner(who.owner_id))
