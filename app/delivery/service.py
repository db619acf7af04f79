"""Minting: signed addresses of renditions at the edge. Knows recipes and keys, no database and no pixels."""

from collections.abc import Container, Mapping, Sequence
from typing import Final

import msgspec

from base.clock import Clock
from base.errors import DomainError, Kind, ServiceUnavailable
from base.regions import read_regions
from base.settings import Keys, Reader
from imagecore import recipe as recipes
from imagecore.recipe import RUNGS, Format, Recipe
from imagecore.signing import Durable, Ephemeral, Ring, Share, expiry, quantum

SIDES: Final = RUNGS
_NONE: Final[Mapping[str, str]] = {}
SHARE_SIDES: Final = tuple(side for side in RUNGS if side <= 800)
"""What a share shows at most: enough for a screen, too little for a print."""


class MintSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The signing masters, the edge that serves this region, and those that serve others, by region."""

    keys: Keys
    edge_url: str
    others: Mapping[str, str] = _NONE


def read_minting(read: Reader) -> MintSettings:
    """Settings from `TIRAGE_URL_KEYS` and each region's `TIRAGE_EDGE_URL`."""
    here, every = read_regions(read)
    return MintSettings(
        keys=read.keys("TIRAGE_URL_KEYS"),
        edge_url=_edge(read),
        others={name: _edge(read.of_region(name)) for name in every if name != here},
    )


def _edge(read: Reader) -> str:
    return read.url("TIRAGE_EDGE_URL", frozenset({"http", "https"})).rstrip("/")


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
    """Signs addresses at the edges of the region that keeps an asset, by default `here`.

    Each lifetime has its own method and its own type of address.
    """

    def __init__(self, settings: MintSettings, here: str, clock: Clock) -> None:
        pairs = [(kid, key.reveal()) for kid, key in settings.keys]
        edges = {**settings.others, here: settings.edge_url}
        self._signers = {region: (Ring.of_masters(pairs, region), edge) for region, edge in edges.items()}
        self._here, self._clock = here, clock

    def _signed(self, region: str | None, what: Ephemeral | Share | Durable) -> str:
        ring, edge = self._signers.get(region or self._here, (None, ""))
        if ring is None:
            raise ServiceUnavailable(f"nothing is minted for the region {region} here")
        return edge + ring.sign(what)

    def ladder(
        self,
        asset: str,
        engine: str,
        sides: Sequence[int],
        format_: Format,
        fallbacks: Container[int] = frozenset(),
        region: str | None = None,
    ) -> list[Address]:
        """Addresses of the whole picture within squares of `sides` pixels, lightest first.

        They are minted at the engine that made the asset's ancestor: its key holds the bytes they are made from. Of
        the JPEGs, those sides that are in `fallbacks` exist as lighter stand-ins only.
        """
        rungs = (recipes.rung(side, engine, format_) for side in sorted(set(sides)))
        return [
            self.one(asset, recipes.fallback(rung) if format_ == "jpg" and rung.width in fallbacks else rung, region)
            for rung in rungs
        ]

    def one(self, asset: str, wanted: Recipe, region: str | None = None) -> Address:
        """The address of one rendition; asked again soon, the same one."""
        side, recipe = max(wanted.width, wanted.height), recipes.text(wanted)
        now = int(self._clock.now().timestamp())
        expires = expiry(now, quantum(side), asset)
        url = self._signed(region, Ephemeral(asset=asset, recipe=recipe, expires=expires))
        return Address(
            side=side,
            recipe=recipe,
            url=url,
            expires=expires,
            expires_in_s=expires - now,
            fallback=wanted.class_ == "fallback",
        )

    def shared(
        self, asset: str, engine: str, share: str, sides: Sequence[int], format_: Format, region: str | None = None
    ) -> list[ShareAddress]:
        """Addresses that live as long as a share (TypeID), lightest first; raises `SideNotShared`."""
        if not set(sides) <= set(SHARE_SIDES):
            raise SideNotShared()
        made = []
        for side in sorted(set(sides)):
            recipe = recipes.text(recipes.rung(side, engine, format_))
            url = self._signed(region, Share(asset=asset, recipe=recipe, share=share))
            made.append(ShareAddress(side=side, recipe=recipe, share=share, url=url))
        return made

    def durable(
        self, asset: str, engine: str, sides: Sequence[int], format_: Format, region: str | None = None
    ) -> list[DurableAddress]:
        """Addresses that never end, lightest first. Withdrawn only by denying the asset at every edge."""
        made = []
        for side in sorted(set(sides)):
            recipe = recipes.text(recipes.rung(side, engine, format_))
            url = self._signed(region, Durable(asset=asset, recipe=recipe))
            made.append(DurableAddress(side=side, recipe=recipe, url=url))
        return made
