"""Prometheus metrics of this process, for scrapers on allowed networks; for everybody else there is nothing here."""

from typing import Any, Final

import prometheus_client
from litestar import Request, Response, get

from app.web.guards import PublicController
from app.web.proxies import within
from app.web.settings import Network
from base.errors import DomainError, Kind


class NotHere(DomainError):
    """The caller may not know what is here."""

    code, title, kind = "nothing-here", "There is nothing here", Kind.NOT_FOUND
    next_step = "Check the path against the API description."


FORWARDED: Final = b"x-forwarded-for"


class MetricsController(PublicController):
    """For Prometheus."""

    opt = {"free": True}  # noqa: RUF012 Litestar's own field
    scrapers: tuple[Network, ...]

    @get("/metrics", include_in_schema=False, sync_to_thread=False)
    def read(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """The exposition format (version 0.0.4). What came through a proxy is never a scraper."""
        peer = (request.scope.get("client") or ("", 0))[0]
        proxied = any(name == FORWARDED for name, _ in request.scope["headers"])
        if proxied or not within(peer, self.scrapers):
            raise NotHere()
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)
