"""Regions and the policy that says what goes where."""

from pathlib import Path

import pytest

from base.objects import read_site
from base.regions import Place, Policy, Push, read_edges, read_policy, read_regions
from base.settings import Reader, SettingsError

TWO = Policy(
    regions={"west": Place(countries=("US", "CA"), push=(Push(edge="west", sides=(200, 400, 800)), Push(edge="home")))},
    vendors={"prodigi": "west"},
)


@pytest.mark.parametrize(
    ("country", "region"), [("US", "west"), ("CA", "west"), ("NL", "home"), (None, "home"), ("us", "home")]
)
def test_a_phone_is_near_the_region_that_claims_its_country(country: str | None, region: str) -> None:
    assert TWO.near(country, "home") == region


def test_masters_are_kept_near_the_vendor() -> None:
    assert [TWO.of_vendor(name, "home") for name in ("prodigi", "other")] == ["west", "home"]
    assert Policy().of_vendor("prodigi", "home") == "home"


def test_workers_push_to_the_edges_that_are_named_and_by_default_to_their_own() -> None:
    assert TWO.pushes("west") == (Push(edge="west", sides=(200, 400, 800)), Push(edge="home", sides=(200, 400)))
    assert TWO.pushes("home") == (Push(edge="home", sides=(200, 400)),)
    assert Policy(regions={"west": Place(push=())}).pushes("west") == ()


def written(folder: Path, text: str) -> Reader:
    (folder / "policy.toml").write_text(text)
    return Reader({"TIRAGE_REGION_POLICY": str(folder / "policy.toml")})


def test_a_policy_is_a_file(tmp_path: Path) -> None:
    read = written(
        tmp_path,
        """
        [regions.west]
        countries = ["US", "CA"]
        push = [{ edge = "west", sides = [200, 400, 800] }, { edge = "home" }]
        [vendors]
        prodigi = "west"
        """,
    )
    assert read_policy(read, ("home", "west")) == TWO
    assert read.faults == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[regions.east]", "there is no region 'east'"),
        ("[vendors]\nprodigi = 'east'", "there is no region 'east'"),
        ("[regions.home]\ncountries=['NL']\n[regions.west]\ncountries=['NL']", "NL belongs to two regions"),
        ("[regions.west]\nplaces=['NL']", "unknown field `places`"),
        ("regions = ", "TIRAGE_REGION_POLICY: "),
    ],
)
def test_a_policy_that_cannot_be_meant_stops_the_start(tmp_path: Path, text: str, fault: str) -> None:
    read = written(tmp_path, text)
    read_policy(read, ("home", "west"))
    assert [fault in found for found in read.faults] == [True]


def test_regions_are_named_once_and_this_one_is_among_them() -> None:
    assert read_regions(Reader({})) == ("home", ("home",))
    read = Reader({"TIRAGE_REGION": "west", "TIRAGE_REGIONS": "home, west"})
    assert read_regions(read) == ("west", ("home", "west"))
    for names in ("home", "west,west", "west,No Name"):
        wrong = Reader({"TIRAGE_REGION": "west", "TIRAGE_REGIONS": names})
        read_regions(wrong)
        assert len(wrong.faults) == 1


def test_edges_have_names() -> None:
    listed = {"TIRAGE_EDGES": "home=http://a:1/, http://b:2", "TIRAGE_EDGE_URL": "http://c:3"}
    assert read_edges(Reader(listed), "home") == {"home": "http://a:1", "http://b:2": "http://b:2"}
    assert read_edges(Reader({"TIRAGE_EDGE_URL": "http://c:3/"}), "west") == {"west": "http://c:3"}
    wrong = Reader({"TIRAGE_EDGES": "home=ftp://a"})
    read_edges(wrong, "home")
    assert len(wrong.faults) == 1


def test_another_regions_variables_carry_its_name_and_so_do_their_faults() -> None:
    read = Reader({"TIRAGE_REGION_WEST_S3_ENDPOINT": "http://w:1", "TIRAGE_S3_ENDPOINT": "http://h:1"})
    site = read_site(read.of_region("west"), "API")
    assert site.store.endpoint == "http://w:1"
    with pytest.raises(SettingsError) as refused:
        read.finish()
    assert "TIRAGE_REGION_WEST_S3_API_ACCESS_KEY is not set" in refused.value.faults
    assert all(fault.startswith("TIRAGE_REGION_WEST_") for fault in refused.value.faults)
