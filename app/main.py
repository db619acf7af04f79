"""The API's composition root: every part built once, in order, visibly."""

from datetime import datetime
from typing import Any

from litestar import Litestar

from app.assets.routes import AssetController, ImageController
from app.identity.domain import RefreshTokens
from app.identity.routes import DeviceController, MeController
from app.identity.service import IdentityService, Lifetimes
from app.kernel.access import AccessTokens
from app.services import Services
from app.settings import ApiSettings
from app.uploads.routes import UploadController
from app.web import openapi, problems
from app.web.frame import Frame
from app.web.guards import Gate, mounted
from app.web.health import HealthController, Readiness
from app.web.requests import ApiRequest
from base.clock import Clock


class Api(Litestar):
    """Litestar inside our frame, which also sees what the router refuses."""

    frame: Frame
    readiness: Readiness
    services: Services

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.frame(super().__call__, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: ApiSettings, clock: Clock | None = None) -> Api:
    """The API. Its lifespan opens and closes the database and the object store."""
    web, services = settings.web, Services(settings.app, clock, settings.minting)
    access = AccessTokens(web.token_keys, services.clock)
    refresh = RefreshTokens(web.token_keys)
    lifetimes = Lifetimes(access_s=web.access_ttl_s, refresh_s=web.refresh_ttl_s)
    identity = IdentityService(services.db, services.spine, services.persons, access, refresh, lifetimes)
    readiness = Readiness(services.db, services.store, settings.app.buckets.originals)
    app = Api(
        route_handlers=[
            mounted(HealthController, readiness=readiness),
            mounted(DeviceController, identity=identity),
            mounted(MeController, identity=identity),
            mounted(UploadController, uploads=services.uploads, idempotency=services.idempotency),
            mounted(AssetController, assets=services.assets),
            mounted(ImageController, assets=services.assets),
        ],
        guards=[Gate(access, web.limits).admit],
        exception_handlers=problems.HANDLERS,
        request_class=ApiRequest,
        request_max_body_size=web.limits.body,
        openapi_config=openapi.config(),
        type_encoders={datetime: _utc},
        on_startup=[services.start],
        on_shutdown=[services.stop],
        logging_config=None,
        debug=False,
    )
    app.frame, app.readiness, app.services = Frame(web), readiness, services
    return app


def _utc(value: datetime) -> str:
    """RFC 3339 with Z."""
    return value.isoformat().replace("+00:00", "Z")
