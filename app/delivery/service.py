"""Minting: signed addresses of renditions at the edge. Knows recipes and keys, no database and no pixels."""

from collections.abc import Sequence
from typing import Final

import msgspec

from base.clock import Clock
from base.settings import Keys, Reader
from imagecore import recipe as recipes
from imagecore.recipe import RUNGS, Format
from imagecore.signing import Ephemeral, Ring, expiry, quantum

SIDES: Final = RUNGS


class MintSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The signing masters and the edge that serves this region."""

    keys: Keys
    edge_url: str


def read_minting(read: Reader) -> MintSettings:
    """Settings from `TIRAGE_URL_KEYS` and `TIRAGE_EDGE_URL`."""
    return MintSettings(
        keys=read.keys("TIRAGE_URL_KEYS"),
        edge_url=read.url("TIRAGE_EDGE_URL", frozenset({"http", "https"})).rstrip("/"),
    )


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where one rendition can be fetched, and until when (UNIX time, and whole seconds from now)."""

    side: int
    recipe: str
    url: str
    expires: int
    expires_in_s: int


class Minter:
    """Signs addresses for one region's edges."""

    def __init__(self, settings: MintSettings, region: str, clock: Clock) -> None:
        pairs = [(kid, key.reveal()) for kid, key in settings.keys]
        self._ring, self._edge, self._clock = Ring.of_masters(pairs, region), settings.edge_url, clock

    def ladder(self, asset: str, engine: str, sides: Sequence[int], format_: Format) -> list[Address]:
        """Addresses of the whole picture within squares of `sides` pixels, lightest first.

        They are minted at the engine that made the asset's ancestor: its key holds the bytes they are made from.
        """
        now = int(self._clock.now().timestamp())
        made = []
        for side in sorted(set(sides)):
            recipe = recipes.text(recipes.rung(side, engine, format_))
            expires = expiry(now, quantum(side), asset)
            path = self._ring.sign(Ephemeral(asset=asset, recipe=recipe, expires=expires))
            made.append(
                Address(side=side, recipe=recipe, url=self._edge + path, expires=expires, expires_in_s=expires - now)
            )
        return made
