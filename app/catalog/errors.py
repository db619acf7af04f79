"""What can be wrong with the catalogue."""

from base.errors import DomainError, Kind


class ProductNotFound(DomainError):
    """There is no such product."""

    code, title, kind = "product-not-found", "There is no such product", Kind.NOT_FOUND
    next_step = "List the products and use an id from the list."


class VariantUnknown(DomainError):
    """There is no such variant (any more)."""

    code, title, kind = "variant-unknown", "This variant is not sold", Kind.NOT_FOUND
    next_step = "Read the products again and choose one of their variants."


class CatalogueMissing(DomainError):
    """No catalogue has been loaded."""

    code, title, kind = "catalogue-missing", "Nothing can be sold at the moment", Kind.UNAVAILABLE
    next_step = "Try again after Retry-After seconds."
    retry_after_s = 30


class CatalogueRefused(DomainError):
    """The files cannot be sold from; the text has every fault."""

    code, title, kind = "catalogue-refused", "The catalogue is not usable", Kind.INVALID
    next_step = "Correct the files and load them again."


class NotMadeThere(DomainError):
    """A vendor does not make a variant on this paper."""

    code, title, kind = "not-made-there", "This vendor does not make this variant", Kind.CONFLICT
    next_step = "Choose another vendor, or add the row to the vendor's mapping."
