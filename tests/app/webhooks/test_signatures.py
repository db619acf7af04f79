"""Signatures against Stripe's own library, and everything that must not pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import WebhookSignature

from app.webhooks.errors import SignatureRefused
from app.webhooks.signatures import TOLERANCE_S, name_of, verify
from base.settings import Secret

OLD, NEW = Secret("whsec_the_old_one_of_the_tests"), Secret("whsec_the_new_one_of_the_tests")
NOW = 1_800_000_000


def signed(body: bytes, secret: Secret[str], at: int = NOW) -> str:
    header: str = WebhookSignature.generate_signature_header(body.decode(), secret.reveal(), at)
    return header


@given(st.text(max_size=200), st.integers(-TOLERANCE_S, TOLERANCE_S))
def test_what_the_library_signs_is_taken_within_its_time(text: str, shift: int) -> None:
    body = text.encode()
    assert verify(body, signed(body, OLD, NOW + shift), (NEW, OLD), NOW) == name_of(OLD)


@pytest.mark.parametrize(("shift", "reason"), [(-TOLERANCE_S - 1, "too-old"), (TOLERANCE_S + 1, "from-the-future")])
def test_time_counts_both_ways(shift: int, reason: str) -> None:
    with pytest.raises(SignatureRefused, match=reason):
        verify(b"{}", signed(b"{}", OLD, NOW + shift), (OLD,), NOW)


def test_a_roll_takes_both_and_then_only_the_new() -> None:
    both = signed(b"{}", NEW) + "," + signed(b"{}", OLD).partition(",")[2]
    assert verify(b"{}", both, (OLD,), NOW) == name_of(OLD)
    assert verify(b"{}", both, (NEW,), NOW) == name_of(NEW)
    with pytest.raises(SignatureRefused, match="wrong"):
        verify(b"{}", signed(b"{}", OLD), (NEW,), NOW)


@given(st.text(max_size=80))
def test_no_header_of_any_kind_crashes_or_passes(header: str) -> None:
    with pytest.raises(SignatureRefused):
        verify(b"{}", header, (OLD,), NOW)


@given(st.binary(max_size=60))
def test_another_body_does_not_pass(body: bytes) -> None:
    if body != b"{}":
        with pytest.raises(SignatureRefused, match="wrong"):
            verify(body, signed(b"{}", OLD), (OLD,), NOW)


def test_a_name_does_not_tell_the_secret() -> None:
    assert name_of(OLD) not in OLD.reveal()
    assert name_of(OLD) != name_of(NEW)
