"""TLS on every hop between our processes and their servers: the right authority is believed, another one is not."""

import asyncio
import base64
import contextlib
import datetime
import gzip
import hashlib
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.kernel.db import Database
from base import tracing
from base.edges import EdgeClient, Purge
from base.errors import ServiceUnavailable
from base.ids import encode, new_id
from base.objects import ObjectStore, ObjectStoreSettings
from base.settings import Reader, Secret
from base.tracing import TraceSettings
from devstack.child import Child
from devstack.servers import _program
from devstack.stack import Stack
from edge.node.app import EdgeNode
from edge.node.cache import DiskCache
from edge.node.settings import read_ring_keys, ring_of
from edge.node.sources import Origin
from edge.origin.leases import Leases
from imagecore import recipe as recipes
from imagecore.signing import Durable, Lifetime, Ring
from tasks.queue import Queue
from tests.conftest import OwnStack, database_settings
from tirage import serving as serving_module

pytestmark = pytest.mark.interop
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs server certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(True, None))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
        return made.add_extension(extension, critical=True).sign(self._key, hashes.SHA256())

    def server(self) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        cert, secret = self._folder / "server.crt", self._folder / "server.key"
        cert.write_bytes(self._sign(name, key.public_key(), here).public_bytes(serialization.Encoding.PEM))
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
        secret.chmod(0o600)
        return cert, secret


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "strangers")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], port: int, env: dict[str, str] | None = None) -> Iterator[None]:
    """A server as long as it is needed, once it takes connections."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def program(name: str, folder: Path) -> str:
    return str(_program(name, Child(name, folder, 15, 5)))


def test_a_file_of_authorities_must_be_there(tmp_path: Path) -> None:
    read = Reader({"TIRAGE_S3_CA": str(tmp_path / "absent")})
    assert read.file("TIRAGE_NATS_CA") is None
    read.file("TIRAGE_S3_CA")
    assert ["TIRAGE_S3_CA" in fault for fault in read.faults] == [True]


async def test_the_queue(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    cert, key = authority.server()
    port = free_port()
    config = tmp_path / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{tmp_path / "js"}" }}\n'
        f'tls {{ cert_file: "{cert}", key_file: "{key}" }}\n'
    )
    with serving([program("nats-server", tmp_path), "-c", str(config)], port):
        queue = Queue(f"tls://127.0.0.1:{port}", "home", str(authority.file))
        async with asyncio.timeout(20):
            await queue.connect()
            await queue.ensure_jobs()
        await queue.publish("jobs.home.preview", "one", b"x")
        await queue.close()
        for ca_file in (str(stranger.file), None):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await Queue(f"tls://127.0.0.1:{port}", "home", ca_file).connect()
        believed, fooled = (Leases(f"tls://127.0.0.1:{port}", "home", str(a.file)) for a in (authority, stranger))
        leases = [await believed.take("key", 1), await fooled.take("key", 1)]
        assert [lease is not None and lease.is_held for lease in leases] == [True, False]
        for one in leases:
            if one is not None:
                await one.release()
        await believed.close()
        await fooled.close()


def over_tls(stack: Stack, folder: Path, cert: Path, key: Path) -> tuple[list[str], int]:
    """A second gateway of the embedded store, with TLS."""
    state, port = stack.environment(), free_port()
    filer = stack._chosen["s3_filer"]
    assert state["TIRAGE_S3_ENDPOINT"]
    return [
        *(program("weed", folder), "s3", f"-filer=127.0.0.1:{filer}", f"-port={port}", "-ip.bind=127.0.0.1"),
        *(f"-port.grpc={free_port()}", "-port.iceberg=0"),  # by default 10000 above: not always a port
        *(f"-config={stack.folder / 's3.json'}", f"-cert.file={cert}", f"-key.file={key}"),
    ], port


async def test_the_object_store(own_stack: OwnStack, authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    stack, (cert, key) = own_stack(), authority.server()
    env = stack.environment()
    command, port = over_tls(stack, tmp_path, cert, key)
    settings = ObjectStoreSettings(
        endpoint=f"https://127.0.0.1:{port}",
        region="us-east-1",
        access_key=env["TIRAGE_S3_RECORD_ACCESS_KEY"],
        secret_key=Secret(env["TIRAGE_S3_RECORD_SECRET_KEY"]),
        threads=2,
        connect_timeout_s=2,
        read_timeout_s=5,
        ca=str(authority.file),
    )
    signed = {f"WEED_JWT_{use}_KEY": stack._secrets["s3_internal"] for use in ("FILER_SIGNING", "FILER_SIGNING_READ")}
    with serving(command, port, {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **signed}):
        store = ObjectStore(settings)
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(ServiceUnavailable):
                    await store.list_keys(env["TIRAGE_BUCKET_DERIVATIVES"], "tls/")
                    break
                await asyncio.sleep(0.3)
        store.close()
        for ca in (str(stranger.file), None):
            fooled = ObjectStore(msgspec.structs.replace(settings, ca=ca))
            with pytest.raises(ServiceUnavailable):
                await fooled.list_keys(env["TIRAGE_BUCKET_DERIVATIVES"], "tls/")
            fooled.close()


@contextlib.contextmanager
def debian_postgres(cert: Path, key: Path) -> Iterator[int]:
    """Debian's server on a free port, with TLS and nothing else for TCP."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        print("installing postgresql")
        subprocess.run(["apt-get", "install", "-y", "-q", "postgresql"], check=True, capture_output=True)
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    folder, port = Path(tempfile.mkdtemp(prefix="tirage-pg-")), free_port()
    for source, name in ((cert, "server.crt"), (key, "server.key")):
        shutil.copy(source, folder / name)
    subprocess.run(["chown", "-R", "postgres", folder], check=True)
    user = ["runuser", "-u", "postgres", "--"]
    data = str(folder / "data")
    initdb = [*user, programs / "initdb", "-D", data, "-U", "app", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True)
    hba = folder / "data" / "pg_hba.conf"
    hba.write_text("hostssl all all 127.0.0.1/32 trust\n")
    command = [
        *(*user, str(programs / "postgres"), "-D", data, "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"),
        *("-c", "ssl=on", "-c", f"ssl_cert_file={folder}/server.crt", "-c", f"ssl_key_file={folder}/server.key"),
    ]
    try:
        with serving([str(part) for part in command], port):
            time.sleep(1)
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_the_database(authority: Authority, stranger: Authority) -> None:
    with debian_postgres(*authority.server()) as port:
        base = f"postgresql://app@127.0.0.1:{port}/postgres"
        good = Database(database_settings(f"{base}?sslmode=verify-full&sslrootcert={authority.file}"))
        await good.start()
        async with good.reading() as read:
            assert await read.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        listening = await good.connect()
        assert await listening.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        await listening.close()
        await good.stop()
        for query in (f"sslmode=verify-full&sslrootcert={stranger.file}", "sslmode=disable"):
            with pytest.raises(Exception, match=r"(?i)certificate|pg_hba|does not answer"):
                await Database(database_settings(f"{base}?{query}")).start()


def believing(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


def test_the_api(env: dict[str, str], db: Database, authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    cert, key = authority.server()
    port = free_port()
    given = {"TIRAGE_API_PORT": str(port), "TIRAGE_API_TLS_CERT": str(cert), "TIRAGE_API_TLS_KEY": str(key)}
    command = [str(Path(sys.executable).with_name("tirage")), "api"]
    with serving(command, port, {**os.environ, **env, **given}):
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=believing(authority), timeout=30) as client:
            made = client.post("/v1/devices", json={"platform": "ios"})
            me = client.get("/v1/me", headers={"Authorization": f"Bearer {made.json()['accessToken']}"})
        assert (made.status_code, me.status_code, me.json()["id"]) == (201, 200, made.json()["ownerId"])
        assert me.headers["strict-transport-security"].startswith("max-age=")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"https://127.0.0.1:{port}/healthz", verify=believing(stranger), timeout=30)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=30)


def tirage(name: str) -> list[str]:
    return [str(Path(sys.executable).with_name("tirage")), name]


async def test_an_edge(stack_env: dict[str, str], authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    cert, key = authority.server()
    port, own = free_port(), {"PATH": os.environ["PATH"], "TIRAGE_EDGE_CACHE": str(tmp_path / "cache")}
    given = {"TIRAGE_EDGE_PORT": str(port), "TIRAGE_EDGE_TLS_CERT": str(cert), "TIRAGE_EDGE_TLS_KEY": str(key)}
    url, read = f"https://127.0.0.1:{port}", Reader(stack_env)
    asset, recipe = encode("asset", new_id()), recipes.text(recipes.rung(400, "lv8187a"))
    with serving(tirage("edge"), port, {**stack_env, **own, **given}):
        worker = EdgeClient(url, read.keys("TIRAGE_EDGE_PUSH_KEYS"), str(authority.file))
        assert await worker.push(asset, recipe, "jpg", bytes(3_000_000))
        await worker.close()
        ring = ring_of(read_ring_keys(read))
        path = ring.sign(Durable(asset=asset, recipe=recipe))
        with httpx.Client(base_url=url, verify=believing(authority)) as client:
            assert [client.get(path).content for _ in range(2)] == [bytes(3_000_000)] * 2
        home = EdgeClient(url, read.keys("TIRAGE_EDGE_PURGE_KEYS"), str(authority.file))
        receipt = await home.purge(Purge(assets=(asset,)))
        assert [(gone.asset, gone.files, gone.bytes) for gone in receipt.assets] == [(asset, 1, 3_000_000)]
        await home.close()
        for address, ca in ((url, str(stranger.file)), (url, None), (url.replace("https", "http"), None)):
            fooled = EdgeClient(address, read.keys("TIRAGE_EDGE_PURGE_KEYS"), ca)
            with pytest.raises(ServiceUnavailable):
                await fooled.purge(Purge(assets=(asset,)))
            await fooled.close()


async def test_a_renewed_certificate_is_used(
    authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate without its key changes nothing; with it, the next connection has it."""
    monkeypatch.setattr(serving_module, "RENEWED_S", 0.05)
    tls, port = authority.server(), free_port()
    node = EdgeNode(Ring({Lifetime.DURABLE: [("k1", os.urandom(32))]}), DiskCache(tls[0].parent / "cache", 1 << 20), [])
    served = asyncio.create_task(serving_module.serve_edge(node, "127.0.0.1", port, tls))
    try:
        await asyncio.sleep(0.1)
        assert await _answers(port, authority)
        old_key = tls[1].read_bytes()
        stranger.server()
        new_key = tls[1].read_bytes()
        tls[1].write_bytes(old_key)
        await asyncio.sleep(0.3)
        assert await _answers(port, authority)
        tls[1].write_bytes(new_key)
        await asyncio.sleep(0.3)
        assert await _answers(port, stranger)
        assert not await _answers(port, authority)
    finally:
        if not served.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await served


async def _answers(port: int, authority: Authority) -> bool:
    """Whether a client that believes this authority gets an answer, on a connection of its own."""
    async with httpx.AsyncClient(verify=believing(authority)) as client:
        try:
            answer = await client.get(f"https://127.0.0.1:{port}/healthz")
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            return False
        return answer.status_code == 200


def test_an_origin_process(stack_env: dict[str, str], authority: Authority, stranger: Authority) -> None:
    cert, key = authority.server()
    port, path = free_port(), {"PATH": os.environ["PATH"]}
    given = {"TIRAGE_ORIGIN_PORT": str(port), "TIRAGE_ORIGIN_TLS_CERT": str(cert), "TIRAGE_ORIGIN_TLS_KEY": str(key)}
    with serving(tirage("origin"), port, {**stack_env, **path, **given}):
        url = f"https://127.0.0.1:{port}/healthz"
        assert httpx.get(url, verify=believing(authority), timeout=30).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(url, verify=believing(stranger), timeout=30)


class Collected(BaseHTTPRequestHandler):
    """A collector that keeps what it is told."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def https(handler: type[BaseHTTPRequestHandler], authority: Authority) -> Iterator[str]:
    """A server in this process: its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("is_ours", [False, True])
def test_the_collector(authority: Authority, stranger: Authority, is_ours: bool) -> None:
    Collected.bodies.clear()
    with https(Collected, authority) as url:
        ca = str((authority if is_ours else stranger).file)
        tracing.configure("tls", TraceSettings(folder=None, otlp=f"{url}/v1/traces", otlp_ca=ca, per_mille=1000))
        with tracing.span("over-tls"):
            pass
        tracing.close()
    assert [b"over-tls" in body for body in Collected.bodies] == ([True] if is_ours else [])


class Rendition(BaseHTTPRequestHandler):
    """An origin's answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        digest = base64.b64encode(hashlib.sha256(b"bytes").digest()).decode()
        self.send_header("repr-digest", f"sha-256=:{digest}:")
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"bytes")

    def log_message(self, *args: object) -> None:
        """Quiet."""


async def test_the_origin(authority: Authority, stranger: Authority) -> None:
    with https(Rendition, authority) as url:
        believed = Origin(url, str(authority.file))
        assert await believed.get("key", "/path") == b"bytes"
        await believed.close()
        for ca in (str(stranger.file), None):
            fooled = Origin(url, ca)
            with pytest.raises(ServiceUnavailable):
                await fooled.get("key", "/path")
            await fooled.close()
