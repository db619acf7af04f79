"""Webhooks in: one delivery through the API beside the same statements in bare asyncpg, and a burst without workers."""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import httpx

from app.kernel import jobs
from app.kernel.db import Database, connect_arguments
from app.kernel.migrate import migrate
from app.machines import MACHINES
from app.services import Services
from app.settings import load_api
from app.webhooks import store
from app.webhooks.domain import STRIPE
from app.webhooks.service import Intake
from base.ids import new_id
from devstack.stack import Stack, running_servers
from devstack.stripe.delivery import sign
from tirage.keys import edge_keys

ROUNDS: Final = 15
EACH: Final = 40
BURST: Final = 1_000
AT_ONCE: Final = 50


def run() -> dict[str, Any]:
    """Medians of ratios, interleaved; milliseconds for the burst. Real Postgres, a real API process, no workers."""
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder), {}) as stack:
        env = {**edge_keys(stack.environment()), **stack.environment()}
        return asyncio.run(_measure(env, stack))


def _event(number: int) -> bytes:
    told = {"id": f"pi_{number}", "object": "payment_intent", "metadata": {}, "padding": "x" * 2_500}
    body = {"id": f"evt_{uuid4().hex}", "object": "event", "created": int(time.time()), "data": {"object": told}}
    return json.dumps({**body, "type": "payment_intent.succeeded"}).encode()


async def _measure(env: dict[str, str], stack: Stack) -> dict[str, Any]:
    settings = load_api(env)
    services = Services(settings.app)
    await services.start()
    await migrate(services.db, MACHINES)
    intake = Intake(services.db, services.spine, settings.app.keks, services.clock, settings.webhooks)
    secret = env["TIRAGE_STRIPE_WEBHOOK_SECRETS"].split(",")[0]
    figures: dict[str, Any] = {"statements": await _statements(services.db, intake, secret)}
    figures |= await _beside_bare(env, intake, secret)
    figures["burst"] = await _burst(env, secret, services.db)
    await services.stop()
    return figures


async def _taken(intake: Intake, secret: str, number: int) -> None:
    body = _event(number)
    await intake.stripe(body, sign(body, [secret], int(time.time())))


async def _statements(db: Database, intake: Intake, secret: str) -> int:
    """Round trips of one new delivery, counted by the driver: BEGIN and COMMIT are two of them.

    On a connection that has seen one before: at the first the driver asks for the types of arrays.
    """
    seen: list[str] = []
    connection = await db.acquire()
    inner = connection._con
    inner.add_query_logger(lambda record: seen.append(record.query))
    await db.pool.release(connection)
    for number in range(2 * db.settings.pool_max):
        before = len(seen)
        await _taken(intake, secret, number)
        if before and len(seen) > before:
            return len(seen) - before
    return len(seen)


async def _beside_bare(env: dict[str, str], intake: Intake, secret: str) -> dict[str, Any]:
    pool = await asyncpg.create_pool(min_size=1, max_size=1, **connect_arguments(env["TIRAGE_DATABASE_URL"]))

    async def bare(number: int) -> None:
        body, key = _event(number), uuid4().hex
        webhook: UUID = new_id()
        async with pool.acquire() as connection, connection.transaction():
            stored = (webhook, STRIPE, "", key, "payment_intent.succeeded", "k", "{}", "k1", b"w" * 60, body, None)
            await connection.fetch(store.INSERT, *([part] for part in stored))
            payload = json.dumps({"webhook_id": str(webhook)})
            job = ([new_id()], [payload], [b"n" * 16], [None])
            await connection.execute(jobs.INSERT_MANY, *job, "webhook.process", "home", "checkout", jobs.NOBODY, 12, 30)

    async def ours(number: int) -> None:
        await _taken(intake, secret, number)

    await _each(bare), await _each(ours)  # warm
    pairs = [(await _each(bare), await _each(ours)) for _ in range(ROUNDS)]
    await pool.close()
    return {
        "bare_ms": round(statistics.median(b for b, _ in pairs), 2),
        "intake_ms": round(statistics.median(o for _, o in pairs), 2),
        "ratio": round(statistics.median(o / b for b, o in pairs), 2),
    }


async def _each(work: Callable[[int], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    for number in range(EACH):
        await work(number)
    return (time.perf_counter() - begun) / EACH * 1000


async def _burst(env: dict[str, str], secret: str, db: Database) -> dict[str, Any]:
    """1,000 deliveries, fifty at a time, to an API process; nobody works on them meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sysconfig.get_path("scripts")) / "tirage", "api"]
    api = subprocess.Popen(command, env={**env, "TIRAGE_API_PORT": str(port)}, stderr=subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await _answering(client)
            before, ticks = await _rows(db), _ticks(api.pid)
            took = await _deliver(client, secret)
            after, used = await _rows(db), _ticks(api.pid) - ticks
    finally:
        api.terminate()
        api.wait()
    waits = sorted(ms for ms, _ in took)
    return {
        "sent": BURST,
        "accepted": sum(status == 200 for _, status in took),
        "stored": after - before,
        "p50_ms": round(statistics.median(waits), 1),
        "p99_ms": round(waits[int(0.99 * len(waits))], 1),
        "api_cpu_ms_each": round(1000 * used / os.sysconf("SC_CLK_TCK") / BURST, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _ticks(pid: int) -> int:
    """Processor time of a process, user and system (proc(5)): what a crowded machine does not change."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(parts[11]) + int(parts[12])


async def _answering(client: httpx.AsyncClient) -> None:
    while True:
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)


async def _rows(db: Database) -> int:
    async with db.transaction(readonly=True) as tx:
        return int(await tx.value("SELECT count(*) FROM webhooks"))


async def _deliver(client: httpx.AsyncClient, secret: str) -> list[tuple[float, int]]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[float, int]:
        body = _event(number)
        async with room:
            begun = time.perf_counter()
            headers = {"Stripe-Signature": sign(body, [secret], int(time.time()))}
            answer = await client.post("/webhooks/stripe", content=body, headers=headers)
            return (time.perf_counter() - begun) * 1000, answer.status_code

    return await asyncio.gather(*(one(number) for number in range(BURST)))
