"""The embedded store: every role's rights, locks, encryption and CORS, on the session's real server."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from base.printing import LOCK_DAYS
from devstack.s3 import BUCKETS, LAXER, client
from devstack.secrets import ROLES

# What each role may do: r read and head, w write, l list. Deleting goes with w and listing uploads with r: see LAXER.
RIGHTS = {
    "api": {"originals": "rwl", "staging": "rwl"},
    "pixel": {"originals": "r", "ancestors": "rw", "derivatives": "w", "masters": "w"},
    "origin": {"ancestors": "r", "derivatives": "rw"},
    "edge": {"derivatives": "r"},
    "reader": {"originals": "r"},
    "record": dict.fromkeys(BUCKETS, "rwl"),
}

ACTIONS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "get": ("r", lambda s3, b: s3.get_object(Bucket=b, Key="rights/there")["Body"].read()),
    "head": ("r", lambda s3, b: s3.head_object(Bucket=b, Key="rights/there")),
    "put": ("w", lambda s3, b: s3.put_object(Bucket=b, Key="rights/new", Body=b"x")),
    "begin parts": ("w", lambda s3, b: s3.create_multipart_upload(Bucket=b, Key="rights/parts")),
    "delete": ("w", lambda s3, b: s3.delete_object(Bucket=b, Key="rights/gone")),
    "list": ("l", lambda s3, b: s3.list_objects_v2(Bucket=b, Prefix="rights/")),
    "list uploads": ("r", lambda s3, b: s3.list_multipart_uploads(Bucket=b)),
    "policy": ("", lambda s3, b: s3.put_bucket_policy(Bucket=b, Policy="{}")),
    "encryption": ("", lambda s3, b: s3.delete_bucket_encryption(Bucket=b)),
    "public": ("", lambda s3, b: s3.put_bucket_acl(Bucket=b, ACL="public-read")),
    "unlock": ("", lambda s3, b: s3.put_object_lock_configuration(Bucket=b, ObjectLockConfiguration={})),
    "remove bucket": ("", lambda s3, b: s3.delete_bucket(Bucket=b)),
    "make bucket": ("", lambda s3, b: s3.create_bucket(Bucket=b + "-other")),
}


@pytest.fixture(scope="module")
def clients(stack_env: dict[str, str]) -> dict[str, Any]:
    def of(role: str) -> Any:
        names = (f"TIRAGE_S3_{role.upper()}_{part}_KEY" for part in ("ACCESS", "SECRET"))
        access, secret = (stack_env[name] for name in names)
        return client(stack_env["TIRAGE_S3_ENDPOINT"], (access, secret))

    return {role: of(role) for role in ROLES}


@pytest.fixture(scope="module")
def names(stack_env: dict[str, str], clients: dict[str, Any]) -> dict[str, str]:
    """Bucket names by use; each holds the object `rights/there`."""
    found = {use: stack_env[f"TIRAGE_BUCKET_{use.upper()}"] for use in BUCKETS}
    for name in found.values():
        clients["record"].put_object(Bucket=name, Key="rights/there", Body=b"there")
    return found


def code_of(call: Callable[[], Any]) -> str:
    """`ok`, or the store's error code."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_its_part_and_nothing_else(role: str, clients: dict[str, Any], names: dict[str, str]) -> None:
    wrong = []
    for use, (action, (right, call)) in itertools.product(BUCKETS, ACTIONS.items()):
        is_allowed = bool(right) and right in RIGHTS[role].get(use, "")
        code = code_of(lambda call=call, use=use: call(clients[role], names[use]))  # type: ignore[misc]
        if (code == "ok") != is_allowed or code not in ("ok", "AccessDenied", "403"):
            wrong.append(f"{action} {use}: {code}")
    assert wrong == []


class TestLaxness:
    """What the embedded store allows beyond production's policies, and that it is said."""

    def test_write_includes_delete(self, clients: dict[str, Any], names: dict[str, str]) -> None:
        target = {"Bucket": names["derivatives"], "Key": "rights/lax"}
        clients["pixel"].put_object(**target, Body=b"x")
        assert code_of(lambda: clients["pixel"].delete_object(**target)) == "ok"
        assert any("Write includes overwriting and deleting" in line for line in LAXER)

    def test_write_includes_the_bucket_s_settings(self, clients: dict[str, Any], names: dict[str, str]) -> None:
        rule = {"AllowedOrigins": ["https://shop.example"], "AllowedMethods": ["GET"]}
        target = {"Bucket": names["ancestors"], "CORSConfiguration": {"CORSRules": [rule]}}
        assert code_of(lambda: clients["pixel"].put_bucket_cors(**target)) == "ok"
        assert code_of(lambda: clients["origin"].put_bucket_cors(**target)) == "AccessDenied"
        clients["pixel"].delete_bucket_cors(Bucket=names["ancestors"])
        assert any("CORS, lifecycle and versioning" in line for line in LAXER)

    def test_an_absent_key_is_404_to_who_may_not_list(self, clients: dict[str, Any], names: dict[str, str]) -> None:
        target = {"Bucket": names["derivatives"], "Key": "rights/absent"}
        assert code_of(lambda: clients["edge"].head_object(**target)) == "404"
        assert any("told 404" in line for line in LAXER)


def test_no_role_sees_buckets_it_may_not_list(clients: dict[str, Any]) -> None:
    assert clients["edge"].list_buckets()["Buckets"] == []


def test_a_presigned_url_carries_only_its_role_s_rights(clients: dict[str, Any], names: dict[str, str]) -> None:
    def status(role: str, use: str) -> int:
        target = {"Bucket": names[use], "Key": "rights/there"}
        url = clients[role].generate_presigned_url("get_object", Params=target, ExpiresIn=60)
        try:
            with urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except OSError as error:
            return int(getattr(error, "code", 0))

    assert (status("api", "originals"), status("api", "derivatives")) == (200, 403)
    assert (status("edge", "derivatives"), status("edge", "masters")) == (200, 403)


class TestMasters:
    def test_a_plain_put_is_locked_against_everybody(self, clients: dict[str, Any], names: dict[str, str]) -> None:
        bucket = names["masters"]
        version = clients["pixel"].put_object(Bucket=bucket, Key="locked", Body=b"m")["VersionId"]
        held = clients["record"].get_object_retention(Bucket=bucket, Key="locked", VersionId=version)["Retention"]
        assert held["Mode"] == "COMPLIANCE"
        days = (held["RetainUntilDate"] - datetime.now(UTC)) / timedelta(days=1)
        assert LOCK_DAYS - 1 < days <= LOCK_DAYS
        for role in ("pixel", "record"):
            for extra in ({}, {"BypassGovernanceRetention": True}):
                target = {"Bucket": bucket, "Key": "locked", "VersionId": version, **extra}
                assert code_of(lambda t=target, r=role: clients[r].delete_object(**t)) == "AccessDenied"  # type: ignore[misc]

    def test_a_lock_gets_longer_and_never_shorter(self, clients: dict[str, Any], names: dict[str, str]) -> None:
        target = {"Bucket": names["masters"], "Key": "lengthened"}
        target["VersionId"] = clients["pixel"].put_object(**target, Body=b"m")["VersionId"]

        def hold(days: int) -> str:
            until = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=days)}
            return code_of(lambda: clients["record"].put_object_retention(**target, Retention=until))

        assert (hold(180), hold(1)) == ("ok", "AccessDenied")
        held = clients["record"].get_object_retention(**target)["Retention"]["RetainUntilDate"]
        assert held > datetime.now(UTC) + timedelta(days=179)

    def test_a_second_put_makes_a_version_and_keeps_the_first(
        self, clients: dict[str, Any], names: dict[str, str]
    ) -> None:
        target = {"Bucket": names["masters"], "Key": "twice"}
        first = clients["pixel"].put_object(**target, Body=b"first")["VersionId"]
        clients["pixel"].put_object(**target, Body=b"second")
        body = clients["record"].get_object(**target, VersionId=first)["Body"].read()
        assert body == b"first"
        assert (
            code_of(lambda: clients["pixel"].put_object(**target, Body=b"x", IfNoneMatch="*")) == "PreconditionFailed"
        )

    def test_no_other_role_sets_retention(self, clients: dict[str, Any], names: dict[str, str]) -> None:
        until = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=99)}
        target = {"Bucket": names["masters"], "Key": "rights/there"}
        for role in ("api", "origin", "edge"):
            code = code_of(lambda r=role: clients[r].put_object_retention(**target, Retention=until))  # type: ignore[misc]
            assert code == "AccessDenied"


def test_originals_are_encrypted_without_asking(clients: dict[str, Any], names: dict[str, str]) -> None:
    head = clients["api"].head_object(Bucket=names["originals"], Key="rights/there")
    assert head["ServerSideEncryption"] == "AES256"


def test_browsers_may_put_originals_and_read_what_proves_it(
    stack_env: dict[str, str], clients: dict[str, Any], names: dict[str, str]
) -> None:
    target = {"Bucket": names["originals"], "Key": "rights/cors"}
    url = clients["api"].generate_presigned_url("put_object", Params=target, ExpiresIn=60)
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type,x-amz-checksum-sha256",
    }
    with urlopen(Request(url, method="OPTIONS", headers=asked), timeout=5) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://shop.example")
    put = Request(url, data=b"x", method="PUT", headers={"Origin": "https://shop.example"})
    with urlopen(put, timeout=5) as answer:
        exposed = {name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
    assert {"etag", "x-amz-checksum-sha256", "x-amz-checksum-crc32c"} <= exposed
