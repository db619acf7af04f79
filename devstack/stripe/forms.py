"""Stripe's request bodies: form fields with bracketed names, nested as the names say."""

from typing import Any
from urllib.parse import parse_qsl


class FormBroken(ValueError):
    """The body is not a form."""


def decode(body: bytes) -> dict[str, Any]:
    """`a[b]=1&c[0]=2&c[]=3` as `{"a": {"b": "1"}, "c": {"0": "2", "": "3"}}`; raises `FormBroken`."""
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body))
    except (UnicodeDecodeError, ValueError) as error:
        raise FormBroken(str(error)) from error
    for name, value in pairs:
        _put(found, _path(name), value)
    return found


def _path(name: str) -> list[str]:
    head, *rest = name.split("[")
    return [head, *(part.removesuffix("]") for part in rest)]


def _put(into: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
        if not isinstance(into, dict):
            raise FormBroken(f"{part} is both a value and an object")
    last = path[-1]
    while last == "" and last in into:  # c[]=1&c[]=2
        last = str(len(into))
    into[last] = value


def items(value: Any) -> list[str]:
    """The values of an array parameter."""
    return list(value.values()) if isinstance(value, dict) else [] if value is None else [value]
