"""`make load`: a stack of its own, people with holiday albums, misbehaving neighbours, then the proof.

Fails when locust counted a failure or the audit found anything.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import httpx

from devstack import state as states

SCRIPTS: Final = Path(sysconfig.get_path("scripts"))
RESULTS: Final = Path("bench-results")
CLUMSY_STRIPE: Final = {
    "faults": [
        {"on": "POST /v1/payment_intents", "what": "lost", "per_mille": 100},
        {"on": "POST /v1/payment_intents", "what": "error_after", "per_mille": 50},
    ],
    "webhooks": {"duplicate": 300, "drop": 100, "shuffle": True, "jitter_s": 2},
}
"""Stripe loses one answer in ten, delivers three webhooks in ten twice, one in ten never, and all in any order."""
CAREFUL_STRIPE: Final = {"faults": [], "webhooks": {"duplicate": 0, "drop": 0, "shuffle": False, "jitter_s": 0}}
CLUMSY_PRINTER: Final = {
    "callbacks": "duplicate",
    "faults": [
        {"on": "create", "kind": "error_after", "times": 3},
        {"on": "create", "kind": "timeout_after", "times": 3},
        {"on": "get", "kind": "rate_limit", "times": 5},
    ],
}
DRAIN_S: Final = 600
STOP_S: Final = 300
"""How long people may finish what they are at when the time is over."""


def main() -> int:
    """0 when nothing failed and the audit passed."""
    given = _arguments()
    folder: Path = given.data
    subprocess.run([SCRIPTS / "tirage", "reset", "--yes", "--data", folder], check=True)
    devices = str(max(20, given.users))
    env = {**os.environ, "TIRAGE_API_DEVICES_BURST": devices, "TIRAGE_API_DEVICES_PER_MINUTE": devices}
    subprocess.run([SCRIPTS / "tirage", "up", "--detach", "--data", folder], env=env, check=True)
    try:
        return _loaded(folder, given.users, given.minutes, given.seed)
    finally:
        subprocess.run([SCRIPTS / "tirage", "down", "--data", folder], check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make load")
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--minutes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path(".tirage-load"))
    return parser.parse_args()


def _loaded(folder: Path, users: int, minutes: int, seed: int) -> int:
    state = states.read_living(folder)
    assert state is not None
    address = {name: part["address"] for name, part in state["parts"].items()}
    _turn(address, CLUMSY_STRIPE, CLUMSY_PRINTER)
    failed = _people(folder, address, users, minutes, seed)
    _turn(address, CAREFUL_STRIPE, {"callbacks": "normal", "faults": []})
    audit = _audited(folder)
    figures = {"users": users, "minutes": minutes, "seed": seed, "steps": _steps(folder), "audit": audit}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "load.json").write_text(json.dumps(figures, indent=1))
    for name, step in figures["steps"].items():
        times = f"p50 {step['p50_ms']:6}  p99 {step['p99_ms']:6} ms"
        print(f"{name:32} {step['count']:6} x  {step['failures']:4} failed  {times}")
    for finding in audit["findings"]:
        print(f"  {finding['check']}: {finding['subject']}: {finding['detail']}")
    print(f"audit: {audit['checks']}")
    print(f"looked at {audit['counted']}: {'nothing is wrong' if audit['passed'] else 'SOMETHING IS WRONG'}")
    return 1 if failed or not audit["passed"] else 0


def _turn(address: dict[str, str], stripe: dict[str, Any], printer: dict[str, Any]) -> None:
    for name, knobs in (("stripe", stripe), ("prodigi", printer)):
        httpx.post(f"{address[name]}/_sim/knobs", json=knobs, timeout=20).raise_for_status()


def _people(folder: Path, address: dict[str, str], users: int, minutes: int, seed: int) -> bool:
    """Run locust; whether it counted failures."""
    photos = Path(os.environ.get("TIRAGE_PHOTOS", "../shared/photos")).resolve()
    told = {"LOAD_STRIPE": address["stripe"], "LOAD_LEDGER": str(folder.resolve() / "ledger.jsonl")}
    env = {**os.environ, **told, "LOAD_SEED": str(seed), "LOAD_PHOTOS": str(photos)}
    command = [SCRIPTS / "locust", "-f", "loadtests/album.py", "--headless", "--host", address["api"]]
    command += ["-u", str(users), "-r", str(max(1, users // 10)), "-t", f"{minutes}m", "--stop-timeout", str(STOP_S)]
    command += ["--csv", str(folder / "load"), "--only-summary", "--exit-code-on-error", "3"]
    return subprocess.run(command, env=env, check=False).returncode != 0


def _audited(folder: Path) -> dict[str, Any]:
    command = [SCRIPTS / "tirage", "audit", "--json", "--grace-s", "0", "--drain-s", str(DRAIN_S), "--data", folder]
    ledger = ["--ledger", folder / "ledger.jsonl"]
    run = subprocess.run([*command, *ledger], stdout=subprocess.PIPE, check=False)
    told: dict[str, Any] = json.loads(run.stdout)
    return told


def _steps(folder: Path) -> dict[str, dict[str, int]]:
    with (folder / "load_stats.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["Name"] != "Aggregated"]
    return {
        row["Name"]: {
            "count": int(row["Request Count"]),
            "failures": int(row["Failure Count"]),
            "p50_ms": round(float(row["50%"] or 0)),
            "p99_ms": round(float(row["99%"] or 0)),
        }
        for row in rows
    }


if __name__ == "__main__":
    sys.exit(main())
