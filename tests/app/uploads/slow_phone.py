"""An app on a slow network, as a program: follows every advice, ends a request after 30 s as a phone's system would.

`python slow_phone.py JSON` with `base`, `host` (the API's own name), `auth`, `file`, `bytesPerSecond`, `key`. Prints
what it did.
"""

import hashlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

MOST_S = 30


class Ended(Exception):
    """A request took longer than a phone's system lets it."""


class Phone:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told, self.data = told, Path(told["file"]).read_bytes()
        self.requests: list[tuple[str, float]] = []
        self.ended: list[str] = []

    def ask(self, method: str, path: str, content: bytes | None = None, **headers: str) -> httpx.Response:
        """One request on a connection of its own; raises `Ended` and `httpx.TransportError`."""
        began, sent = time.monotonic(), {**self.told["auth"], "Host": self.told["host"], **headers}
        client = httpx.Client(base_url=self.told["base"], timeout=MOST_S)
        guillotine = threading.Timer(MOST_S, client.close)
        guillotine.start()
        try:
            answer = client.request(method, path, content=content, headers=sent)
        except (httpx.TransportError, RuntimeError) as error:
            if time.monotonic() - began >= MOST_S:
                self.ended.append(f"{method} {path}")
                raise Ended from error
            raise
        finally:
            guillotine.cancel()
            client.close()
            self.requests.append((f"{method} {len(content or b'')}", time.monotonic() - began))
        return answer

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        headers["Idempotency-Key"] = f"{self.told['key']}-{path.rsplit('/', 1)[-1]}"
        content = None if body is None else json.dumps(body).encode()
        answer = self.ask(method, path, content, **headers)
        assert answer.status_code < 300, (path, answer.status_code, answer.text)
        return answer.json()

    def append(self, session: str, size: int) -> None:
        """One append from where storage ends."""
        tus = {"Tus-Resumable": "1.0.0"}
        at = int(self.ask("HEAD", f"/v1/tus/{session}", **tus).headers["upload-offset"])
        piece = self.data[at : at + size]
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(at)}
        answer = self.ask("PATCH", f"/v1/tus/{session}", piece, **tus, **kind)
        assert answer.status_code == 204, (answer.status_code, answer.text)

    def send(self) -> dict[str, Any]:
        body = {
            "bytes": len(self.data),
            "contentType": "image/jpeg",
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "bytesPerSecond": self.told["bytesPerSecond"],
        }
        upload = self.call("POST", "/v1/uploads", body)
        advice, session = upload["next"], upload["id"]
        while advice["path"] == "append":
            try:
                self.append(session, advice["partBytes"])
            except (Ended, httpx.TransportError):
                time.sleep(1)
            advice = self.call("GET", f"/v1/uploads/{session}")["upload"]["next"]
        if advice["path"] == "complete":
            self.call("POST", f"/v1/uploads/{session}/complete")
        return {"upload": session, "advice": advice["path"], "requests": self.requests, "ended": self.ended}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Phone(json.loads(sys.argv[1])).send()))
