"""The stack's keys: made once, kept, readable by their owner only."""

import json
from pathlib import Path

from devstack.secrets import load_or_make


def test_keys_are_made_once(tmp_path: Path) -> None:
    first = load_or_make(tmp_path)
    assert load_or_make(tmp_path) == first
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len(set(first.values())) == len(first)


def test_two_stacks_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert set(load_or_make(tmp_path / "a").values()).isdisjoint(load_or_make(tmp_path / "b").values())


def test_a_new_name_is_added_and_nothing_replaced(tmp_path: Path) -> None:
    first = load_or_make(tmp_path)
    older = {name: value for name, value in first.items() if name != "nats_password"}
    (tmp_path / "secrets.json").write_text(json.dumps(older))
    again = load_or_make(tmp_path)
    assert {name: again[name] for name in older} == older
    assert again["nats_password"] not in ("", first["nats_password"])
