"""The embedded object store's buckets, rights and locks.

`GRANTS` is what each role may do, in the embedded store's words; `policies/` holds the same as AWS policy documents for
production. Where the embedded store is laxer is said in `LAXER`, and `tirage status` shows it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKETS: Final = ("originals", "ancestors", "derivatives", "masters", "staging")
LOCK_DAYS: Final = 30

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
    "record": (
        *(f"{action}:{bucket}" for bucket in BUCKETS for action in ("Read", "Write", "List")),
        "PutObjectRetention:masters",
    ),
}

LAXER: Final = (
    "Write includes overwriting and deleting: pixel workers and the origin send If-None-Match themselves",
    "Write on originals includes reading back nothing but also deleting: in production the API may only put",
    "the filer, volume and master ports have no authentication: they listen on loopback only",
    "no TLS and no KMS: encryption at rest uses one key kept in the data folder",
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


def s3_config(secrets: Mapping[str, str], buckets: Mapping[str, str]) -> str:
    """The identities file: every role's key with its grants on this region's buckets."""
    return json.dumps(
        {
            "identities": [
                {
                    "name": role,
                    "credentials": [
                        {"accessKey": secrets[f"s3_{role}_access"], "secretKey": secrets[f"s3_{role}_secret"]}
                    ],
                    "actions": [_localised(grant, buckets) for grant in grants],
                }
                for role, grants in GRANTS.items()
            ]
        },
        indent=1,
    )


def _localised(grant: str, buckets: Mapping[str, str]) -> str:
    action, colon, bucket = grant.partition(":")
    return f"{action}:{buckets[bucket]}" if colon else action


def is_answering(endpoint: str, admin: tuple[str, str]) -> bool:
    """Whether the store lists buckets."""
    try:
        client(endpoint, admin).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def takes_objects(endpoint: str, admin: tuple[str, str], bucket: str) -> bool:
    """Whether an object can be stored: volumes are assigned a second after the gateway answers."""
    try:
        client(endpoint, admin).put_object(Bucket=bucket, Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    return True


def set_up_buckets(endpoint: str, admin: tuple[str, str], buckets: Mapping[str, str]) -> None:
    """Make the buckets that are missing; a bucket that is there is left as it is."""
    s3 = client(endpoint, admin)
    present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for use, name in buckets.items():
        if name in present:
            continue
        s3.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if use == "masters" else {}))
        _configure(s3, use, name)


def _configure(s3: Any, use: str, name: str) -> None:
    if use == "masters":
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": LOCK_DAYS}}
        s3.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
    if use == "originals":
        encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration=encryption)
    if use in ("originals", "staging"):
        s3.put_bucket_cors(
            Bucket=name,
            CORSConfiguration={
                "CORSRules": [
                    {
                        "AllowedOrigins": ["*"],
                        "AllowedMethods": ["PUT"],
                        "AllowedHeaders": ["content-type", "content-length", "x-amz-checksum-sha256"],
                        "ExposeHeaders": ["ETag", "x-amz-checksum-sha256"],
                        "MaxAgeSeconds": 3600,
                    }
                ]
            },
        )
