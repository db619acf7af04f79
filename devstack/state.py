"""What a running supervisor leaves for `tirage status`, and how that is read. No secret is in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devstack.child import started_at
from devstack.parts import connects
from devstack.processes import answer_of

FILE = "state.json"


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Leave the state, whole."""
    fresh = folder / f"{FILE}.new"
    fresh.write_text(json.dumps(state, indent=1))
    fresh.replace(folder / FILE)


def remove(folder: Path) -> None:
    """Nothing is up."""
    (folder / FILE).unlink(missing_ok=True)


def read_living(folder: Path) -> dict[str, Any] | None:
    """The state a supervisor left that still runs, or None."""
    try:
        state: dict[str, Any] = json.loads((folder / FILE).read_text())
        is_living = started_at(int(state["supervisor"])) == state["supervisor_started"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return state if is_living else None


def look(part: Mapping[str, Any]) -> str:
    """`up`, `running` (but nobody answers at its address) or `down`; a replaced part: `external` or `unreachable`."""
    answers = part["address"] is None or _answers(part["address"])
    if part["replaced_by"] is not None:
        return "external" if answers else "unreachable"
    if not part["pid"] or started_at(part["pid"]) != part["started"]:
        return "down"
    return "up" if answers else "running"


def _answers(address: str) -> bool:
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.scheme == "http":
        return answer_of(f"http://{parts.netloc}/healthz") is not None
    default = {"https": 443, "postgresql": 5432, "postgres": 5432}.get(parts.scheme, 4222)
    return connects(parts.hostname or "", parts.port or default)
