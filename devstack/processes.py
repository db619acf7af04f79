"""Tirage's own processes: what each is started with and which variables it may know. One literal table.

A process gets the variables of its row and nothing else: a pixel worker has no database URL, an edge no signing key of
another lifetime's minter, and none of them the caller's environment.
"""

from typing import Final

import msgspec

QUEUE: Final = ("TIRAGE_REGION", "TIRAGE_NATS_URL")
STORE: Final = (
    "TIRAGE_S3_ENDPOINT",
    "TIRAGE_S3_REGION",
    "TIRAGE_BUCKET_ORIGINALS",
    "TIRAGE_BUCKET_ANCESTORS",
    "TIRAGE_BUCKET_DERIVATIVES",
    "TIRAGE_BUCKET_MASTERS",
    "TIRAGE_BUCKET_STAGING",
)
RECORD: Final = ("TIRAGE_DATABASE_URL", "TIRAGE_KEK", "TIRAGE_RESULT_KEY", *STORE)


EDGE_KEYS: Final = ("TIRAGE_EDGE_KEYS_EPHEMERAL", "TIRAGE_EDGE_KEYS_SHARE", "TIRAGE_EDGE_KEYS_DURABLE")


def _key_of(role: str) -> tuple[str, str]:
    return (f"TIRAGE_S3_{role}_ACCESS_KEY", f"TIRAGE_S3_{role}_SECRET_KEY")


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of process: its command line after `tirage`, its variables, and its port's name if it listens.

    `health` is a path that answers 200 when it is ready; a process without one is ready when it stays up.
    """

    name: str
    command: tuple[str, ...]
    variables: tuple[str, ...]
    port: str | None = None
    health: str | None = None


PROCESSES: Final = (
    Process(
        name="api",
        command=("api",),
        variables=(
            "TIRAGE_REGION",
            *RECORD,
            *_key_of("API"),
            "TIRAGE_TOKEN_KEYS",
            "TIRAGE_URL_KEYS",
            "TIRAGE_EDGE_URL",
            "TIRAGE_API_URL",
            "TIRAGE_API_PORT",
        ),
        port="api",
        health="/readyz",
    ),
    Process(name="dispatcher", command=("dispatcher",), variables=(*QUEUE, *RECORD, *_key_of("RECORD"))),
    Process(
        name="record-worker",
        command=("worker", "record"),
        variables=(*QUEUE, *RECORD, *_key_of("RECORD")),
    ),
    Process(
        name="pixel-worker",
        command=("worker", "pixel"),
        variables=(*QUEUE, "TIRAGE_RESULT_KEY", *STORE, *_key_of("PIXEL")),
    ),
    Process(name="scheduler", command=("scheduler",), variables=("TIRAGE_REGION", *RECORD, *_key_of("RECORD"))),
    Process(
        name="origin",
        command=("origin",),
        variables=(*QUEUE, *EDGE_KEYS, *STORE, *_key_of("ORIGIN"), "TIRAGE_ORIGIN_PORT"),
        port="origin",
        health="/healthz",
    ),
    Process(
        name="edge",
        command=("edge",),
        variables=(
            "TIRAGE_REGION",
            *EDGE_KEYS,
            "TIRAGE_ORIGIN_URL",
            "TIRAGE_EDGE_PORT",
            "TIRAGE_EDGE_CACHE",
            *STORE,
            *_key_of("EDGE"),
        ),
        port="edge",
        health="/healthz",
    ),
)
