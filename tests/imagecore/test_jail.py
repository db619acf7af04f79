"""The jail: what a child can see and do, and that no death of a child costs more than its job."""

import asyncio
import contextlib
import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from imagecore import jail as jail_module
from imagecore import jail_wire, landlock, seccomp, vips
from imagecore.errors import (
    ChildDied,
    DeadlineExceeded,
    ImageError,
    JailUnavailable,
    OutOfMemory,
    PixelFailure,
    Reason,
    Rejected,
)
from imagecore.facts import Verdict, parse_report
from imagecore.jail import CHILD_ENVIRONMENT, Jail, Limits
from imagecore.render import IngestParams

pytestmark = pytest.mark.xdist_group("jail")  # what the module makes is made once
TABLE = Path(__file__).with_name("misbehaviour.py")
HELD = Path(__file__).with_name("held.py")
DENIED = f"errno {errno.EPERM}"
READING = ("read a file", "list a folder", "the parent's environment", "the parent's memory")


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail.open(Limits(memory_mb=400, output_mb=8), preload=("echo",), table=TABLE) as opened:
        yield opened


def one(jail: Jail, operation: str, params: bytes = b"", *inputs: bytes, deadline_s: float = 20) -> Any:
    (output,) = jail.run(operation, params, inputs, deadline_s)
    return output.data


def report(jail: Jail) -> dict[str, Any]:
    return dict(msgspec.json.decode(one(jail, "report")))


def verdict(code: bytes, data: bytes) -> int:
    """What a filter answers to a call (`struct seccomp_data`), by the few classic BPF instructions that ours has."""
    steps, at, value = [struct.unpack_from("<HBBI", code, start) for start in range(0, len(code), 8)], 0, 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        if operation == seccomp._RETURN:
            return int(operand)
        if operation == seccomp._LOAD:
            (value,) = struct.unpack_from("<I", data, operand)
            continue
        holds = {
            seccomp._EQUAL: value == operand,
            seccomp._AT_LEAST: value >= operand,
            seccomp._ANY_BIT: bool(value & operand),
        }[operation]
        at += if_true if holds else if_false


class TestBars:
    def test_the_environment_holds_only_tuning(self, jail: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-children")
        with Jail.open(preload=("report",), table=TABLE) as fresh:
            assert set(report(fresh)["environment"]) == {f"{k}={v}" for k, v in CHILD_ENVIRONMENT.items()}

    def test_what_a_hostile_file_would_try_next(self, jail: Jail, tmp_path: Path) -> None:
        tmp_path.joinpath("old").write_text("still here")
        tried = msgspec.json.decode(one(jail, "attempts", str(tmp_path).encode()))
        reading = {name: tried.pop(name) for name in READING}
        assert landlock.version() == 0 or set(reading.values()) <= {f"errno {errno.EACCES}", DENIED}
        otherwise = {"write a file": errno.EACCES, "io_uring": errno.ENOSYS, "change a file's mode": errno.ENOSYS}
        assert tried == dict.fromkeys(tried, DENIED) | {name: f"errno {number}" for name, number in otherwise.items()}
        assert [p.name for p in tmp_path.iterdir()] == ["old"]
        assert tmp_path.joinpath("old").read_text() == "still here"

    def test_limits_stand(self, jail: Jail) -> None:
        facts = report(jail)
        assert facts["core"] == [0, 0]
        assert facts["seccomp"] == "2"
        assert facts["descriptors"] < 12

    def test_cpu_time_moves_with_each_job(self, jail: Jail) -> None:
        soft, hard = report(jail)["cpu"]
        assert 40 <= soft <= 60
        assert hard == -1

    def test_the_parent_keeps_its_own_freedom(self, jail: Jail) -> None:
        one(jail, "echo", b"", b"x")
        assert b"Seccomp:\t0" in Path("/proc/self/status").read_bytes()

    @pytest.mark.parametrize(("machine", "audit"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
    def test_the_filter_of_both_architectures(self, machine: str, audit: int) -> None:
        numbers = seccomp._MACHINES[machine]
        code = seccomp.program(machine, 4711)

        def answer(number: int, *arguments: int, architecture: int = audit) -> int:
            return verdict(
                code, struct.pack("<iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
            )

        denied, missing, allowed = (seccomp._ERRNO | errno.EPERM, seccomp._ERRNO | errno.ENOSYS, seccomp._ALLOW)
        assert {answer(number) for number in numbers.denied} == {denied}
        assert {answer(number) for number in (*numbers.missing, 443, 452, 463, 9_999)} == {missing}
        assert (answer(numbers.tgkill, 4711, 4712, 6), answer(numbers.tgkill, 4710, 4710, 9)) == (allowed, denied)
        assert (answer(numbers.clone, 0x00010000), answer(numbers.clone, 17)) == (allowed, denied)
        limits = [(7, 0), (0, 1 << 32), (0, 1), (9, 1)]
        assert [answer(numbers.prlimit, 0, *each) for each in limits] == [allowed, allowed, allowed, denied]
        for number, index in numbers.opens:
            outcomes = [answer(number, *[0] * index, flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_CREAT)]
            assert outcomes == [allowed, *[seccomp._ERRNO | errno.EACCES] * 2]
        assert answer(0x40000000 | 1) == denied
        assert answer(1, architecture=audit ^ 1) == seccomp._KILL
        assert answer({"x86_64": 0, "aarch64": 63}[machine]) == allowed  # read

    def test_no_filter_without_a_table(self) -> None:
        with pytest.raises(JailUnavailable):
            seccomp.program("s390x", 4711)

    def test_a_refused_filter_ends_with_its_own_status_and_no_jail(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The table's module is read before the filter is set, so it can break the filter as a kernel would."""
        broken = tmp_path / "broken.py"
        broken.write_text(
            "from imagecore import seccomp\nseccomp.platform.machine = lambda: 'unknown'\nOPERATIONS = {}\n"
        )
        with pytest.raises(JailUnavailable, match="no system call table"):
            Jail.open(preload=(), table=broken)
        assert jail_wire.UNAVAILABLE == 75

    def test_outputs_cannot_be_changed_after_they_were_made(self, jail: Jail) -> None:
        assert set(msgspec.json.decode(one(jail, "unseal")).values()) == {DENIED}


class TestWork:
    def test_bytes_go_through(self, jail: Jail) -> None:
        big = os.urandom(3_000_000)
        outputs = list(jail.run("echo", b"facts", [big, b"", memoryview(b"small")], 20))
        assert [o.data for o in outputs] == [big, b"", b"small"]
        assert {o.facts for o in outputs} == {b"facts"}

    def test_the_first_output_arrives_before_the_second_is_made(self, jail: Jail) -> None:
        job = jail.start("slow_second", b"3600", [], 60)
        try:
            first = job.next()
            assert first is not None
            assert first.data == b"1"
        finally:
            job.abandon()

    def test_a_rejection_comes_with_its_reason_and_the_child_stays(self) -> None:
        with Jail.open(Limits(memory_mb=400, output_mb=8), preload=("echo",), table=TABLE) as jail:
            before = report(jail)["pid"]
            with pytest.raises(Rejected) as caught:
                one(jail, "reject")
            assert (caught.value.reason, caught.value.detail) == (Reason.CORRUPT, "as asked")
            assert Path(f"/proc/{before}").exists()
            assert report(jail)["pid"]  # the same child's, or the warm spare's

    def test_echo_after_a_rejection(self, jail: Jail) -> None:
        with pytest.raises(Rejected):
            one(jail, "reject")
        assert report(jail)["pid"]  # the same child's, or the warm spare's

    def test_usage_is_told(self, jail: Jail) -> None:
        job = jail.start("echo", b"", [b"x"], 20)
        while job.next() is not None:
            pass
        assert job.usage is not None
        assert job.usage.peak_mb > 5

    def test_children_are_recycled(self) -> None:
        with Jail.open(Limits(jobs=2), preload=("report",), table=TABLE) as fresh:
            pids = [report(fresh)["pid"] for _ in range(6)]
        assert max(pids.count(pid) for pid in pids) == 2
        assert all(not Path(f"/proc/{pid}").exists() for pid in pids)


def small_pictures() -> list[bytes]:
    """A JPEG with a profile of its own, and a PNG: converted by Little CMS, and not."""
    across = vips.pyvips.Image.xyz(48, 32)
    image = across[0].bandjoin([across[1], across[0] + across[1]]).cast("uchar").copy(interpretation="srgb")
    wide = image.icc_transform("p3", embedded=False, input_profile="srgb")
    return [bytes(wide.write_to_buffer(".jpg")), bytes(image.write_to_buffer(".png"))]


def is_settled(told: list[Any], jobs: int) -> bool:
    """Whether the last three of one child, with as many threads, say that so many jobs each time have left nothing.

    The interpreter warms up for some hundreds of jobs, by half a small block each; a leak is a block a job at least.
    """
    last = told[-3:]
    if len({(each["pid"], each["threads"], each["used"]) for each in last}) > 1:
        return False
    return len(told) > 3 and last[-1]["blocks"] - last[0]["blocks"] < jobs


class TestMemory:
    def test_a_job_leaves_not_one_byte_behind(self) -> None:
        """Used heap by glibc's own count, once libvips has the threads it wants: each keeps some 4 kB."""
        pictures, ingest, told = small_pictures() * 5, msgspec.msgpack.encode(IngestParams()), list[Any]()
        with Jail.open(Limits(jobs=1 << 20), preload=("ingest",), table=HELD) as jail:
            while len(told) < 60 and not is_settled(told, len(pictures)):
                for picture in pictures:
                    deque(jail.run("ingest", ingest, [picture], 60), 0)
                told.append(msgspec.json.decode(one(jail, "held")))
        assert is_settled(told, len(pictures)), told

    def test_quick_jobs_ask_for_one_spare(self, tmp_path: Path) -> None:
        """A child takes longer to start than a job to end, and every job without a spare asks for one."""
        started, table = tmp_path / "started", tmp_path / "table.py"
        table.write_text(f"{TABLE.read_text()}\nwith open({str(started)!r}, 'a') as file:\n    file.write('x')\n")
        with Jail.open(preload=("echo",), table=table) as fresh:
            assert [one(fresh, "echo", b"", b"in") for _ in range(20)] == [b"in"] * 20
        assert started.read_text() == "xx"


class TestDeaths:
    @pytest.mark.parametrize(
        ("operation", "params", "kind"),
        [
            ("segfault", b"", ChildDied),
            ("abort", b"", ChildDied),
            ("leave", b"", ChildDied),
            ("allocate", b"4000000000", OutOfMemory),
            ("memory_error", b"", OutOfMemory),
            ("bad_alloc", b"", OutOfMemory),
            ("interrupt", b"", OutOfMemory),
            ("flood", b"9000000", PixelFailure),
        ],
    )
    def test_only_the_job_is_lost(self, jail: Jail, operation: str, params: bytes, kind: type[ImageError]) -> None:
        pid = report(jail)["pid"]
        with pytest.raises(kind):
            one(jail, operation, params)
        assert report(jail)["pid"] != pid
        assert not Path(f"/proc/{pid}").exists()

    def test_a_signal_is_named(self, jail: Jail) -> None:
        with pytest.raises(ChildDied) as caught:
            one(jail, "segfault")
        assert caught.value.signal == signal.SIGSEGV

    def test_garbage_may_be_collected_while_a_picture_warns(self, photos: Path) -> None:
        """A sound TIFF ended its child: closing the last job's damaged JPEG warned inside the TIFF's own warning."""
        damaged = bytearray((photos / "social-whatsapp.jpg").read_bytes())
        damaged[40_000::97] = b"\7" * len(damaged[40_000::97])
        sound = (photos / "tiff-multipage-fax.tif").read_bytes()
        with Jail.open(preload=("warned",), table=TABLE) as fresh:
            told = one(fresh, "warned", b"", bytes(damaged), sound)
        assert parse_report(told).verdict is Verdict.ACCEPT

    @pytest.mark.parametrize("operation", ["spin", "sleep"])
    def test_the_deadline_kills(self, jail: Jail, operation: str) -> None:
        with pytest.raises(DeadlineExceeded):
            one(jail, operation, deadline_s=0.3)
        assert one(jail, "echo", b"", b"next") == b"next"

    def test_cpu_time_ends_a_child_whose_parent_does_not_look(self, jail: Jail) -> None:
        job = jail.start("spin", b"", [], 0.5)
        job._deadline = time.monotonic() + 60
        with pytest.raises(DeadlineExceeded, match="CPU"):
            job.next()

    def test_kill_in_the_middle_and_the_next_job_is_fine(self, jail: Jail) -> None:
        for _ in range(3):
            job = jail.start("spin", b"", [], 60)
            threading.Timer(0.05, job.kill).start()
            with pytest.raises(ChildDied) as caught:
                job.next()
            assert caught.value.signal == signal.SIGKILL
            assert one(jail, "echo", b"", b"next") == b"next"

    def test_a_child_killed_while_idle_is_replaced(self, jail: Jail) -> None:
        for _ in range(3):
            os.kill(report(jail)["pid"], signal.SIGKILL)
            assert one(jail, "echo", b"", b"next") == b"next"

    def test_no_zombies_and_no_descriptors_stay(self, jail: Jail) -> None:
        def rounds() -> int:
            for _ in range(2):
                with contextlib.suppress(ImageError):
                    one(jail, "segfault")
                one(jail, "echo", b"", b"x")
            return len(os.listdir("/proc/self/fd"))

        rounds()
        before, after = rounds(), rounds()
        assert after - before < 2 * 2  # a warm spare may just be starting; what others left may just be collected
        # The kernel lists children by the thread that started them: the jail has one of its own for that.
        children = [c for task in Path("/proc/self/task").iterdir() for c in (task / "children").read_text().split()]
        states = [Path(f"/proc/{c}/stat").read_text().rpartition(")")[2].split()[0] for c in children]
        assert states
        assert "Z" not in states


PARENT = """
import sys, threading, pathlib, time
sys.path.insert(0, {root!r})
from imagecore.jail import Jail
def work():
    jail = Jail.open(preload=("report",), table=pathlib.Path({table!r}))
    import msgspec
    job = jail.start("report", b"", [], 20)
    pids.append(msgspec.json.decode(job.next().data)["pid"])
    job.next()
    jails.append(jail)
pids, jails = [], []
thread = threading.Thread(target=work); thread.start(); thread.join()
job = jails[0].start("spin", b"", [], 600)
print(pids[0], flush=True)
time.sleep(600)
"""


class TestLateStart:
    def test_a_child_that_is_late_is_no_jail_now_and_a_spare_later(
        self, jail: Jail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jail_module, "_START_S", 0.0)
        with pytest.raises(JailUnavailable, match=r"in time|at its deadline"):  # whichever of two clocks is read first
            jail._spawn()
        monkeypatch.undo()
        assert one(jail, "echo", b"", b"next") == b"next"


class TestParent:
    def test_children_outlive_the_thread_that_opened_the_jail_and_die_with_the_parent(self) -> None:
        root = str(Path(jail_module.__file__).parents[1])
        code = PARENT.format(root=root, table=str(TABLE))
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        try:
            child = int(parent.stdout.readline())
            assert Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] in "RS"
        finally:
            parent.kill()
            parent.wait()
            parent.stdout.close()
        for _ in range(200):
            if not Path(f"/proc/{child}").exists():
                return
            time.sleep(0.02)
        pytest.fail("the child lives on")


class TestAsync:
    async def test_outputs_come_one_by_one(self, jail: Jail) -> None:
        assert [o.data async for o in jail.arun("echo", b"", [b"1", b"2"], 20)] == [b"1", b"2"]

    async def test_cancelling_kills_at_once(self, jail: Jail) -> None:
        async def endless() -> None:
            async for _ in jail.arun("spin", b"", [], 600):
                pass

        task = asyncio.create_task(endless())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [o.data async for o in jail.arun("echo", b"", [b"next"], 20)] == [b"next"]

    async def test_leaving_early_through_aclosing(self, jail: Jail) -> None:
        async with contextlib.aclosing(jail.arun("slow_second", b"3600", [], 600)) as outputs:
            async for output in outputs:
                assert output.name == "first"
                break
        assert [o.data async for o in jail.arun("echo", b"", [b"next"], 20)] == [b"next"]

    async def test_many_at_once(self) -> None:
        with Jail.open(slots=3, preload=("echo",), table=TABLE) as wide:

            async def one_of(number: int) -> bytes:
                (data,) = [o.data async for o in wide.arun("echo", b"", [b"%d" % number], 60)]
                return data

            assert await asyncio.gather(*(one_of(n) for n in range(12))) == [b"%d" % n for n in range(12)]
