"""The simulated printer's products: any SKU that names a size it can print, with the pixels of its print area.

A SKU ends in a size: inches (`GLOBAL-PHO-4X6`), millimetres (`GLOBAL-PHO-102X152MM`), an ISO paper size
(`GLOBAL-FAP-A4`) or a square's side in centimetres (`GLOBAL-PHO-S13`). Sizes in pixels are at 300 dpi, nearest.
"""

import re
from typing import Any, Final

_INCHES: Final = re.compile(r"-(\d{1,2})X(\d{1,2})$", re.IGNORECASE)
_MILLIMETRES: Final = re.compile(r"-(\d{2,4})X(\d{2,4})MM$", re.IGNORECASE)
_SQUARE: Final = re.compile(r"-S(\d{1,2})$", re.IGNORECASE)
_PAPERS: Final = {"A5": (148, 210), "A4": (210, 297), "A3": (297, 420), "A2": (420, 594), "A1": (594, 841)}
DPI: Final = 300
COUNTRIES: Final = ("GB", "DE", "FR", "NL", "ES", "IT", "IE", "AT", "BE", "US", "CA", "AU", "JP")
METHODS: Final = {"Budget": 300, "Standard": 450, "StandardPlus": 600, "Express": 1100, "Overnight": 1900}
"""Shipping cost by method, in minor units of any currency: figures of the simulator, not of the vendor."""


def size_um(sku: str) -> tuple[int, int] | None:
    """Width and height in micrometres, or None for a SKU that is not sold."""
    if found := _MILLIMETRES.search(sku):
        return int(found[1]) * 1_000, int(found[2]) * 1_000
    if found := _INCHES.search(sku):
        return int(found[1]) * 25_400, int(found[2]) * 25_400
    if found := _SQUARE.search(sku):
        return int(found[1]) * 10_000, int(found[1]) * 10_000
    paper = _PAPERS.get(sku.rsplit("-", 1)[-1].upper())
    return None if paper is None else (paper[0] * 1_000, paper[1] * 1_000)


def area_px(sku: str) -> tuple[int, int] | None:
    """The print area in pixels."""
    size = size_um(sku)
    if size is None:
        return None
    width, height = ((2 * side * DPI + 25_400) // 50_800 for side in size)
    return width, height


def unit_cost(sku: str) -> int:
    """Minor units for one copy: 20 and one for each started 25 cm²."""
    width, height = size_um(sku) or (0, 0)
    return 20 + -(-width * height // 2_500_000_000)


def product(sku: str) -> dict[str, Any] | None:
    """The answer of `GET /v4.0/products/{sku}`."""
    size, area = size_um(sku), area_px(sku)
    if size is None or area is None:
        return None
    return {
        "sku": sku,
        "description": f"Print {sku}",
        "productDimensions": {"width": size[0] / 25_400, "height": size[1] / 25_400, "units": "in"},
        "attributes": {},
        "printAreas": {"default": {"required": True}},
        "variants": [
            {
                "attributes": {},
                "shipsTo": list(COUNTRIES),
                "printAreaSizes": {"default": {"horizontalResolution": area[0], "verticalResolution": area[1]}},
            }
        ],
    }


def amount(minor: int, currency: str) -> dict[str, str]:
    """Money as the vendor writes it: a decimal string."""
    sign, minor = ("-", -minor) if minor < 0 else ("", minor)
    return {"amount": f"{sign}{minor // 100}.{minor % 100:02d}", "currency": currency}


def quotes(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The quotes for a body of `POST /v4.0/quotes`, one for each method unless one is named; None for a bad SKU."""
    items, currency = body.get("items", []), body.get("currencyCode") or "GBP"
    if not items or any(size_um(str(item.get("sku"))) is None for item in items):
        return None
    wanted = [body["shippingMethod"]] if body.get("shippingMethod") else list(METHODS)
    goods = sum(unit_cost(item["sku"]) * int(item["copies"]) for item in items)
    made = []
    for method in (m for m in wanted if m in METHODS):
        shown = [
            {
                "id": f"qit_{index}",
                "sku": item["sku"],
                "copies": item["copies"],
                "unitCost": amount(unit_cost(item["sku"]), currency),
            }
            for index, item in enumerate(items, 1)
        ]
        shipment = {
            "carrier": {"name": "royalmail", "service": method},
            "fulfillmentLocation": {"countryCode": "GB", "labCode": "prodigi_gb"},
            "cost": amount(METHODS[method], currency),
            "items": [item["id"] for item in shown],
        }
        summary = {"items": amount(goods, currency), "shipping": amount(METHODS[method], currency)}
        made.append({"shipmentMethod": method, "costSummary": summary, "shipments": [shipment], "items": shown})
    return made
