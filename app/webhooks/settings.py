"""Settings of webhooks in."""

import msgspec

from base.settings import Reader, Secret


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets that Stripe may sign with: during a roll the new and the old one."""

    stripe: tuple[Secret[str], ...]


def read_webhooks(read: Reader) -> WebhookSettings:
    """The secrets in `TIRAGE_STRIPE_WEBHOOK_SECRETS`, separated by commas."""
    name = "TIRAGE_STRIPE_WEBHOOK_SECRETS"
    found = [part.strip() for part in read.text(name).split(",") if part.strip()]
    if any(len(secret) < 16 for secret in found):
        read.fault(f"{name} must be secrets of at least 16 characters")
    return WebhookSettings(stripe=tuple(Secret(secret) for secret in found))
