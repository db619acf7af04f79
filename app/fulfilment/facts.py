"""Facts of a fulfilment: everything a vendor ever said, merged so that order and repetition do not matter.

`merge` is a join (commutative, associative, idempotent): sets only grow, what was once so stays so, and what may come
and go (holds) is taken from the vendor's latest word. Everything else is derived from the merged facts by pure
functions, so any permutation of the same observations gives one state.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from app.fulfilment.domain import FulfilmentState, Line
from app.fulfilment.vendor import Observation, ParcelState, SeenCharge, SeenParcel, Stage, Tracking
from base import ids
from base.ids import OrderLineId

T = TypeVar("T", bound=Any)


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel's merged facts; every tuple is a sorted set."""

    id: str
    shipped: bool = False
    cancelled: bool = False
    items: tuple[str, ...] = ()
    carriers: tuple[tuple[str, str], ...] = ()
    trackings: tuple[Tracking, ...] = ()
    dispatched_at: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A fulfilment's merged facts; every tuple is a sorted set. `items` pairs a vendor's item with our line, `md5s`
    an item with what the vendor says its file hashes to, `held` is (moment, codes) of the vendor's latest word."""

    fetched: bool = False
    in_production: bool = False
    complete: bool = False
    cancelled: bool = False
    items: tuple[tuple[str, str], ...] = ()
    refused: tuple[str, ...] = ()
    md5s: tuple[tuple[str, str], ...] = ()
    parcels: tuple[Parcel, ...] = ()
    charges: tuple[tuple[str, int, str], ...] = ()
    vendor_orders: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    held: tuple[str, tuple[str, ...]] = ("", ())


NOTHING: Final = Facts()


def of(seen: Observation) -> Facts:
    """One observation as facts."""
    return Facts(
        fetched=seen.fetched,
        in_production=seen.in_production,
        complete=seen.stage is Stage.COMPLETE,
        cancelled=seen.stage is Stage.CANCELLED,
        items=_set((item.id, item.line) for item in seen.items if item.line is not None),
        refused=_set(item.id for item in seen.items if item.refused),
        md5s=_set((item.id, md5.lower()) for item in seen.items for md5 in item.md5s),
        parcels=_parcels(map(_parcel, seen.parcels)),
        charges=_set(_charge(charge) for charge in seen.charges),
        vendor_orders=(seen.vendor_order_id,),
        unknown=_set(seen.unknown),
        held=(seen.updated_at.isoformat(), _set(seen.holds)),
    )


def _parcel(seen: SeenParcel) -> Parcel:
    named = seen.carrier is not None or seen.service is not None
    return Parcel(
        id=seen.id,
        shipped=seen.state is ParcelState.SHIPPED,
        cancelled=seen.state is ParcelState.CANCELLED,
        items=_set(seen.items),
        carriers=((seen.carrier or "", seen.service or ""),) if named else (),
        trackings=() if seen.tracking is None else (seen.tracking,),
        dispatched_at=() if seen.dispatched_at is None else (seen.dispatched_at.isoformat(),),
    )


def _charge(charge: SeenCharge) -> tuple[str, int, str]:
    return charge.id, charge.amount.amount, charge.amount.currency


def merge(one: Facts, other: Facts) -> Facts:
    """Both together."""
    return Facts(
        fetched=one.fetched or other.fetched,
        in_production=one.in_production or other.in_production,
        complete=one.complete or other.complete,
        cancelled=one.cancelled or other.cancelled,
        items=_set((*one.items, *other.items)),
        refused=_set((*one.refused, *other.refused)),
        md5s=_set((*one.md5s, *other.md5s)),
        parcels=_parcels((*one.parcels, *other.parcels)),
        charges=_set((*one.charges, *other.charges)),
        vendor_orders=_set((*one.vendor_orders, *other.vendor_orders)),
        unknown=_set((*one.unknown, *other.unknown)),
        held=max(one.held, other.held),
    )


def without_trackings(seen: Observation) -> Observation:
    """An observation that tells nobody where its parcels went."""
    parcels = tuple(msgspec.structs.replace(parcel, tracking=None) for parcel in seen.parcels)
    return msgspec.structs.replace(seen, parcels=parcels)


def untracked(facts: Facts) -> Facts:
    """Merged facts that tell nobody where parcels went: as if merged of observations `without_trackings`."""
    parcels = tuple(msgspec.structs.replace(parcel, trackings=()) for parcel in facts.parcels)
    return msgspec.structs.replace(facts, parcels=parcels)


def _parcels(parcels: Iterable[Parcel]) -> tuple[Parcel, ...]:
    found: dict[str, Parcel] = {}
    for parcel in parcels:
        known = found.get(parcel.id)
        found[parcel.id] = parcel if known is None else _joined(known, parcel)
    return tuple(found[name] for name in sorted(found))


def _joined(one: Parcel, other: Parcel) -> Parcel:
    return Parcel(
        id=one.id,
        shipped=one.shipped or other.shipped,
        cancelled=one.cancelled or other.cancelled,
        items=_set((*one.items, *other.items)),
        carriers=_set((*one.carriers, *other.carriers)),
        trackings=_set((*one.trackings, *other.trackings)),
        dispatched_at=_set((*one.dispatched_at, *other.dispatched_at)),
    )


def _set(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(set(values)))


def lines_of(facts: Facts, parcel: Parcel, lines: Sequence[Line]) -> list[Line]:
    """Our lines in a parcel, in our order."""
    named = {line for item, line in facts.items if item in parcel.items}
    return [line for line in lines if reference(line.id) in named]


def reference(line_id: OrderLineId) -> str:
    """What a vendor calls a line by."""
    return ids.encode("order_line", line_id)


def shipped_references(facts: Facts) -> set[str]:
    """References of lines of which a parcel left, as the vendor names them."""
    return {line for parcel in facts.parcels if parcel.shipped for item, line in facts.items if item in parcel.items}


def shipped_lines(facts: Facts, lines: Sequence[Line]) -> list[Line]:
    """Lines of which a parcel left. A vendor packs all copies of an item together."""
    inside = {line.id for parcel in facts.parcels if parcel.shipped for line in lines_of(facts, parcel, lines)}
    return [line for line in lines if line.id in inside]


def cancelled_lines(facts: Facts, lines: Sequence[Line]) -> list[Line]:
    """Lines that the vendor will not make: not shipped, and the order, or every parcel with them, is cancelled."""
    shipped = {line.id for line in shipped_lines(facts, lines)}
    alive = {x.id for p in facts.parcels if not p.cancelled for x in lines_of(facts, p, lines)}
    dead = {x.id for p in facts.parcels if p.cancelled for x in lines_of(facts, p, lines)}
    gone = [line for line in lines if line.id not in shipped]
    return [line for line in gone if facts.cancelled or (line.id in dead and line.id not in alive)]


def end_of(facts: Facts, lines: Sequence[Line]) -> FulfilmentState | None:
    """Where the facts say that it ends, or None while it goes on."""
    shipped, cancelled = shipped_lines(facts, lines), cancelled_lines(facts, lines)
    if len(shipped) + len(cancelled) < len(lines):
        return None
    return FulfilmentState.CLOSED if shipped else FulfilmentState.CANCELLED


def contradictions(facts: Facts, lines: Sequence[Line]) -> frozenset[str]:
    """What cannot be, by rule."""
    found = set()
    if facts.cancelled and any(parcel.shipped for parcel in facts.parcels):
        found.add("vendor-shipped-after-cancelled")
    if any(parcel.shipped and parcel.cancelled for parcel in facts.parcels):
        found.add("vendor-parcel-contradicted")
    if len(facts.vendor_orders) > 1:
        found.add("vendor-order-doubled")
    if facts.complete and len(shipped_lines(facts, lines)) + len(cancelled_lines(facts, lines)) < len(lines):
        found.add("vendor-complete-without-parcel")
    if facts.refused:
        found.add("vendor-file-refused")
    if _differing(facts, lines):
        found.add("vendor-file-differs")
    return frozenset(found)


def _differing(facts: Facts, lines: Sequence[Line]) -> bool:
    wanted = {reference(line.id): line.master.md5.lower() for line in lines if line.master is not None}
    of_item = dict(facts.items)
    return any(wanted.get(of_item.get(item, ""), md5) != md5 for item, md5 in facts.md5s)


ASKS_TO_CANCEL: Final = frozenset({"vendor-file-refused", "vendor-file-differs"})
"""Contradictions after which nothing good can come of the vendor's order."""
