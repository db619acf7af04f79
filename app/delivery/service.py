"""Minting: signed addresses of renditions at the edge. Knows recipes and keys, no database and no pixels."""

from collections.abc import Container, Sequence
from typing import Final

import msgspec

from base.clock import Clock
from base.errors import DomainError, Kind
from base.settings import Keys, Reader
from imagecore import recipe as recipes
from imagecore.recipe import RUNGS, Format, Recipe
from imagecore.signing import Durable, Ephemeral, Ring, Share, expiry, quantum

SIDES: Final = RUNGS
SHARE_SIDES: Final = tuple(side for side in RUNGS if side <= 800)
"""What a share shows at most: enough for a screen, too little for a print."""


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
    fallback: bool


class ShareAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where one rendition can be fetched until its share is revoked."""

    side: int
    recipe: str
    share: str
    url: str


class DurableAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where one rendition can be fetched for good: only for public product pictures."""

    side: int
    recipe: str
    url: str


class SideNotShared(DomainError):
    """A share shows no picture of that size."""

    code, title, kind = "side-not-shared", "A share shows no picture of that size", Kind.INVALID
    next_step = "Ask for squares of at most 800 pixels."


class Minter:
    """Signs addresses for one region's edges. Each lifetime has its own method and its own type of address."""

    def __init__(self, settings: MintSettings, region: str, clock: Clock) -> None:
        pairs = [(kid, key.reveal()) for kid, key in settings.keys]
        self._ring, self._edge, self._clock = Ring.of_masters(pairs, region), settings.edge_url, clock

    def ladder(
        self,
        asset: str,
        engine: str,
        sides: Sequence[int],
        format_: Format,
        fallbacks: Container[int] = frozenset(),
    ) -> list[Address]:
        """Addresses of the whole picture within squares of `sides` pixels, lightest first.

        They are minted at the engine that made the asset's ancestor: its key holds the bytes they are made from. Of
        the JPEGs, those sides that are in `fallbacks` exist as lighter stand-ins only.
        """
        rungs = (recipes.rung(side, engine, format_) for side in sorted(set(sides)))
        return [
            self.one(asset, recipes.fallback(rung) if format_ == "jpg" and rung.width in fallbacks else rung)
            for rung in rungs
        ]

    def one(self, asset: str, wanted: Recipe) -> Address:
        """The address of one rendition; asked again soon, the same one."""
        side, recipe = max(wanted.width, wanted.height), recipes.text(wanted)
        now = int(self._clock.now().timestamp())
        expires = expiry(now, quantum(side), asset)
        path = self._ring.sign(Ephemeral(asset=asset, recipe=recipe, expires=expires))
        return Address(
            side=side,
            recipe=recipe,
            url=self._edge + path,
            expires=expires,
            expires_in_s=expires - now,
            fallback=wanted.class_ == "fallback",
        )

    def shared(self, asset: str, engine: str, share: str, sides: Sequence[int], format_: Format) -> list[ShareAddress]:
        """Addresses that live as long as a share (TypeID), lightest first; raises `SideNotShared`."""
        if not set(sides) <= set(SHARE_SIDES):
            raise SideNotShared()
        made = []
        for side in sorted(set(sides)):
            recipe = recipes.text(recipes.rung(side, engine, format_))
            path = self._ring.sign(Share(asset=asset, recipe=recipe, share=share))
            made.append(ShareAddress(side=side, recipe=recipe, share=share, url=self._edge + path))
        return made

    def durable(self, asset: str, engine: str, sides: Sequence[int], format_: Format) -> list[DurableAddress]:
        """Addresses that never end, lightest first. Withdrawn only by denying the asset at every edge."""
        made = []
        for side in sorted(set(sides)):
            recipe = recipes.text(recipes.rung(side, engine, format_))
            path = self._ring.sign(Durable(asset=asset, recipe=recipe))
            made.append(DurableAddress(side=side, recipe=recipe, url=self._edge + path))
        return made
