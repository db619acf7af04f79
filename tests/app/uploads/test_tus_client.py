"""tus-js-client, as web and React Native apps have it, against the API as processes (make interop)."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.app.uploads.conftest import Bench, Make
from tests.app.uploads.test_clients import arrived

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PACKAGE = "tus-js-client@4.3.1"
SCRIPT = Path(__file__).with_name("tus_client.mjs")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and the script."""
    if shutil.which("npm") is None:
        pytest.fail("node and npm are needed")
    folder = tmp_path_factory.mktemp("tus")
    print(f"installing {PACKAGE}")
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", PACKAGE], cwd=folder, check=True)
    shutil.copy(SCRIPT, folder)
    return folder


async def run(node: Path, **told: Any) -> tuple[int, dict[str, Any], str]:
    command = ["node", SCRIPT.name, json.dumps(told)]
    ran = await asyncio.to_thread(subprocess.run, command, cwd=node, capture_output=True, text=True, timeout=120)
    return ran.returncode, json.loads(ran.stdout or "{}"), ran.stderr


@pytest.mark.parametrize("killed", ["app", "app and API"])
async def test_killed_half_way_it_goes_on(bench: Bench, photo: Make, tmp_path: Path, node: Path, killed: str) -> None:
    """Nothing acknowledged is lost: another run, on another process, sends only the rest."""
    phone, data = await bench.phone(), photo(900_000)
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    common = {"file": str(file), "headers": dict(phone.auth)}
    code, told, errors = await run(node, **common, endpoint=f"{bench.apis[0].base}/v1/tus", stopAt=400_000)
    assert (code, told["accepted"]) == (-9, 400_000), errors
    if killed == "app and API":
        bench.apis[0].kill()
    session = told["url"].rsplit("/", 1)[1]
    there = await phone.read(session, api=1)
    assert there["arrivedBytes"] >= 400_000
    url = f"{bench.apis[1].base}/v1/tus/{session}"
    code, _, errors = await run(node, **common, endpoint=f"{bench.apis[1].base}/v1/tus", url=url)
    assert code == 0, errors
    if killed == "app and API":
        await asyncio.to_thread(bench.apis[0].start)
    await arrived(bench, phone, session, data)
