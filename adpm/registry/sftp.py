"""SFTP servers as object stores: ``sftp://[user@]host[:port]/path``, over ssh as the user's own ``ssh`` would go there.

Host keys are those of ``~/.ssh/known_hosts``, and an unknown one is refused; keys, user, port and proxy come from the
agent and ``~/.ssh/config``. No password is ever asked for. A file is written in `.adpm/tmp` and then renamed: SFTP's
own rename fails where something is there, which is how it creates on condition; it can't swap.
"""

from __future__ import annotations

import os
import posixpath
import socket
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Final
from urllib.parse import urlsplit

import paramiko
from paramiko.ssh_exception import NoValidConnectionsError

from adpm import limits
from adpm.errors import LoginNeededError, NetworkError
from adpm.net.faults import too_large
from adpm.registry.bucket import Bucket, stage_name
from adpm.registry.place import Content

__all__ = ["SftpBucket"]

_NO_TOKEN: Final = ""  # there is something, and no way to ask later whether it is still the same


class SftpBucket(Bucket):
    """The files below ``path``, which begins with ``/``, of the server at ``place``: ``[user@]host[:port]``."""

    can_create = True
    can_swap = False
    stages = True

    def __init__(self, place: str, path: str) -> None:
        self._place = place
        self._root = path
        self._lock = Lock()
        self._client: paramiko.SSHClient | None = None
        self._idle: list[paramiko.SFTPClient] = []
        self._channels = BoundedSemaphore(limits.SFTP_CHANNELS)
        self._directories: set[str] = {"/"}

    def get(self, key: str, limit: int) -> Content:
        with self._channel(key) as sftp, sftp.open(self._at(key), "rb") as file:
            size = file.stat().st_size or 0
            if size > limit:
                raise too_large(self._url(key), limit)
            return Content(file.read(), _NO_TOKEN)

    def stream(self, key: str, size: int, start: int = 0, stop: int | None = None) -> Generator[bytes]:
        with self._channel(key) as sftp, sftp.open(self._at(key), "rb") as file:
            file.seek(start)
            there = file.stat().st_size or 0
            file.prefetch(there if stop is None else min(stop, there), max_concurrent_requests=limits.SFTP_REQUESTS)
            # a file that has more than it should is found out, not read to its end
            left = size - start + 1 if stop is None else stop - start
            while left > 0 and (chunk := file.read(min(left, limits.CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk

    def size(self, key: str) -> int | None:
        try:
            with self._channel(key) as sftp:
                return int(sftp.stat(self._at(key)).st_size or 0)
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        with self._channel(key) as sftp, self._written(sftp, key, [data]) as new:
            sftp.posix_rename(new, self._at(key))

    def put_new(self, key: str, data: bytes) -> bool:
        with self._channel(key) as sftp:
            return self._create(sftp, key, [data])

    def swap(self, key: str, data: bytes, token: str) -> bool:  # noqa: ARG002 - see can_swap
        return False  # there is no way to ask, so nothing is written

    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        with self._channel(key) as sftp:
            self._create(sftp, key, chunks)

    def remove(self, key: str) -> None:
        with suppress(FileNotFoundError), self._channel(key) as sftp:
            if key.endswith("/"):
                sftp.rmdir(self._at(key.rstrip("/")))
                self._directories.discard(self._at(key.rstrip("/")))
            else:
                sftp.remove(self._at(key))

    def list(self, prefix: str) -> Iterator[str]:
        with self._channel(prefix) as sftp:
            yield from list(self._below(sftp, prefix.rstrip("/"), ""))

    def _below(self, sftp: paramiko.SFTPClient, key: str, path: str) -> Iterator[str]:
        try:
            entries = sftp.listdir_attr(self._at(posixpath.join(key, path)))
        except FileNotFoundError:
            return
        for entry in entries:
            below = posixpath.join(path, entry.filename)
            if stat.S_ISDIR(entry.st_mode or 0):
                yield from self._below(sftp, key, below)
            else:
                yield below

    def _create(self, sftp: paramiko.SFTPClient, key: str, chunks: Iterable[bytes]) -> bool:
        """Write ``key`` unless it is there; whether it was not."""
        with self._written(sftp, key, chunks) as new:
            try:
                sftp.rename(new, self._at(key))
            except OSError:  # SFTP has no number for "is there already"
                if self._exists(sftp, key):
                    return False
                raise
        return True

    @contextmanager
    def _written(self, sftp: paramiko.SFTPClient, key: str, chunks: Iterable[bytes]) -> Iterator[str]:
        """A new file, whole and durable, which the body renames to ``key``; gone at the end if it did not."""
        new = self._at(stage_name())
        for path in (self._at(key), new):
            self._make(sftp, posixpath.dirname(path))
        try:
            with sftp.open(new, "wxb") as file:
                file.set_pipelined()
                for chunk in chunks:
                    file.write(chunk)
                file.set_pipelined(False)
                _sync(sftp, file)
            yield new
        finally:
            with suppress(FileNotFoundError):  # it was renamed
                sftp.remove(new)

    def _make(self, sftp: paramiko.SFTPClient, directory: str) -> None:
        if directory in self._directories:
            return
        self._make(sftp, posixpath.dirname(directory))
        try:
            sftp.mkdir(directory)
        except OSError:  # perhaps it is there
            if not stat.S_ISDIR(sftp.stat(directory).st_mode or 0):
                raise
        self._directories.add(directory)

    def _exists(self, sftp: paramiko.SFTPClient, key: str) -> bool:
        try:
            sftp.stat(self._at(key))
        except FileNotFoundError:
            return False
        return True

    def _at(self, key: str) -> str:
        return posixpath.join(self._root, key)

    def _url(self, key: str) -> str:
        return f"sftp://{self._place}{self._at(key)}"

    @contextmanager
    def _channel(self, key: str) -> Iterator[paramiko.SFTPClient]:
        """A channel for one piece of work: servers allow few in a connection, and paramiko's serve one thread each."""
        with self._channels, self._faults(key):
            sftp = self._take()
            try:
                yield sftp
            except (paramiko.SSHException, EOFError, ConnectionError, TimeoutError):
                sftp.close()  # what it would answer next, nobody knows
                raise
            except BaseException:
                self._idle.append(sftp)
                raise
            self._idle.append(sftp)

    def _take(self) -> paramiko.SFTPClient:
        with self._lock:
            transport = None if self._client is None else self._client.get_transport()
            if self._client is None or transport is None or not transport.is_active():
                self._idle.clear()
                self._client = _connected(self._place)
            elif self._idle:
                return self._idle.pop()
            sftp = self._client.open_sftp()
            channel = sftp.get_channel()
            if channel is not None:
                channel.settimeout(limits.READ_TIMEOUT_SECONDS)
            return sftp

    @contextmanager
    def _faults(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except paramiko.SSHException as error:
            raise self._refused(key, error) from error
        except PermissionError as error:
            raise self._denied(key, str(error)) from error
        except (EOFError, ConnectionError, TimeoutError, socket.gaierror, NoValidConnectionsError) as error:
            raise self._failed(key, error) from error

    def _refused(self, key: str, error: paramiko.SSHException) -> LoginNeededError | NetworkError:
        if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
            return self._denied(key, str(error))
        if isinstance(error, paramiko.BadHostKeyException) or "not found in known_hosts" in str(error):
            return NetworkError(
                "host-key-unknown",
                f"{self._place} shows a host key that ~/.ssh/known_hosts does not hold for it",
                cause=str(error),
                hint=f"find out whether the key is right, then accept it with 'ssh {self._place}'",
            )
        return self._failed(key, error)

    def _denied(self, key: str, cause: str) -> LoginNeededError:
        return LoginNeededError(
            "login-needed",
            f"{self._url(key)} can't be used with the keys that your ssh has",
            cause=cause,
            hint="add your key to the ssh agent (ssh-add), or name it and the user in ~/.ssh/config",
        )

    def _failed(self, key: str, error: Exception) -> NetworkError:
        return NetworkError(
            "network-failed",
            f"could not work with {self._url(key)}",
            cause=str(error) or type(error).__name__,
            hint="check the address and the network; the same command can be run again",
        )


def _sync(sftp: paramiko.SFTPClient, file: paramiko.SFTPFile) -> None:
    """Wait until the server's disk has the file, where the server can say so."""
    try:
        # OpenSSH's extension, which paramiko has no method for: the number is that of SSH_FXP_EXTENDED.
        sftp._request(200, "fsync@openssh.com", file.handle)  # noqa: SLF001 - see above
    except OSError:
        return


def _connected(place: str) -> paramiko.SSHClient:
    """A connection to ``[user@]host[:port]``, as ``~/.ssh/config`` has it."""
    parts = urlsplit(f"//{place}")
    wanted: dict[str, Any] = {}
    path = Path("~/.ssh/config").expanduser()
    if path.is_file():
        wanted = dict(paramiko.SSHConfig.from_path(str(path)).lookup(parts.hostname or ""))
    client = paramiko.SSHClient()
    client.load_system_host_keys()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    command = wanted.get("proxycommand")
    client.connect(
        wanted.get("hostname", parts.hostname or ""),
        port=parts.port or int(wanted.get("port", 22)),
        username=parts.username or wanted.get("user"),
        key_filename=[os.path.expanduser(name) for name in wanted.get("identityfile", [])] or None,
        sock=paramiko.ProxyCommand(command) if command else None,
        timeout=limits.CONNECT_TIMEOUT_SECONDS,
        banner_timeout=limits.CONNECT_TIMEOUT_SECONDS,
        auth_timeout=limits.READ_TIMEOUT_SECONDS,
    )
    return client
