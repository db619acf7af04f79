"""Who calls: tokens by key ids with overlap, refresh tokens whose answers may be lost, a family that ends on reuse."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from app.kernel import alerts
from app.kernel.access import AccessTokens, Scope, TokenExpired, Unauthenticated
from app.kernel.db import Database
from base.ids import DeviceId, OwnerId
from base.settings import Keys, Secret

Guest = Callable[[], Awaitable[dict[str, Any]]]
OLD, NEW = ("t1", Secret(bytes(range(32)))), ("t2", Secret(bytes(range(32, 64))))


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 24, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


def mint(tokens: AccessTokens) -> bytes:
    return tokens.customer(OwnerId(uuid4()), DeviceId(uuid4()), timedelta(minutes=15))[0].encode()


class TestAccessTokens:
    def test_keys_rotate_with_overlap(self) -> None:
        clock = Clock()
        old = mint(AccessTokens(Keys([OLD]), clock))
        both = AccessTokens(Keys([NEW, OLD]), clock)
        assert both.verify(old).scope is Scope.CUSTOMER
        assert jwt.get_unverified_header(mint(both))["kid"] == "t2"
        with pytest.raises(Unauthenticated):
            AccessTokens(Keys([NEW]), clock).verify(old)

    def test_a_known_token_ends_as_well(self) -> None:
        clock = Clock()
        tokens = AccessTokens(Keys([OLD]), clock)
        token = mint(tokens)
        tokens.verify(token)
        clock.moment += timedelta(minutes=16)
        with pytest.raises(TokenExpired):
            tokens.verify(token)

    @pytest.mark.parametrize("algorithm", ["none", "HS256"])
    def test_another_algorithm_is_refused(self, algorithm: str) -> None:
        tokens = AccessTokens(Keys([OLD]), Clock())
        claims = {"iss": "tirage", "sub": "own_x", "scp": "operator", "exp": 2**33}
        key = None if algorithm == "none" else "k" * 32
        forged = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "t1"})  # type: ignore[arg-type]
        with pytest.raises(Unauthenticated):
            tokens.verify(forged.encode())

    def test_every_changed_character_is_noticed(self) -> None:
        tokens = AccessTokens(Keys([OLD]), Clock())
        token = mint(tokens)
        head, body, signature = token.split(b".")
        padded = body + b"=" * (-len(body) % 4)
        other = base64.urlsafe_b64encode(base64.urlsafe_b64decode(padded).replace(b"customer", b"operator"))
        for changed in (
            b".".join((head, other.rstrip(b"="), signature)),
            token[:-6] + b"AAAAAA",
            b"",
            b"..",
            b"x" * 5000,
        ):
            with pytest.raises(Unauthenticated):
                tokens.verify(changed)


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/tokens", json={"refreshToken": token})


class TestRefreshTokens:
    async def test_a_lost_answer_is_given_again_until_the_successor_is_used(
        self, client: httpx.AsyncClient, guest: Guest
    ) -> None:
        first = (await guest())["refreshToken"]
        answers = [(await refresh(client, first)).json() for _ in range(3)]
        second = answers[0]["refreshToken"]
        assert {a["refreshToken"] for a in answers} == {second}
        third = (await refresh(client, second)).json()["refreshToken"]
        assert third not in (first, second)
        assert (await refresh(client, second)).json()["refreshToken"] == third

    async def test_an_app_may_send_its_ended_access_token_along(self, client: httpx.AsyncClient, guest: Guest) -> None:
        """Many send it with every call; were it refused here, they could never get another."""
        body = {"refreshToken": (await guest())["refreshToken"]}
        answer = await client.post("/v1/tokens", json=body, headers={"Authorization": "Bearer of.what.was"})
        assert answer.status_code == 200, answer.text

    async def test_reuse_of_an_older_one_ends_the_family_and_alerts(
        self, client: httpx.AsyncClient, guest: Guest, db: Database
    ) -> None:
        first = (await guest())["refreshToken"]
        second = (await refresh(client, first)).json()["refreshToken"]
        third = (await refresh(client, second)).json()["refreshToken"]
        stolen = await refresh(client, first)
        assert (stolen.status_code, stolen.json()["code"]) == (401, "refresh-reused")
        for token in (first, second, third):
            assert (await refresh(client, token)).status_code == 401
        async with db.transaction() as tx:
            assert [a.rule for a in await alerts.open_alerts(tx)] == ["refresh-token-reused"]

    async def test_at_once_from_many_places_is_one_successor(self, client: httpx.AsyncClient, guest: Guest) -> None:
        token = (await guest())["refreshToken"]
        answers = await asyncio.gather(*(refresh(client, token) for _ in range(10)))
        assert {a.status_code for a in answers} == {200}
        assert len({a.json()["refreshToken"] for a in answers}) == 1

    async def test_access_token_of_a_refresh_speaks_for_the_same_owner(
        self, client: httpx.AsyncClient, guest: Guest
    ) -> None:
        me = await guest()
        grant = (await refresh(client, me["refreshToken"])).json()
        headers = {"Authorization": f"Bearer {grant['accessToken']}"}
        assert (await client.get("/v1/me", headers=headers)).json()["id"] == me["ownerId"]

    @pytest.mark.parametrize("token", ["x", "rt_", "rt_" + "A" * 60, "é" * 10])
    async def test_made_up_ones_are_refused(self, client: httpx.AsyncClient, token: str) -> None:
        assert (await refresh(client, token)).status_code == 401


class TestDoor:
    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer x.y.z", "Basic abc", "Bearer " + "x" * 3000])
    async def test_without_a_good_token_nothing_is_answered(self, client: httpx.AsyncClient, header: str) -> None:
        for path in ("/v1/me", "/v1/assets", "/v1/events"):
            answer = await client.get(path, headers={"Authorization": header} if header else {})
            assert answer.status_code == 401
            assert answer.headers["content-type"].startswith("application/problem+json")
