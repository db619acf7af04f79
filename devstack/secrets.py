"""The stack's keys: made once, kept with the data in a file only its owner can read."""

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Final

ROLES: Final = ("api", "pixel", "origin", "edge", "record", "reader")
"""Whose keys a store has; `reader` is what another region's pixel workers read originals with."""


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _make() -> dict[str, str]:
    made = {
        "postgres_password": secrets.token_urlsafe(24),
        "nats_password": secrets.token_urlsafe(24),
        "nats_system_password": secrets.token_urlsafe(24),
        "nats_leaf_password": secrets.token_urlsafe(24),
        "s3_sse": secrets.token_hex(32),
        "s3_internal": secrets.token_hex(32),
        "kek": f"k1:{_key()}",
        "token_keys": f"t1:{_key()}",
        "url_keys": f"u1:{_key()}",
        "edge_push_keys": f"p1:{_key()}",
        "edge_purge_keys": f"g1:{_key()}",
        "result_key": _key(),
        "stripe_key": f"sk_test_{secrets.token_hex(24)}",
        "stripe_publishable_key": f"pk_test_{secrets.token_hex(24)}",
        "stripe_webhook_secret": f"whsec_{secrets.token_hex(24)}",
        "prodigi_key": secrets.token_hex(16),
        "prodigi_callback_token": secrets.token_urlsafe(24),
    }
    for role in ("admin", *ROLES):
        made[f"s3_{role}_access"] = f"{role}{secrets.token_hex(6)}"
        made[f"s3_{role}_secret"] = secrets.token_urlsafe(30)
    return made


def load_or_make(folder: Path) -> dict[str, str]:
    """The keys of the stack in `folder`; new names are added to an older file, nothing is ever replaced."""
    file = folder / "secrets.json"
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    complete = {**_make(), **kept}
    if complete != kept:
        fresh = file.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(complete, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    return complete
