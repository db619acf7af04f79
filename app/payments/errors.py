"""What payments refuse."""

from base.errors import DomainError, Kind


class PaymentNotFound(DomainError):
    """The order has no payment to work with."""

    code, title, kind = "payment-not-found", "This order has no payment", Kind.NOT_FOUND
    next_step = "Read the order; its state says whether it can be paid."


class PaymentCaptured(DomainError):
    """The order is paid: its payment cannot be cancelled any more."""

    code, title, kind = "payment-captured", "The order is already paid", Kind.CONFLICT
    next_step = "Cancel the order; what was paid is then refunded."


class PaymentOver(DomainError):
    """The payment was cancelled before Stripe was asked to make it."""

    code, title, kind = "payment-over", "This payment was cancelled", Kind.CONFLICT
    next_step = "Read the order; its state says what is possible now."


class PaymentNotCaptured(DomainError):
    """There is nothing to give back."""

    code, title, kind = "payment-not-captured", "Nothing was paid yet", Kind.CONFLICT
    next_step = "Read the order; refund only what is paid."


class PaymentInDispute(DomainError):
    """A bank decides about the money: Stripe refunds nothing meanwhile."""

    code, title, kind = "payment-in-dispute", "The payment is disputed", Kind.CONFLICT
    next_step = "Answer the dispute in Stripe, or accept it there; refund when it is over."


class RefundTooLarge(DomainError):
    """More would go back than was paid."""

    code, title, kind = "refund-too-large", "More would be refunded than was paid", Kind.INVALID
    next_step = "Ask for at most what is paid and not yet refunded."


class ProviderSilent(DomainError):
    """The payment provider did not answer in time, or with an error of its own: whether it did anything is unknown."""

    code, title, kind = "payment-provider-silent", "The payment provider does not answer", Kind.UNAVAILABLE
    next_step = "Ask again in a moment; nothing is paid twice."
    retry_after_s = 2

    def __init__(self, detail: str = "", *, spoiled: bool = False) -> None:
        """`spoiled`: it keeps that error under the request's key and would give it again."""
        super().__init__(detail)
        self.spoiled = spoiled


class ProviderRefused(DomainError):
    """The payment provider refused a request of ours; `reason` is its code."""

    code, title, kind = "payment-provider-refused", "The payment provider refused", Kind.INVALID
    next_step = "Read the order; support sees why."

    def __init__(self, reason: str) -> None:
        super().__init__(f"the payment provider refused: {reason}")
        self.reason = reason
