"""The shared vocabulary: settings, ids, money, lengths, envelopes, results' MACs."""

import base64
import os
from typing import ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base import envelope, ids, jobs
from base.errors import CATALOGUE, DomainError, Kind
from base.ids import MalformedId
from base.jobs import Outcome, Result, is_genuine, signed
from base.lengths import Micrometres, millimetres, to_pixels
from base.money import CurrencyMismatch, Money
from base.settings import Keys, Reader, Secret, SettingsError

KEY = base64.b64encode(bytes(range(32))).decode()


class TestSettings:
    def test_every_fault_is_told_at_once(self) -> None:
        read = Reader(
            {"N": "x", "BIG": "9", "U": "ftp://h", "K": "k1:!!", "Z": "k1:" + base64.b64encode(bytes(32)).decode()}
        )
        read.text("MISSING")
        read.number("N", None, 0, 5)
        read.number("BIG", None, 0, 5)
        read.url("U", frozenset({"http"}))
        read.keys("K")
        read.keys("Z")
        read.keys("EMPTY")
        read.secret("ALSO_MISSING")
        with pytest.raises(SettingsError) as stopped:
            read.finish()
        named = {fault.split()[0] for fault in stopped.value.faults}
        assert named == {"MISSING", "N", "BIG", "U", "K", "Z", "EMPTY", "ALSO_MISSING"}

    def test_good_values_pass(self) -> None:
        read = Reader({"K": f"k2:{KEY},k1:{KEY}", "N": "3"})
        keys, number = read.keys("K"), read.number("N", None, 0, 5)
        read.finish()
        assert keys.current[0] == "k2"
        assert keys.find("k1") == bytes(range(32))
        assert keys.find("k3") is None
        assert number == 3

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "k1",
            "k1:",
            ",",
            f"k1:{KEY},",
            f"k1:{KEY},k2:",
            f"k1:{KEY},k1:{KEY}",
            f"K1:{KEY}",
            f"k1:{KEY[:20]}",
            f"toolongid1:{KEY}",
        ],
    )
    def test_malformed_key_lists_stop_the_start(self, value: str) -> None:
        read = Reader({"K": value})
        read.keys("K")
        with pytest.raises(SettingsError):
            read.finish()

    def test_secrets_do_not_show(self) -> None:
        read = Reader({"S": "hunter2", "K": f"k1:{KEY}"})
        shown = repr((read.secret("S"), read.keys("K"), read.key("MISSING")))
        assert "hunter2" not in shown
        assert KEY not in shown


class TestIds:
    @given(st.uuids())
    def test_there_and_back(self, value: UUID) -> None:
        text = ids.encode("asset", value)
        assert text.startswith("ast_")
        assert ids.decode("asset", text) == value

    @given(st.text(max_size=40))
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(MalformedId):
            ids.decode("asset", text)

    def test_another_prefix_is_refused(self) -> None:
        with pytest.raises(MalformedId):
            ids.decode("asset", ids.encode("upload", uuid4()))

    def test_new_ids_sort_by_time(self) -> None:
        made = [ids.new_id() for _ in range(100)]
        assert made == sorted(made)
        assert {m.version for m in made} == {7}


class TestMoney:
    @given(st.integers(), st.integers(), st.integers(-1000, 1000))
    def test_sums_are_exact(self, a: int, b: int, count: int) -> None:
        one, two = Money(a, "EUR"), Money(b, "EUR")
        assert (one + two - two, one * count) == (one, Money(a * count, "EUR"))

    def test_currencies_do_not_mix(self) -> None:
        with pytest.raises(CurrencyMismatch):
            Money(1, "EUR") + Money(1, "USD")

    def test_floats_are_refused(self) -> None:
        with pytest.raises(TypeError):
            Money(1.5, "EUR")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Money(1, "EUR") * 1.5  # type: ignore[operator]


class TestLengths:
    @pytest.mark.parametrize(("mm", "pixels"), [(25, 295), (210, 2480), (216, 2551), (303, 3579), (0, 0)])
    def test_known_sizes_at_300_ppi(self, mm: int, pixels: int) -> None:
        assert to_pixels(millimetres(mm), 300) == pixels

    @given(st.integers(0, 10**7), st.integers(1, 2400))
    def test_nearest_ties_up(self, um: int, ppi: int) -> None:
        pixels = to_pixels(Micrometres(um), ppi)
        assert -25_400 < 2 * (um * ppi - pixels * 25_400) < 25_400 or 2 * (um * ppi - pixels * 25_400) == -25_400


class TestEnvelope:
    def test_opens_only_with_key_and_context(self) -> None:
        key, sealed = os.urandom(32), b""
        sealed = envelope.seal(key, b"secret", b"orders.address")
        assert envelope.unseal(key, sealed, b"orders.address") == b"secret"
        for wrong in ((os.urandom(32), sealed, b"orders.address"), (key, sealed, b"orders.name"), (key, b"x", b"")):
            with pytest.raises(envelope.SealBroken):
                envelope.unseal(*wrong)

    @given(st.integers(0, 40), st.integers(1, 255))
    def test_any_changed_byte_is_noticed(self, at: int, flip: int) -> None:
        sealed = bytearray(envelope.seal(bytes(range(32)), b"thirteen byte", b"c"))
        sealed[at % len(sealed)] ^= flip
        with pytest.raises(envelope.SealBroken):
            envelope.unseal(bytes(range(32)), bytes(sealed), b"c")

    def test_old_wrapping_key_still_opens(self) -> None:
        old, new = ("k1", Secret(os.urandom(32))), ("k2", Secret(os.urandom(32)))
        kek_id, wrapped, plain = envelope.new_data_key(Keys([old]), b"person")
        assert envelope.unwrap(Keys([new, old]), kek_id, wrapped, b"person") == plain
        for keys, person in ((Keys([new]), b"person"), (Keys([old]), b"another")):
            with pytest.raises(envelope.SealBroken):
                envelope.unwrap(keys, kek_id, wrapped, person)


RESULT = Result(
    job_id=UUID(int=7), kind="k", attempt=1, step="s", index=0, last=True, outcome=Outcome.OK, reason=None, ms=5,
    engine=None, body=b"{}",
)  # fmt: skip


class TestResultMac:
    def test_genuine(self) -> None:
        assert is_genuine(b"k" * 32, b"n" * 16, signed(b"k" * 32, b"n" * 16, RESULT))

    @pytest.mark.parametrize(
        "change",
        [
            {"job_id": UUID(int=8)},
            {"kind": "l"},
            {"attempt": 2},
            {"step": "t"},
            {"index": 1},
            {"last": False},
            {"outcome": Outcome.REFUSED},
            {"reason": "r"},
            {"body": b"[]"},
            {"mac": b""},
        ],
        ids=str,
    )
    def test_a_changed_field_is_noticed(self, change: dict[str, object]) -> None:
        genuine = signed(b"k" * 32, b"n" * 16, RESULT)
        assert not is_genuine(b"k" * 32, b"n" * 16, msgspec.structs.replace(genuine, **change))

    def test_another_jobs_nonce_or_key_is_noticed(self) -> None:
        genuine = signed(b"k" * 32, b"n" * 16, RESULT)
        assert not is_genuine(b"k" * 32, b"m" * 16, genuine)
        assert not is_genuine(b"l" * 32, b"n" * 16, genuine)


class TestErrors:
    def test_a_code_is_used_once(self) -> None:
        class First(DomainError):
            code: ClassVar[str] = "test-once"
            title, kind, next_step = "t", Kind.INVALID, "n"

        with pytest.raises(TypeError, match="test-once"):

            class Second(DomainError):
                code: ClassVar[str] = "test-once"
                title, kind, next_step = "t", Kind.INVALID, "n"

        assert CATALOGUE.pop("test-once") is First


def test_lanes_have_room_for_more_than_one_owner() -> None:
    for lane in jobs.LANES.values():
        assert lane.per_owner < lane.in_flight
        assert lane.ack_wait_s < lane.republish_after_s
