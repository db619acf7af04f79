"""Logs are given what must not stand in them, and the audit must see each."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from app.kernel.db import Database
from app.services import Services
from base import ids
from base.ids import OrderId
from tests.app.orders.world import HOME
from tests.app.paying import ORDER
from tirage.audit.logs import CHECK, nothing_private_logged, people, secrets_of

WORDS = {"Zoë O'Hara-Łęcka": "the name of ord_1", "12 \\ High Street": "the line1 of ord_1", "s3cr3t-s3cr3t": "kek"}
CLEAN = b'{"event": "request", "path": "/v1/orders", "trace": "eyJ", "intent": "pi_123", "rt": "rt1.short"}\n' * 3


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[tuple[str, str]]]:
    def written(line: bytes, where: str = "logs/api.log") -> list[tuple[str, str]]:
        file = tmp_path / where
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(CLEAN + line + b"\n" + CLEAN)
        found = nothing_private_logged(tmp_path, WORDS)
        return [(one.subject, one.detail) for one in found if one.check == CHECK]

    return written


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("form", ["plain", "json", "ascii"])
def test_a_word_is_seen_in_every_form(write: Callable[..., list[tuple[str, str]]], word: str, form: str) -> None:
    text = word if form == "plain" else json.dumps({"error": f"no {word}!"}, ensure_ascii=form == "ascii")
    assert write(f"failed: {text}".encode()) == [("api.log", f"line 4 has {WORDS[word]}")]


@pytest.mark.parametrize(
    ("token", "what"),
    [
        ("rt1." + "a" * 43, "a refresh token"),
        ("Bearer eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ0aXJhZ2Ui.c2lnbmF0dXJlLXNpZ25h", "an access token"),
        ("pi_3Abc_secret_0123456789", "a payment's client secret"),
        ("/b/k?X-Amz-Signature=" + "0af1" * 16, "a signature of a store's address"),
    ],
)
def test_a_token_is_seen(write: Callable[..., list[tuple[str, str]]], token: str, what: str) -> None:
    for where in ("north/logs/record.log.1", "traces/api.1.jsonl"):
        assert (Path(where).name, f"line 4 has {what}") in write(token.encode(), where)


def test_nothing_is_seen_where_nothing_is(write: Callable[..., list[tuple[str, str]]], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "empty.log").touch()
    assert write(b"") == []


async def test_who_receives_something_and_what_is_secret(db: Database, services: Services, tmp_path: Path) -> None:
    owner, gone = UUID(int=7), UUID(int=8)
    async with db.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")  # an order from nowhere
        for person in (owner, gone):
            order = OrderId(ids.new_id())
            await tx.execute("INSERT INTO owners (id, kind) VALUES ($1, 'guest')", person)
            await services.persons.create(tx, person)
            await tx.execute(ORDER, order, person, ids.new_id(), "0" * 64, ids.new_id(), "GBP", 100)
            sealed = await services.persons.seal(tx, person, json.dumps(HOME).encode(), "order_recipients.sealed")
            await tx.execute(
                "INSERT INTO order_recipients (order_id, owner_id, sealed, overridden) VALUES ($1, $2, $3, '{}')",
                order,
                person,
                sealed,
            )
        await services.persons.destroy(tx, gone)
    assert set(await people(db, services.settings.keks)) == {HOME["name"], HOME["line1"]}
    kept = {"kek": "k1:AAAA", "nats_password": "pass", "s3_api_access": "api1", "stripe_publishable_key": "pk_test_1"}
    (tmp_path / "secrets.json").write_text(json.dumps(kept))
    assert secrets_of(tmp_path) == {"AAAA": "kek", "pass": "nats_password"}
