"""The API description (OpenAPI 3.1): what Litestar derives from the handlers, completed with every error."""

from typing import Any

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme

from app.web.problems import MEDIA_TYPE, STATUS, Problem
from base.errors import DomainError

TITLE = "Tirage"
VERSION = "1"


def fails(*errors: type[DomainError]) -> dict[int, ResponseSpec]:
    """The errors of its own that a handler can answer with; those that every call shares are added for all."""
    by_status: dict[int, list[type[DomainError]]] = {}
    for error in errors:
        by_status.setdefault(STATUS[error.kind], []).append(error)
    return {
        status: ResponseSpec(
            data_container=Problem,
            generate_examples=False,
            media_type=MEDIA_TYPE,
            description="; ".join(f"`{e.code}`: {e.title}" for e in found),
        )
        for status, found in by_status.items()
    }


def config() -> OpenAPIConfig:
    """Litestar's part of the description; the completed document is served by our own route."""
    return OpenAPIConfig(
        title=TITLE,
        version=VERSION,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="Access token.")
            }
        ),
    )


def document(app: Any) -> dict[str, Any]:
    """The whole document as plain data."""
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    return schema
