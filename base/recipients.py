"""Who receives a parcel. Personal: sealed where it is stored, absent from events, logs and metrics."""

import msgspec


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Name and postal address; `country` is ISO 3166-1 alpha-2, `region` a state or county where the country has them.

    `email` and `phone` are for the carrier and for our two mails.
    """

    name: str
    line1: str
    line2: str | None = None
    town: str
    region: str | None = None
    postcode: str | None = None
    country: str
    email: str | None = None
    phone: str | None = None

    def __repr__(self) -> str:
        return f"Recipient(country={self.country!r}, …)"
