"""Decode and render behind bars: a persistent child process that gets descriptors and gives descriptors.

The child has no network, no new processes, nothing of the parent's environment, limits on memory, time and output,
and dies with the parent. The parent (a pixel worker, an origin, the command line) fetches and stores. Start it with
`Jail.open()`: where the machine refuses the filter, `JailUnavailable` is raised and the caller must not run.

A process that has used libvips must never fork; children are started by `subprocess` (vfork and exec) from one thread
of the jail's own, since a child's death signal fires when the *thread* that started it ends.
"""

import asyncio
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, Final

import msgspec

from imagecore import jail_wire as wire
from imagecore.errors import (
    ChildDied,
    DeadlineExceeded,
    ImageError,
    JailUnavailable,
    OutOfBounds,
    OutOfMemory,
    PixelFailure,
    Reason,
    Rejected,
)
from imagecore.jail_wire import Limits, Output

__all__ = ["Jail", "Job", "Limits", "Output", "Usage"]

# The child's whole environment. glibc's arenas and BLAS threads would eat the address space; libvips must neither
# spread over cores (one child a core) nor spill to disk. glibc's cache a thread counts as used and fills up for
# thousands of jobs, to 0.2 MB in each of libvips' threads: without it a job leaves not one byte, and takes no longer.
# libvips' warnings about a file are wanted by nobody, and a file may cause any number.
CHILD_ENVIRONMENT: Final = {
    "VIPS_CONCURRENCY": "1",
    "VIPS_DISC_THRESHOLD": "64g",
    "VIPS_WARNING": "0",
    "MALLOC_ARENA_MAX": "2",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_PROGRAM: Final = Path(__file__).with_name("jail_child.py")
_START_S: Final = 30.0
_LEAVE_S: Final = 5.0
_MEMORY_WORDS: Final = ("failed to allocate", "bad_alloc", "memoryerror", "cannot allocate", "out of memory")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a job used: CPU milliseconds, and the child's resident peak so far in MiB."""

    cpu_ms: int
    peak_mb: int


class _Child:
    """One child process; used by one thread at a time, except `kill`."""

    def __init__(self, limits: Limits, preload: tuple[str, ...], table: Path | None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.limits = limits
        self.channel = ours
        self.jobs = 0
        self.errors = os.memfd_create("jail-stderr", os.MFD_CLOEXEC)
        argv = [sys.executable, "-I", "-B", str(_PROGRAM), str(theirs.fileno()), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                [*argv, str(table)] if table else argv,
                pass_fds=[theirs.fileno()],
                env=CHILD_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                cwd="/",
            )
        except BaseException:
            ours.close()
            os.close(self.errors)
            raise
        finally:
            theirs.close()
        ours.send(wire.ENCODER.encode(wire.Start(limits, preload)))

    def await_ready(self) -> None:
        """Wait for the child to be limited, filtered and warm. Raises `JailUnavailable`."""
        try:
            message, descriptors = self.receive(_START_S)
        except ImageError as error:
            text = self.last_words() or str(error)
            self.destroy()
            raise JailUnavailable(text) from None
        for descriptor in descriptors:
            os.close(descriptor)
        if not isinstance(message, wire.Ready):
            self.destroy()
            raise JailUnavailable("the child did not say it was ready")

    def receive(self, timeout: float) -> tuple[Any, list[int]]:
        """The child's next message. Raises `DeadlineExceeded`, or what its death means."""
        self.channel.settimeout(max(timeout, 0.0))
        try:
            message, descriptors, flags, _ = socket.recv_fds(self.channel, wire.MAX_MESSAGE, 1)
        except (TimeoutError, BlockingIOError):
            raise DeadlineExceeded("the child was stopped at its deadline") from None
        except ConnectionResetError:
            message, descriptors, flags = b"", [], 0
        if not message:
            raise self.death()
        try:
            if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
                raise PixelFailure("the child sent more than it may")
            return wire.TO_PARENT.decode(message), list(descriptors)
        except (msgspec.MsgspecError, PixelFailure) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            raise PixelFailure(f"the child broke the protocol: {error}") from None

    def death(self) -> ImageError:
        """What it means that the child closed its end."""
        try:
            status = self.process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status == -signal.SIGXCPU:
            return DeadlineExceeded("the child used up its CPU time")
        words = self.last_words()
        if status == -signal.SIGABRT and any(word in words.lower() for word in _MEMORY_WORDS):
            return OutOfMemory("the child aborted on a failed allocation")
        if status >= 0:
            return ChildDied(signal=None, status=status)
        # Why it aborted is said by a library; what else is there are warnings about the file.
        return ChildDied(signal=-status, status=None, words=words[-200:] if status == -signal.SIGABRT else "")

    def last_words(self) -> str:
        """The end of what the child wrote to its standard error."""
        size = os.fstat(self.errors).st_size
        return os.pread(self.errors, 2000, max(0, size - 2000)).decode(errors="replace").strip()

    def kill(self) -> None:
        """Stop it, from any thread; whoever waits on it hears of its death."""
        self.process.kill()

    def destroy(self) -> None:
        """Kill, reap, close."""
        self.process.kill()
        self.process.wait()
        self.close()

    def retire(self) -> None:
        """Let it leave by itself: it ends when its socket closes."""
        self.channel.close()
        try:
            self.process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        self.channel.close()
        if self.errors >= 0:
            os.close(self.errors)
            self.errors = -1


class Job:
    """One running job; `next()` blocks for the next output. Used by one thread at a time, except `kill`."""

    def __init__(self, jail: "Jail", child: _Child, deadline: float) -> None:
        self._jail = jail
        self._child: _Child | None = child
        self._process = child
        self._deadline = deadline
        self._turn = threading.RLock()
        self.usage: Usage | None = None

    def next(self) -> Output | None:
        """The next output, or None after the last one. Raises what went wrong; the job is then over."""
        with self._turn:
            return self._next()

    def _next(self) -> Output | None:
        child = self._child
        if child is None:
            return None
        try:
            message, descriptors = child.receive(self._deadline - time.monotonic())
            if isinstance(message, wire.Made):
                return self._take(child, message, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(message, wire.Failed):
                raise self._failure(message)
            if not isinstance(message, wire.Done):
                raise PixelFailure("the child broke the protocol")
        except BaseException:
            self.abandon()
            raise
        self.usage = Usage(cpu_ms=message.cpu_ms, peak_mb=message.peak_mb)
        self._child = None
        self._jail._give_back(child)
        return None

    def _take(self, child: _Child, message: wire.Made, descriptors: list[int]) -> Output:
        if not descriptors:
            raise PixelFailure("an output without bytes")
        try:
            data = wire.contents(descriptors[0], child.limits.output_mb << 20)
        except (ValueError, OSError) as error:
            raise PixelFailure(str(error)) from None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return Output(name=message.name, data=data, facts=message.facts)

    def _failure(self, message: wire.Failed) -> ImageError:
        child = self._child
        if message.fit and child is not None:
            self._child = None
            self._jail._give_back(child)
        if message.code == Rejected.code and message.reason in set(Reason):
            return Rejected(Reason(message.reason), message.detail.partition(": ")[2])
        for kind in (OutOfMemory, OutOfBounds, DeadlineExceeded):
            if message.code == kind.code:
                return kind(message.detail)
        return PixelFailure(message.detail)

    def kill(self) -> None:
        """Stop the child, from any thread; a blocked `next()` then raises `ChildDied`."""
        self._process.kill()

    def kill_if_running(self) -> None:
        """For a caller that leaves early: stop the child; its thread, if one is blocked on it, does the rest."""
        child = self._child
        if child is not None:
            child.kill()
            self._jail._bury(self)

    def abandon(self) -> None:
        """Give up: the child, in an unknown state, is killed and reaped. Nothing happens to a job that is over."""
        with self._turn:
            child, self._child = self._child, None
            if child is not None:
                child.destroy()
                self._jail._replace()


class Jail:
    """A few warm children and the thread that starts them.

    `slots` jobs are meant to run at once (more work, but each waits for a child to start); one warm child beside them
    takes over when one is killed. `preload` names operations to import before the first job. Make it with `open`.
    """

    def __init__(self, limits: Limits, *, slots: int, preload: tuple[str, ...], table: Path | None) -> None:
        self._limits = limits
        self._preload = preload
        self._table = table
        self._keep = slots + 1
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._closed = self._spare_is_coming = False
        self._wanted: queue.SimpleQueue[Future[_Child] | None] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="jail-job")
        self._warden = threading.Thread(target=self._keep_watch, name="jail-warden", daemon=True)

    @classmethod
    def open(
        cls,
        limits: Limits | None = None,
        *,
        slots: int = 1,
        preload: Sequence[str] = ("inspect", "ingest", "render"),
        table: Path | None = None,
    ) -> "Jail":
        """A jail with its first child running. Raises `JailUnavailable` where it cannot be held as it must."""
        jail = cls(limits or Limits(), slots=slots, preload=tuple(preload), table=table)
        jail._warden.start()
        try:
            jail._put_idle(jail._spawn())
        except BaseException:
            jail.close()
            raise
        jail._replace()
        return jail

    def __enter__(self) -> "Jail":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, operation: str, params: bytes, inputs: Sequence[bytes | memoryview], deadline_s: float) -> Job:
        """Begin a job on a child; `deadline_s` seconds from now it is killed. Raises `JailUnavailable`, `ChildDied`."""
        deadline = time.monotonic() + deadline_s
        # Two decode threads of one job may burn CPU at once; the clock above is the real limit.
        request = wire.ENCODER.encode(wire.Request(operation, params, max(1, int(deadline_s * 2))))
        if len(inputs) > wire.MAX_INPUTS or len(request) > wire.MAX_MESSAGE:
            raise OutOfBounds("too many inputs or parameters")
        descriptors: list[int] = []
        try:
            descriptors.extend(wire.sealed("input", data) for data in inputs)
            child = self._deliver(self._take_idle(), request, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return Job(self, child, deadline)

    def run(
        self, operation: str, params: bytes, inputs: Sequence[bytes | memoryview], deadline_s: float
    ) -> Iterator[Output]:
        """The job's outputs one after another, blocking; leaving early kills the child.

        Raises `Rejected`, `DeadlineExceeded`, `OutOfMemory`, `ChildDied`, `OutOfBounds`, `PixelFailure`.
        """
        job = self.start(operation, params, inputs, deadline_s)
        try:
            while (output := job.next()) is not None:
                yield output
        finally:
            job.abandon()

    async def arun(
        self, operation: str, params: bytes, inputs: Sequence[bytes | memoryview], deadline_s: float
    ) -> AsyncGenerator[Output, None]:
        """`run` for an event loop. Cancelling kills the child at once; leave early only through `aclosing`."""
        loop = asyncio.get_running_loop()
        job: Job | None = None
        begin = loop.run_in_executor(self._threads, self.start, operation, params, inputs, deadline_s)
        try:
            job = await asyncio.shield(begin)
            while (output := await loop.run_in_executor(self._threads, job.next)) is not None:
                yield output
        finally:
            if job is not None:
                job.kill_if_running()
            else:
                begin.add_done_callback(_abandon_late)

    def close(self) -> None:
        """End all children and the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
        self._threads.shutdown(wait=False)
        for child in idle:
            child.destroy()
        self._wanted.put(None)
        if self._warden.is_alive():
            self._warden.join()

    def _bury(self, job: Job) -> None:
        """Reap a killed job's child on a thread where waiting is allowed."""
        with contextlib.suppress(RuntimeError):
            self._threads.submit(job.abandon)

    # --- children ---------------------------------------------------------------------------------------------------

    def _keep_watch(self) -> None:
        """The one thread that starts children, for as long as any of them may live."""
        while (wanted := self._wanted.get()) is not None:
            try:
                child = _Child(self._limits, self._preload, self._table)
                child.await_ready()
            except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                wanted.set_exception(error)
            else:
                wanted.set_result(child)

    def _spawn(self) -> _Child:
        wanted: Future[_Child] = Future()
        self._wanted.put(wanted)
        try:
            return wanted.result(_START_S * 2)
        except FutureTimeout:
            wanted.add_done_callback(self._arrived)  # it may come yet: for the next job
            raise JailUnavailable("no child was ready in time") from None

    def _replace(self) -> None:
        """Ask for a warm spare without waiting for it."""
        with self._lock:
            if self._closed or self._idle or self._spare_is_coming:
                return
            self._spare_is_coming = True
        wanted: Future[_Child] = Future()
        wanted.add_done_callback(self._spare_came)
        self._wanted.put(wanted)

    def _spare_came(self, wanted: "Future[_Child]") -> None:
        with self._lock:
            self._spare_is_coming = False
        self._arrived(wanted)

    def _arrived(self, wanted: "Future[_Child]") -> None:
        if wanted.exception() is None:
            self._put_idle(wanted.result())

    def _put_idle(self, child: _Child) -> None:
        with self._lock:
            keep = not self._closed and len(self._idle) < self._keep
            if keep:
                self._idle.append(child)
        if not keep:
            child.retire()

    def _take_idle(self) -> _Child:
        with self._lock:
            if self._closed:
                raise JailUnavailable("closed")
            child = self._idle.pop() if self._idle else None
        if child is None:
            child = self._spawn()
        self._replace()
        return child

    def _deliver(self, child: _Child, request: bytes, descriptors: list[int]) -> _Child:
        """Hand the request over; a child that died while idle is replaced once. Raises what its death means."""
        for last in (False, True):
            try:
                child.channel.settimeout(_LEAVE_S)
                socket.send_fds(child.channel, [request], descriptors)
                message, _ = child.receive(_LEAVE_S)
            except (OSError, ImageError) as error:
                child.destroy()
                if last:
                    raise JailUnavailable(f"two children did not take a job: {error}") from None
                child = self._spawn()
            else:
                break
        if not isinstance(message, wire.Taken):
            child.destroy()
            raise PixelFailure("the child broke the protocol")
        child.jobs += 1
        return child

    def _give_back(self, child: _Child) -> None:
        if child.jobs >= self._limits.jobs:
            child.retire()
            self._replace()
        else:
            self._put_idle(child)


def _abandon_late(started: "asyncio.Future[Job]") -> None:
    """A job whose caller was cancelled while it started."""
    if not started.cancelled() and started.exception() is None:
        started.result().kill_if_running()
