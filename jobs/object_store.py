"""The service's S3 bucket: bounded reads, streamed reads, whole writes, presigned links.

Every key is given as a plain key or as `s3://<bucket>/<key>`, and only the configured bucket is served: a job's
arguments come from outside, and must not make the service read or write whatever else its credentials allow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import ClientError

from .errors import InvalidInput, ObjectMissing, UnsafePath

if TYPE_CHECKING:
    from .settings import ServiceSettings

S3_SCHEME = "s3://"
_CHUNK_BYTES = 65_536
_MISSING_CODES = {"404", "NoSuchKey", "NotFound"}


class ObjectStore:
    """One bucket, over one aiobotocore client with its pool of connections.

    Parameters:
        client: an open aiobotocore S3 client.
        bucket: the only bucket that is read and written.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def key_of(self, location: str) -> str:
        """Return the key that a plain key or an `s3://bucket/key` names.

        Raises:
            UnsafePath: another bucket, an empty key, or a key with control characters.
        """
        key = location
        if location.startswith(S3_SCHEME):
            bucket, _, key = location.removeprefix(S3_SCHEME).partition("/")
            if bucket != self.bucket:
                raise UnsafePath(f"{location!r} lies in bucket {bucket!r}; this service uses {self.bucket!r} alone")
        if not key or len(key.encode()) > 1024 or not key.isprintable():
            raise UnsafePath(f"{location!r} is not a usable key; expected 1 to 1024 printable bytes")
        return key

    def url_of(self, key: str) -> str:
        """Return `s3://bucket/key`, the form that a job returns."""
        return f"{S3_SCHEME}{self.bucket}/{key}"

    async def read(self, location: str, max_bytes: int) -> bytes:
        """Return a whole object of at most `max_bytes` bytes.

        The bound holds for what really arrives, whatever length the server announced.

        Raises:
            ObjectMissing: there is no such key.
            InvalidInput: the object is larger than `max_bytes`.
        """
        parts, size_bytes = [], 0
        async for chunk in self.chunks(location):
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise InvalidInput(f"{location!r} is larger than the {max_bytes:,} bytes allowed here")
            parts.append(chunk)
        return b"".join(parts)

    async def chunks(self, location: str) -> AsyncIterator[bytes]:
        """Yield an object piece by piece, never holding more than one piece.

        Raises:
            ObjectMissing: there is no such key.
        """
        key = self.key_of(location)
        try:
            response = await self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            raise self._clear_error(error, location) from error
        async with response["Body"] as body:
            async for chunk in body.iter_chunks(_CHUNK_BYTES):
                yield chunk

    async def write(self, location: str, data: bytes, content_type: str) -> str:
        """Store an object whole, replacing what was there, and return its `s3://` location.

        S3 shows the old or the new object and nothing between, so writing the same key twice is harmless.
        """
        key = self.key_of(location)
        await self.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)
        return self.url_of(key)

    async def exists(self, location: str) -> bool:
        """Tell whether an object is there."""
        try:
            await self.client.head_object(Bucket=self.bucket, Key=self.key_of(location))
        except ClientError as error:
            if _is_missing(error):
                return False
            raise
        return True

    async def keys(self, prefix: str, limit: int) -> list[str]:
        """Return up to `limit` keys that begin with `prefix`, in S3's order."""
        response = await self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=limit)
        return [entry["Key"] for entry in response.get("Contents", [])]

    async def presigned_url(self, location: str, lifetime_s: int) -> str:
        """Return a link that lets anyone read the object for `lifetime_s` seconds."""
        parameters = {"Bucket": self.bucket, "Key": self.key_of(location)}
        link = await self.client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=lifetime_s)
        return str(link)

    async def create_bucket(self) -> None:
        """Make the bucket, for development and tests; a bucket in service exists before its workers."""
        await self.client.create_bucket(Bucket=self.bucket)

    async def ping(self) -> None:
        """Raise what the server says if the bucket cannot be used."""
        await self.client.head_bucket(Bucket=self.bucket)

    @staticmethod
    def _clear_error(error: ClientError, location: str) -> Exception:
        return ObjectMissing(f"there is no object {location!r}") if _is_missing(error) else error


async def open_object_store(settings: ServiceSettings, stack: AsyncExitStack) -> ObjectStore:
    """Open the client once; `stack` closes it.

    Parameters:
        settings: endpoint, region, credentials (the AWS chain when none are given), bucket and pool size.
        stack: whatever closes the service's clients.
    """
    secret = settings.s3_secret_access_key
    config = AioConfig(
        max_pool_connections=settings.s3_connections,
        signature_version="s3v4",
        retries={"max_attempts": 4, "mode": "standard"},
        connect_timeout=10,
        read_timeout=60,
        # Servers on a name of their own (MinIO, moto, Ceph) rarely have a DNS name for each bucket.
        s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
    )
    client = await stack.enter_async_context(
        _session().create_client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=config,
        )
    )
    return ObjectStore(client, settings.s3_bucket)


@lru_cache(maxsize=1)
def _session() -> AioSession:
    """One session a process: it keeps the description of S3's interface, which takes a third of a second to read."""
    return get_session()


def _is_missing(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in _MISSING_CODES
