"""`tirage demo`: a photo's way from a phone to an edge, over HTTP as an app goes it, against the running stack."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import click
import httpx

from base import telemetry
from devstack import state as states
from tirage import keepsakes
from tirage.audit.command import of_folder, sources
from tirage.purchase import Purchase, PurchaseFailed
from tirage.scene import scene
from tirage.stack import data_option

TYPES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".hif": "image/heif",
    ".png": "image/png",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".tif": "image/tiff",
    ".gif": "image/gif",
}
CHOSEN: Final = ("large-02-pixel-path.jpg", "large-03-iphone-xs-p3-rotated.jpg", "heic-iphone11pro-p3-rotated.heic")
WAIT_S: Final = 60
FAR: Final = "US"
"""Where the phones after the first one are, when there is a second region to be near to."""


class DemoFailed(Exception):
    """A step did not answer as it must; the text says what came."""


class Walk:
    """One photo's steps, each with its time in milliseconds and its trace id; `country` is where the phone is."""

    def __init__(self, name: str, data: bytes, api: str, quiet: bool, country: str | None) -> None:
        self.name, self._data, self._quiet, self._country = name, data, quiet, country
        self.client = httpx.Client(base_url=api, timeout=30)
        self._elsewhere = httpx.Client(timeout=120)  # storage and edges: addresses carry what they need, and no token
        self.steps: list[dict[str, Any]] = []
        self.asset = self.state = ""
        self.images: list[dict[str, Any]] = []

    def run(self) -> None:
        """Every step; raises `DemoFailed`."""
        begun = time.monotonic()
        guest = self._call("register", "POST", "/v1/devices", {"platform": "web"})
        self.client.headers["authorization"] = f"Bearer {guest['accessToken']}"
        upload = self._call(
            "create upload",
            "POST",
            "/v1/uploads",
            {
                "bytes": len(self._data),
                "contentType": TYPES.get(Path(self.name).suffix.lower(), "image/jpeg"),
                "sha256": hashlib.sha256(self._data).hexdigest(),
                "country": self._country,
            },
        )
        self.asset = upload["assetId"]
        part = self._call("ask where to send", "POST", f"/v1/uploads/{upload['id']}/parts")["parts"][0]
        self._send(part)
        self._call("complete", "POST", f"/v1/uploads/{upload['id']}/complete")
        completed = time.monotonic()
        self._await(("preview_ready", "ready", "rejected", "duplicate"), "first previews")
        if self.state in ("preview_ready", "ready"):
            self._show((200, 400))
            self.note("last byte to 400 px at the edge", completed)
            self._await(("ready",), "all previews")
            self._show((800, 1600))
        self.note("everything", begun)

    def told(self) -> dict[str, Any]:
        """What became of the photo, for programs."""
        return {
            "photo": self.name,
            "asset": self.asset,
            "state": self.state,
            "steps": self.steps,
            "images": self.images,
        }

    def _show(self, sides: tuple[int, ...]) -> None:
        minted = self._call("mint addresses", "POST", "/v1/images", {"assetIds": [self.asset], "sides": list(sides)})
        for variant in minted["images"][0]["variants"]:
            begun = time.monotonic()
            answer = self._elsewhere.get(variant["url"])
            if answer.status_code != 200:
                raise DemoFailed(f"the edge answered {answer.status_code} for {variant['url']}")
            digest = hashlib.sha256(answer.content).hexdigest()
            self.images.append({**variant, "bytes": len(answer.content), "sha256": digest})
            self.note(f"fetch {variant['side']} px from the edge ({len(answer.content)} bytes)", begun)

    def _send(self, part: dict[str, Any]) -> None:
        begun = time.monotonic()
        headers = {k: v for k, v in part["headers"].items() if k.lower() != "content-length"}
        answer = self._elsewhere.put(part["url"], content=self._data, headers=headers)
        if answer.status_code != 200:
            raise DemoFailed(f"storage answered {answer.status_code}")
        self.note(f"send {len(self._data)} bytes to storage", begun)

    def _await(self, states: tuple[str, ...], what: str) -> None:
        begun = time.monotonic()
        while self.state not in states:
            if time.monotonic() - begun > WAIT_S:
                raise DemoFailed(f"{self.name} is still {self.state or 'unknown'} after {WAIT_S} s")
            answer = self.client.get(f"/v1/assets/{self.asset}")
            if answer.status_code != 200:
                raise DemoFailed(f"reading the photo answered {answer.status_code}")
            self.state = answer.json()["state"]
            if self.state not in states:
                time.sleep(0.02)
        self.note(f"wait for {what}: {self.state}", begun)

    def _call(self, what: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        begun, trace = time.monotonic(), telemetry.new_traceparent()
        headers = {"idempotency-key": uuid4().hex, "traceparent": trace}
        answer = self.client.request(method, path, json=body, headers=headers)
        if answer.status_code >= 300:
            raise DemoFailed(f"{method} {path} answered {answer.status_code}: {answer.text}")
        self.note(what, begun, trace.split("-")[1])
        told: dict[str, Any] = answer.json()
        return told

    def note(self, what: str, begun: float, trace: str | None = None) -> None:
        """One more step."""
        ms = round((time.monotonic() - begun) * 1000)
        self.steps.append({"step": what, "ms": ms, "trace": trace})
        if not self._quiet:
            click.echo(f"  {ms:6} ms  {what}" + (f"  trace {trace}" if trace else ""))


def _photos(files: tuple[Path, ...]) -> list[tuple[str, bytes]]:
    if files:
        return [(file.name, file.read_bytes()) for file in files]
    folder = Path(os.environ.get("TIRAGE_PHOTOS", "../shared/photos"))
    found = [folder / name for name in CHOSEN if (folder / name).exists()]
    return [(file.name, file.read_bytes()) for file in found] or [("generated.jpg", scene())]


CLUMSY: Final = {
    "faults": [{"on": "POST /v1/payment_intents", "what": "lost", "times": 1}],
    "webhooks": {"duplicate": 1000, "shuffle": True, "jitter_s": 2},
}
"""Stripe's answer to the first try is lost; what it tells comes twice and in any order."""
CAREFUL: Final = {"faults": [], "webhooks": {"duplicate": 0, "shuffle": False, "jitter_s": 0}}


def _buy(walks: list[Walk], state: dict[str, Any], folder: Path, as_json: bool) -> list[dict[str, Any]]:
    """Two orders, by the first and the last phone: one clean, one clumsy; raises `PurchaseFailed`.

    What was printed and how it was shown before is kept under `folder`.
    """
    stripe, told = state["parts"]["stripe"]["address"], []
    where = sources({**of_folder(folder), **os.environ}, None)
    for walk, is_clumsy in ((walks[0], False), (walks[-1], True)):
        if not as_json:
            click.echo(f"order of {walk.name}" + (", tapped twice, with lost answers" if is_clumsy else ""))
        before = len(walk.steps)
        httpx.post(f"{stripe}/_sim/knobs", json=CLUMSY if is_clumsy else CAREFUL, timeout=10).raise_for_status()
        purchase = Purchase(walk.client, stripe, walk.note, is_clumsy=is_clumsy)
        order = purchase.run([walk.asset], "photo-10x15-standard")
        httpx.post(f"{stripe}/_sim/knobs", json=CAREFUL, timeout=10).raise_for_status()
        kept = {
            "masters": keepsakes.save_masters(where, folder, order),
            "proofs": keepsakes.save_proofs(folder, order, purchase.proofs),
        }
        about = {"order": order, "state": purchase.state, "clumsy": is_clumsy}
        told.append({**about, **kept, "steps": walk.steps[before:]})
        if not as_json:
            for what, paths in kept.items():
                click.echo(f"  {what}: {', '.join(paths)}")
            click.echo(f"  {order} is {purchase.state}; its story: tirage order show {order}")
    return told


@click.command()
@click.option("--photo", "photos", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end, nothing else.")
@click.option("--photos-only", is_flag=True, help="Order nothing.")
def demo(photos: tuple[Path, ...], data: Path, as_json: bool, photos_only: bool) -> None:
    """Send photos through the running stack as an app would: upload, previews, edge; then order prints of two."""
    state = states.read_living(data)
    if state is None:
        raise click.ClickException("nothing is up; run `tirage up` first")
    api, failed, walks = state["parts"]["api"]["address"], False, []
    for number, (name, content) in enumerate(_photos(photos)):
        country = FAR if number and len(state["regions"]) > 1 else None
        if not as_json:
            click.echo(f"{name}" + (f", from a phone in {country}" if country else ""))
        walk = Walk(name, content, api, as_json, country)
        walks.append(walk)
        try:
            walk.run()
        except (DemoFailed, httpx.HTTPError) as error:
            failed = True
            click.echo(f"  failed: {error}", err=True)
        if walk.images and not as_json:
            click.echo(f"  preview {next(i['url'] for i in walk.images if i['side'] == 400)}")
    orders: list[dict[str, Any]] = []
    ready = [] if photos_only else [walk for walk in walks if walk.state == "ready"]
    try:
        orders = _buy(ready, state, data, as_json) if ready else []
    except (PurchaseFailed, httpx.HTTPError) as error:
        failed = True
        click.echo(f"  failed: {error}", err=True)
    if as_json:
        click.echo(json.dumps({"photos": [walk.told() for walk in walks], "orders": orders}, indent=1))
    raise SystemExit(1 if failed else 0)
