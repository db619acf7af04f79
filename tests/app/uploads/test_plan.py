"""How a file is cut, what is missing, and what is advised."""

import pytest

from app.uploads.plan import KIB, MIB, Advice, Held, Path, Range, advise, part_range, part_size


@pytest.mark.parametrize(
    ("rate", "size"), [(None, 8 * MIB), (1, 5 * MIB), (MIB, 12 * MIB), (600 * KIB, 7 * MIB), (10**9, 64 * MIB)]
)
def test_part_size_follows_the_rate(rate: int | None, size: int) -> None:
    assert part_size(rate) == size


def test_last_part_is_the_rest() -> None:
    assert [part_range(n, 5, 12) for n in (1, 2, 3)] == [Range(0, 5), Range(5, 10), Range(10, 12)]


HELD = Held(size=20, part_bytes=5, parts={1: 5, 3: 4}, blocks={5: 3, 8: 4, 17: 3})


def test_parts_and_blocks_add_up() -> None:
    assert HELD.ranges == [Range(0, 12), Range(17, 20)]
    assert (HELD.bytes, HELD.offset) == (15, 12)
    assert HELD.gaps == [Range(12, 17)]
    assert HELD.missing_parts == [3, 4]  # part 3 has a wrong size, part 4 only its end
    assert HELD.unsent_parts == [2, 3, 4]


def test_a_line_of_blocks() -> None:
    assert HELD.line == {}
    whole = Held(size=20, part_bytes=5, blocks={0: 5, 5: 7, 12: 8})
    assert (whole.line, whole.is_line) == ({0: 5, 5: 7, 12: 8}, True)
    over = Held(size=20, part_bytes=5, blocks={0: 5, 3: 9, 5: 7, 12: 8})
    assert (over.line, over.is_line) == (whole.line, True)
    overlapping = Held(size=20, part_bytes=5, blocks={0: 7, 5: 7, 12: 8})
    assert (overlapping.gaps, overlapping.is_line) == ([], False)


def test_nothing_and_everything() -> None:
    nothing = Held(size=20, part_bytes=5)
    assert (nothing.offset, nothing.gaps, nothing.missing_parts) == (0, [Range(0, 20)], [1, 2, 3, 4])
    whole = Held(size=20, part_bytes=5, whole=True)
    assert (whole.offset, whole.gaps, whole.unsent_parts) == (20, [], [])
    assert advise(whole, None).path is Path.COMPLETE


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        (None, Advice(path=Path.DIRECT, part_bytes=8 * MIB, parallel=2)),
        (4 * MIB, Advice(path=Path.DIRECT, part_bytes=8 * MIB, parallel=4)),
        (48_000, Advice(path=Path.APPEND, part_bytes=8 * 64 * KIB, parallel=1)),  # 384 kbit/s
        (1, Advice(path=Path.APPEND, part_bytes=64 * KIB, parallel=1)),
        (300 * KIB, Advice(path=Path.APPEND, part_bytes=56 * 64 * KIB, parallel=1)),
        (400 * KIB, Advice(path=Path.DIRECT, part_bytes=8 * MIB, parallel=3)),
    ],
)
def test_no_request_is_to_take_long(rate: int | None, wanted: Advice) -> None:
    assert advise(Held(size=40 * MIB, part_bytes=8 * MIB), rate) == wanted
