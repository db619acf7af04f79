"""Five hundred at once for one picture that nobody has made, over three origins: what waiting for one render costs.

Beside it the same five hundred once it is made, and one that asks alone for another picture of its kind. Then five
hundred for one more, and the origin that renders it is killed in the middle: who was cut off asks another. Everybody's
connection is open beforehand.
"""

import itertools
import os
import re
import statistics
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Final

from loadtests.bench.crowd import Crowd
from loadtests.bench.edge import _await, _free_port
from loadtests.bench.images import photos
from loadtests.bench.previews import Address, region, spent

ORIGINS: Final = 3
AT_ONCE: Final = 500
ROUNDS: Final = 7
SIDES: Final = (640, 1600)
SETTLED_S: Final = 0.3
_MADE: Final = re.compile(r'^tirage_origin_renders_total\{outcome="made"\} ([0-9.]+)$', re.MULTILINE)


class Origin:
    """One process, started again after a death; the children that render die with it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.server, self._metrics = ("127.0.0.1", _free_port()), _free_port()
        ports = {"TIRAGE_ORIGIN_PORT": str(self.server[1]), "TIRAGE_ORIGIN_METRICS_PORT": str(self._metrics)}
        self._env = {**os.environ, **env, **ports}
        self.start()

    def start(self) -> None:
        argv = [str(Path(sysconfig.get_path("scripts")) / "tirage"), "origin"]
        self._process = subprocess.Popen(argv, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _await(f"http://127.0.0.1:{self.server[1]}/healthz")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def settle(self) -> None:
        """Wait until no child of it is still starting: what that takes would pass for a render."""
        seen = -1.0
        while (used := used_ms(self.children())) != seen:
            seen = used
            time.sleep(SETTLED_S)

    def made(self) -> int:
        """Renditions, by its own counter."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics") as answer:
            found = _MADE.search(answer.read().decode())
        return int(float(found[1])) if found else 0

    def children(self) -> list[Path]:
        """Where /proc has the processes that render."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it ended meanwhile
                if status.read_text().rpartition(")")[2].split()[1] == str(self._process.pid):
                    found.append(status.parent)
        return found


def used_ms(processes: list[Path]) -> float:
    """Processor time of processes' threads, of those that run now."""
    told = 0
    for process in processes:
        for thread in process.glob("task/*/schedstat"):
            with suppress(OSError):
                told += int(thread.read_text().split()[0])
    return told / 1e6


class Killer:
    """Kills the origin that renders, once its children have used half of what the rendition takes."""

    def __init__(self, origins: list[Origin], render_ms: float) -> None:
        self._half_ms = render_ms / 2
        self._seen = [(origin, origin.children(), used_ms(origin.children())) for origin in origins]
        self.killed: Origin | None = None

    def look(self) -> None:
        """To be called every few milliseconds."""
        for origin, children, before in self._seen:
            if self.killed is None and used_ms(children) - before > self._half_ms:
                origin.kill()
                self.killed = origin


class Bench:
    """Three origins, and rounds of pictures of one size, each a pixel smaller than the one before."""

    def __init__(self, env: dict[str, str], path: Address) -> None:
        self._origins, self._path = [Origin(env) for _ in range(ORIGINS)], path
        self._warm = itertools.count(200)
        self.renders: dict[str, list[int]] = {"cold": [], "killed": []}
        self.cpu_ms = Counter[str]()

    def close(self) -> None:
        """End the origins."""
        for origin in self._origins:
            origin.kill()

    def round(self, sides: Iterator[int]) -> dict[str, float]:
        """Milliseconds."""
        for origin in self._origins:
            self._alone(origin, self._path(1, next(self._warm)))
            origin.settle()
        warm, fresh = self._path(0, next(sides)), self._path(0, next(sides))
        alone, render_ms = self._alone(self._origins[0], warm)
        with closing(Crowd([origin.server for origin in self._origins], AT_ONCE)) as crowd:
            crowd.ask(warm)
            cold = self._cold(crowd, fresh)
            hot = crowd.ask(fresh)
            killed = self._killing(crowd, sides, render_ms)
        asked = {"cold": cold, "hot": hot, "killed": killed}
        return {"alone": alone} | {f"{how}_p{at}": _at(took, at) for how, took in asked.items() for at in (50, 99)}

    def _alone(self, origin: Origin, path: str) -> tuple[float, float]:
        """How long one waits who asks alone, and the processor time of the origin's children."""
        children = origin.children()
        before = used_ms(children)
        with closing(Crowd([origin.server], 1)) as one:
            return one.ask(path)[0], used_ms(children) - before

    def _cold(self, crowd: Crowd, path: str) -> list[float]:
        made, before, own = self._made(), spent(), time.process_time()
        took = crowd.ask(path)
        self.cpu_ms += spent() - before + Counter(client=round(1000 * (time.process_time() - own)))
        self.renders["cold"].append(self._made() - made)
        return took

    def _made(self) -> int:
        return sum(origin.made() for origin in self._origins)

    def _killing(self, crowd: Crowd, sides: Iterator[int], render_ms: float) -> list[float]:
        """One origin dies, and is started again. A render that is over before its middle was seen does not count."""
        while True:
            for origin in self._origins:
                origin.settle()
            killer, before = Killer(self._origins, render_ms), {origin: origin.made() for origin in self._origins}
            took = crowd.ask(self._path(0, next(sides)), killer.look)
            if killer.killed is not None:
                made = (origin.made() - before[origin] for origin in self._origins if origin is not killer.killed)
                self.renders["killed"].append(sum(made))
                killer.killed.start()
                return took


def _at(took: list[float], percent: int) -> float:
    return took[len(took) * percent // 100]


def run() -> dict[str, Any]:
    """Milliseconds by size; `…_wait_to_hot` is (p99 - alone) / hot p99. Needs the real photos."""
    if not photos().exists():
        return {"skipped": f"needs photos in {photos()}"}
    with ExitStack() as stack:
        env, path = stack.enter_context(region(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        bench = stack.enter_context(closing(Bench(env, path)))
        sizes = {side: _measured(bench, side) for side in SIDES}
        return {"at_once": AT_ONCE, "origins": ORIGINS, "renders": bench.renders, **sizes}


def _measured(bench: Bench, side: int) -> dict[str, Any]:
    bench.cpu_ms.clear()
    sides = itertools.count(side, -1)
    rounds = [bench.round(sides) for _ in range(ROUNDS)]
    told: dict[str, Any] = {name: round(statistics.median(one[name] for one in rounds)) for name in rounds[0]}
    for how in ("cold", "killed"):
        waits = sorted(round((one[f"{how}_p99"] - one["alone"]) / one["hot_p99"], 2) for one in rounds)
        told[f"{how}_wait_to_hot"] = {"median": round(statistics.median(waits), 2), "all": waits}
    told["cold_cpu_ms"] = {program: round(ms / ROUNDS) for program, ms in bench.cpu_ms.items()}
    return {**told, "load_average": round(os.getloadavg()[0], 1)}
