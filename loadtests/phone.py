"""A phone as a person on a train holds it: it loses answers, taps twice, and tries again with the same key.

HTTP only, like every app. What it was told and relies on goes into a ledger, one JSON line a promise, that
`tirage audit --ledger` holds against the database afterwards.
"""

import contextlib
import http.client
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import gevent
import requests
from locust import events
from locust.clients import HttpSession

TRIES: Final = 40
SOON_S: Final = 0.001
LOST: Final = 0.15
TWICE: Final = 0.3


class Broken(Exception):
    """A promise of the API was not kept; the text says which."""


class Ledger:
    """Where promises are noted; whole lines, so that many may write."""

    def __init__(self, file: Path) -> None:
        self._out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, **told: Any) -> None:
        """One more line, at once."""
        os.write(self._out, json.dumps({"what": what, **told}).encode() + b"\n")


class Phone:
    """One person's app: calls of the API, each with a key that every repetition carries."""

    def __init__(self, client: HttpSession, api: str, chance: random.Random) -> None:
        self._client, self._api, self._chance = client, api, chance
        client.trust_env = False
        self._headers: dict[str, str] = {}

    def begin(self) -> None:
        """Become a guest."""
        grant = self.post("register", "/v1/devices", {"platform": "ios"})
        self._headers["Authorization"] = f"Bearer {grant['accessToken']}"

    def get(self, name: str, path: str) -> Any:
        """Read."""
        return self._answered(name, "GET", path, None, {}).json()

    def post(self, name: str, path: str, body: Any = None) -> Any:
        """Ask for something once, however clumsily; raises `Broken` when two answers differ."""
        key = {"Idempotency-Key": uuid4().hex}
        if self._chance.random() < LOST:
            self._lose(path, body, key)
        if self._chance.random() >= TWICE:
            return self._answered(name, "POST", path, body, key).json()
        taps = [gevent.spawn(self._answered, name, "POST", path, body, key) for _ in range(2)]
        first, second = (tap.get() for tap in taps)
        is_replay = any("Idempotency-Replayed" in answer.headers for answer in (first, second))
        if is_replay and first.content != second.content:
            raise Broken(f"two taps on {name}, two answers: {first.text} and {second.text}")
        return first.json()

    def refused(self, name: str, path: str, body: Any = None) -> str | None:
        """Ask for something that may be refused; the code of the refusal, or None."""
        answer = self._answered(name, "POST", path, body, {"Idempotency-Key": uuid4().hex}, may_fail=True)
        return None if answer.ok else str(answer.json()["code"])

    def wait(self, name: str, look: Callable[[], bool], limit_s: float, every_s: float = 0.3) -> None:
        """Look until it is so, and count how long it took; raises `Broken`."""
        begun = time.monotonic()
        while not look():
            if time.monotonic() - begun > limit_s:
                note(name, begun, Broken(f"not within {limit_s} s"))
                raise Broken(f"{name}: not within {limit_s} s")
            gevent.sleep(every_s)
        note(name, begun)

    def send(self, name: str, part: dict[str, Any], data: bytes, bytes_a_second: int | None) -> bool:
        """Send one part to storage; False when the network broke on the way, which a phone does not mind."""
        headers = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        piece = data[part["firstByte"] : part["firstByte"] + part["bytes"]]
        if self._chance.random() < LOST:
            _break_off(part["url"], part["headers"], piece)
            return False
        body: Any = Slow(piece, bytes_a_second) if bytes_a_second else piece
        with self._client.put(
            part["url"], data=body, headers=headers, name=name, timeout=120, catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"storage: {answer.status_code} {answer.text[:200]}")
                return False
        return True

    def _lose(self, path: str, body: Any, key: dict[str, str]) -> None:
        """Send it and go away before the answer comes."""
        with contextlib.suppress(requests.RequestException), requests.Session() as lost:
            lost.trust_env = False
            lost.post(f"{self._api}{path}", json=body, headers={**self._headers, **key}, timeout=(5, SOON_S))

    def _answered(
        self, name: str, method: str, path: str, body: Any, key: dict[str, str], *, may_fail: bool = False
    ) -> requests.Response:
        """The answer, tried again as the API guide says; raises `Broken`."""
        for attempt in range(TRIES):
            with self._client.request(
                method,
                f"{self._api}{path}",
                json=body,
                headers={**self._headers, **key},
                name=name,
                timeout=40,
                catch_response=True,
            ) as answer:
                again_s = _again(answer, attempt)
                if again_s is None:
                    if not answer.ok and not may_fail:
                        answer.failure(f"{answer.status_code} {answer.text[:300]}")
                        raise Broken(f"{name}: {answer.status_code} {answer.text[:300]}")
                    answer.success()
                    return answer  # type: ignore[no-any-return]
            gevent.sleep(again_s)
        raise Broken(f"{name}: no answer after {TRIES} tries")


def _again(answer: Any, attempt: int) -> float | None:
    """After how many seconds to try again; None for an answer that stands."""
    status = answer.status_code
    if status == 429 or (status == 409 and answer.json().get("code") == "idempotency-in-flight"):
        answer.success()
        return min(float(answer.headers.get("Retry-After", 1)), 10)
    if status in (0, 500, 502, 503, 504):
        answer.failure(f"{status}")
        return min(0.2 * 2.0**attempt, 5.0)
    return None


def _break_off(url: str, headers: dict[str, str], piece: bytes) -> None:
    """Send half of it and hang up."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.putrequest("PUT", f"{where.path}?{where.query}")
        for field, value in {**headers, "Content-Length": str(len(piece))}.items():
            connection.putheader(field, value)
        connection.endheaders(piece[: len(piece) // 2])
    connection.close()


class Slow:
    """Bytes that a bad network takes; `read` is what requests sends from."""

    def __init__(self, data: bytes, bytes_a_second: int) -> None:
        self._data, self._at, self._pace = data, 0, bytes_a_second

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int = -1) -> bytes:
        """The next few bytes, when the network has had time for them."""
        piece = self._data[self._at : self._at + 65_536]
        self._at += len(piece)
        gevent.sleep(len(piece) / self._pace)
        return piece


def note(name: str, begun: float, error: Exception | None = None) -> None:
    """Count something that a person waited for beside the requests."""
    ms = (time.monotonic() - begun) * 1000
    events.request.fire(
        request_type="WAIT", name=name, response_time=ms, response_length=0, exception=error, context={}
    )
