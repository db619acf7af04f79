"""What webhooks refuse."""

from base.errors import DomainError, Kind


class SignatureRefused(DomainError):
    """The webhook's signature is missing, wrong, too old, or from the future."""

    code, title, kind = "webhook-signature-refused", "The webhook's signature does not fit", Kind.MALFORMED
    next_step = "Sign the bytes as they are sent, with the current secret and time."

    def __init__(self, reason: str) -> None:
        super().__init__(f"the signature does not fit: {reason}")
        self.reason = reason


class WebhookMalformed(DomainError):
    """The webhook's body is not what its source sends."""

    code, title, kind = "webhook-malformed", "The webhook cannot be read", Kind.MALFORMED
    next_step = "Send the event as the source's API describes it."


class WebhookUnknown(DomainError):
    """There is no such address for webhooks."""

    code, title, kind = "webhook-unknown", "There is no such webhook address", Kind.NOT_FOUND
    next_step = "Use the address that was given to the sender."


class SubjectMissing(DomainError):
    """What the webhook is about is not here yet; it is looked at again later."""

    code, title, kind = "webhook-subject-missing", "The webhook's subject is not here yet", Kind.CONFLICT
    next_step = "Nothing: it is tried again by itself."
