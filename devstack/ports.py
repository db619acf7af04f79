"""Free ports, kept with the data: the same ones again while they are free.

A stack takes one slot of consecutive ports, chosen by its folder's name, so that two stacks started in the same second
hardly ever look at the same ones; a lost race is a start that is tried again in another slot.
"""

import hashlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOW: Final = 20_000
SLOT: Final = 16
SLOTS: Final = 512  # below the kernel's ephemeral range, and port + 10000 stays a port
GRPC_OFFSET: Final = 10_000  # SeaweedFS listens there as well
SHARED: Final = Path("/tmp")  # noqa: S108 — SeaweedFS puts its gRPC sockets there whatever TMPDIR says


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
    plain = [SHARED / f"seaweedfs-{part}-{port}.sock" for part in ("s3", "filer")]
    grpc = [SHARED / f"seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock" for part in ("master", "volume", "filer", "s3")]
    return plain + grpc


def _is_usable(port: int) -> bool:
    return is_free(port) and is_free(port + GRPC_OFFSET) and not any(s.exists() for s in seaweed_sockets(port))


def claim(folder: Path, names: Sequence[str], *, afresh: bool = False) -> dict[str, int]:
    """A free port for each name: the remembered ones, or (also when `afresh`) those of the next free slot."""
    file = folder / "ports.json"
    kept = _read(file)
    if not afresh and set(kept) == set(names) and all(_is_usable(port) for port in kept.values()):
        return kept
    first = int.from_bytes(hashlib.sha256(str(folder.resolve()).encode()).digest()[:4], "big")
    avoid = min(kept.values(), default=0)
    for step in range(SLOTS):
        base = LOW + (first + step * 37) % SLOTS * SLOT
        chosen = {name: base + index for index, name in enumerate(names)}
        if base != avoid and all(_is_usable(port) for port in chosen.values()):
            file.write_text(json.dumps(chosen, indent=1))
            return chosen
    raise OSError("no free ports between 20000 and 28191")


def _read(file: Path) -> dict[str, int]:
    try:
        read: dict[str, int] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return read
