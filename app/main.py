"""The API's composition root: every part built once, in order, visibly."""

from collections.abc import Coroutine
from typing import Any

from litestar import Controller, Litestar
from litestar.config.cors import CORSConfig
from litestar.middleware._internal.cors import CORSMiddleware

from app.assets.routes import AssetController, ImageController
from app.catalog.routes import ProductController
from app.drafts.routes import DraftController
from app.erasure.routes import ErasureController
from app.identity.domain import RefreshTokens
from app.identity.routes import DeviceController
from app.identity.service import IdentityService, Lifetimes
from app.kernel.access import AccessTokens
from app.orders.routes import OrderController
from app.pricing.routes import QuoteController
from app.services import Services
from app.settings import ApiSettings
from app.shares.routes import PictureController, ShareController
from app.stream.hub import Hub
from app.stream.routes import StreamController
from app.stream.service import StreamService
from app.uploads.capability import Capabilities
from app.uploads.receive import Receiver
from app.uploads.routes import ContentController, UploadController
from app.uploads.traffic import Traffic
from app.uploads.tus import TusController, TusWire
from app.web import openapi, problems
from app.web.dispatch import Dispatch
from app.web.frame import Frame
from app.web.guards import Gate, mounted
from app.web.health import HealthController, Readiness
from app.web.metrics import MetricsController
from app.web.requests import ApiRequest
from app.web.settings import WebSettings
from app.webhooks.routes import WebhookController
from app.webhooks.service import Intake
from base.clock import Clock


class Api(Litestar):
    """Litestar's registry of handlers; our frame answers the requests."""

    frame: TusWire
    readiness: Readiness
    services: Services
    hub: Hub

    def drain(self) -> None:
        """Say that we are about to end (readiness), and end open streams."""
        self.readiness.draining = True
        self.hub.drain()

    def __call__(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        if scope["type"] != "http":
            return super().__call__(scope, receive, send)
        scope["litestar_app"] = self
        return self.frame(scope, receive, send)


def create_app(settings: ApiSettings, clock: Clock | None = None) -> Api:
    """The API. Its lifespan opens and closes the database and the object store."""
    web, services = settings.web, Services(settings.app, clock, settings.minting)
    access = AccessTokens(web.token_keys, services.clock)
    refresh = RefreshTokens(web.token_keys)
    lifetimes = Lifetimes(access_s=web.access_ttl_s, refresh_s=web.refresh_ttl_s)
    identity = IdentityService(services.db, services.spine, services.persons, access, refresh, lifetimes)
    hub = Hub(services.db, web.limits.streams, web.limits.all_streams)
    stream = StreamService(services.db, hub, services.clock, web.heartbeat_s)
    readiness = Readiness(services.db, services.store, settings.app.buckets.originals)
    receiver = Receiver(services.db, services.uploads, Traffic())
    app = Api(
        route_handlers=[
            *_controllers(services, identity, stream, readiness),
            *_upload_controllers(services, receiver, Capabilities(web.token_keys, services.clock)),
            mounted(WebhookController, intake=_intake(services, settings)),
            mounted(MetricsController, scrapers=web.scrapers),
            mounted(openapi.DescriptionController, description=openapi.Description()),
        ],
        exception_handlers=problems.HANDLERS,
        request_class=ApiRequest,
        request_max_body_size=web.limits.body,
        openapi_config=openapi.config(),
        on_startup=[services.start, hub.start],
        on_shutdown=[hub.stop, receiver.close, services.stop],
        logging_config=None,
        debug=False,
    )
    app.frame = TusWire(Frame(_crossing(web, Dispatch(app, Gate(access, web.limits))), web))
    app.readiness, app.services, app.hub = readiness, services, hub
    return app


def _controllers(
    services: Services, identity: IdentityService, stream: StreamService, readiness: Readiness
) -> list[type[Controller]]:
    """Everything that is served, with the services it calls."""
    return [
        mounted(HealthController, readiness=readiness),
        mounted(DeviceController, identity=identity),
        mounted(ErasureController, identity=identity, erasure=services.erasure),
        mounted(AssetController, assets=services.assets, care=services.care, idempotency=services.idempotency),
        mounted(ImageController, assets=services.assets),
        mounted(ShareController, shares=services.shares, idempotency=services.idempotency),
        mounted(PictureController, pictures=services.pictures),
        mounted(
            OrderController,
            orders=services.orders,
            checkout=services.checkout,
            idempotency=services.idempotency,
        ),
        mounted(StreamController, stream=stream),
        mounted(ProductController, catalog=services.catalog),
        mounted(QuoteController, quotes=services.quotes, idempotency=services.idempotency),
        mounted(DraftController, drafts=services.drafts, idempotency=services.idempotency),
    ]


def _intake(services: Services, settings: ApiSettings) -> Intake:
    keks, vendors = settings.app.keks, services.fulfilments
    return Intake(services.db, services.spine, keks, services.clock, settings.webhooks, vendors)


def _upload_controllers(services: Services, receiver: Receiver, capabilities: Capabilities) -> list[type[Controller]]:
    """One session, four faces: parts, tus, background PUT, and the calls around them."""
    return [
        mounted(
            UploadController,
            uploads=services.uploads,
            checker=services.checker,
            capabilities=capabilities,
            clock=services.clock,
            idempotency=services.idempotency,
        ),
        mounted(ContentController, capabilities=capabilities, receiver=receiver),
        mounted(TusController, uploads=services.uploads, receiver=receiver),
    ]


def _crossing(web: WebSettings, app: Any) -> Any:
    """What web pages of other origins may call; none by default. No cookies are used, so no credentials are allowed."""
    if not web.origins:
        return app
    config = CORSConfig(
        allow_origins=list(web.origins),
        allow_methods=["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"],
        allow_headers=[
            *("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "traceparent"),
            *("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Checksum"),
            "X-HTTP-Method-Override",
        ],
        expose_headers=[
            *("Idempotency-Replayed", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id", "X-Trace-Id"),
            *("Deprecation", "Sunset"),
            *("ETag", "Location", "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Expires"),
            "Upload-Metadata",
        ],
        max_age=600,
    )
    return CORSMiddleware(app, config)
