"""How request bodies are read: strictly, in one pass, straight into the handler's type.

Litestar's own path decodes to plain values and converts them laxly ("1" becomes 1); a phone that sends the wrong type
must hear so.
"""

from functools import lru_cache
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.exceptions import ClientException, ValidationException

JSON: Final = frozenset({"application/json"})


@lru_cache(maxsize=512)
def _decoder(annotation: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(annotation, strict=True)


class ApiRequest(Request[Any, Any, Any]):
    """A request whose JSON body becomes the annotated type of the handler's `data`, or a problem."""

    async def json(self) -> Any:
        """The body as the handler's type; raises 400 for what is not JSON, 422 for what does not fit."""
        body = await self.body()
        if b"\\u0000" in body or b"\x00" in body:
            raise ValidationException(extra=[{"message": "null characters are not allowed", "source": "body"}])
        field = self.route_handler.parsed_data_field
        annotation = Any if field is None else field.annotation
        try:
            return _decoder(annotation).decode(body)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `")
            key = path.rstrip("`").removeprefix("$").removeprefix(".")
            raise ValidationException(extra=[{"message": message, "key": key or None, "source": "body"}]) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ClientException("the body is not well-formed JSON in UTF-8") from error
