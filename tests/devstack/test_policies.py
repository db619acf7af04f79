"""Production's policies say what the embedded store grants, and nothing more than is listed here."""

import json
from pathlib import Path
from typing import Any

import pytest

from devstack.s3 import BUCKETS, GRANTS
from devstack.secrets import ROLES

POLICIES = Path(__file__).parents[2] / "devstack" / "policies"

# AWS's action -> the embedded store's action that covers it.
COVERED_BY = {
    "s3:GetObject": "Read",
    "s3:GetObjectVersion": "Read",
    "s3:ListMultipartUploadParts": "Read",
    "s3:PutObject": "Write",
    "s3:AbortMultipartUpload": "Write",
    "s3:DeleteObject": "Write",
    "s3:DeleteObjectVersion": "Write",
    "s3:ListBucket": "List",
    "s3:ListBucketVersions": "List",
    "s3:ListBucketMultipartUploads": "List",
    "s3:GetObjectRetention": "GetObjectRetention",
    "s3:PutObjectRetention": "PutObjectRetention",
}
ON_BUCKETS = {"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"}


def statements(role: str) -> list[dict[str, Any]]:
    policy = json.loads((POLICIES / f"{role}.json").read_text())
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def rights(role: str) -> set[tuple[str, str]]:
    """(AWS action, bucket) pairs a role may use in production."""
    found = set()
    for statement in statements(role):
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                name, slash, path = resource.removeprefix("arn:aws:s3:::").partition("/")
                use, dash, region = name.partition("-")
                assert (dash, region) == ("-", "REGION"), resource
                assert (slash + path == "") == (action in ON_BUCKETS), (action, resource)
                assert path in ("", "*")
                found.add((action, use))
    return found


def test_there_is_a_policy_for_every_role_and_no_other() -> None:
    assert {p.stem for p in POLICIES.glob("*.json")} == set(ROLES)
    assert set(GRANTS) == {"admin", *ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_policy_equals_the_grants(role: str) -> None:
    granted = {tuple(grant.split(":")) for grant in GRANTS[role]}
    assert {bucket for _, bucket in granted} <= set(BUCKETS)
    asked = {(COVERED_BY[action], bucket) for action, bucket in rights(role)}
    # AWS answers 403 for an absent key to who may not list (GetObject, "Permissions"); the embedded store says 404.
    for_404 = {("List", bucket) for action, bucket in granted if action == "Read"}
    assert asked == granted | for_404


def test_only_the_record_role_deletes() -> None:
    deleting = {role for role in ROLES for action, _ in rights(role) if "Delete" in action}
    assert deleting == {"record"}


def test_nobody_bypasses_locks_or_changes_buckets() -> None:
    known = {action for role in ROLES for action, _ in rights(role)}
    assert known <= set(COVERED_BY)


@pytest.mark.parametrize(
    ("role", "bucket"), [("pixel", "derivatives"), ("pixel", "masters"), ("origin", "derivatives")]
)
def test_immutable_objects_are_written_once(role: str, bucket: str) -> None:
    for statement in statements(role):
        if "s3:PutObject" in statement["Action"] and any(f":::{bucket}-" in r for r in statement["Resource"]):
            assert statement["Condition"] == {"Null": {"s3:if-none-match": "false"}}
