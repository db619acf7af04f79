"""Free ports, kept with the data: the same ones again while they are free.

A stack takes one slot of consecutive ports and holds it by a socket in Linux's abstract namespace (unix(7)) for as long
as it is up, so that two stacks started in the same second never take the same ones, whoever runs them. Slots lie below
the kernel's ephemeral range, and so do the ports 10000 above them, where SeaweedFS listens as well.
"""

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOW: Final = 12_000
SLOT: Final = 16
SLOTS: Final = 500
GRPC_OFFSET: Final = 10_000
SHARED: Final = Path("/tmp")  # noqa: S108 — SeaweedFS puts its gRPC sockets there whatever TMPDIR says


class NoPorts(Exception):
    """Every slot is taken."""


def is_free(port: int) -> bool:
    """Whether nobody listens on the loopback port (without SO_REUSEPORT, so that granian is noticed)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def seaweed_sockets(port: int) -> list[Path]:
    """The sockets SeaweedFS makes in the system's temporary folder for a part on this port."""
    parts = ("master", "volume", "filer", "s3")
    return [SHARED / f"seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock" for part in parts]


def remove_stale_sockets(port: int) -> None:
    """Remove what a SeaweedFS of this user left behind: sockets that nobody answers on."""
    for path in seaweed_sockets(port):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                if path.stat().st_uid == os.getuid():
                    path.unlink()


def _is_usable(port: int) -> bool:
    remove_stale_sockets(port)
    return is_free(port) and is_free(port + GRPC_OFFSET) and not any(s.exists() for s in seaweed_sockets(port))


class Ports:
    """The ports of one folder's stack."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._file = folder / "ports.json"
        self._names = names
        self._first = int.from_bytes(hashlib.sha256(str(folder).encode()).digest()[:4], "big")
        self._held: socket.socket | None = None
        self._taken: list[int] = []

    def claim(self, *, afresh: bool = False) -> dict[str, int]:
        """A free port for each name: the remembered ones, or (also when `afresh`) those of another slot.

        Raises `NoPorts`.
        """
        self.release()
        kept = self._read()
        remembered = min(kept.values(), default=0)
        if not afresh and set(kept) == set(self._names) and self._take(remembered, kept):
            return kept
        for step in range(SLOTS):
            base = LOW + (self._first + step * 37) % SLOTS * SLOT
            chosen = {name: base + index for index, name in enumerate(self._names)}
            if base != remembered and self._take(base, chosen):
                self._file.write_text(json.dumps(chosen, indent=1))
                return chosen
        raise NoPorts(f"no {len(self._names)} free ports between {LOW} and {LOW + SLOT * SLOTS - 1}")

    def remembered(self) -> dict[str, int]:
        """The ports that were claimed last, without claiming them."""
        return self._read()

    def release(self) -> None:
        """Let others have the slot, without what a killed SeaweedFS left in the temporary folder."""
        for port in self._taken:
            remove_stale_sockets(port)
        self._taken = []
        if self._held is not None:
            self._held.close()
            self._held = None

    def _take(self, base: int, ports: dict[str, int]) -> bool:
        hold = socket.socket(socket.AF_UNIX)
        try:
            hold.bind(f"\0tirage-ports-{base}")
        except OSError:
            hold.close()
            return False
        if not all(_is_usable(port) for port in ports.values()):
            hold.close()
            return False
        self._held, self._taken = hold, list(ports.values())
        return True

    def _read(self) -> dict[str, int]:
        try:
            read = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return read if isinstance(read, dict) and all(isinstance(p, int) for p in read.values()) else {}
