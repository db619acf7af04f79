"""A call that goes away says so, in the description and in every answer."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from litestar import get

from app.kernel.db import Database
from app.main import Api, create_app
from app.web.endings import Ending
from app.web.guards import PublicController
from app.web.openapi import document
from app.web.wire import MoneyOut
from tests.app.conftest import api_settings, running

SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2027, 5, 1, tzinfo=UTC)
GUIDE = Path(__file__).parents[3] / "docs" / "api-guide.md"


class OldController(PublicController):
    @get(
        "/v1/old",
        operation_id="ReadOld",
        summary="Old",
        opt={"ending": Ending(deprecated=SINCE, sunset=UNTIL, instead="ReadMe")},
    )
    async def read(self) -> MoneyOut:
        """Read the old thing."""
        return MoneyOut(amount=1, currency="EUR")


@pytest.fixture
def ending(env: dict[str, str], db: Database) -> Api:
    app = create_app(api_settings(env))
    app.register(OldController)
    return app


async def test_every_answer_of_the_call_tells_its_end(ending: Api) -> None:
    async with running(ending) as client:
        good, refused = await client.get("/v1/old"), await client.get("/v1/old?nothing=1")
        other = await client.get("/healthz")
    assert (good.status_code, refused.status_code) == (200, 422)
    for answer in (good, refused):
        assert answer.headers["deprecation"] == "@1790812800"
        assert answer.headers["sunset"] == "Sat, 01 May 2027 00:00:00 GMT"
    assert not {"deprecation", "sunset"} & set(other.headers)


async def test_the_description_tells_it_and_what_to_use_instead(ending: Api) -> None:
    told = document(ending)["paths"]["/v1/old"]["get"]
    assert told["deprecated"] is True
    assert told["description"].startswith("Deprecated since 2026-10-01; ends on 2027-05-01. Use `ReadMe`.")
    assert all({"Deprecation", "Sunset"} <= set(answer["headers"]) for answer in told["responses"].values())


def test_the_guide_says_whether_something_ends(app: Api) -> None:
    ending = [
        operation["operationId"]
        for operations in document(app)["paths"].values()
        for operation in operations.values()
        if operation.get("deprecated")
    ]
    guide = GUIDE.read_text()
    assert ("Nothing is deprecated now" in guide) == (not ending)
    assert all(name in guide for name in ending)


@pytest.mark.parametrize(
    ("deprecated", "sunset"),
    [(SINCE, SINCE + timedelta(days=179)), (SINCE, UNTIL.astimezone(timezone(timedelta(hours=1))))],
)
def test_short_notice_and_local_times_are_refused(deprecated: datetime, sunset: datetime) -> None:
    with pytest.raises(ValueError, match=r"ending|180 days"):
        Ending(deprecated=deprecated, sunset=sunset, instead="ReadMe")
