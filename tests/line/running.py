"""A whole stack in a folder of its own, as an operator starts it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from devstack import state as states

TIRAGE = Path(sys.executable).parent / "tirage"


class Running:
    """A stack that `tirage up` runs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        with (folder / "up.out").open("wb") as out:
            command = [TIRAGE, "up", "--tied", "--data", folder / "data"]
            self._process = subprocess.Popen(command, env=env, stdout=out, stderr=out)

    def wait(self) -> None:
        deadline = time.monotonic() + 90
        while not self.status().get("up"):
            assert self._process.poll() is None, (self.folder / "up.out").read_text()
            assert time.monotonic() < deadline, (self.folder / "up.out").read_text()
            time.sleep(0.2)
        self._secrets = json.loads((self.folder / "data" / "secrets.json").read_text())

    def status(self) -> dict[str, Any]:
        run = subprocess.run(
            [TIRAGE, "status", "--json", "--data", self.folder / "data"], capture_output=True, check=False
        )
        told: dict[str, Any] = json.loads(run.stdout)
        return told

    def _part(self, name: str) -> dict[str, Any]:
        """What `tirage status` tells of one part, without a process for every look."""
        state = states.read_living(self.folder / "data")
        assert state is not None
        part: dict[str, Any] = state["parts"][name]
        return part

    def address(self, part: str) -> str:
        return str(self._part(part)["address"])

    def pid(self, part: str) -> int:
        return int(self._part(part)["pid"])

    def kill(self, part: str) -> int:
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, part: str, old: int) -> None:
        """Wait until the supervisor has started the part again."""
        async with asyncio.timeout(60):
            while True:
                now = self._part(part)
                if now["pid"] not in (None, old) and states.look(now) == "up":
                    return
                await asyncio.sleep(0.05)

    async def connect(self) -> Any:
        host, port = self.address("postgres").split(":")
        password = self._secrets["postgres_password"]
        return await asyncpg.connect(host=host, port=int(port), user="app", password=password, database="postgres")

    async def query(self, sql: str, *args: object) -> list[Any]:
        connection = await self.connect()
        rows: list[Any] = await connection.fetch(sql, *args)
        await connection.close()
        return rows

    def has_ancestor(self, asset: str) -> bool:
        client = boto3.client(
            "s3",
            endpoint_url=self.address("s3"),
            region_name="us-east-1",
            aws_access_key_id=self._secrets["s3_record_access"],
            aws_secret_access_key=self._secrets["s3_record_secret"],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        try:
            return bool(client.list_objects_v2(Bucket="ancestors-home", Prefix=f"{asset}/").get("KeyCount"))
        except ClientError:
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
