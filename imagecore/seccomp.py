"""A system call filter for the decode child: no network, no new processes, no writing to the file system, no signals to
others, nothing that outlives it.

Written as classic BPF by hand (seccomp(2), Linux `filter.h`), set through prctl, so that it needs no library and can
stand before any import of weight. Reading files stays possible, profiles and Python's own modules are files; which
ones, `landlock` decides.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import Final

import msgspec

from imagecore.errors import JailUnavailable

_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_MODE_FILTER: Final = 2

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_KILL: Final = 0x80000000

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_NUMBER: Final = 0  # offsets in struct seccomp_data; arguments are 64 bit, little endian
_ARCHITECTURE: Final = 4
_ARGUMENT: Final = tuple(16 + 8 * i for i in range(6))
_CLONE_THREAD: Final = 0x00010000
_X32: Final = 0x40000000
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One architecture's audit number and system call numbers."""

    audit: int
    denied: tuple[int, ...]
    missing: tuple[int, ...]
    clone: int
    tgkill: int
    prlimit: int
    opens: tuple[tuple[int, int], ...]  # call, index of its flags argument


# Same numbers everywhere: io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_*, clone3,
# openat2, process_madvise, mount_setattr.
_NEW_DENIED: Final = (424, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442)
_NEW_MISSING: Final = (425, 426, 427, 435, 437)
_UNKNOWN: Final = 443
"""From here on (fchmodat2, setxattrat, what kernels will yet learn) no call exists; libraries know older ones."""

_MACHINES: Final = {
    "x86_64": _Machine(
        audit=0xC000003E,
        denied=(
            41, 42, 43, 49, 50, 53, 288,  # socket connect accept bind listen socketpair accept4
            57, 58, 59, 322, 62, 200,  # fork vfork execve execveat kill tkill
            101, 310, 311, 312,  # ptrace process_vm_readv process_vm_writev kcmp
            76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133,  # truncate rename … mknod
            258, 259, 260, 263, 264, 265, 266, 268, 316,  # mkdirat … renameat2
            188, 189, 190, 197, 198, 199,  # setxattr removexattr families
            155, 161, 165, 166, 167, 168, 169, 179, 272, 308,  # pivot_root chroot mount … unshare setns
            175, 176, 246, 313, 320,  # modules, kexec
            248, 249, 250, 298, 304, 321, 323, 206, 209,  # keys perf handles bpf userfaultfd aio
            129, 297,  # rt_sigqueueinfo rt_tgsigqueueinfo
            141, 142, 144, 203, 314, 251, 256, 279,  # setpriority sched_set… ioprio_set migrate_pages move_pages
            29, 30, 31, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241,  # shm… sem… msg… mq_open mq_unlink
            132, 235, 261, 280,  # utime utimes futimesat utimensat
            160,  # setrlimit
            *_NEW_DENIED,
        ),
        missing=_NEW_MISSING,
        clone=56,
        tgkill=234,
        prlimit=302,
        opens=((2, 1), (257, 2)),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        denied=(
            198, 199, 200, 201, 202, 203, 242,
            221, 281, 129, 130,
            117, 270, 271, 272,
            45, 33, 34, 35, 36, 37, 38, 276, 52, 53, 54, 55,
            5, 6, 7, 14, 15, 16,
            39, 40, 41, 51, 60, 97, 142, 224, 225, 268,
            104, 105, 106, 273, 294,
            217, 218, 219, 241, 265, 280, 282, 0, 2, 164,
            138, 240,
            140, 118, 119, 122, 274, 30, 238, 239,
            194, 195, 196, 190, 191, 192, 193, 186, 187, 188, 189, 180, 181,
            88,
            *_NEW_DENIED,
        ),
        missing=_NEW_MISSING,
        clone=220,
        tgkill=131,
        prlimit=261,
        opens=((56, 2),),
    ),
}  # fmt: skip


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)


def _refuse(number: int, error: int) -> bytes:
    """Refuse one call with an error number."""
    return _step(_EQUAL, number, 0, 1) + _step(_RETURN, _ERRNO | error)


def _prlimit(number: int) -> tuple[bytes, ...]:
    """Limits may be read, and CPU time (resource 0, moved with each job) be set; root could lift all others."""
    allowed, refused = _step(_RETURN, _ALLOW), _step(_RETURN, _ERRNO | errno.EPERM)
    return (
        _step(_EQUAL, number, 0, 7),
        _step(_LOAD, _ARGUMENT[1]),
        _step(_EQUAL, 0, 5, 0),
        _step(_LOAD, _ARGUMENT[2]),
        _step(_EQUAL, 0, 0, 2),
        _step(_LOAD, _ARGUMENT[2] + 4),
        _step(_EQUAL, 0, 1, 0),
        refused,
        allowed,
    )


def program(machine: str, process: int) -> bytes:
    """The filter of a process on `platform.machine()`; raises `JailUnavailable` for an architecture without a table."""
    table = _MACHINES.get(machine)
    if table is None:
        raise JailUnavailable(f"no system call table for {machine}")
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, table.audit, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_AT_LEAST, _UNKNOWN, 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
        *(_refuse(number, errno.EPERM) for number in table.denied),
        *(_refuse(number, errno.ENOSYS) for number in table.missing),
    ]
    # Arguments replace the number in the accumulator, so these come last; each block ends in a verdict.
    for number, index in table.opens:
        steps += [
            _step(_EQUAL, number, 0, 4),
            _step(_LOAD, _ARGUMENT[index]),
            _step(_ANY_BIT, _WRITING, 0, 1),
            _step(_RETURN, _ERRNO | errno.EACCES),
            _step(_RETURN, _ALLOW),
        ]
    steps += [
        # abort() signals its own process by this call.
        _step(_EQUAL, table.tgkill, 0, 4),
        _step(_LOAD, _ARGUMENT[0]),
        _step(_EQUAL, process, 1, 0),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
        _step(_EQUAL, table.clone, 0, 4),
        _step(_LOAD, _ARGUMENT[0]),
        _step(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
        *_prlimit(table.prlimit),
    ]
    return b"".join(steps)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> None:
    """Put the filter on this process and all its future threads, for good. Raises `JailUnavailable`."""
    code = program(platform.machine(), os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise JailUnavailable(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filter_), 0, 0) != 0:
        raise JailUnavailable(f"seccomp: {os.strerror(ctypes.get_errno())}")
