"""The decode child: `python -I jail_child.py SOCKET PARENT_PID [TABLE]`. Only `imagecore.jail` starts it.

Order matters. First the process is bound to its parent, limited and filtered, with nothing imported but the standard
library; only then come the pixel libraries; only then files of customers. Whatever goes wrong in a job ends as one
message or as this process's end, never as silence.
"""

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, Final

# What a child can do, by name: module and function, imported when first asked for (or told to make ready).
OPERATIONS: Final[dict[str, str]] = {
    "inspect": "imagecore.inspect:operation",
    "ingest": "imagecore.render:ingest",
    "ladder": "imagecore.render:from_ancestor",
    "render": "imagecore.render:operation",
    "analyse": "imagecore.analyse:operation",
    "master": "imagecore.masters:operation",
    "verify": "imagecore.verify:operation",
    "render_file": "imagecore.render:file_operation",
}

_PR_SET_PDEATHSIG: Final = 1


def bind_to_parent(parent: int) -> None:
    """Die with the thread that started us; end at once if it is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def restrict(memory_mb: int, output_mb: int, files: int) -> None:
    """Resource limits for life; CPU time comes with each job."""
    memory = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (output_mb << 20, output_mb << 20))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    # If the machine runs out of memory, this process is the one to lose.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> int:
    """Resident peak of this program in MiB. Not `ru_maxrss`: across exec that keeps the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))


def table_of(argument: str | None) -> dict[str, str]:
    """The operations: ours, or those of a Python file (for tests of the jail itself)."""
    if argument is None:
        return OPERATIONS
    loader = SourceFileLoader("jail_table", argument)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules["jail_table"] = module
    loader.exec_module(module)
    table: dict[str, str] = module.OPERATIONS
    return table


class Server:
    """Takes jobs off the socket one by one."""

    def __init__(self, channel: socket.socket, table: dict[str, str]) -> None:
        self.channel = channel
        self.table = table
        self.known: dict[str, Any] = {}

    def operation(self, name: str) -> Any:
        """What does it, looked up once: each fresh string by which an attribute is got may stay in CPython's cache of
        methods, 4,096 of them.
        """
        if name not in self.known:
            module, _, attribute = self.table[name].partition(":")
            self.known[name] = getattr(importlib.import_module(module), attribute)
        return self.known[name]

    def receive(self) -> tuple[Any, list[int]]:
        """The next message and its descriptors; ends the process when the parent has gone."""
        from imagecore import jail_wire as wire

        message, descriptors, flags, _ = socket.recv_fds(self.channel, wire.MAX_MESSAGE, wire.MAX_INPUTS)
        if not message or flags & socket.MSG_CTRUNC:
            os._exit(0)
        return wire.TO_CHILD.decode(message), list(descriptors)

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        from imagecore import jail_wire as wire

        payload = wire.ENCODER.encode(message)
        if descriptors:
            socket.send_fds(self.channel, [payload], list(descriptors))
        else:
            self.channel.send(payload)

    def serve(self) -> None:
        """Jobs until the parent closes the socket, or until one left this process unfit."""
        from imagecore import jail_wire as wire

        while True:
            request, descriptors = self.receive()
            self.send(wire.Taken())
            budget = int(cpu_seconds()) + 1 + request.cpu_s
            resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.RLIM_INFINITY))
            before = cpu_seconds()
            failure = self.attempt(request, descriptors)
            if failure is not None:
                self.send(failure)
                if not failure.fit:
                    os._exit(0)
                continue
            self.send(wire.Done(cpu_ms=int((cpu_seconds() - before) * 1000), peak_mb=peak_mb()))

    def attempt(self, request: Any, descriptors: list[int]) -> Any:
        """Run one job and send its outputs; a `Failed` instead of an exception, whatever it is."""
        from imagecore import errors
        from imagecore import jail_wire as wire

        try:
            self.run(request, descriptors)
        except errors.OutOfMemory as error:
            return wire.Failed(code=error.code, reason="", detail=str(error)[:500], fit=False)
        except errors.ImageError as error:
            reason = str(getattr(error, "reason", ""))
            return wire.Failed(code=error.code, reason=reason, detail=str(error)[:500], fit=True)
        except (MemoryError, KeyboardInterrupt) as error:
            # OpenBLAS answers a failed allocation with SIGINT.
            detail = type(error).__name__
            return wire.Failed(code=errors.OutOfMemory.code, reason="", detail=detail, fit=False)
        except BaseException as error:  # noqa: BLE001 - the parent must hear of everything
            detail = f"{type(error).__name__}: {error}"[:500]
            return wire.Failed(code=errors.PixelFailure.code, reason="", detail=detail, fit=False)
        return None

    def run(self, request: Any, descriptors: list[int]) -> None:
        from imagecore import jail_wire as wire

        try:
            inputs = [wire.contents(descriptor, sys.maxsize) for descriptor in descriptors]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        outputs: Iterator[wire.Output] = self.operation(request.operation)(request.params, inputs)
        for output in outputs:
            descriptor = wire.sealed("output", output.data)
            try:
                self.send(wire.Made(name=output.name, facts=output.facts), (descriptor,))
            finally:
                os.close(descriptor)


def main() -> None:
    """Bind, limit, filter, import, serve."""
    bind_to_parent(int(sys.argv[2]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from imagecore import landlock, seccomp
    from imagecore.errors import JailUnavailable

    channel = socket.socket(fileno=int(sys.argv[1]))
    server = Server(channel, table_of(sys.argv[3] if len(sys.argv) > 3 else None))
    from imagecore import jail_wire as wire

    start, _ = server.receive()
    try:
        restrict(start.limits.memory_mb, start.limits.output_mb, start.limits.files)
        os.nice(start.limits.nice)
        landlock.install()
        seccomp.install()
    except (JailUnavailable, OSError, ValueError) as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the parent reads it
        os._exit(wire.UNAVAILABLE)
    for name in start.preload:
        server.operation(name)
    server.send(wire.Ready())
    server.serve()


if __name__ == "__main__":
    main()
