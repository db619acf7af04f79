"""Row 32: nginx, which refuses bodies over 100 MB, reads them whole before it passes them on and passes no 1xx."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.app.uploads.conftest import Bench, Make, Phone

pytestmark = [pytest.mark.interop, pytest.mark.scorecard, pytest.mark.timeout(600)]

MB = 1000 * 1000
TUS = {"Tus-Resumable": "1.0.0"}
CONF = """
daemon off; user root; pid {folder}/pid; error_log stderr warn; events {{}}
http {{
    access_log off; client_max_body_size 100m; proxy_request_buffering on; proxy_buffering on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {api}; proxy_set_header Host {host}; }} }}
}}
"""


@pytest.fixture
def proxied(bench: Bench, tmp_path: Path) -> Iterator[str]:
    """The address of an nginx before the first API process."""
    if shutil.which("nginx") is None:
        print("installing nginx-light")
        subprocess.run(["apt-get", "install", "-y", "-q", "nginx-light"], check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = bench.apis[0].base
    conf = tmp_path / "nginx.conf"
    conf.write_text(CONF.format(folder=tmp_path, port=port, api=api, host=urlsplit(api).netloc))
    nginx = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(conf)])
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            assert httpx.get(url + "/healthz").status_code == 200
            break
        except httpx.TransportError:
            assert nginx.poll() is None
            time.sleep(0.05)
    yield url
    nginx.terminate()
    nginx.wait(10)


async def test_32_by_the_advised_sizes_all_gets_through(bench: Bench, photo: Make, proxied: str) -> None:
    phone, data = await bench.phone(), photo(106 * MB)
    upload = await phone.create(data, bytesPerSecond=150_000)
    assert upload["next"]["path"] == "append"
    path = (await phone.parts(upload["id"]))["background"]["path"]
    async with httpx.AsyncClient(base_url=proxied, timeout=120) as client:
        whole = await client.put(path, content=data, headers={"Content-Type": "image/jpeg"})
        assert whole.status_code == 413  # the proxy's own: one request with everything does not get through
        await appended(client, phone, upload["id"], data)
    told = (await phone.read(upload["id"]))["upload"]
    assert told["state"] == "verifying"
    phone.acknowledged[upload["id"]] = len(data)
    await bench.work()
    assert (await phone.read(upload["id"]))["upload"]["state"] in ("completed", "rejected")
    await bench.check()


async def appended(client: httpx.AsyncClient, phone: Phone, session: str, data: bytes) -> None:
    """All of it in pieces as advised; no answer needs more than the final one."""
    headers = {**phone.auth, **TUS, "Content-Type": "application/offset+octet-stream"}
    at, longest = 0, 0
    while at < len(data):
        advice = (await phone.read(session))["upload"]["next"]
        size = advice["partBytes"] if advice["path"] == "append" else 8 * 1024 * 1024
        piece = data[at : at + size]
        answer = await client.patch(f"/v1/tus/{session}", content=piece, headers={**headers, "Upload-Offset": str(at)})
        assert answer.status_code == 204, answer.text
        at, longest = int(answer.headers["upload-offset"]), max(longest, len(piece))
        await asyncio.sleep(0)
    assert longest < 100 * MB
