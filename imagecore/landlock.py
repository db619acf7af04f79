"""Which files the decode child may read: its own program, libraries and models, nothing of anybody else's.

Landlock (landlock(7), Linux 5.13 and later) narrows what the system call filter leaves open: reading. It also closes
the memory and environment of processes outside, the parent's first of all. A kernel without it runs the child with the
filter alone: `install` then says False.
"""

import ctypes
import os
import stat
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Final

_CREATE_RULESET: Final = 444  # the same numbers on every architecture
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_EVERYTHING: Final = (1 << 13) - 1  # all rights of the first version: execute, write, read, list, remove, make

# What libraries ask of the system: the loader's cache, processors, memory, randomness, this process's own state.
_SYSTEM: Final = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/sys/devices/system/cpu", "/dev/null", "/dev/urandom",
)  # fmt: skip


def readable() -> list[Path]:
    """Everything the child has a reason to read."""
    python = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries = [f"{sys.base_prefix}/lib", *(entry for entry in sys.path if entry.endswith("-packages"))]
    wanted = dict.fromkeys((str(Path(__file__).parent), *python, *libraries, *_SYSTEM))
    return [Path(name) for name in wanted if Path(name).exists()]


def version() -> int:
    """The kernel's Landlock version, 0 where it has none."""
    found: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, found)


def install() -> bool:
    """Confine this thread and all it starts to `readable()`, for good; False where the kernel cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    ruleset = libc.syscall(_CREATE_RULESET, struct.pack("=Q", _EVERYTHING), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable():
            _allow(libc, ruleset, path)
        alone = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        return bool(alone and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rights = _READ_FILE | (_READ_DIR if is_folder else 0)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
