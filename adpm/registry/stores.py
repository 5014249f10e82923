"""Object stores that are used as fsspec offers them: Google Cloud Storage, Azure Blob Storage, this process's memory.

Credentials come from where the store's own tools look for them (``GOOGLE_APPLICATION_CREDENTIALS``; the
``AZURE_STORAGE_*`` variables), to which fsspec adds its own configuration (``FSSPEC_GS``, ``~/.config/fsspec``).
fsspec has a word for "only if nothing is there", and none for "only if it is still the same".
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Final

import fsspec

from adpm import limits
from adpm.errors import LoginNeededError, NetworkError
from adpm.net.faults import too_large
from adpm.registry.bucket import Bucket
from adpm.registry.place import Content

__all__ = ["AzureBucket", "GoogleBucket", "MemoryBucket"]


_NO_TOKEN: Final = ""  # there is something, and no way to ask later whether it is still the same


class _Store(Bucket):
    """The objects of ``bucket`` below ``prefix``, through the file system that fsspec has for ``protocol``."""

    protocol: ClassVar[str]
    foreign: ClassVar[tuple[str, ...]] = ()
    """Errors of the store's own library that are no ``OSError``, as ``module:name``."""

    can_swap = False

    def __init__(self, bucket: str, prefix: str) -> None:
        self._where = f"{bucket}/{prefix}/" if prefix else f"{bucket}/"
        fsspec.get_filesystem_class(self.protocol)  # raises ImportError where the package is missing
        self._errors = tuple(_named(path) for path in self.foreign)

    @cached_property
    def _fs(self) -> Any:
        # An instance of our own: what others set, or have listed, is none of ours.
        return fsspec.filesystem(self.protocol, use_listings_cache=False, skip_instance_cache=True)

    def get(self, key: str, limit: int) -> Content:
        with self._faults(key):
            if self._fs.size(self._where + key) > limit:
                raise too_large(self._url(key), limit)
            return Content(bytes(self._fs.cat_file(self._where + key)), _NO_TOKEN)

    def stream(self, key: str, size: int, start: int = 0, stop: int | None = None) -> Generator[bytes]:
        with self._faults(key):
            file = self._fs.open(self._where + key, "rb")
        try:
            file.seek(start)
            # a store that has more than it should is found out, not read to its end
            left = size - start + 1 if stop is None else stop - start
            while left > 0:
                with self._faults(key):
                    chunk = file.read(min(left, limits.CHUNK_BYTES))
                if not chunk:
                    return
                left -= len(chunk)
                yield chunk
        finally:
            file.close()

    def size(self, key: str) -> int | None:
        try:
            with self._faults(key):
                return int(self._fs.size(self._where + key))
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        with self._faults(key):
            self._fs.pipe_file(self._where + key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        try:
            with self._faults(key):
                self._fs.pipe_file(self._where + key, data, mode="create")
        except FileExistsError:
            return False
        return True

    def swap(self, key: str, data: bytes, token: str) -> bool:  # noqa: ARG002 - see can_swap
        return False  # there is no way to ask, so nothing is written

    def remove(self, key: str) -> None:
        if not key.endswith("/") and self.size(key) is not None:  # a store of objects has no collections
            with self._faults(key):
                self._fs.rm_file(self._where + key)

    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        with tempfile.NamedTemporaryFile(prefix="adpm-") as file:  # all of it is there before any of it is sent
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            with self._faults(key):
                self._fs.put_file(file.name, self._where + key)

    def list(self, prefix: str) -> Iterator[str]:
        start = self._where + prefix
        with self._faults(prefix):
            found = self._fs.find(start.rstrip("/"))
        for path in found:
            _, _, below = f"/{path}".partition(f"/{start}")
            if below:
                yield below

    def _url(self, key: str) -> str:
        return f"{self.protocol}://{self._where}{key}"

    @contextmanager
    def _faults(self, key: str) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise self._login_needed(key, error) from error
        except (ConnectionError, TimeoutError) as error:
            raise self._failed(key, error) from error
        except self._errors as error:
            if str(getattr(error, "code", getattr(error, "status_code", ""))) in {"401", "403"}:
                raise self._login_needed(key, error) from error
            raise self._failed(key, error) from error

    def _login_needed(self, key: str, error: Exception) -> LoginNeededError:
        return LoginNeededError(
            "login-needed",
            f"{self._url(key)} can't be used with these credentials, or without any",
            cause=str(error),
            hint="log in with the store's own tool, or set its environment variables",
        )

    def _failed(self, key: str, error: Exception) -> NetworkError:
        return NetworkError(
            "network-failed",
            f"could not work with {self._url(key)}",
            cause=str(error) or type(error).__name__,
            hint="check credentials and network; the same command can be run again",
        )


class GoogleBucket(_Store):
    protocol = "gs"
    can_create = True
    foreign = ("gcsfs.retry:HttpError", "google.auth.exceptions:GoogleAuthError", "aiohttp:ClientError")


class AzureBucket(_Store):
    protocol = "abfs"
    can_create = True
    foreign = ("azure.core.exceptions:AzureError", "aiohttp:ClientError")


class MemoryBucket(_Store):
    """Gone with the process. It looks before it writes, which is no promise where threads meet."""

    protocol = "memory"
    can_create = False


def _named(path: str) -> type[Exception]:
    module, _, name = path.partition(":")
    found: type[Exception] = getattr(importlib.import_module(module), name)
    return found
