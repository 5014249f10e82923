"""The Hub through its own library: repositories, commits, files. Nothing here knows of packages.

The library has no limit on how long it waits for an answer, or waits because it was asked to. While it works for adpm,
requests end after ``limits.READ_TIMEOUT_SECONDS`` of silence, and adpm alone decides what is tried again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors
from huggingface_hub.file_download import _CACHED_NO_EXIST, repo_folder_name, try_to_load_from_cache
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._http import get_session

from adpm import limits
from adpm.core.names import Digest
from adpm.errors import DocumentError, Fault, LoginNeededError, NotFoundError
from adpm.net.faults import TransientError
from adpm.net.patience import Patience
from adpm.net.tries import Tries
from adpm.registry.hub_faults import TRANSIENT, Asked, LibraryError, RefusedError, status_of
from adpm.registry.place import Ability

__all__ = ["HubApi", "HubFile", "Refs"]

T = TypeVar("T")

_BRANCH: Final = "main"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")
_ASKING: ContextVar[bool] = ContextVar("_ASKING", default=False)


@dataclass(frozen=True, slots=True)
class Refs:
    """Where a repository's main branch is (None: it has no commit), and the commits of its tags."""

    head: str | None
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a commit. ``sha256`` is known of those that the Hub keeps as large ones."""

    path: str
    size: int
    sha256: Digest | None


def _refuse(response: Any, *_: Any, **__: Any) -> None:
    """A hook on every answer that the library gets."""
    if _ASKING.get() and response.status_code in TRANSIENT:
        raise RefusedError(response)


def _attach() -> None:
    """Give the library's current session our hook and a timeout: it makes a new one after every lost connection."""
    session: Any = get_session()
    hooks = getattr(session, "event_hooks", None) or session.hooks
    registered = hooks.setdefault("response", [])
    if _refuse not in registered:
        registered.append(_refuse)
    if hasattr(session, "timeout"):
        session.timeout = limits.READ_TIMEOUT_SECONDS


def _right_to_write(account: dict[str, Any], owner: str | None) -> Ability:
    """What the Hub says of the token of ``account`` (its answer to ``whoami``)."""
    name, role = account["name"], account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        return Ability("writes", False, "the token may only read")
    if owner is not None and owner != name and owner not in [one.get("name") for one in account.get("orgs", ())]:
        return Ability("writes", False, f"{name} does not belong to {owner}")
    if role == "write":
        return Ability("writes", True, "the token may write")
    return Ability("writes", None, f"the Hub calls the token's rights {role!r}: publishing will tell")


class HubApi:
    """The Hub at ``HF_ENDPOINT``. The login is what the library finds: ``HF_TOKEN``, else what ``hf auth login`` kept.

    Methods raise the errors of ``Asked``. Threads may share it.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self.endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self._api = HfApi(endpoint=self.endpoint)
        self._patience = patience or Patience()

    def check(self, owner: str | None) -> Iterator[Ability]:
        """How the Hub is reached, as whom, and what this account may do with what is ``owner``'s (None: anybody's).

        Raises the errors of reaching it, and of reading.
        """
        began = time.monotonic()
        whose = owner or "its models"
        self._ask(whose, lambda: next(iter(self._api.list_models(author=owner, limit=1, token=False)), None))
        yield Ability("reachable", True, f"{self.endpoint} in {(time.monotonic() - began) * 1000:.0f} ms")
        yield Ability("reads", True, f"files that lie in {constants.HF_HUB_CACHE} are not fetched again")
        if huggingface_hub.get_token() is None:
            yield Ability("login", None, "strangers may read; there is no token (HF_TOKEN, or 'hf auth login')")
            yield Ability("writes", False, "strangers can't publish")
            return
        try:
            account = self._ask(whose, self._api.whoami)
        except LoginNeededError as error:
            yield Ability("login", False, error.what)
            yield Ability("writes", False, "strangers can't publish")
            return
        yield Ability("login", True, f"you come as {account['name']}")
        yield _right_to_write(account, owner)

    def refs(self, repository: str) -> Refs:
        """Raises ``NotFoundError`` (``package-not-found``) where there is no such repository, or it is not shown to
        this account. Cost: one request."""
        try:
            found = self._ask(repository, lambda: self._api.list_repo_refs(repository))
        except NotFoundError as error:  # some say that a revision is missing, where none was asked for
            raise self._asked(repository).missing() from error
        heads = [ref.target_commit for ref in found.branches if ref.name == _BRANCH]
        tags = {ref.name: self._commit_id(repository, ref.target_commit) for ref in found.tags}
        return Refs(self._commit_id(repository, heads[0]) if heads else None, tags)

    def commit_of(self, repository: str, revision: str) -> str:
        """The commit of a branch, tag or commit. Raises ``NotFoundError`` (also of the repository)."""
        found = self._ask(repository, lambda: self._api.model_info(repository, revision=revision).sha)
        return self._commit_id(repository, found)

    def files(self, repository: str, commit: str, *, recursive: bool = False) -> list[HubFile]:
        """The files at the top of a commit, or all. Cost: one request for each page."""
        entries = self._ask(
            repository, lambda: list(self._api.list_repo_tree(repository, recursive=recursive, revision=commit))
        )
        return [
            HubFile(entry.path, entry.size, None if entry.lfs is None else Digest.parse(f"sha256:{entry.lfs.sha256}"))
            for entry in entries
            if isinstance(entry, RepoFile)
        ]

    def _commit_id(self, repository: str, text: object) -> str:
        """A commit as the Hub names it. It is to become a path in the library's cache: nothing else may come in."""
        if not isinstance(text, str) or not _COMMIT.match(text):
            source = f"what the Hub at {self.endpoint} says of {repository}"
            raise DocumentError("registry-invalid", source, [Fault("", f"{str(text)[:80]!r} is not a commit")])
        return text

    def download(self, repository: str, commit: str, path: str) -> Path | None:
        """The file in the Hub's own cache, brought there if need be; None where the commit has no such file.

        What is in the cache costs no request, else two.
        """

        def work() -> str | None:
            if try_to_load_from_cache(repository, path, revision=commit) is _CACHED_NO_EXIST:
                return None  # it was asked for before, and a commit does not change
            try:
                return huggingface_hub.hf_hub_download(repository, path, revision=commit, endpoint=self.endpoint)
            except errors.LocalEntryNotFoundError as error:
                if error.__cause__ is not None and status_of(error.__cause__) == HTTPStatus.NOT_FOUND:
                    return None  # some Hubs do not say what it is that they don't find
                raise
            except errors.EntryNotFoundError:
                return None

        there = self._ask(repository, work)
        return None if there is None else Path(there)

    def cached(self, repository: str, sha256: str, size: int) -> Path | None:
        """A large file's content in the Hub's cache, where it is there: its name is its sha256. No request."""
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
        path = folder / "blobs" / sha256
        try:
            return path if path.stat().st_size == size else None
        except OSError:
            return None

    def models(self, owner: str) -> list[tuple[str, frozenset[str]]]:
        """(id, tags and library) of all models of ``owner`` that are shown to this account."""
        found = self._ask(owner, lambda: list(self._api.list_models(author=owner)))
        return [(info.id, frozenset([*(info.tags or ()), info.library_name or ""])) for info in found]

    def create(self, repository: str) -> None:
        """Make the repository if there is none: public, unless the owner has set otherwise."""
        self._ask(repository, lambda: self._api.create_repo(repository, exist_ok=True), writes=True)

    def commit(
        self,
        repository: str,
        parent: str | None,
        operations: Sequence[CommitOperationAdd | CommitOperationDelete],
        title: str,
    ) -> str | None:
        """One commit on top of ``parent`` (None: the first), by its id; None where that is not the head any more."""

        def work() -> str | None:
            try:
                done = self._api.create_commit(
                    repository, operations, commit_message=title, revision=_BRANCH, parent_commit=parent
                )
            except errors.HfHubHTTPError as error:
                if status_of(error) == HTTPStatus.PRECONDITION_FAILED:
                    return None
                raise
            return self._commit_id(repository, done.oid)

        return self._ask(repository, work, writes=True)

    def tag(self, repository: str, name: str, commit: str) -> bool:
        """Tag ``commit``; False where there is such a tag already."""

        def work() -> bool:
            try:
                self._api.create_tag(repository, tag=name, revision=commit)
            except errors.HfHubHTTPError as error:
                if status_of(error) == HTTPStatus.CONFLICT:
                    return False
                raise
            return True

        return self._ask(repository, work, writes=True)

    def _ask(self, repository: str, work: Callable[[], T], *, writes: bool = False) -> T:
        """What ``work`` returns. Reading is tried again, writing is not: the caller looks first how far it came."""
        tries = Tries(Patience(retries=0) if writes else self._patience)
        while True:
            token = _ASKING.set(True)
            try:
                _attach()
                return work()
            except LibraryError as error:
                failure = self._asked(repository).error(error)
                if not isinstance(failure, TransientError):
                    raise failure from error
            finally:
                _ASKING.reset(token)
            tries.wait_or_raise(failure)

    def _asked(self, repository: str) -> Asked:
        return Asked(self.endpoint, repository, logged_in=huggingface_hub.get_token() is not None)
