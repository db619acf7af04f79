"""Which process may know what."""

import pytest

from devstack.processes import PROCESSES, Process

BY_NAME = {process.name: process for process in PROCESSES}
DATABASE_HOLDERS = {"api", "dispatcher", "record-worker", "scheduler"}
PERSONAL_KEYS = {"api", "record-worker"}


def test_only_record_processes_know_the_database_and_the_personal_keys() -> None:
    for name, holders in {"TIRAGE_DATABASE_URL": DATABASE_HOLDERS, "TIRAGE_KEK": PERSONAL_KEYS}.items():
        assert {process.name for process in PROCESSES if name in process.variables} == holders


def test_only_the_api_mints() -> None:
    for name in ("TIRAGE_URL_KEYS", "TIRAGE_TOKEN_KEYS"):
        assert {process.name for process in PROCESSES if name in process.variables} == {"api"}


def test_each_process_holds_one_key_of_the_store() -> None:
    roles = {p.name: [v.split("_")[2] for v in p.variables if v.endswith("_SECRET_KEY")] for p in PROCESSES}
    assert roles == {
        "stripe": [],
        "api": ["API"],
        "dispatcher": [],
        "record-worker": ["RECORD"],
        "pixel-worker": ["PIXEL"],
        "scheduler": [],
        "origin": ["ORIGIN"],
        "edge": ["EDGE"],
        "prodigi": [],
    }


def test_tuning_never_carries_what_the_row_does_not_name() -> None:
    """A pattern such as TIRAGE_API_* must not match another process's secret."""
    secret = {name for process in PROCESSES for name in process.variables}
    for process in PROCESSES:
        got = process.environment(dict.fromkeys(secret, "x"))
        assert set(got) - set(process.variables) <= {"TIRAGE_API_URL", "TIRAGE_API_PORT", "TIRAGE_ORIGIN_URL"}, (
            process.name
        )


def test_tuning_arrives_where_it_is_named() -> None:
    every = dict.fromkeys(BY_NAME["api"].variables, "x") | {"TIRAGE_API_SLOTS": "32", "TIRAGE_EDGE_CACHE_MIB": "1"}
    got = BY_NAME["api"].environment(every)
    assert got["TIRAGE_API_SLOTS"] == "32"
    assert "TIRAGE_EDGE_CACHE_MIB" not in got


def test_a_missing_variable_is_an_error() -> None:
    with pytest.raises(KeyError, match="WANTED"):
        Process(name="x", command=("x",), variables=("WANTED",)).environment({})
