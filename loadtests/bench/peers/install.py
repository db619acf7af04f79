"""Peers for benchmarks only, each in a folder of its own under `.bench/`, never beside the product's packages."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(".bench")
NODE: Final = ("sharp@0.35.5", "ipx@3.1.1")
PYTHON: Final = ("thumbor==7.8.0", "Pillow==12.3.0", "pillow-heif==1.8.1")
HERE: Final = Path(__file__).parent

# One libvips thread a process, as our child has it.
TUNED: Final = {"VIPS_CONCURRENCY": "1", "MALLOC_ARENA_MAX": "2"}


def node_modules() -> Path | None:
    """The folder with sharp and ipx, installed by npm when it is not there; None on a machine without node."""
    if shutil.which("npm") is None:
        return None
    folder = (FOLDER / "node").resolve()
    if not (folder / "node_modules" / "sharp").exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath("package.json").write_text('{"private": true}')
        argv = ["npm", "install", "--no-audit", "--no-fund", "--silent", *NODE]
        subprocess.run(argv, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def python() -> Path:
    """The Python of an environment with thumbor, Pillow and a HEIC encoder."""
    folder = (FOLDER / "python").resolve()
    found = folder / "bin" / "python"
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([found, "-m", "pip", "install", "-q", *PYTHON], check=True)
        folder.joinpath("done").touch()
    return found


class Worker:
    """A warm process that does one job after another: a line of JSON in, a line of JSON with its cost out."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, **job: Any) -> dict[str, float]:
        """`wall_ms`, `cpu_ms`, `peak_mb` and `bytes` of one job. Raises what the process said when it failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        told: dict[str, float] = json.loads(line)
        return told


@contextmanager
def worker(kind: str) -> Iterator[Worker | None]:
    """The peer `bare`, `pillow` or `sharp`, warm for the block; None where it cannot be had."""
    if kind == "sharp":
        folder = node_modules()
        if folder is None:
            yield None
            return
        argv = ["node", str(HERE / "sharp_worker.cjs")]
        env = {**os.environ, **TUNED, "NODE_PATH": str(folder / "node_modules")}
    else:
        argv = [sys.executable if kind == "bare" else str(python()), str(HERE / f"{kind}_worker.py")]
        env = {**os.environ, **TUNED}
    process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.wait()
