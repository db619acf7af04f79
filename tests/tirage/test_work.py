"""What an operator does at the command line, and what a process says that is configured wrongly."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from app.kernel import alerts, jobs
from app.kernel.alerts import Severity
from app.kernel.db import Database
from app.kernel.jobs import Plan
from app.kinds import KINDS
from base import ids
from tasks.scheduler import Period

TIRAGE = Path(sysconfig.get_path("scripts")) / "tirage"


def tirage(url: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "TIRAGE_DATABASE_URL": url}
    return subprocess.run([TIRAGE, *args], env=env, capture_output=True, text=True, check=False, timeout=60)


async def test_jobs_are_listed_replayed_and_drained(db: Database, database_url: str) -> None:
    kind = KINDS["uploads.expire"]
    async with db.transaction() as tx:
        job = await jobs.plan(tx, kind, Plan(kind=kind.name, payload=Period(number=1)), "home", None)
        assert job is not None
        row = await jobs.lock(tx, job)
        assert row is not None
        await jobs.park(tx, row, "bad")
    name = ids.encode("job", job)
    listed = tirage(database_url, "jobs", "list", "--state", "parked").stdout
    assert name in listed
    assert "uploads.expire" in listed
    assert tirage(database_url, "jobs", "replay", name).stdout == "1 queued again\n"
    assert tirage(database_url, "jobs", "drain", "--lane", "sweep").stdout == "drained\n"
    assert "yes" in tirage(database_url, "jobs", "survey").stdout
    async with db.transaction() as tx:
        assert await jobs.due(tx, "home", "sweep", in_flight=9, per_owner=9) == []
    assert tirage(database_url, "jobs", "drain", "--lane", "sweep", "--resume").stdout == "resumed\n"
    async with db.transaction() as tx:
        assert [r.id for r in await jobs.due(tx, "home", "sweep", in_flight=9, per_owner=9)] == [job]


async def test_alerts_are_shown_and_closed(db: Database, database_url: str) -> None:
    async with db.transaction() as tx:
        await alerts.alert(tx, "job-parked", Severity.ERROR, "subject-1", detail="why")
        (raised,) = await alerts.open_alerts(tx)
    shown = tirage(database_url, "alerts").stdout
    assert "job-parked" in shown
    assert "subject-1" in shown
    assert tirage(database_url, "alerts", "close", ids.encode("alert", raised.id)).stdout == "closed\n"
    assert tirage(database_url, "alerts").stdout == ""


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["api"], {"TIRAGE_DATABASE_URL", "TIRAGE_KEK", "TIRAGE_TOKEN_KEYS", "TIRAGE_URL_KEYS", "TIRAGE_S3_ENDPOINT"}),
        (["worker", "pixel"], {"TIRAGE_NATS_URL", "TIRAGE_RESULT_KEY", "TIRAGE_S3_PIXEL_SECRET_KEY"}),
        (["worker", "record"], {"TIRAGE_DATABASE_URL", "TIRAGE_RESULT_KEY", "TIRAGE_S3_RECORD_SECRET_KEY"}),
        (["edge"], {"TIRAGE_EDGE_KEYS_EPHEMERAL", "TIRAGE_EDGE_KEYS_DURABLE", "TIRAGE_S3_EDGE_SECRET_KEY"}),
        (["origin"], {"TIRAGE_EDGE_KEYS_SHARE", "TIRAGE_S3_ORIGIN_SECRET_KEY", "TIRAGE_NATS_URL"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_process_without_settings_names_every_fault(command: list[str], named: set[str]) -> None:
    ran = subprocess.run(
        [TIRAGE, *command], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 1
    assert {name for name in named if name not in ran.stderr} == set()
