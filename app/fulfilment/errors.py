"""What can go wrong in fulfilment."""

from base.errors import DomainError, Kind


class FulfilmentNotFound(DomainError):
    """There is no such fulfilment."""

    code, title, kind = "fulfilment-not-found", "There is no such fulfilment", Kind.NOT_FOUND
    next_step = "Use the id exactly as an earlier answer gave it."


class MasterChanged(DomainError):
    """A print file is not what was rendered: it must not be printed."""

    code, title, kind = "master-changed", "A print file is not what was rendered", Kind.INVALID
    next_step = "Have the file made again from the original; the changed version is kept as evidence."


class MasterMisfit(DomainError):
    """A print file has not the proportions of the vendor's print area, so the vendor would crop it."""

    code, title, kind = "master-misfit", "A print file does not fit the print area", Kind.INVALID
    next_step = "Have the file made for the vendor's print area."


class VendorUnavailable(DomainError):
    """A vendor does not answer, or its answer was lost: what was asked may have happened."""

    code, title, kind = "vendor-unavailable", "The printer does not answer", Kind.UNAVAILABLE
    next_step = "Nothing: it is asked again."


class VendorBusy(VendorUnavailable):
    """A vendor asks for patience and has done nothing."""

    code, title, kind = "vendor-busy", "The printer asks for patience", Kind.LIMITED


class VendorRefused(DomainError):
    """A vendor says that a request is wrong; the same request will not do."""

    code, title, kind = "vendor-refused", "The printer refuses the order", Kind.INVALID
    next_step = "An operator looks at what was refused."


class VendorPending(DomainError):
    """What became of a request to a vendor is not known yet."""

    code, title, kind = "vendor-pending", "The printer's answer is awaited", Kind.CONFLICT
    next_step = "Nothing: it is looked up again."
