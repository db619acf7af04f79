"""An order to pay, at the Stripe simulator."""

from tests.app.paying import shop

__all__ = ["shop"]
