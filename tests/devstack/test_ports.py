"""Ports: kept, free, and never the same for two stacks."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.ports import GRPC_OFFSET, Ports, is_free, seaweed_sockets

NAMES = ("one", "two", "three")


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = Ports(tmp_path, NAMES)
    yield made
    made.release()


def listener(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_ports_are_remembered(tmp_path: Path, ports: Ports) -> None:
    first = ports.claim()
    ports.release()
    later = Ports(tmp_path, NAMES)
    assert later.claim() == first
    later.release()
    assert json.loads((tmp_path / "ports.json").read_text()) == first


@pytest.mark.parametrize("offset", [0, GRPC_OFFSET])
def test_a_port_taken_by_a_stranger_moves_all_of_them(ports: Ports, offset: int) -> None:
    first = ports.claim()
    with listener(first["two"] + offset):
        second = ports.claim()
    assert set(first.values()).isdisjoint(second.values())
    assert all(is_free(port) and is_free(port + GRPC_OFFSET) for port in second.values())


def test_claiming_afresh_moves(ports: Ports) -> None:
    first = ports.claim()
    assert set(first.values()).isdisjoint(ports.claim(afresh=True).values())


def test_an_unreadable_memory_is_replaced(tmp_path: Path, ports: Ports) -> None:
    (tmp_path / "ports.json").write_text('{"one": "x"')
    assert set(ports.claim()) == set(NAMES)


def test_the_same_folder_name_twice_takes_two_slots(tmp_path: Path) -> None:
    """The worst case of two starts in one second: both would look at the same slot first, and nobody listens yet."""
    first, second = Ports(tmp_path, NAMES), Ports(tmp_path, NAMES)
    assert set(first.claim().values()).isdisjoint(second.claim().values())
    first.release()
    second.release()


def test_a_slot_is_held_against_other_processes(tmp_path: Path, ports: Ports) -> None:
    first = ports.claim()
    code = "import sys; from pathlib import Path; from devstack.ports import Ports\n"
    code += "print(sorted(Ports(Path(sys.argv[1]), ('one', 'two', 'three')).claim().values()))"
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert set(json.loads(ran.stdout)).isdisjoint(first.values())


def test_a_stale_socket_of_ours_is_removed_and_a_living_one_avoided(ports: Ports) -> None:
    first = ports.claim()
    stale, living = seaweed_sockets(first["one"])[0], seaweed_sockets(first["two"])[0]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    try:
        assert ports.claim() == first
        assert not stale.exists()
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(str(living))
            alive.listen()
            assert set(ports.claim().values()).isdisjoint(first.values())
            assert living.exists()
    finally:
        living.unlink(missing_ok=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another's socket")
def test_a_stranger_s_stale_socket_is_left_and_avoided(ports: Ports) -> None:
    first = ports.claim()
    foreign = seaweed_sockets(first["one"])[0]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(foreign))
    os.chown(foreign, 65534, 65534)
    try:
        assert set(ports.claim().values()).isdisjoint(first.values())
        assert foreign.exists()
    finally:
        foreign.unlink()
