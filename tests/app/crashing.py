"""Runs one use case in a child that really dies (os._exit) at its k-th suspension; one fork a crash.

python crashing.py '{"op": "start", "whole": {...}, "cases": [[place, {...}], ...], "every": false}'. The whole case
never dies and tells how many suspensions there are; a place is one of them, or, unless `every`, a part per mille.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from app.handlers import HANDLERS, Attempt
from app.kernel import jobs
from app.main import Api, create_app
from app.services import Services
from app.settings import load, load_api
from app.uploads.receive import Receiver
from app.uploads.traffic import Traffic
from app.webhooks.service import Intake
from base.ids import OrderId, OwnerId, UploadId
from devstack.stripe.delivery import sign

STATUS = 86


class Mortal:
    """A coroutine that counts its suspensions, and those of tasks that it begins, and dies at one of them."""

    def __init__(self, inner: Awaitable[Any], at: int) -> None:
        self._inner, self._at, self.count = inner, at, 0

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run(self._inner)

    def follow(self, loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:
        """A task factory."""

        class Followed:
            def __await__(_) -> Generator[Any, Any, Any]:  # noqa: N805
                return self._run(work)

        async def followed() -> Any:
            return await Followed()

        return asyncio.Task(followed(), loop=loop, **how)

    def _run(self, inner: Awaitable[Any]) -> Generator[Any, Any, Any]:
        running = inner.__await__()
        step: Callable[[], Any] = lambda: running.send(None)  # noqa: E731
        while True:
            try:
                waiting = step()
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.count == self._at:
                os._exit(STATUS)
            try:
                value = yield waiting
                step = lambda value=value: running.send(value)  # noqa: E731
            except BaseException as error:
                step = lambda error=error: running.throw(error)  # type: ignore[attr-defined] # noqa: E731


async def start(services: Services, owner: str, order: str) -> None:
    await services.payments.start(OwnerId(UUID(owner)), OrderId(UUID(order)))


async def read(services: Services, payment: str) -> None:
    await services.payments.read(UUID(payment))


async def refund(services: Services, refund: str) -> None:
    await services.payments.ask_refund(UUID(refund))


async def cancel(services: Services, payment: str) -> None:
    await services.payments.ask_cancel(UUID(payment))


async def take(services: Services, body: str) -> None:
    settings, raw = load_api(dict(os.environ)), body.encode()
    intake = Intake(services.db, services.spine, settings.app.keks, services.clock, settings.webhooks)
    await intake.stripe(raw, sign(raw, [settings.webhooks.stripe[0].reveal()], int(time.time())))


async def process(services: Services, webhook: str) -> None:
    async with services.db.transaction() as tx:
        await services.inbox.process(tx, UUID(webhook))


async def job(services: Services, job: str) -> None:
    """One attempt at a record job."""
    async with services.db.transaction() as tx:
        row = await jobs.lock(tx, UUID(job))
        assert row is not None
        await jobs.mark_published(tx, [row])
    attempt = Attempt(row)
    await HANDLERS[row.kind](services, attempt)
    if not attempt.finished:
        async with services.db.transaction() as tx:
            await attempt.finish(tx)


async def call(services: Services, path: str, token: str, key: str, body: str) -> None:
    """One call of the API."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, "Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api()), base_url="http://api.test") as client:
        answer = await client.post(path, content=body, headers=headers)
    assert answer.status_code == 201, answer.text


async def complete(services: Services, owner: str, upload: str) -> None:
    await services.uploads.finish(OwnerId(UUID(owner)), UploadId(UUID(upload)))


async def append(services: Services, owner: str, upload: str, file: str, offset: str) -> None:
    """What is missing of a file, as one append."""
    receiver = Receiver(services.db, services.uploads, Traffic())
    await receiver.append(OwnerId(UUID(owner)), UUID(upload), int(offset), body_of(file, int(offset)), None)


async def content(services: Services, upload: str, file: str) -> None:
    """A whole file, as a background PUT."""
    await Receiver(services.db, services.uploads, Traffic()).content(UUID(upload), None, body_of(file))


async def reconcile(services: Services, upload: str) -> None:
    """Finish this session, of which somebody said long ago that it is all there."""
    async with services.db.transaction() as tx:
        await tx.execute("UPDATE uploads SET completing_at = now() - interval '1 day' WHERE id = $1", UUID(upload))
    await services.sweeper.reconcile()


async def body_of(file: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
    data = Path(file).read_bytes()
    for at in range(offset, len(data), 65_536):
        yield data[at : at + 65_536]


OPS = {
    op.__name__: op
    for op in (start, read, refund, cancel, take, process, job, call, complete, append, content, reconcile)
}


@cache
def api() -> Api:
    return create_app(load_api(dict(os.environ)))


async def once(op: str, at: int, told: dict[str, str]) -> int:
    services = Services(load(dict(os.environ), "RECORD"))
    await services.start()
    if op == "call":
        await api().services.start()
    mortal = Mortal(OPS[op](services, **told), at)
    asyncio.get_running_loop().set_task_factory(mortal.follow)
    await mortal
    asyncio.get_running_loop().set_task_factory(None)
    await services.stop()
    return mortal.count


def fork(op: str, at: int, told: dict[str, str]) -> tuple[int, int]:
    """(exit code, suspensions) of a child; one that ended before it could die has seen fewer of them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(asyncio.run(once(op, at, told))).encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 20)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(said or 0)


def main(op: str, whole: dict[str, str], cases: list[tuple[int, dict[str, str]]], every: bool) -> None:
    code, total = fork(op, 0, whole)
    if code:
        raise SystemExit(f"{op} ended with {code}")
    died = 0
    for place, told in cases:
        at = place if every else 1 + (total - 1) * place // 1000
        code, _ = fork(op, at, told)
        if code not in (0, STATUS):
            raise SystemExit(f"{op} at {at}: ended with {code}")
        died += code == STATUS
    print(json.dumps({"died": died, "total": total}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
