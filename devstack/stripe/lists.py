"""Lists and searches: newest first, by cursor, as Stripe pages them."""

import re
from collections.abc import Iterable
from typing import Any, Final

from devstack.stripe import shapes
from devstack.stripe.book import Book, Object
from devstack.stripe.errors import invalid
from devstack.stripe.forms import items

EVENTS_KEPT_S: Final = 30 * 86_400
_TERM: Final = re.compile(r"\s*(\w+)(?:\[['\"]([^'\"]+)['\"]\])?\s*:\s*['\"]?([^'\"\s]*)['\"]?\s*(?:AND|$)")


def _limit(params: dict[str, Any]) -> int:
    text = params.get("limit", "10")
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise invalid("Invalid integer: limit must be between 1 and 100", "limit")
    return int(text)


def page(url: str, every: Iterable[Object], params: dict[str, Any]) -> Object:
    """One page of `every` (oldest first), newest first; `created[gte]` and its kin, cursors, limit."""
    found = [one for one in every if _is_within(one["created"], params.get("created"))][::-1]
    names = [one["id"] for one in found]
    limit = _limit(params)
    if "ending_before" in params:
        end = _place(names, params["ending_before"], "ending_before")
        chosen = found[max(0, end - limit) : end]
        return shapes.page(url, chosen, has_more=end > limit)
    begin = _place(names, params["starting_after"], "starting_after") + 1 if "starting_after" in params else 0
    return shapes.page(url, found[begin : begin + limit], has_more=len(found) > begin + limit)


def _place(names: list[str], cursor: str, param: str) -> int:
    if cursor not in names:
        raise invalid(f"No such object: '{cursor}'", param, "resource_missing")
    return names.index(cursor)


def _is_within(created: int, wanted: Any) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return created == int(wanted)
    tests = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
    return all(tests[how](created, int(value)) for how, value in wanted.items())


def events(book: Book, params: dict[str, Any]) -> Object:
    """`GET /v1/events`: of the last 30 days."""
    kinds = set(items(params.get("types"))) | ({params["type"]} if "type" in params else set())
    success, oldest = params.get("delivery_success"), book.now() - EVENTS_KEPT_S
    every = [
        one
        for one in book.kinds["event"].values()
        if one["created"] >= oldest
        and (not kinds or one["type"] in kinds)
        and (success is None or (one["pending_webhooks"] == 0) == (success == "true"))
    ]
    return page("/v1/events", every, params)


def search(book: Book, params: dict[str, Any], lag_s: int) -> Object:
    """`GET /v1/payment_intents/search`: metadata, status, amount and currency joined by AND; `lag_s` behind."""
    query = params.get("query", "")
    terms = [match.groups() for match in _TERM.finditer(query) if match.group(0).strip()]
    if not terms or "".join(m.group(0) for m in _TERM.finditer(query)) != query:
        raise invalid(f"We were unable to parse your search query: {query}", "query")
    until, limit = book.now() - lag_s, _limit(params)
    every = [one for one in book.kinds["payment_intent"].values() if lag_s == 0 or one["created"] <= until]
    found = [one for one in every if all(_matches(one, *term) for term in terms)][::-1]
    begin = int(params.get("page", "0"))
    has_more = len(found) > begin + limit
    return {
        "object": "search_result",
        "data": [shapes.wire(one) for one in found[begin : begin + limit]],
        "has_more": has_more,
        "next_page": str(begin + limit) if has_more else None,
        "url": "/v1/payment_intents/search",
    }


def _matches(intent: Object, field: str, key: str | None, value: str) -> bool:
    if field == "metadata":
        return bool(intent["metadata"].get(key) == value)
    if field not in ("status", "amount", "currency"):
        raise invalid(f"Field `{field}` is an unsupported search field", "query")
    return str(intent[field]) == value
