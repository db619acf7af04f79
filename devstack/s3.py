"""The embedded object store's buckets, rights and locks.

`GRANTS` is what each role may do, in the embedded store's words; `policies/` holds the same as AWS policy documents
for production, narrower where AWS can be. Where the embedded store is laxer is said in `LAXER`, and `tirage status`
shows it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from base.printing import LOCK_DAYS

BUCKETS: Final = ("originals", "ancestors", "derivatives", "masters", "staging")
CHECKSUMS: Final = tuple(f"x-amz-checksum-{kind}" for kind in ("sha256", "crc32", "crc32c", "crc64nvme"))

Keys = Mapping[str, tuple[str, str]]
"""Access key and secret of each role."""

GRANTS: Final[dict[str, tuple[str, ...]]] = {
    "admin": ("Admin", "Read", "List", "Tagging", "Write"),
    "api": ("Read:originals", "Write:originals", "List:originals", "Read:staging", "Write:staging", "List:staging"),
    "pixel": (
        "Read:originals",
        "Read:ancestors",
        "Write:ancestors",
        "Write:derivatives",
        "Write:masters",
        "PutObjectRetention:masters",
    ),
    "origin": ("Read:ancestors", "Read:derivatives", "Write:derivatives"),
    "edge": ("Read:derivatives",),
    "reader": ("Read:originals",),
    "record": (
        *(f"{action}:{bucket}" for bucket in BUCKETS for action in ("Read", "Write", "List")),
        "GetObjectRetention:masters",
        "PutObjectRetention:masters",
    ),
}

LAXER: Final = (
    "Write includes overwriting and deleting: the API, pixel workers and the origin could delete where they may write "
    "(in production only the record role may); pixel workers and the origin send If-None-Match themselves",
    "Write on a bucket includes its CORS, lifecycle and versioning settings; Read includes listing unfinished uploads",
    "who may read but not list is told 404 for an absent key, where AWS says 403 (production's policies allow listing)",
    "the store's master and its gRPC ports have no authentication: they listen on loopback only",
    "no TLS, and no KMS: originals are encrypted with one key kept in the data folder",
)


def client(endpoint: str, key: tuple[str, str]) -> Any:
    """A boto3 S3 client for one key, with short timeouts."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": 1},
        ),
    )


def s3_config(keys: Keys, buckets: Mapping[str, str]) -> str:
    """The identities file: every role's key with its grants on this region's buckets."""
    identities = [
        {
            "name": role,
            "credentials": [{"accessKey": keys[role][0], "secretKey": keys[role][1]}],
            "actions": [_localised(grant, buckets) for grant in grants],
        }
        for role, grants in GRANTS.items()
    ]
    return json.dumps({"identities": identities}, indent=1)


def _localised(grant: str, buckets: Mapping[str, str]) -> str:
    action, colon, bucket = grant.partition(":")
    return f"{action}:{buckets[bucket]}" if colon else action


def is_answering(s3: Any) -> bool:
    """Whether the store lists buckets."""
    return _succeeds(s3.list_buckets)


def takes_objects(s3: Any, bucket: str) -> bool:
    """Whether an object can be stored: volumes are assigned a second after the gateway answers."""
    if not _succeeds(lambda: s3.put_object(Bucket=bucket, Key=".ready", Body=b"1")):
        return False
    return _succeeds(lambda: s3.delete_object(Bucket=bucket, Key=".ready"))


def set_up_buckets(s3: Any, buckets: Mapping[str, str]) -> bool:
    """Make the buckets that are missing and give each its settings, also one that an earlier start left half made."""

    def run() -> None:
        present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        for use, name in buckets.items():
            if name not in present:
                s3.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if use == "masters" else {}))
            _configure(s3, use, name)

    return _succeeds(run)


def _succeeds(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (BotoCoreError, ClientError):
        return False
    return True


def _configure(s3: Any, use: str, name: str) -> None:
    if use == "masters":
        retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": LOCK_DAYS}}
        s3.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention}
        )
    if use == "originals":
        encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration=encryption)
    if use in ("originals", "staging"):
        rule = {
            "AllowedOrigins": ["*"],
            "AllowedMethods": ["PUT"],
            "AllowedHeaders": ["content-type", "content-length", "content-md5", *CHECKSUMS],
            "ExposeHeaders": ["ETag", *CHECKSUMS],
            "MaxAgeSeconds": 3600,
        }
        s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
