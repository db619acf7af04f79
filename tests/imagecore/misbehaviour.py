"""Operations that behave as badly as a broken decoder could; run by the jail's own tests, inside a child."""

import contextlib
import ctypes
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

from imagecore.errors import PixelFailure, Reason, Rejected
from imagecore.jail_wire import Output

OPERATIONS = {
    name: f"jail_table:{name}"
    for name in (
        "echo", "slow_second", "spin", "sleep", "allocate", "memory_error", "abort", "bad_alloc", "segfault",
        "interrupt", "leave", "reject", "attempts", "report", "flood", "unseal", "warned",
    )
}  # fmt: skip


def echo(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    for index, data in enumerate(inputs):
        yield Output(name=str(index), data=data, facts=params)


def slow_second(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    yield Output(name="first", data=b"1")
    time.sleep(float(params))
    yield Output(name="second", data=b"2")


def spin(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    while True:
        pass
    yield Output(name="", data=b"")


def sleep(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    time.sleep(3600)
    yield Output(name="", data=b"")


def allocate(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    yield Output(name="size", data=str(len(bytearray(int(params)))).encode())


def memory_error(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    raise MemoryError
    yield


def abort(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    os.abort()
    yield


def bad_alloc(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()
    yield


def segfault(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    ctypes.string_at(0)
    yield Output(name="", data=b"")


def interrupt(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    raise KeyboardInterrupt
    yield


def leave(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    os._exit(7)
    yield


def reject(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    raise Rejected(Reason.CORRUPT, "as asked")
    yield


def _attempt(action: object) -> str:
    try:
        action()  # type: ignore[operator]
    except OSError as error:
        return f"errno {error.errno}"
    except ValueError:  # what setrlimit makes of EPERM
        return "errno 1"
    return "done"


def _raw(number: int, *arguments: object) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, *arguments)
    return f"errno {ctypes.get_errno()}" if result == -1 else "done"


def _on_the_parent() -> dict[str, str]:
    """What would reach the parent, or stay behind."""
    parent, is_x86 = os.getppid(), os.uname().machine == "x86_64"
    told = (ctypes.c_int * 32)(0, 0, -1)  # siginfo_t with the code of sigqueue(3)
    where = ctypes.byref(told)
    return {
        "a thread's signal": _raw(234 if is_x86 else 131, parent, parent, 0),
        "a queued signal": _raw(129 if is_x86 else 138, parent, 0, where),
        "a thread's queued signal": _raw(297 if is_x86 else 240, parent, parent, 0, where),
        "priority": _attempt(lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent))),
        "affinity": _attempt(lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent))),
        "scheduling": _attempt(lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0))),
        "shared memory": _raw(29 if is_x86 else 194, 0, 4096, 0o600),
        "semaphores": _raw(64 if is_x86 else 190, 0, 1, 0o600),
        "a message queue": _raw(68 if is_x86 else 186, 0, 0o600),
    }


def attempts(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """Everything a hostile file would try next; `params` is a folder it could write to outside the jail."""
    folder = params.decode()
    tried = _on_the_parent() | {
        "socket": _attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
        "unix socket": _attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)),
        "socketpair": _attempt(socket.socketpair),
        "fork": _attempt(os.fork),
        "exec": _attempt(lambda: os.execv(sys.executable, [sys.executable, "-V"])),
        "kill": _attempt(lambda: os.kill(os.getppid(), 0)),
        "read a file": _attempt(lambda: os.open(f"{folder}/old", os.O_RDONLY)),
        "list a folder": _attempt(lambda: os.listdir(folder)),
        "the parent's environment": _attempt(lambda: os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY)),
        "the parent's memory": _attempt(lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)),
        "write a file": _attempt(lambda: os.open(f"{folder}/new", os.O_WRONLY | os.O_CREAT)),
        "truncate a file": _attempt(lambda: os.truncate(f"{folder}/old", 0)),
        "remove a file": _attempt(lambda: os.unlink(f"{folder}/old")),
        "rename a file": _attempt(lambda: os.rename(f"{folder}/old", f"{folder}/older")),
        "change a file's mode": _raw(452, -100, ctypes.c_char_p(f"{folder}/old".encode()), 0o777, 0),
        "change a file's times": _attempt(lambda: os.utime(f"{folder}/old", (1, 1))),
        "mkdir": _attempt(lambda: os.mkdir(f"{folder}/made")),
        "more memory": _attempt(lambda: _lift("RLIMIT_AS", 1 << 40)),
        "more files": _attempt(lambda: _lift("RLIMIT_NOFILE", 10_000)),
        "a lower limit": _attempt(lambda: _lift("RLIMIT_NOFILE", 10)),
        "ptrace": _raw(101 if os.uname().machine == "x86_64" else 117, 16, os.getppid(), 0, 0),
        "io_uring": _raw(425, 1, 0),
        "bpf": _raw(321 if os.uname().machine == "x86_64" else 280, 0, 0, 0),
    }
    yield Output(name="attempts", data=msgspec.json.encode(tried))


def _lift(name: str, value: int) -> None:
    import resource

    resource.setrlimit(getattr(resource, name), (value, value))


def report(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    import resource
    from pathlib import Path

    facts = {
        "pid": os.getpid(),
        "environment": Path("/proc/self/environ").read_bytes().decode().rstrip("\0").split("\0"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU),
        "seccomp": next(
            line.split()[1]
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("Seccomp:")
        ),
    }
    yield Output(name="report", data=msgspec.json.encode(facts))


def flood(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    yield Output(name="flood", data=bytes(int(params)))


def unseal(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    import fcntl

    from imagecore import jail_wire

    descriptor = jail_wire.sealed("mine", b"12345")
    outcomes = {
        "write": _attempt(lambda: os.pwrite(descriptor, b"x", 0)),
        "grow": _attempt(lambda: os.ftruncate(descriptor, 10)),
        "seal": _attempt(lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)),
    }
    yield Output(name="unseal", data=msgspec.json.encode(outcomes))


def warned(params: bytes, inputs: Sequence[bytes]) -> Iterator[Output]:
    """A damaged JPEG that only the collector will close, then a picture with warnings, at which it may come by."""
    import gc
    import logging

    from imagecore import inspect, vips

    gc.disable()
    damaged = vips.open_jpeg(inputs[0], fail_on="none", shrink=1)
    with contextlib.suppress(PixelFailure):
        vips.in_memory(damaged)
    circle: list[object] = [damaged]
    circle.append(circle)
    del damaged, circle
    logging.getLogger("pyvips").addFilter(lambda _: gc.collect() >= 0)
    yield from inspect.operation(msgspec.msgpack.encode(inspect.Params()), inputs[1:])
