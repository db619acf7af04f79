"""The table that `make soak` prints."""

import pytest

from tests.app.uploads import table


def ended(node: str, outcome: str, when: str = "call") -> pytest.TestReport:
    told = ("file", 1, "Skipped: no nft") if outcome == "skipped" else None
    return pytest.TestReport(node, ("file", 1, node), {}, outcome, told, when)  # type: ignore[arg-type]


def test_a_row_is_as_good_as_its_worst_test() -> None:
    there = "tests/app/uploads/test_scorecard.py::test"
    told = table.lines(
        [
            ended(f"{there}_11_16_and_17_the_store[lost]", "passed"),
            ended(f"{there}_16_store_says_slow_down_to_a_part", "passed"),
            ended(f"{there}_16_store_says_slow_down_to_a_part", "failed", "teardown"),
            ended(f"{there}_29_a_slow_lossy_network", "skipped", "setup"),
        ]
    )
    by_row = {int(line.split()[1]): line.split(maxsplit=2)[2] for line in told}
    assert by_row[11] == by_row[17] == "ok       1 tests"
    assert by_row[16] == "failed   2 tests"
    assert by_row[29] == "skipped  1 tests  (no nft)"
    assert by_row[1] == "not run  0 tests"
    assert list(by_row) == list(table.ROWS)
