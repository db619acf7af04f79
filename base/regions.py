"""Regions: which there are, and the policy, which is data, that says what goes where.

One region, home, has the database; every region has a queue, buckets, pixel workers and edges of its own. Variables of
another region are read under its name: `TIRAGE_REGION_WEST_S3_ENDPOINT` is the west's `TIRAGE_S3_ENDPOINT`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from base.settings import Reader

NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
FIRST_SIDES: Final = (200, 400)
_NO_PLACES: Final[Mapping[str, "Place"]] = {}
_NO_VENDORS: Final[Mapping[str, str]] = {}


class Push(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edge, by name, and which previews (longest side, pixels) are pushed to it as soon as they are made."""

    edge: str
    sides: tuple[int, ...] = FIRST_SIDES


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A region's part of the policy: whose photos it keeps (ISO 3166-1 alpha-2), and which edges its workers push to.

    Without `push`, first previews go to the edge that has the region's own name.
    """

    countries: tuple[str, ...] = ()
    push: tuple[Push, ...] | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes where. A region that is not named takes no part but by name; `vendors` says where a printer is near."""

    regions: Mapping[str, Place] = _NO_PLACES
    vendors: Mapping[str, str] = _NO_VENDORS

    def near(self, country: str | None, home: str) -> str:
        """The region that keeps the photos of a phone in `country`; home where nobody claims it."""
        claimed = (name for name, place in self.regions.items() if country in place.countries)
        return next(claimed, home) if country else home

    def of_vendor(self, vendor: str, home: str) -> str:
        """The region whose bucket holds a vendor's print masters, and whose workers make them."""
        return self.vendors.get(vendor, home)

    def pushes(self, region: str) -> tuple[Push, ...]:
        """Where a region's workers push previews."""
        place = self.regions.get(region)
        return (Push(edge=region),) if place is None or place.push is None else place.push


def read_regions(read: Reader) -> tuple[str, tuple[str, ...]]:
    """This process's region, and all (`TIRAGE_REGION`, `TIRAGE_REGIONS` separated by commas, by default only one)."""
    here = read.text("TIRAGE_REGION", "home")
    every = tuple(name.strip() for name in read.text("TIRAGE_REGIONS", here).split(","))
    if here not in every or len(set(every)) != len(every):
        read.fault(f"TIRAGE_REGIONS must name every region once, and {here!r} among them")
    if not all(NAME.fullmatch(name) for name in every):
        read.fault("TIRAGE_REGIONS must be names of up to 16 small letters and digits")
    return here, every


def read_policy(read: Reader, every: tuple[str, ...] | None = None) -> Policy:
    """The policy of the TOML file `TIRAGE_REGION_POLICY`, else the empty one; `every` region it may name."""
    path = read.file("TIRAGE_REGION_POLICY")
    if path is None:
        return Policy()
    try:
        policy = msgspec.toml.decode(Path(path).read_bytes(), type=Policy)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        read.fault(f"TIRAGE_REGION_POLICY: {error}")
        return Policy()
    for fault in _faults(policy, every):
        read.fault(f"TIRAGE_REGION_POLICY: {fault}")
    return policy


def _faults(policy: Policy, every: tuple[str, ...] | None) -> list[str]:
    countries = [country for place in policy.regions.values() for country in place.countries]
    found = [
        f"{country} belongs to two regions" for country in sorted({c for c in countries if countries.count(c) > 1})
    ]
    named = {*policy.regions, *policy.vendors.values()}
    return found + [f"there is no region {name!r}" for name in sorted(named - set(named if every is None else every))]


def read_edges(read: Reader, here: str) -> dict[str, str]:
    """Every edge's URL by name: `TIRAGE_EDGES` (`NAME=URL` or `URL`, by commas), else `TIRAGE_EDGE_URL` as `here`.

    An edge without a name is named by its URL.
    """
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in read.text("TIRAGE_EDGES", "").split(","))):
        name, _, url = part.rpartition("=") if not part.startswith("http") else ("", "", part)
        if not url.startswith(("http://", "https://")):
            read.fault("TIRAGE_EDGES must be a list of http or https URLs, each perhaps after NAME=")
        found[name or url.rstrip("/")] = url.rstrip("/")
    single = read.url("TIRAGE_EDGE_URL", frozenset({"http", "https"}), "").rstrip("/")
    return found or ({here: single} if single else {})
