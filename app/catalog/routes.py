"""The catalogue over HTTP."""

from litestar import get
from litestar.params import FromPath

from app.catalog.errors import CatalogueMissing, ProductNotFound
from app.catalog.schemas import ProductOut, ProductsOut
from app.catalog.service import Catalog
from app.web.guards import CustomerController
from app.web.openapi import fails
from base import ids


class ProductController(CustomerController):
    """What is sold."""

    path = "/v1/products"
    tags = ("catalogue",)
    catalog: Catalog

    @get("/", operation_id="ListProducts", summary="List products", responses=fails(CatalogueMissing))
    async def every(self) -> ProductsOut:
        """Every product with its variants. Prices come by quotes."""
        return ProductsOut.of(await self.catalog.read())

    @get(
        "/{product_id:str}",
        operation_id="ReadProduct",
        summary="Read a product",
        responses=fails(CatalogueMissing, ProductNotFound),
    )
    async def read(self, product_id: FromPath[str]) -> ProductOut:
        """One product with its variants."""
        _, product, variants = await self.catalog.product(ids.decode("product", product_id))
        return ProductOut.of(product, variants)
