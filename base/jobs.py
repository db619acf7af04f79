"""Jobs and results as they travel: what a worker gets, what it answers, and the proof that the answer is ours.

A job is a row in Postgres (`app/kernel/jobs.py`); this is its message. The result echoes the job's nonce under a MAC,
so a record worker applies only answers to jobs that were handed out.
"""

import hashlib
import hmac
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec


class Plane(StrEnum):
    """Where a job runs: `record` workers have the database, `pixel` workers have the pixels."""

    RECORD = "record"
    PIXEL = "pixel"


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A queue of one urgency. Seconds and counts:

    `ack_wait_s`: silence after which the broker gives the message to another worker;
    `republish_after_s`: age after which a published but unfinished row is published again;
    `in_flight`: rows of a region handed out at once; `per_owner`: of them, for one owner;
    `ttl_s`: age at which an unstarted job is late (a signal for autoscaling and alerts).
    """

    name: str
    plane: Plane
    ack_wait_s: int
    republish_after_s: int
    in_flight: int
    per_owner: int
    ttl_s: int


LANES: Final[dict[str, Lane]] = {
    lane.name: lane
    for lane in (
        Lane(
            name="checkout",
            plane=Plane.RECORD,
            ack_wait_s=10,
            republish_after_s=120,
            in_flight=256,
            per_owner=8,
            ttl_s=30,
        ),
        Lane(
            name="record",
            plane=Plane.RECORD,
            ack_wait_s=10,
            republish_after_s=120,
            in_flight=256,
            per_owner=8,
            ttl_s=60,
        ),
        Lane(
            name="sweep",
            plane=Plane.RECORD,
            ack_wait_s=30,
            republish_after_s=900,
            in_flight=16,
            per_owner=2,
            ttl_s=3600,
        ),
        Lane(
            name="preview", plane=Plane.PIXEL, ack_wait_s=5, republish_after_s=300, in_flight=64, per_owner=4, ttl_s=30
        ),
        Lane(
            name="print", plane=Plane.PIXEL, ack_wait_s=5, republish_after_s=900, in_flight=32, per_owner=4, ttl_s=300
        ),
        Lane(
            name="bulk", plane=Plane.PIXEL, ack_wait_s=5, republish_after_s=900, in_flight=32, per_owner=2, ttl_s=3600
        ),
    )
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one job. `done` names the steps whose results are already recorded; `last_reason` is the code by
    which the attempt before ended, if there was one.

    `payload` is the kind's own struct as JSON; `deadline` is the moment (UTC) after which nobody waits for the answer;
    `traceparent` follows W3C Trace Context.
    """

    id: UUID
    kind: str
    region: str
    lane: str
    attempt: int
    nonce: bytes
    deadline: datetime | None
    time_limit_s: int
    owner_id: UUID | None
    payload: bytes
    done: tuple[str, ...] = ()
    traceparent: str | None = None
    last_reason: str | None = None


class Outcome(StrEnum):
    """How a step, or the whole attempt, ended.

    `failed` may be tried again; `refused` is final (bad input), `lost` means the worker died with it too often.
    """

    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"
    LOST = "lost"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one step of one attempt; `last` closes the attempt.

    `index` is the step's place in its kind's order: a step is applied after the ones before it. `body` is the step's
    own struct as JSON; `reason` is a code; `ms` whole milliseconds; `engine` the pixel engine's revision, if any.
    """

    job_id: UUID
    kind: str
    attempt: int
    step: str
    index: int
    last: bool
    outcome: Outcome
    reason: str | None
    ms: int
    engine: str | None
    body: bytes
    mac: bytes = b""
    traceparent: str | None = None


def result_mac(key: bytes, nonce: bytes, result: Result) -> bytes:
    """HMAC-SHA256 over the nonce and every field that changes what is applied, each with its length before it."""
    fields = (
        nonce,
        result.job_id.bytes,
        result.kind.encode(),
        str(result.attempt).encode(),
        result.step.encode(),
        str(result.index).encode(),
        b"last" if result.last else b"more",
        result.outcome.value.encode(),
        (result.reason or "").encode(),
        result.body,
    )
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for field in fields:
        mac.update(len(field).to_bytes(4, "big"))
        mac.update(field)
    return mac.digest()


def signed(key: bytes, nonce: bytes, result: Result) -> Result:
    """The result with its MAC."""
    return msgspec.structs.replace(result, mac=result_mac(key, nonce, result))


def is_genuine(key: bytes, nonce: bytes, result: Result) -> bool:
    """Whether the MAC fits, compared in constant time."""
    return hmac.compare_digest(result.mac, result_mac(key, nonce, result))


def job_subject(region: str, lane: str) -> str:
    """Where jobs of a lane are published."""
    return f"jobs.{region}.{lane}"


def result_subject(region: str) -> str:
    """Where a region's results are published."""
    return f"results.{region}"


ENCODER: Final = msgspec.msgpack.Encoder()
JOB_DECODER: Final = msgspec.msgpack.Decoder(Job)
RESULT_DECODER: Final = msgspec.msgpack.Decoder(Result)
