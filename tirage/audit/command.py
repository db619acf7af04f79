"""`tirage audit`: proof from database, buckets and simulators that nothing was lost, doubled or is public."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import httpx
import msgspec

from app.kernel.db import Database, DatabaseSettings, read_database
from base.objects import ObjectStore, SiteSettings, read_site
from base.regions import read_edges, read_regions
from base.settings import Keys, Reader, SettingsError
from devstack import state as states
from devstack.stack import Stack
from tirage.audit import books, files, logs, outside
from tirage.audit.books import Books, Finding
from tirage.audit.files import Look, Place
from tirage.audit.outside import Said
from tirage.audit.rows import RULES
from tirage.keys import edge_keys
from tirage.stack import data_option

IN_STORE: Final[dict[str, Look]] = {
    "originals-kept": files.originals_kept,
    "ancestors-kept": files.ancestors_kept,
    "pictures-kept": files.pictures_kept,
    "masters-locked": files.masters_locked,
    "nothing-left-over": files.nothing_left_over,
    "no-halves": files.no_halves,
    "nothing-private-inside": files.nothing_private_inside,
    "buckets-private": files.buckets_private,
}
AT_SIMULATORS: Final = ("charged-once", "printed-once")
OF_PHONES: Final = ("promises-kept", "nothing-unasked")
CHECKS: Final = (*(rule.name for rule in RULES), *IN_STORE, "edge-private", logs.CHECK, *AT_SIMULATORS, *OF_PHONES)


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look: every region's store and edge by the region's name; `stripe` and `prodigi` are simulators.

    `folder` is where the stack lives, with its logs and secrets. Checks of what is None are left out.
    """

    database: DatabaseSettings
    home: str
    sites: dict[str, SiteSettings]
    stripe: str | None = None
    prodigi: str | None = None
    edges: dict[str, str] | None = None
    ledger: tuple[Said, ...] | None = None
    folder: Path | None = None
    keks: Keys | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What came out: each check's findings, the checks that could not be made, and how much was looked at."""

    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    counted: dict[str, int]

    def told(self) -> dict[str, Any]:
        """For programs."""
        by_check = {name: [f for f in self.findings if f.check == name] for name in CHECKS}
        states_ = {
            name: "unchecked" if name in self.unchecked else "failed" if found else "passed"
            for name, found in by_check.items()
        }
        return {
            "passed": not self.findings,
            "checks": states_,
            "findings": msgspec.to_builtins(self.findings),
            "counted": self.counted,
        }


@click.command()
@data_option
@click.option("--ledger", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What phones were told.")
@click.option("--grace-s", default=60, show_default=True, help="How long a thing may be under way, in seconds.")
@click.option("--drain-s", default=0, show_default=True, help="Wait so long until nothing is under way, then look.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def audit(data: Path, ledger: Path | None, grace_s: int, drain_s: int, as_json: bool) -> None:
    """Prove that nothing was lost or doubled and nothing private is public; exit 1 when something is.

    Looks at the stack in --data; variables such as TIRAGE_DATABASE_URL and TIRAGE_S3_ENDPOINT go before.
    """
    env = {**of_folder(data), **os.environ}
    said = tuple(outside.read_ledger(ledger)) if ledger else None
    try:
        where = sources(env, said, data if states.read_living(data) else None)
        found = asyncio.run(made(where, grace_s, drain_s))
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(found.told(), indent=1))
    else:
        for line in written(found):
            click.echo(line)
    raise SystemExit(1 if found.findings else 0)


def of_folder(folder: Path) -> dict[str, str]:
    """What the audit needs of the stack that is up in a folder."""
    env = Stack.environment_of(folder, os.environ, edge_keys)
    parts = (states.read_living(folder) or {}).get("parts", {})
    simulated = {name: parts[name]["address"] for name in ("stripe", "prodigi") if name in parts}
    return env | {f"TIRAGE_SIMULATED_{name.upper()}": address for name, address in simulated.items()}


def sources(env: Mapping[str, str], ledger: tuple[Said, ...] | None, folder: Path | None = None) -> Sources:
    """Where to look, from the environment; raises `SettingsError`."""
    read = Reader(env)
    home, every = read_regions(read)
    found = Sources(
        database=read_database(read),
        home=home,
        sites={name: read_site(read if name == home else read.of_region(name), "RECORD") for name in every},
        stripe=env.get("TIRAGE_SIMULATED_STRIPE"),
        prodigi=env.get("TIRAGE_SIMULATED_PRODIGI"),
        edges=read_edges(read, home) or None,
        ledger=ledger,
        folder=folder,
        keks=read.keys("TIRAGE_KEK") if "TIRAGE_KEK" in env else None,
    )
    read.finish()
    return found


async def made(where: Sources, grace_s: int, drain_s: int = 0) -> Audit:
    """Look at everything, once nothing is under way or `drain_s` seconds are over."""
    database = Database(where.database)
    await database.start()
    try:
        await _drained(database, drain_s)
        read = await books.read(database, grace_s)
        logged = await _logged(database, where)
    finally:
        await database.stop()
    found = [*read.findings, *(logged or ()), *files.out_of_sight(read, where.home, where.sites)]
    for region, site in where.sites.items():
        store = ObjectStore(site.store)
        place = Place(store=store, buckets=site.buckets, address=site.store.endpoint)
        try:
            for look in IN_STORE.values():
                found += await look(read.kept_in(region, where.home), place)
        finally:
            store.close()
    more, unchecked = await _outside(where, read)
    unchecked += [logs.CHECK] if logged is None else []
    return Audit(findings=(*found, *more), unchecked=tuple(unchecked), counted=_counted(read))


async def _logged(database: Database, where: Sources) -> list[Finding] | None:
    if where.folder is None or where.keks is None:
        return None
    words = {**await logs.people(database, where.keks), **logs.secrets_of(where.folder)}
    return list(logs.nothing_private_logged(where.folder, words))


async def _drained(database: Database, drain_s: int) -> None:
    for _ in range(2 * drain_s):
        if not await books.under_way(database):
            return
        await asyncio.sleep(0.5)
    if drain_s:
        click.echo(f"still under way after {drain_s} s: {await books.under_way(database)}", err=True)


async def _outside(where: Sources, read: Books) -> tuple[list[Finding], list[str]]:
    found: list[Finding] = []
    unchecked: list[str] = []
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        if where.stripe is None:
            unchecked.append("charged-once")
        else:
            told = (await client.get(f"{where.stripe}/_sim/counts")).json()
            found += outside.charged_once(read, told["by_order"])
        if where.prodigi is None:
            unchecked.append("printed-once")
        else:
            found += outside.printed_once(read, (await client.get(f"{where.prodigi}/_sim/orders")).json())
        if where.edges is None:
            unchecked.append("edge-private")
        for name, url in (where.edges or {}).items():
            found += await outside.edge_private(read.kept_in(name, where.home), client, url)
    if where.ledger is None:
        unchecked += OF_PHONES
    else:
        found += [*outside.promises_kept(read, where.ledger), *outside.nothing_unasked(read, where.ledger)]
    return found, unchecked


def _counted(read: Books) -> dict[str, int]:
    return {
        "photos": len(read.photos),
        "pictures": len(read.pictures),
        "orders": len(read.sales),
        "fulfilments": len(read.makings),
        "masters": sum(len(making.files) for making in read.makings),
    }


def written(found: Audit) -> list[str]:
    """The audit as lines of text."""
    told = found.told()
    lines = [f"{state:9} {name}" for name, state in told["checks"].items()]
    lines += [f"  {one.check}: {one.subject}: {one.detail}" for one in found.findings]
    counted = ", ".join(f"{many} {what}" for what, many in found.counted.items())
    return [*lines, f"looked at {counted}: " + ("something is wrong" if found.findings else "nothing is wrong")]
