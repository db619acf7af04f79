"""Spans: parents, files, sampling."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base import telemetry, tracing
from base.settings import Reader

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    settings = tracing.read_tracing(Reader({"TIRAGE_TRACES": str(tmp_path / "spans")}))
    tracing.configure("test", settings)
    yield tmp_path / "spans"
    tracing.close()
    telemetry.sample(1000)


def told(folder: Path) -> list[dict[str, Any]]:
    tracing.close()
    return [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


def test_a_child_knows_its_parent_and_what_is_planned_inside_is_its_child(folder: Path) -> None:
    telemetry.follow(f"00-{TRACE}-{CALLER}-01")
    with tracing.span("outer", "server") as outer:
        with tracing.span("inner", step=3) as inner:
            handed_on = telemetry.traceparent()
    assert handed_on == f"00-{TRACE}-{inner.span_id}-01"
    assert telemetry.traceparent() == f"00-{TRACE}-{CALLER}-01"
    spans = {span["name"]: span for span in told(folder)}
    assert spans["inner"]["parentId"] == outer.span_id
    assert spans["outer"]["parentId"] == CALLER
    assert {span["traceId"] for span in spans.values()} == {TRACE}
    assert spans["inner"]["attributes"] == {"step": 3}


def test_an_error_is_its_type_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.span("broken"):
        raise ValueError("secret")
    (span,) = told(folder)
    assert span["error"] == "ValueError"
    assert "secret" not in json.dumps(span)


def test_a_callers_decision_not_to_sample_is_kept(folder: Path) -> None:
    telemetry.follow(f"00-{TRACE}-{CALLER}-00")
    with tracing.span("unsampled"):
        pass
    assert told(folder) == []


def test_none_of_a_thousand(folder: Path) -> None:
    telemetry.sample(0)
    telemetry.follow(None)
    with tracing.span("unsampled"):
        assert (telemetry.traceparent() or "").endswith("-00")
    assert told(folder) == []


def test_old_files_go_whoever_wrote_them(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, days in (("api.1.jsonl", 8), ("api.1.jsonl.1", 8), ("api.2.jsonl", 6), ("note.txt", 99)):
        (folder / name).write_text("{}")
        moment = time.time() - days * 86_400
        os.utime(folder / name, (moment, moment))
    tracing.forget_old(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["api.2.jsonl", "note.txt"]
