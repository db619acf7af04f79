"""`tirage catalog`: what an operator sees of loading what is sold."""

import json

from click.testing import CliRunner

from app.kernel.db import Database
from devstack.prodigi.products import size_um
from tirage.catalog import FOLDER, catalog


def test_loading_again_changes_nothing(env: dict[str, str], db: Database) -> None:
    told = [
        CliRunner().invoke(catalog, ["load", "--json"], env={**env, "TIRAGE_ENVIRONMENT": "development"})
        for _ in range(2)
    ]
    assert [one.exit_code for one in told] == [0, 0], told
    assert json.loads(told[1].output)["changed"] is False
    assert json.loads(told[0].output)["version"] == json.loads(told[1].output)["version"]


def test_production_is_the_default_and_refuses_samples(env: dict[str, str], db: Database) -> None:
    for given in ({"TIRAGE_ENVIRONMENT": "production"}, {"TIRAGE_ENVIRONMENT": None}):
        told = CliRunner().invoke(catalog, ["load"], env={**env, **given})
        assert told.exit_code == 1
        assert "production refuses" in told.output


def test_another_environment_is_a_fault(env: dict[str, str]) -> None:
    told = CliRunner().invoke(catalog, ["load"], env={**env, "TIRAGE_ENVIRONMENT": "staging"})
    assert told.exit_code == 1
    assert "TIRAGE_ENVIRONMENT" in told.output


def test_the_simulated_printer_sells_everything_that_is_mapped_to_it() -> None:
    """Else a person pays for what nobody will make."""
    mapped = json.loads((FOLDER / "vendors.json").read_text())
    assert [row["vendor_sku"] for row in mapped if row["vendor"] == "prodigi" and not size_um(row["vendor_sku"])] == []
