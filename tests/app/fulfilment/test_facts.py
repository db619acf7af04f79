"""Merging is a join: any order, any repetition, the same facts."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from app.fulfilment import facts as merged
from app.fulfilment.vendor import Observation, ParcelState, SeenItem, SeenParcel, Stage, Tracking

PARCELS = st.builds(
    SeenParcel,
    id=st.sampled_from(["shp_1", "shp_2"]),
    state=st.sampled_from(ParcelState),
    items=st.sets(st.sampled_from(["a", "b"])).map(tuple),
    carrier=st.sampled_from([None, "x", "y"]),
    tracking=st.sampled_from([None, Tracking("1"), Tracking("2", "u")]),
    dispatched_at=st.sampled_from([None, datetime(2026, 1, 1, tzinfo=UTC)]),
)
ITEMS = st.builds(
    SeenItem,
    id=st.sampled_from(["a", "b"]),
    line=st.sampled_from([None, "oln_1", "oln_2"]),
    copies=st.just(1),
    refused=st.booleans(),
    md5s=st.sets(st.sampled_from(["00", "FF"])).map(tuple),
)
SEEN = st.builds(
    Observation,
    vendor_order_id=st.sampled_from(["ord_1", "ord_2"]),
    reference=st.none(),
    updated_at=st.integers(0, 3).map(lambda day: datetime(2026, 1, 1 + day, tzinfo=UTC)),
    stage=st.sampled_from(Stage),
    fetched=st.booleans(),
    in_production=st.booleans(),
    holds=st.sets(st.sampled_from(["h1", "h2"])).map(tuple),
    items=st.lists(ITEMS, max_size=2).map(tuple),
    parcels=st.lists(PARCELS, max_size=2).map(tuple),
    unknown=st.sets(st.sampled_from(["u1", "u2"])).map(tuple),
)
FACTS = SEEN.map(merged.of)


@given(FACTS, FACTS, FACTS)
def test_merging_is_a_join(one: merged.Facts, two: merged.Facts, three: merged.Facts) -> None:
    assert merged.merge(one, two) == merged.merge(two, one)
    assert merged.merge(one, merged.merge(two, three)) == merged.merge(merged.merge(one, two), three)
    assert merged.merge(one, one) == one
    assert merged.merge(merged.NOTHING, one) == one


@given(FACTS, FACTS)
def test_nothing_that_was_once_so_is_lost(old: merged.Facts, other: merged.Facts) -> None:
    new = merged.merge(old, other)
    numbers = {(p.id, t.number) for p in old.parcels for t in p.trackings}
    assert numbers <= {(p.id, t.number) for p in new.parcels for t in p.trackings}
    assert {p.id for p in old.parcels if p.shipped} <= {p.id for p in new.parcels if p.shipped}
    assert new.in_production >= old.in_production
    assert new.cancelled >= old.cancelled
    assert set(old.unknown) <= set(new.unknown)
