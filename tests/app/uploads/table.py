"""The scorecard as a table: each row of docs/uploads.md and how its tests ended."""

import re
from collections.abc import Iterable
from typing import Final

import pytest

ROWS: Final = (*range(1, 33), 38)
_NUMBERS: Final = re.compile(r"::test_((?:\d\d_(?:and_)?)+)")
_WORST: Final = ("failed", "skipped", "ok")


def rows_of(node: str) -> list[int]:
    """The rows that a test is for, as its name says."""
    named = _NUMBERS.search(node)
    return [] if named is None else [int(number) for number in re.findall(r"\d\d", named[1])]


def result_of(report: pytest.TestReport) -> str:
    """How one phase of a test ended; the invariants are looked at in the last."""
    return "failed" if report.failed else "skipped" if report.skipped else "ok"


def lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """One line a row: its worst result, how many tests, and why one was skipped."""
    found: dict[int, dict[str, str]] = {row: {} for row in ROWS}
    reasons: dict[int, str] = {}
    for report in reports:
        for row in rows_of(report.nodeid):
            known = found[row].get(report.nodeid, "ok")
            found[row][report.nodeid] = min(known, result_of(report), key=_WORST.index)
            if report.skipped and isinstance(report.longrepr, tuple):
                reasons[row] = report.longrepr[2].removeprefix("Skipped: ")
    return [_line(row, list(results.values()), reasons.get(row)) for row, results in found.items()]


def _line(row: int, results: list[str], reason: str | None) -> str:
    worst = min(results, key=_WORST.index) if results else "not run"
    return f"row {row:2}  {worst:8} {len(results)} tests" + (f"  ({reason})" if reason else "")
