"""Settings of fulfilment: the vendor's address and key, how often it is asked, how long links last."""

import msgspec

from app.fulfilment.prodigi import Prodigi
from base.settings import Reader, Secret

LINK_MOST_S = 604_800
"""A SigV4 link lasts a week at most."""


class FulfilmentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: `poll_s` and `poll_most_s` bound the time between two looks, `watch_s` is how long an order that has
    ended is still looked at, `link_s` how long a link to a print file lasts, `hold_s` the vendor account's pause."""

    url: str
    key: Secret[str]
    callback_tokens: tuple[Secret[str], ...]
    callback_base: str
    poll_s: int
    poll_most_s: int
    watch_s: int
    link_s: int
    hold_s: int
    timeout_s: int


def read_fulfilment(read: Reader, role: str) -> FulfilmentSettings:
    """Settings from `TIRAGE_PRODIGI_*` and `TIRAGE_FULFILMENT_*`; a callback token has at least 22 characters.

    An API process calls no vendor and is given no key.
    """
    tokens = tuple(t.strip() for t in read.text("TIRAGE_PRODIGI_CALLBACK_TOKENS").split(",") if t.strip())
    if any(len(token) < 22 for token in tokens):
        read.fault("TIRAGE_PRODIGI_CALLBACK_TOKENS must be tokens of at least 22 characters (128 bits), newest first")
    return FulfilmentSettings(
        url=read.url("TIRAGE_PRODIGI_URL", frozenset({"http", "https"})),
        key=Secret("") if role == "API" else read.secret("TIRAGE_PRODIGI_KEY"),
        callback_tokens=tuple(Secret(token) for token in tokens),
        callback_base=read.text("TIRAGE_API_URL", "-"),
        poll_s=read.number("TIRAGE_FULFILMENT_POLL_S", 600, 1, 86_400),
        poll_most_s=read.number("TIRAGE_FULFILMENT_POLL_MOST_S", 21_600, 1, 86_400),
        watch_s=read.number("TIRAGE_FULFILMENT_WATCH_S", 14 * 86_400, 60, 90 * 86_400),
        link_s=read.number("TIRAGE_FULFILMENT_LINK_S", LINK_MOST_S, 3_600, LINK_MOST_S),
        hold_s=read.number("TIRAGE_PRODIGI_HOLD_S", 0, 0, 30 * 86_400),
        timeout_s=read.number("TIRAGE_PRODIGI_TIMEOUT_S", 20, 1, 60),
    )


def open_prodigi(settings: FulfilmentSettings) -> Prodigi:
    """The adapter; it connects when it is first used."""
    callback = None
    if settings.callback_base != "-" and settings.callback_tokens:
        callback = f"{settings.callback_base}/webhooks/vendors/prodigi/{settings.callback_tokens[0].reveal()}"
    return Prodigi(settings.url, settings.key, callback=callback, hold_s=settings.hold_s, timeout_s=settings.timeout_s)
