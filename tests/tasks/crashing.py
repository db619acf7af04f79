"""Runs a real `tirage` command in a process that dies (os._exit) at one named moment. The product has no such switches.

python crashing.py MOMENT dispatcher
"""

import atexit
import os
import sys
from pathlib import Path
from typing import Any

STATUS = 86


def die(*_: Any, **__: Any) -> Any:
    os._exit(STATUS)


def after(module: Any, name: str) -> None:
    """Die right after an async function has returned."""
    real = getattr(module, name)

    async def dying(*args: Any, **kwargs: Any) -> Any:
        await real(*args, **kwargs)
        die()

    setattr(module, name, dying)


def arm(moment: str) -> None:
    if moment == "published-not-marked":
        from app.kernel import jobs

        jobs.mark_published = die
    elif moment == "worked-not-answered":
        from tasks.pixel import worker

        worker._Answers._send = die  # type: ignore[method-assign]
    elif moment == "answered-not-acked":
        from tasks import broker

        broker.Delivery.ack = die  # type: ignore[method-assign]
    elif moment == "applied-not-acked":
        from tasks.record.worker import RecordWorker

        after(RecordWorker, "apply")
    elif moment == "committed-not-answered":
        from app.kernel.idempotency import Idempotency

        after(Idempotency, "once")
    elif moment.startswith("modules:"):
        told = Path(moment.removeprefix("modules:"))
        atexit.register(lambda: told.write_text("\n".join(sys.modules)))
    elif moment == "kills-its-worker":
        from tasks.pixel import handlers

        handlers.echo = die
    else:
        raise SystemExit(f"no such moment: {moment}")


if __name__ == "__main__":
    arm(sys.argv[1])
    from tirage.main import main

    main(sys.argv[2:])
