"""What surrounds every call: ids, traces, limits, proxies, origins, metrics."""

import asyncio
import gc
import ipaddress
import weakref
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import get

from app.kernel.db import Database
from app.kernel.quotas import Quota, QuotaExceeded, spend
from app.main import Api, create_app
from app.uploads.settings import UploadLimits
from app.web.proxies import client_address
from app.web.rates import Bucket
from base import ids
from base.settings import SettingsError
from tests.app.conftest import Guest, api_settings, register, running

TRACE = "0af7651916cd43dd8448eb211c80319c"


class TestIds:
    async def test_a_given_trace_is_followed(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/healthz", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        assert answer.headers["x-trace-id"] == TRACE

    @pytest.mark.parametrize("given", ["", "x", f"00-{TRACE}-b7ad6b7169203331", f"ff-{TRACE}-b7ad6b7169203331-01"])
    async def test_a_malformed_one_is_not(self, client: httpx.AsyncClient, given: str) -> None:
        answer = await client.get("/healthz", headers={"traceparent": given})
        assert len(answer.headers["x-trace-id"]) == 32
        assert answer.headers["x-trace-id"] != TRACE

    async def test_every_call_has_its_own_id(self, client: httpx.AsyncClient) -> None:
        found = {(await client.get(path)).headers["x-request-id"] for path in ("/healthz", "/healthz", "/nowhere")}
        assert len(found) == 3


class TestMemory:
    async def test_a_call_leaves_nothing_to_the_collector(self, app: Api) -> None:
        scope = {"type": "http", "method": "GET", "path": "/healthz", "raw_path": b"/healthz", "query_string": b""}
        tasks: list[weakref.ref[asyncio.Task[Any]]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            current = asyncio.current_task()
            assert current is not None
            assert message.get("status", 200) == 200
            tasks.append(weakref.ref(current))

        gc.disable()
        try:
            await asyncio.create_task(app({**scope, "headers": [], "state": {}}, receive, send))
            await asyncio.sleep(0)
            left = tasks[0]()
        finally:
            gc.enable()
        assert left is None


class TestRates:
    async def test_headers_are_honest_up_to_the_refusal(self, env: dict[str, str], db: Database) -> None:
        limits = {"TIRAGE_API_READS_BURST": "3", "TIRAGE_API_READS_PER_MINUTE": "6"}
        async with running(create_app(api_settings(env, **limits))) as client:
            me = (await client.post("/v1/devices", json={"platform": "ios"})).json()
            auth = {"Authorization": f"Bearer {me['accessToken']}"}
            answers = [await client.get("/v1/me", headers=auth) for _ in range(4)]
            stranger = await client.get("/v1/me")
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers["ratelimit"].split(";")[1] for a in answers] == ["r=2", "r=1", "r=0", "r=0"]
        assert answers[0].headers["ratelimit-policy"] == '"reads";q=3;w=30'
        assert answers[3].json()["code"] == "rate-limited"
        assert 1 <= int(answers[3].headers["retry-after"]) <= 10
        assert stranger.status_code == 401  # another caller has a bucket of its own

    async def test_whoever_guesses_tokens_is_counted_and_slows_nobody_with_a_good_one(
        self, env: dict[str, str], db: Database
    ) -> None:
        limits = {"TIRAGE_API_READS_BURST": "3", "TIRAGE_API_READS_PER_MINUTE": "1"}
        async with running(create_app(api_settings(env, **limits))) as client:
            mine = (await register(client))["auth"]
            forged = [f"Bearer {token}" for token in ("a.b.c", mine["Authorization"][7:-4] + "AAAA", "x", "a.b.c")]
            bad = [await client.get("/v1/me", headers={"Authorization": one}) for one in forged]
            good = [await client.get("/v1/me", headers=mine) for _ in range(2)]
            alive = await client.get("/healthz", headers={"Authorization": "Bearer a.b.c"})
        assert [(a.status_code, a.headers["ratelimit"].split(";")[1]) for a in bad] == [
            *((401, "r=2"), (401, "r=1"), (401, "r=0")),
            (429, "r=0"),
        ]
        assert bad[3].json()["code"] == "rate-limited"
        assert 0 < int(bad[3].headers["retry-after"]) <= 60
        assert [(a.status_code, a.headers["ratelimit"].split(";")[1]) for a in good] == [(200, "r=2"), (200, "r=1")]
        assert alive.status_code == 200  # not counted, and it needs no token

    async def test_new_guests_of_one_address_are_bounded(self, env: dict[str, str], db: Database) -> None:
        async with running(create_app(api_settings(env, TIRAGE_API_DEVICES_BURST="2"))) as client:
            made = [await client.post("/v1/devices", json={"platform": "ios"}) for _ in range(3)]
        assert [m.status_code for m in made] == [201, 201, 429]

    @given(st.lists(st.integers(0, 3_000_000_000), max_size=60), st.integers(1, 5), st.integers(1, 600))
    def test_no_window_holds_more_than_promised(self, gaps: list[int], burst: int, per_minute: int) -> None:
        """In any span, at most the burst and what came back in that span; a refusal's wait is true."""
        now = 0
        bucket = Bucket("x", (burst, per_minute), lambda: now)
        passed: list[int] = []
        for gap in gaps:
            now += gap
            verdict = bucket.take("me")
            if verdict.wait_s == 0:
                passed.append(now)
            else:
                assert verdict.remaining == 0
                kept, now = now, now + verdict.wait_s * 1_000_000_000
                assert Bucket.take(bucket, "me").wait_s == 0
                passed.append(now)
                assert kept < now
        step = 60 * 1_000_000_000 // per_minute
        for i, start in enumerate(passed):
            for j in range(i, len(passed)):
                assert j - i + 1 <= burst + (passed[j] - start) // step + 1

    async def test_a_daily_quota_is_counted_with_what_it_counts(self, db: Database, guest: Guest) -> None:
        owner: Any = ids.decode("owner", (await guest())["ownerId"])
        quota = Quota("things", 2)
        async with db.transaction() as tx:
            assert [await spend(tx, owner, quota), await spend(tx, owner, quota)] == [1, 0]
        for _ in range(2):
            with pytest.raises(QuotaExceeded) as refused:
                async with db.transaction() as tx:
                    await spend(tx, owner, quota)
            assert 0 < (refused.value.retry_after_s or 0) <= 86_400
        async with db.reading() as read:
            assert await read.value("SELECT used FROM quotas WHERE owner_id = $1", owner) == 2

    async def test_a_used_up_day_is_told_with_its_wait(
        self, client: httpx.AsyncClient, guest: Guest, db: Database
    ) -> None:
        me, (sessions, _) = await guest(), UploadLimits().quotas
        async with db.transaction() as tx:
            await spend(tx, ids.decode("owner", me["ownerId"]), sessions, sessions.limit - 1)
        answers = []
        for number in range(3):
            headers = {**me["auth"], "Idempotency-Key": f"key-number-{number}"}
            body = {"bytes": 5, "contentType": "image/jpeg"}
            answers.append(await client.post("/v1/uploads", json=body, headers=headers))
        assert [answer.status_code for answer in answers] == [201, 429, 429]
        for refused in answers[1:]:
            assert refused.json()["code"] == "quota-exceeded"
            assert 0 < int(refused.headers["retry-after"]) == refused.json()["retryAfterS"] <= 86_400
            assert refused.headers["ratelimit-policy"].startswith('"writes"')  # what is left of that is another matter
        async with db.reading() as read:
            assert await read.value("SELECT count(*) FROM uploads") == 1


class TestProxies:
    PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))

    @pytest.mark.parametrize(
        ("peer", "forwarded", "address", "trusted"),
        [
            ("203.0.113.9", [], "203.0.113.9", False),
            ("203.0.113.9", ["198.51.100.1"], "203.0.113.9", False),  # a stranger's claim
            ("10.0.0.1", ["198.51.100.1"], "198.51.100.1", True),
            ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1", True),  # the caller's own claim is to the left
            ("10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.2.2.2"], "198.51.100.1", True),
            ("10.0.0.1", ["junk"], "junk", True),
            ("fd00::1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::", True),
        ],
    )
    def test_the_nearest_untrusted_hop_is_the_caller(
        self, peer: str, forwarded: list[str], address: str, trusted: bool
    ) -> None:
        assert client_address(peer, forwarded, self.PROXIES) == (address, trusted)

    async def test_hsts_only_where_tls_was(self, env: dict[str, str], db: Database) -> None:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
        async with running(create_app(api_settings(env, TIRAGE_API_TRUSTED_PROXIES="192.0.2.0/24"))) as client:
            secure, plain = await client.get("/healthz", headers=forwarded), await client.get("/healthz")
        async with running(create_app(api_settings(env))) as client:
            claimed = await client.get("/healthz", headers=forwarded)
        assert secure.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
        assert "strict-transport-security" not in plain.headers
        assert "strict-transport-security" not in claimed.headers


class TestLimits:
    async def test_a_slow_call_ends_and_gives_its_connection_back(self, env: dict[str, str], db: Database) -> None:
        app = create_app(api_settings(env, TIRAGE_API_TIME_LIMIT="1"))

        @get("/slow")
        async def slow() -> None:
            async with app.services.db.transaction() as tx:
                await tx.execute("SELECT pg_sleep(20)")

        app.register(slow)
        async with running(app) as client:
            answers = await asyncio.gather(*(client.get("/slow") for _ in range(3)))
            after = await client.get("/readyz")
        assert {a.json()["code"] for a in answers} == {"time-limit"}
        assert {(a.status_code, a.headers["retry-after"]) for a in answers} == {(503, "5")}
        assert after.json()["database"] is True

    async def test_streams_must_leave_room(self, env: dict[str, str]) -> None:
        with pytest.raises(SettingsError) as refused:
            api_settings(env, TIRAGE_API_STREAMS="2048", TIRAGE_API_SLOTS="2050", TIRAGE_API_TLS_CERT=__file__)
        assert len(refused.value.faults) == 2


class TestOrigins:
    async def test_allowed_origins_may_read_and_others_not(self, env: dict[str, str], db: Database) -> None:
        async with running(create_app(api_settings(env, TIRAGE_API_ORIGINS="https://shop.example"))) as client:
            asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
            good = await client.options("/v1/uploads", headers={"Origin": "https://shop.example", **asked})
            bad = await client.options("/v1/uploads", headers={"Origin": "https://evil.example", **asked})
            refused = await client.get("/v1/me", headers={"Origin": "https://shop.example"})
            stranger = await client.get("/v1/me", headers={"Origin": "https://evil.example"})
        assert good.status_code == 204
        assert good.headers["access-control-allow-origin"] == "https://shop.example"
        assert "access-control-allow-origin" not in bad.headers
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://shop.example")
        assert "X-Trace-Id" in refused.headers["access-control-expose-headers"]
        assert "access-control-allow-origin" not in stranger.headers


class TestMetrics:
    async def test_routes_are_templates(self, env: dict[str, str], db: Database) -> None:
        async with running(create_app(api_settings(env, TIRAGE_API_METRICS_FROM="192.0.2.0/24"))) as client:
            await client.get("/v1/uploads/upl_01h455vb4pex5vsknk084sn02q")
            await client.get("/nowhere/else")
            text = (await client.get("/metrics")).text
            proxied = await client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"})
        assert 'route="/v1/uploads/{upload_id}",status="401"' in text
        assert 'route="(none)",status="404"' in text
        assert "upl_01h455vb" not in text
        assert "nowhere" not in text
        assert proxied.status_code == 404

    async def test_strangers_find_nothing(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/metrics")).status_code == 404
