"""The embedded stack: how long a first and a later start take, and what each part weighs when idle."""

import json
import shutil
import statistics
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Final

TIRAGE: Final = Path(sysconfig.get_path("scripts")) / "tirage"
ROUNDS: Final = 3
IDLE_S: Final = 10


def run() -> dict[str, Any]:
    """Seconds of starts (`tirage up --detach`, from empty and again, alternating), MB of PSS a part."""
    first, later, stops, weights = [], [], [], {}
    for _ in range(ROUNDS):
        folder = Path(tempfile.mkdtemp(prefix="tirage-bench-"))
        try:
            first.append(_timed("up", "--detach", "--data", str(folder)))
            stops.append(_timed("down", "--data", str(folder)))
            later.append(_timed("up", "--detach", "--data", str(folder)))
            time.sleep(IDLE_S)
            weights = _weights(folder)
        finally:
            _timed("down", "--data", str(folder))
            shutil.rmtree(folder)
    return {
        "first_start_s": _summary(first),
        "later_start_s": _summary(later),
        "stop_s": _summary(stops),
        "idle_pss_mb": weights,
        "idle_pss_mb_whole": round(sum(weights.values()), 1),
    }


def _timed(*args: str) -> float:
    begun = time.monotonic()
    subprocess.run([TIRAGE, *args], check=True, capture_output=True)
    return time.monotonic() - begun


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 1), "worst": round(max(seconds), 1)}


def _weights(folder: Path) -> dict[str, float]:
    """MB of PSS of each part with its descendants, the supervisor included."""
    state = json.loads((folder / "state.json").read_text())
    pids = {name: part["pid"] for name, part in state["parts"].items() if part["pid"]}
    parents = _parents()
    found = {name: round(sum(map(_pss, _family(pid, parents))) / 1000, 1) for name, pid in pids.items()}
    return {"supervisor": round(_pss(state["supervisor"]) / 1000, 1), **found}


def _parents() -> dict[int, int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return parents


def _family(pid: int, parents: dict[int, int]) -> list[int]:
    children = [child for child, parent in parents.items() if parent == pid]
    return [pid, *(member for child in children for member in _family(child, parents))]


def _pss(pid: int) -> int:
    """kB, 0 for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
