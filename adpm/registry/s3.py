"""S3, and the many servers that speak its language, through s3fs.

Where credentials, region and endpoint come from is what every AWS tool does (``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ``~/.aws``); what fsspec is configured with (``FSSPEC_S3``, ``~/.config/fsspec``) is added to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import botocore.exceptions
import fsspec.asyn
import fsspec.config
import s3fs

from adpm import limits
from adpm.core.settings import connections
from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError
from adpm.net.body import RangesIgnoredError
from adpm.net.faults import too_large
from adpm.registry.bucket import Bucket
from adpm.registry.place import Content

__all__ = ["S3Bucket"]

_CONNECTION: Final = (botocore.exceptions.BotoCoreError, aiohttp.ClientError, TimeoutError, fsspec.asyn.FSTimeoutError)
_CREDENTIALS: Final = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.ProfileNotFound,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.SSOError,
)
_TRY_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})


class S3Bucket(Bucket):
    """The objects of ``bucket`` whose keys begin with ``prefix``. Nothing is sent before the first call."""

    can_create = True
    can_swap = True

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        timeouts = {
            "connect_timeout": limits.CONNECT_TIMEOUT_SECONDS,
            "read_timeout": limits.READ_TIMEOUT_SECONDS,
            "max_pool_connections": connections(),
            "retries": {"mode": "standard", "total_max_attempts": limits.RETRIES + 1},
        }
        # An instance of our own: what other users of s3fs set, or have listed, is none of ours.
        self._s3: Any = s3fs.S3FileSystem(
            config_kwargs=timeouts | configured, use_listings_cache=False, skip_instance_cache=True
        )
        self._s3.retries = 1  # botocore tries again already

    def get(self, key: str, limit: int) -> Content:
        with self._faults(key):
            answer, data = self._document(key, limit + 1)
        if len(data) > limit:
            raise too_large(self._url(key), limit)
        return Content(data, answer["ETag"])

    def get_changed(self, key: str, limit: int, token: str) -> Content | None:
        try:
            with self._faults(key):
                answer, data = self._document(key, limit + 1, IfNoneMatch=token)
        except OSError as error:
            if _status(error) == HTTPStatus.NOT_MODIFIED:
                return None
            raise
        if len(data) > limit:
            raise too_large(self._url(key), limit)
        return Content(data, answer["ETag"])

    def stream(self, key: str, size: int, start: int = 0, stop: int | None = None) -> Generator[bytes]:
        position, failures = start, 0
        end = size if stop is None else stop
        while True:
            body, before = self._open(key, position, stop)
            try:
                while before and (chunk := self._next(key, body, before)):
                    before -= len(chunk)
                while chunk := self._next(key, body):
                    position += len(chunk)
                    yield chunk
            except NetworkError:
                failures += 1
                if failures > limits.RETRIES:
                    raise
                time.sleep(limits.RETRY_PAUSE_SECONDS * 2**failures)
            else:
                return
            finally:
                self._run(partial(_closed, body))
            if position >= end:
                return  # all of it came, then the connection broke

    def size(self, key: str) -> int | None:
        try:
            with self._faults(key):
                return int(self._call("head_object", key)["ContentLength"])
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        with self._faults(key, writing=True):
            self._call("put_object", key, Body=data)

    def put_new(self, key: str, data: bytes) -> bool:
        for _ in range(limits.RETRIES):
            status = self._put_if(key, data, IfNoneMatch="*")
            if status != HTTPStatus.CONFLICT:
                return status is None
            time.sleep(limits.RETRY_PAUSE_SECONDS)  # another write of the same key was under way: see how it ended
        return self.size(key) is None and self._put_if(key, data, IfNoneMatch="*") is None

    def swap(self, key: str, data: bytes, token: str) -> bool:
        return self._put_if(key, data, IfMatch=token) is None

    def remove(self, key: str) -> None:
        if not key.endswith("/"):  # a store of objects has no collections
            with self._faults(key, writing=True):
                self._call("delete_object", key)

    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        with self._faults(key, writing=True):
            upload = self._call("create_multipart_upload", key)["UploadId"]
        done = False
        try:
            parts = []
            for number, data in enumerate(_parts(chunks), 1):
                with self._faults(key, writing=True):
                    answer = self._call("upload_part", key, UploadId=upload, PartNumber=number, Body=data)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            with self._faults(key, writing=True):
                self._call("complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts})
            done = True
        finally:
            if not done:
                self._abort(key, upload)

    def list(self, prefix: str) -> Iterator[str]:
        start = self._prefix + prefix
        more: dict[str, str] = {}
        while True:
            with self._faults(prefix, writing=True):
                page = self._s3.call_s3("list_objects_v2", Bucket=self._bucket, Prefix=start, **more)
            for entry in page.get("Contents", []):
                yield entry["Key"][len(start) :]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _put_if(self, key: str, data: bytes, **condition: str) -> HTTPStatus | None:
        """Write on a condition; the status that says that it was not met, or None where it was."""
        try:
            with self._faults(key, writing=True):
                self._call("put_object", key, Body=data, **condition)
        except OSError as error:
            status = _status(error)
            if status in {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}:
                return HTTPStatus(status)
            raise
        except NotFoundError:  # nothing there to match
            if "IfMatch" in condition:
                return HTTPStatus.PRECONDITION_FAILED
            raise
        return None

    def _document(self, key: str, limit: int, **condition: str) -> tuple[Any, bytes]:
        failures = 0
        while True:
            try:
                answer = self._call("get_object", key, **condition)
                return answer, self._run(partial(_whole, answer["Body"], limit))
            except aiohttp.ClientPayloadError:  # cut off, as by a store that replaces what it is just sending
                failures += 1
                if failures > limits.RETRIES:
                    raise
                time.sleep(limits.RETRY_PAUSE_SECONDS * failures)

    def _open(self, key: str, position: int, stop: int | None) -> tuple[Any, int]:
        """The body of an answer to be read from ``position`` on, and how many bytes come before that.

        A store that knows no ranges sends all; where only a piece is wanted that is ``RangesIgnoredError``.
        """
        ranged = position > 0 or stop is not None
        wanted = {"Range": f"bytes={position}-{'' if stop is None else stop - 1}"} if ranged else {}
        with self._faults(key):
            answer = self._call("get_object", key, **wanted)
        if position == 0 or str(answer.get("ContentRange", "")).startswith(f"bytes {position}-"):
            return answer["Body"], 0
        if stop is None:
            return answer["Body"], position
        self._run(partial(_closed, answer["Body"]))
        raise RangesIgnoredError(self._url(key))

    def _next(self, key: str, body: Any, limit: int = limits.CHUNK_BYTES) -> bytes:
        with self._faults(key):
            return bytes(self._run(partial(_read, body, min(limit, limits.CHUNK_BYTES))))

    def _abort(self, key: str, upload: str) -> None:
        try:
            with self._faults(key):
                self._call("abort_multipart_upload", key, UploadId=upload)
        except (AdpmError, OSError):
            return  # the error that led here is the one to tell of; the store's own rules remove old parts

    def _call(self, method: str, key: str, **values: object) -> Any:
        return self._s3.call_s3(method, Bucket=self._bucket, Key=self._prefix + key, **values)

    def _run(self, work: Callable[[], Any]) -> Any:
        """Wait for a coroutine that belongs to the event loop of s3fs."""
        return fsspec.asyn.sync(self._s3.loop, work)

    def _url(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    @contextmanager
    def _faults(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Errors of the libraries become adpm's. ``writing``: what is not there can only be the bucket."""
        try:
            yield
        except FileNotFoundError as error:
            if not writing:
                raise
            raise NotFoundError(
                "registry-not-found",
                f"there is no bucket {self._bucket}",
                cause=str(error),
                hint="check the url of the registry, AWS_ENDPOINT_URL and AWS_PROFILE; adpm makes no buckets",
            ) from error
        except _CREDENTIALS as error:
            raise self._login_needed(key, str(error)) from error
        except _CONNECTION as error:
            raise NetworkError(
                "network-failed",
                f"could not work with the store of {self._bucket}",
                cause=f"{self._url(key)}: {error or type(error).__name__}",
                hint="check AWS_ENDPOINT_URL and your network; the same command can be run again",
            ) from error
        except OSError as error:
            refusal = self._refusal(key, error)
            if refusal is None:
                raise
            raise refusal from error

    def _refusal(self, key: str, error: OSError) -> AdpmError | None:
        status = _status(error)
        if isinstance(error, PermissionError) or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return self._login_needed(key, str(error))
        if status in _TRY_AGAIN:
            return NetworkError(
                "http-status",
                f"the store of {self._bucket} could not answer",
                cause=f"{self._url(key)}: HTTP {status}: {error}",
                hint="run the command again later; if it stays so, ask who runs that store",
                status=status,
            )
        return None

    def _login_needed(self, key: str, cause: str) -> LoginNeededError:
        return LoginNeededError(
            "login-needed",
            f"bucket {self._bucket} can't be used with these credentials, or without any",
            cause=f"{self._url(key)}: {cause}",
            hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; a bucket that all may read: "
            "FSSPEC_S3_ANON=true. A user who may not list the bucket is refused what is missing, too",
        )


def _status(error: BaseException) -> int | None:
    """The HTTP status of a refusal; s3fs keeps botocore's error as the cause of its own."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, botocore.exceptions.ClientError):
            return int(at.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        at = at.__cause__
    return None


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of ``limits.PART_BYTES``, but for the last."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= limits.PART_BYTES:
            yield bytes(held[: limits.PART_BYTES])
            del held[: limits.PART_BYTES]
    if held:
        yield bytes(held)


async def _read(body: Any, limit: int) -> bytes:
    """What has arrived, at most ``limit`` bytes; none only at the end."""
    return bytes(await body.read(limit))


async def _whole(body: Any, limit: int) -> bytes:
    """At most ``limit`` bytes; fewer only at the end."""
    out = bytearray()
    try:
        while len(out) < limit and (chunk := await body.read(limit - len(out))):
            out += chunk
    finally:
        body.close()
    return bytes(out)


async def _closed(body: Any) -> None:
    body.close()
