"""The object store: one port over S3, blocking boto3 calls on one bounded thread pool, every call with a timeout."""

import asyncio
import contextlib
import functools
import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import IO, Any, BinaryIO, Final, ParamSpec, TypeVar

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from base.errors import ServiceUnavailable
from base.settings import Reader, Secret

P = ParamSpec("P")
R = TypeVar("R")

_ABSENT: Final = frozenset({"NoSuchVersion", "404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_TAKEN: Final = frozenset({"412", "PreconditionFailed"})
_PARTS: Final = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
PIECE: Final = 1024 * 1024


class ObjectAbsent(Exception):
    """There is no such object (or multipart upload)."""


class ObjectExists(Exception):
    """`put_new` found the key taken: somebody stored it first."""


class ObjectLocked(Exception):
    """A version's lock lasts still: nobody can remove it."""


class PartsRefused(Exception):
    """A multipart upload could not be put together from the parts named: one is gone or was sent anew."""


class ObjectStoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the store is and with which role's key; `ca`: a file of the only authorities believed over https."""

    endpoint: str
    region: str
    access_key: str
    secret_key: Secret[str]
    threads: int
    connect_timeout_s: int
    read_timeout_s: int
    ca: str | None = None


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """The five buckets of a region (artifact classes with separate lifecycles, R9)."""

    originals: str
    ancestors: str
    derivatives: str
    masters: str
    staging: str


def read_store(read: Reader, role: str) -> ObjectStoreSettings:
    """The store's settings with the key of `role` (API, PIXEL, ORIGIN, EDGE or RECORD)."""
    return ObjectStoreSettings(
        endpoint=read.url("TIRAGE_S3_ENDPOINT", frozenset({"http", "https"})),
        region=read.text("TIRAGE_S3_REGION", "us-east-1"),
        access_key=read.text(f"TIRAGE_S3_{role}_ACCESS_KEY"),
        secret_key=read.secret(f"TIRAGE_S3_{role}_SECRET_KEY"),
        threads=read.number("TIRAGE_S3_THREADS", 16, 1, 256),
        connect_timeout_s=read.number("TIRAGE_S3_CONNECT_TIMEOUT", 3, 1, 60),
        read_timeout_s=read.number("TIRAGE_S3_READ_TIMEOUT", 20, 1, 600),
        ca=read.file("TIRAGE_S3_CA"),
    )


def read_buckets(read: Reader) -> Buckets:
    """The bucket names of this region."""
    return Buckets(
        originals=read.text("TIRAGE_BUCKET_ORIGINALS"),
        ancestors=read.text("TIRAGE_BUCKET_ANCESTORS"),
        derivatives=read.text("TIRAGE_BUCKET_DERIVATIVES"),
        masters=read.text("TIRAGE_BUCKET_MASTERS"),
        staging=read.text("TIRAGE_BUCKET_STAGING"),
    )


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where another region keeps its bytes, with the key of one role."""

    store: ObjectStoreSettings
    buckets: Buckets


def read_site(read: Reader, role: str) -> SiteSettings:
    """Store and buckets of the region that `read` reads."""
    return SiteSettings(store=read_store(read, role), buckets=read_buckets(read))


class ObjectHead(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says of an object; `sha256` (hex) only where the store kept the checksum it enforced."""

    size: int
    etag: str
    sha256: str | None
    metadata: dict[str, str]
    version: str | None
    modified: datetime


class StoredPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part that the store holds of an unfinished multipart upload."""

    number: int
    size: int
    etag: str
    modified: datetime


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a listing: an object, with `version` one of its versions, or with `upload` an unfinished upload."""

    key: str
    size: int
    modified: datetime
    upload: str | None = None
    version: str | None = None


@functools.cache
def _session() -> boto3.session.Session:
    """One a process: each session reads botocore's models of the service again, 70 ms and 10 MB. It holds no key."""
    return boto3.session.Session()


class ObjectStore:
    """S3 for one role. Async methods run on a bounded pool; a store that does not answer is `ServiceUnavailable`."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="s3")
        self._client: Any = _session().client(
            "s3",
            endpoint_url=settings.endpoint,
            verify=settings.ca or True,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key.reveal(),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=settings.connect_timeout_s,
                read_timeout=settings.read_timeout_s,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=settings.threads,
            ),
        )

    def close(self) -> None:
        """Let running calls end and release the pool."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    async def _run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: _ask(call, *args, **kwargs))

    async def get(self, bucket: str, key: str, version: str | None = None) -> bytes:
        """The whole object; raises `ObjectAbsent`."""
        return await self._run(self._get, bucket, key, version)

    def _get(self, bucket: str, key: str, version: str | None) -> bytes:
        extra = {"VersionId": version} if version else {}
        body: bytes = self._client.get_object(Bucket=bucket, Key=key, **extra)["Body"].read()
        return body

    async def head(self, bucket: str, key: str) -> ObjectHead:
        """Size, hash and metadata; raises `ObjectAbsent`."""
        return await self._run(self._head, bucket, key)

    def _head(self, bucket: str, key: str) -> ObjectHead:
        answer = self._client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        checksum = answer.get("ChecksumSHA256")
        return ObjectHead(
            size=answer["ContentLength"],
            etag=answer["ETag"],
            sha256=_hex(checksum) if checksum else None,
            metadata=dict(answer.get("Metadata", {})),
            version=answer.get("VersionId"),
            modified=answer["LastModified"],
        )

    async def ping(self, bucket: str) -> None:
        """Whether the store answers at all; raises `ServiceUnavailable`. An absent or forbidden key is an answer."""
        with contextlib.suppress(ObjectAbsent, ClientError):
            await self.head(bucket, "ping")

    async def put(self, bucket: str, key: str, data: bytes, content_type: str) -> None:
        """Store an object whose bytes are a function of its key; storing it again is harmless."""
        await self._run(self._put, bucket, key, data, content_type, {})

    async def put_new(self, bucket: str, key: str, data: bytes | bytearray | IO[bytes], content_type: str) -> None:
        """Store bytes, or a file, only if the key is free (`If-None-Match: *`); raises `ObjectExists`."""
        await self._run(self._put, bucket, key, data, content_type, {"IfNoneMatch": "*"})

    async def put_version(self, bucket: str, key: str, data: bytes, content_type: str) -> str:
        """Store a version in a bucket that keeps versions under its default lock; the version's id."""
        version: str = await self._run(self._put, bucket, key, data, content_type, {})
        return version

    def _put(
        self,
        bucket: str,
        key: str,
        data: bytes | bytearray | IO[bytes],
        content_type: str,
        extra: Mapping[str, str],
    ) -> str:
        found = hashlib.sha256(data) if isinstance(data, bytes | bytearray) else _sha256_of(data)
        digest = b64encode(found.digest()).decode()
        answer = self._client.put_object(
            Bucket=bucket, Key=key, Body=data, ContentType=content_type, ChecksumSHA256=digest, **extra
        )
        return str(answer.get("VersionId", ""))

    async def delete(self, bucket: str, key: str) -> None:
        """Remove an object; an absent one is fine."""
        await self._run(self._client.delete_object, Bucket=bucket, Key=key)

    async def delete_version(self, bucket: str, key: str, version: str) -> None:
        """Remove one version; an absent one is fine. Raises `ObjectLocked` while its lock lasts."""
        await self._run(self._delete_version, bucket, key, version)

    def _delete_version(self, bucket: str, key: str, version: str) -> None:
        try:
            self._client.delete_object(Bucket=bucket, Key=key, VersionId=version)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "AccessDenied":
                raise ObjectLocked(key) from error
            raise

    async def list_keys(self, bucket: str, prefix: str, limit: int = 1000) -> list[str]:
        """Up to `limit` keys under `prefix`, in key order."""
        answer = await self._run(self._client.list_objects_v2, Bucket=bucket, Prefix=prefix, MaxKeys=limit)
        return [entry["Key"] for entry in answer.get("Contents", [])]

    async def listing(self, bucket: str, prefix: str, after: str = "", limit: int = 1000) -> list[Stored]:
        """Up to `limit` objects under `prefix` with keys greater than `after`, in key order."""
        answer = await self._run(
            self._client.list_objects_v2, Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit
        )
        return [
            Stored(key=entry["Key"], size=entry["Size"], modified=entry["LastModified"])
            for entry in answer.get("Contents", [])
        ]

    async def versions(self, bucket: str) -> list[Stored]:
        """Every version of every object, every page."""
        return await self._run(self._versions, bucket)

    def _versions(self, bucket: str) -> list[Stored]:
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        return [
            Stored(key=found["Key"], size=found["Size"], modified=found["LastModified"], version=found["VersionId"])
            for page in pages
            for found in page.get("Versions", [])
        ]

    async def locked_until(self, bucket: str, key: str, version: str) -> datetime | None:
        """Until when nobody can remove a version (retention in mode COMPLIANCE), or None; raises `ObjectAbsent`."""
        return await self._run(self._locked_until, bucket, key, version)

    def _locked_until(self, bucket: str, key: str, version: str) -> datetime | None:
        try:
            told = self._client.get_object_retention(Bucket=bucket, Key=key, VersionId=version)["Retention"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchObjectLockConfiguration":
                return None
            raise
        return told["RetainUntilDate"] if told.get("Mode") == "COMPLIANCE" else None

    async def digest(self, bucket: str, key: str, first: int = 0) -> str:
        """The SHA-256 (hex) of an object's bytes from the one at `first` on, read in pieces; raises `ObjectAbsent`."""
        return await self._run(self._digest, bucket, key, first)

    def _digest(self, bucket: str, key: str, first: int) -> str:
        found = hashlib.sha256()
        extra = {"Range": f"bytes={first}-"} if first else {}
        for piece in self._client.get_object(Bucket=bucket, Key=key, **extra)["Body"].iter_chunks(PIECE):
            found.update(piece)
        return found.hexdigest()

    async def begin_multipart(self, bucket: str, key: str, content_type: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload whose object will carry `metadata`; the store's id of it."""
        answer = await self._run(
            self._client.create_multipart_upload,
            Bucket=bucket,
            Key=key,
            ContentType=content_type,
            Metadata=dict(metadata),
        )
        return str(answer["UploadId"])

    async def put_part(self, bucket: str, key: str, upload: str, number: int, source: BinaryIO) -> StoredPart:
        """Send a file as one part ourselves, read in pieces; raises `ObjectAbsent` when the upload is gone."""
        return await self._run(self._put_part, bucket, key, upload, number, source)

    def _put_part(self, bucket: str, key: str, upload: str, number: int, source: BinaryIO) -> StoredPart:
        size = source.seek(0, os.SEEK_END)
        digest = b64encode(_sha256_of(source).digest()).decode()
        answer = self._client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=source, ChecksumSHA256=digest
        )
        return StoredPart(number=number, size=size, etag=answer["ETag"], modified=datetime.now(UTC))

    async def parts(self, bucket: str, key: str, upload: str) -> list[StoredPart]:
        """What the store holds of a multipart upload, every page; raises `ObjectAbsent` when the upload is gone.

        SeaweedFS lists a part as often as it was sent, and ends the upload with the newest of those that are named. The
        same bytes are listed once here: named twice, it removes what it has just made the object of.
        """
        return await self._run(self._parts, bucket, key, upload)

    def _parts(self, bucket: str, key: str, upload: str) -> list[StoredPart]:
        pages = self._client.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=upload)
        found = {
            (part["PartNumber"], part["ETag"]): StoredPart(
                number=part["PartNumber"], size=part["Size"], etag=part["ETag"], modified=part["LastModified"]
            )
            for page in pages
            for part in page.get("Parts", [])
        }
        return list(found.values())

    async def end_multipart(
        self, bucket: str, key: str, upload: str, parts: Sequence[StoredPart], *, over: bool = False
    ) -> None:
        """Put the parts together, if the key is free; `over`: whatever is there.

        Raises `ObjectAbsent` (no such upload: perhaps it was ended before), `ObjectExists`, `PartsRefused`, and
        `ServiceUnavailable` when it is not known how it ended; look at the object then.
        """
        named = [{"PartNumber": part.number, "ETag": part.etag} for part in sorted(parts, key=lambda p: p.number)]
        await self._run(
            self._client.complete_multipart_upload,
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": named},
            **({} if over else {"IfNoneMatch": "*"}),
        )

    async def abort_multipart(self, bucket: str, key: str, upload: str) -> None:
        """Forget a multipart upload and its parts; an absent one is fine."""
        with contextlib.suppress(ObjectAbsent):
            await self._run(self._client.abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload)

    async def multiparts(self, bucket: str, prefix: str = "") -> list[Stored]:
        """Unfinished multipart uploads, every page; `modified` is when each was begun."""
        return await self._run(self._multiparts, bucket, prefix)

    def _multiparts(self, bucket: str, prefix: str) -> list[Stored]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        return [
            Stored(key=found["Key"], size=0, modified=found["Initiated"], upload=found["UploadId"])
            for page in pages
            for found in page.get("Uploads", [])
        ]

    def presign_new(
        self,
        bucket: str,
        key: str,
        *,
        size: int,
        content_type: str,
        sha256: str | None,
        metadata: Mapping[str, str],
        expires_s: int,
    ) -> tuple[str, dict[str, str]]:
        """A URL that accepts one PUT of `size` bytes with `metadata` to a free key, and the headers to send with it.

        Length, metadata, `If-None-Match: *` and, where known, the SHA-256 (hex) are signed. No network is used.
        """
        params: dict[str, Any] = {
            "Bucket": bucket,
            "Key": key,
            "ContentLength": size,
            "ContentType": content_type,
            "IfNoneMatch": "*",
            "Metadata": dict(metadata),
        }
        headers = {"Content-Type": content_type, "Content-Length": str(size), "If-None-Match": "*"}
        headers |= {f"x-amz-meta-{name}": value for name, value in metadata.items()}
        return self._presigned("put_object", params, headers, sha256, expires_s)

    def presign_part(
        self, bucket: str, key: str, *, upload: str, number: int, size: int, sha256: str | None, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        """A URL that accepts PUTs of one part of exactly `size` bytes, and the headers to send with it.

        The length is signed, and the SHA-256 (hex) where it is known, so the store refuses other bytes (SigV4 signed
        headers). Once the upload is ended or aborted the URL is good for nothing. No network is used.
        """
        params: dict[str, Any] = {
            "Bucket": bucket,
            "Key": key,
            "UploadId": upload,
            "PartNumber": number,
            "ContentLength": size,
        }
        return self._presigned("upload_part", params, {"Content-Length": str(size)}, sha256, expires_s)

    def _presigned(
        self, method: str, params: dict[str, Any], headers: dict[str, str], sha256: str | None, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        if sha256 is not None:
            params["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = b64encode(bytes.fromhex(sha256)).decode()
        url: str = self._client.generate_presigned_url(method, Params=params, ExpiresIn=expires_s)
        return url, headers

    def presign_get(self, bucket: str, key: str, *, filename: str, expires_s: int) -> str:
        """A URL that gives one object for a while, to be saved as `filename`. No network is used."""
        params = {"Bucket": bucket, "Key": key, "ResponseContentDisposition": f'attachment; filename="{filename}"'}
        url: str = self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_s)
        return url

    def presign_version(self, bucket: str, key: str, *, version: str, expires_s: int) -> str:
        """A URL by which anybody may read one version for `expires_s` seconds (at most 604800). No network is used."""
        params = {"Bucket": bucket, "Key": key, "VersionId": version}
        url: str = self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_s)
        return url


class Site(msgspec.Struct, frozen=True):
    """One region's bytes: a store and its buckets."""

    store: ObjectStore
    buckets: Buckets


class Sites:
    """The bytes of every region this process may reach; another region's store is opened when it is first asked."""

    def __init__(self, here: str, site: Site, others: Mapping[str, SiteSettings] | None = None) -> None:
        self._here, self._open, self._others = here, {here: site}, dict(others or {})

    @property
    def here(self) -> Site:
        """This region's."""
        return self._open[self._here]

    @property
    def names(self) -> tuple[str, ...]:
        """Every region that can be reached, this one first."""
        return (self._here, *self._others)

    def at(self, region: str) -> Site:
        """A region's; raises `ServiceUnavailable` for one that this process does not reach."""
        if region not in self._open:
            if region not in self._others:
                raise ServiceUnavailable(f"the region {region} cannot be reached from here")
            settings = self._others[region]
            self._open[region] = Site(ObjectStore(settings.store), settings.buckets)
        return self._open[region]

    def close(self) -> None:
        """Close every store that was opened."""
        for site in self._open.values():
            site.store.close()


def _sha256_of(source: IO[bytes]) -> "hashlib._Hash":
    """The hash of a file, read in pieces; it stands at its beginning then."""
    found = hashlib.sha256()
    source.seek(0)
    while piece := source.read(PIECE):
        found.update(piece)
    source.seek(0)
    return found


def _hex(checksum: str) -> str:
    return b64decode(checksum).hex()


def _ask(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return call(*args, **kwargs)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _ABSENT:
            raise ObjectAbsent(str(error.operation_name)) from error
        if code in _TAKEN or status == 412:
            raise ObjectExists(str(error.operation_name)) from error
        if code in _PARTS:
            raise PartsRefused(code) from error
        if status >= 500 or status == 429:
            raise ServiceUnavailable("the object store does not answer") from error
        raise
    except BotoCoreError as error:
        raise ServiceUnavailable("the object store does not answer") from error
