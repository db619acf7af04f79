"""The catalogue: what may be loaded, what a version is, and what apps see."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from app.catalog.domain import CURRENCIES, Files, Printing, Source, faults, offer, version_of
from app.catalog.errors import CatalogueRefused, NotMadeThere, VariantUnknown
from app.catalog.service import Catalog, read_files
from app.kernel.db import Database
from imagecore.classes import CLASSES
from imagecore.geometry import print_boxes
from tests.app.conftest import Guest
from tirage.catalog import FOLDER, schema_text

FILES = read_files(FOLDER)
CATALOGUE = FILES.catalogue


def changed(**fields: Any) -> Files:
    return Files(catalogue=msgspec.structs.replace(CATALOGUE, **fields), vendors=FILES.vendors)


def without(rows: tuple[Any, ...], number: int = 0) -> tuple[Any, ...]:
    return rows[:number] + rows[number + 1 :]


def other(rows: tuple[Any, ...], **fields: Any) -> tuple[Any, ...]:
    return (msgspec.structs.replace(rows[0], **fields), *rows[1:])


class TestFiles:
    def test_ours_can_be_sold_from_in_development_only(self) -> None:
        assert faults(FILES, production=False) == []
        assert [f for f in faults(FILES, production=True) if "production refuses" in f]

    def test_every_row_names_a_source(self) -> None:
        lists = [value for value in msgspec.structs.astuple(CATALOGUE) if isinstance(value, tuple)]
        rows = [row for rows in lists for row in rows if not isinstance(row, Source)]
        assert len(rows) > 200
        assert all(row.source for row in (*rows, *FILES.vendors))

    def test_prices_rates_and_vendor_codes_are_marked_as_samples(self) -> None:
        kinds = {source.code: source.kind for source in CATALOGUE.sources}
        unchecked = (*CATALOGUE.prices, *CATALOGUE.shipping, *CATALOGUE.taxes, *FILES.vendors)
        assert {kinds[row.source] for row in unchecked} == {"sample"}

    def test_a_declared_printing_is_of_its_paper_or_of_every_other(self) -> None:
        rows = (
            Printing(output_class="matte", condition="adobe", source="own"),
            Printing(output_class="matte", paper="rag", condition="fogra39", source="own"),
        )
        told = offer("v", changed(printing=rows).catalogue)
        (matte, *_), (poster, *_) = (
            [v for v in told.variants.values() if v.output_class == name] for name in ("matte", "poster")
        )
        assert [told.printed_with(matte, paper) for paper in ("rag", "other", None)] == ["fogra39", "adobe", "adobe"]
        assert told.printed_with(poster, None) is None
        assert faults(changed(printing=(*rows, rows[0])), production=False) == [
            "printing ('matte', None) is listed twice"
        ]

    def test_the_schema_beside_them_is_the_structs(self) -> None:
        assert (FOLDER / "schema.json").read_text() == schema_text()

    def test_classes_and_bleeds_are_the_pixel_core_s(self) -> None:
        known = {name.value: class_ for name, class_ in CLASSES.items()}
        for row in CATALOGUE.variants:
            assert row.bleed_um == known[row.output_class].bleed_um, row.sku
            assert (row.output_class == "square") == (row.trim_um[0] == row.trim_um[1]), row.sku

    def test_posters_begin_at_a3(self) -> None:
        """A poster's thresholds are for prints looked at from further away."""
        for row in CATALOGUE.variants:
            large = row.trim_um[0] * row.trim_um[1] >= 297_000 * 406_000
            assert row.output_class in {"matte", "square"} or (row.output_class == "poster") == large, row.sku

    def test_a_vendor_gets_what_the_pixel_core_makes(self) -> None:
        rows = {row.sku: row for row in CATALOGUE.variants}
        for vendor in FILES.vendors:
            row = rows[vendor.sku]
            boxes = print_boxes(*row.trim_um, row.bleed_um, 1_000, 300)
            assert vendor.print_px == (boxes.width, boxes.height), vendor.sku

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            (changed(sources=CATALOGUE.sources[:1]), "is not listed"),
            (changed(products=other(CATALOGUE.products, code="nothing")), "there is no product"),
            (changed(prices=without(CATALOGUE.prices)), "no complete price in GBP"),
            (changed(prices=other(CATALOGUE.prices, amount=-1)), "negative"),
            (changed(prices=CATALOGUE.prices + CATALOGUE.prices[:1]), "listed twice"),
            (changed(variants=other(CATALOGUE.variants, trim_um=(5, 4))), "not portrait"),
            (changed(variants=other(CATALOGUE.variants, output_class="square")), "square prints"),
            (changed(variants=other(CATALOGUE.variants, papers=())), "no paper"),
            (changed(currencies=CATALOGUE.currencies[1:]), "not exactly"),
            (changed(currencies=other(CATALOGUE.currencies, step=0)), "step"),
            (changed(shipping=CATALOGUE.shipping[12:]), "nothing can be sent to uk"),
            (changed(shipping=other(CATALOGUE.shipping, bands=())), "bands"),
            (changed(shipping=other(CATALOGUE.shipping, way_days=(4, 1))), "days"),
            (changed(taxes=without(CATALOGUE.taxes)), "no tax rate"),
            (changed(taxes=other(CATALOGUE.taxes, rate=10_000)), "100 per cent"),
            (changed(discounts=other(CATALOGUE.discounts, off=1000)), "discount"),
            (Files(catalogue=CATALOGUE, vendors=FILES.vendors[1:]), "no vendor makes"),
            (Files(catalogue=CATALOGUE, vendors=other(FILES.vendors, sku="x")), "no variant 'x'"),
            (Files(catalogue=CATALOGUE, vendors=other(FILES.vendors, attributes={})), "papers"),
            (Files(catalogue=CATALOGUE, vendors=other(FILES.vendors, print_px=(1000, 1000))), "shape"),
        ],
    )
    def test_faults_are_found(self, files: Files, said: str) -> None:
        assert any(said in fault for fault in faults(files, production=False))

    def test_a_version_is_what_is_said(self) -> None:
        assert version_of(FILES) == version_of(read_files(FOLDER))
        assert version_of(FILES) != version_of(changed(parcel_g=41))

    def test_unknown_fields_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "vendors.json").write_text("[]")
        (tmp_path / "catalogue.json").write_text('{"name": "x", "surprise": 1}')
        with pytest.raises(CatalogueRefused, match="surprise"):
            read_files(tmp_path)


class TestLoading:
    async def test_the_same_again_changes_nothing_and_old_versions_stay(self, db: Database) -> None:
        catalog = Catalog(db)
        first, _ = await catalog.load(FILES, production=False)
        cheaper = changed(prices=other(CATALOGUE.prices, amount=1))
        try:
            second, is_new = await catalog.load(cheaper, production=False)
            assert is_new
            async with db.reading() as reading:
                assert (await catalog.current(reading)).version == second != first
                assert (await catalog.at(reading, first)).catalogue == CATALOGUE
                assert (await catalog.current(reading)).catalogue == cheaper.catalogue
            assert await catalog.load(cheaper, production=False) == (second, False)
        finally:
            assert await catalog.load(FILES, production=False) == (first, True)

    async def test_samples_are_refused_in_production(self, db: Database) -> None:
        with pytest.raises(CatalogueRefused, match="production"):
            await Catalog(db).load(FILES, production=True)

    async def test_vendor_codes_come_from_the_mapping_only(self, db: Database) -> None:
        catalog = Catalog(db)
        async with db.reading() as reading:
            found = await catalog.vendor_sku(reading, "photo-10x15-standard", "prodigi", paper="gloss")
            assert (found.print_width_px, found.print_height_px) == (1252, 1843)
            assert found.attributes == {"finish": "gloss"}
            for sku, vendor, paper in (("x", "prodigi", None), ("photo-10x15-standard", "x", None),
                                       ("photo-10x15-standard", "prodigi", "smooth")):  # fmt: skip
                with pytest.raises(NotMadeThere):
                    await catalog.vendor_sku(reading, sku, vendor, paper=paper)
            with pytest.raises(VariantUnknown):
                await catalog.variant(reading, "x")
            variant = await catalog.variant(reading, "photo-30x40-poster")
        assert variant.print_area_um == (313_000, 414_000)
        assert variant.standing(landscape=True) == (406_000, 305_000)
        documents = (FOLDER / "catalogue.json").read_text()
        assert not [row.vendor_sku for row in FILES.vendors if row.vendor_sku in documents]


class TestRoutes:
    async def test_products_and_one_of_them(self, client: httpx.AsyncClient, guest: Guest) -> None:
        auth = (await guest())["auth"]
        every = (await client.get("/v1/products", headers=auth)).json()
        assert set(every["currencies"]) == set(CURRENCIES)
        assert sum(len(product["variants"]) for product in every["products"]) == len(CATALOGUE.variants)
        one = every["products"][0]
        assert (await client.get(f"/v1/products/{one['id']}", headers=auth)).json() == one

    @pytest.mark.parametrize(
        "product", ["prd_01h455vb4pex5vsknk084sn02q", "photo-print", "ast_01h455vb4pex5vsknk084sn02q"]
    )
    async def test_others_are_404(self, client: httpx.AsyncClient, guest: Guest, product: str) -> None:
        auth = (await guest())["auth"]
        assert (await client.get(f"/v1/products/{product}", headers=auth)).status_code == 404

    async def test_nobody_sees_it_without_a_token(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/products")).status_code == 401
