"""A Hub that takes writes: the HTTP API that ``huggingface_hub`` speaks, over real git repositories.

What it keeps as the real one does: commits on top of a stale ``parentCommit`` are refused with 412, a tag is made once,
large files go through LFS and come from another origin, which refuses every Authorization it is sent; ranges are 206;
errors have ``X-Error-Code``; who sends no token is told 401 of what is missing and what is private alike.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import yaml

from tests.registry.hub.repositories import LARGE, Entry, Repository, StaleError

_R = r"(?P<repo>[^/]+/[^/]+)"
_PAGE = 50  # entries of a tree or a list in one answer


@dataclass(frozen=True)
class Account:
    name: str
    writes: bool = True


@dataclass
class Fault:
    """The next ``times`` requests whose ``METHOD path`` matches are answered with this instead."""

    pattern: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    body: bytes = b""


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Hub:
    """The server's state: what tests look at and set up. ``url`` is the endpoint."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = self.storage = ""
        self.repositories: dict[str, Repository] = {}
        self.accounts = {
            "hf_alice": Account("alice"),
            "hf_bob": Account("bob"),
            "hf_reader": Account("alice", writes=False),
        }
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.makes_first_commit = True  # as the real one does
        self.before: Callable[[str], None] | None = None  # called with "METHOD path" of each request
        self.lock = Lock()

    def create(self, repository: str, *, private: bool = False) -> Repository:
        with self.lock:
            if repository in self.repositories:
                raise FileExistsError(repository)
            made = self.repositories[repository] = Repository.create(
                self.root, repository, private=private, commit=self.makes_first_commit
            )
            return made

    def count(self, pattern: str = "") -> int:
        """How many requests matched so far."""
        return sum(re.search(pattern, request) is not None for request in self.requests)

    def fail(self, pattern: str, status: int, times: int = 1, body: bytes = b"", **headers: str) -> None:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self.faults.append(Fault(pattern, status, named, times, body))

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            fault = next((f for f in self.faults if f.times and re.search(f.pattern, request)), None)
            if fault is not None:
                fault.times -= 1
            return fault


def front_matter(readme: bytes) -> dict[str, Any]:
    match = re.match(rb"---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    value = yaml.safe_load(match[1]) if match else None
    return value if isinstance(value, dict) else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece: else its end waits for the client's acknowledgement
    hub: Hub

    def log_message(self, *_: Any) -> None:
        return

    def do(self) -> None:
        self.path_, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        self.body = self._body()
        request = f"{self.command} {unquote(self.path_)}"
        fault = self.hub.take_fault(request)
        if fault is not None:
            return self.answer(fault.status, fault.body, **fault.headers)
        if self.hub.before is not None:
            self.hub.before(request)
        try:
            self._route()
        except _Moved as moved:
            self.answer(307, b"", Location=moved.location)
        except Refusal as refusal:
            headers = {"X-Error-Message": str(refusal)} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            self.answer(refusal.status, json.dumps({"error": str(refusal)}).encode(), **headers)
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        out = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            out += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(out)

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value: object, **headers: str) -> None:
        self.answer(200, json.dumps(value).encode(), **{"Content-Type": "application/json", **headers})

    def _route(self) -> None:
        for method, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, self.path_)
            if match is not None and method in {self.command, "GET" if self.command == "HEAD" else ""}:
                parts = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                return function(self, **parts)
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    # Who asks, and for what

    def account(self) -> Account | None:
        header = self.headers.get("Authorization")
        if header is None:
            return None
        account = self.hub.accounts.get(header.removeprefix("Bearer "))
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def repository(self, name: str, *, write: bool = False, content: bool = False) -> Repository:
        account = self.account()
        found = self.hub.repositories.get(name)
        if found is None:
            other = next((known for known in self.hub.repositories if known.lower() == name.lower()), None)
            if other is not None:
                raise _Moved(self.path.replace(name, other, 1))
        allowed = found is not None and account is not None and account.name in {found.owner, *found.readers}
        if found is None or (found.private and not allowed):
            if account is None:
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if write and account is None:
            raise Refusal(401, "Invalid username or password.")
        if write and not (allowed and account is not None and account.writes and account.name == found.owner):
            raise Refusal(403, f"You don't have the rights to write to {name}: a token with the write scope is needed")
        if content and found.gated and not allowed:
            status = 401 if account is None else 403
            raise Refusal(status, f"Access to model {name} is restricted. You must have access to it.", "GatedRepo")
        return found

    def commit_of(self, repository: Repository, revision: str) -> str:
        try:
            return repository.commit_of(revision)
        except LookupError:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound") from None

    # Accounts and repositories

    def whoami(self) -> None:
        account = self.account()
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        role = "write" if account.writes else "read"
        self.json({"type": "user", "name": account.name, "orgs": [], "auth": {"accessToken": {"role": role}}})

    def create_repo(self) -> None:
        value, account = json.loads(self.body), self.account()
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        owner = value.get("organization") or account.name
        if owner != account.name or not account.writes:
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", value["name"]) or re.search(r"--|\.\.", value["name"]):
            raise Refusal(400, "Invalid repo name")
        name = f"{owner}/{value['name']}"
        try:
            self.hub.create(name, private=bool(value.get("private")) or value.get("visibility") == "private")
        except FileExistsError:
            url = json.dumps({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}).encode()
            return self.answer(409, url)
        return self.json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def delete_repo(self) -> None:
        value = json.loads(self.body)
        found = self.repository(f"{value['organization']}/{value['name']}", write=True)
        del self.hub.repositories[found.id]
        found.remove()
        self.json({})

    def list_models(self) -> None:
        account = self.account()
        author, tags = self.query.get("author", [""])[0], set(self.query.get("filter", []))
        visible = [
            repository
            for repository in self.hub.repositories.values()
            if (not author or repository.owner == author)
            and (not repository.private or (account is not None and account.name == repository.owner))
        ]
        infos = [self._info(repository, repository.commit_of("main")) for repository in visible]
        self._paged([info for info in infos if tags <= set(info["tags"])])

    def _paged(self, values: list[Any]) -> None:
        begin = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if begin + _PAGE < len(values):
            others = "".join(f"&{key}={quote(v[0])}" for key, v in self.query.items() if key != "cursor")
            headers["Link"] = f'<{self.hub.url}{self.path_}?cursor={begin + _PAGE}{others}>; rel="next"'
        self.json(values[begin : begin + _PAGE], **headers)

    def _info(self, repository: Repository, commit: str) -> dict[str, Any]:
        entries = repository.entries(commit)
        readme = next((entry for entry in entries if entry.path == "README.md"), None)
        card = front_matter(repository.content(readme)) if readme is not None else {}
        library = card.get("library_name")
        return {
            "_id": "0" * 24,
            "id": repository.id,
            "modelId": repository.id,
            "author": repository.owner,
            "sha": commit,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "tags": [*card.get("tags", []), *([library] if library else [])],
            "library_name": library,
            "cardData": card,
            "siblings": [{"rfilename": entry.path} for entry in entries],
        }

    def model_info(self, repo: str, revision: str = "main") -> None:
        repository = self.repository(repo)
        self.json(self._info(repository, self.commit_of(repository, revision)))

    # Revisions and files

    def tree(self, repo: str, revision: str, path: str = "") -> None:
        repository = self.repository(repo)
        commit = self.commit_of(repository, revision)
        entries = repository.entries(commit, f"{path}/" if path else "")
        if path and not entries:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        recursive = self.query.get("recursive", ["false"])[0].lower() in {"true", "1"}
        out = {}
        for entry in entries:
            rest = entry.path.removeprefix(f"{path}/" if path else "")
            below, slash, _ = rest.partition("/")
            folder = entry.path[: len(entry.path) - len(rest)] + below
            if slash:
                out[folder] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
            if not slash or recursive:
                out[entry.path] = _file(entry)
        self._paged(list(out.values()))

    def paths_info(self, repo: str, revision: str) -> None:
        repository = self.repository(repo)
        commit = self.commit_of(repository, revision)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        self.json([_file(entry) for entry in repository.entries(commit) if entry.path in paths])

    def refs(self, repo: str) -> None:
        repository = self.repository(repo)
        out = {
            title: [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
                for name, commit in repository.refs(kind)
            ]
            for title, kind in (("branches", "heads"), ("tags", "tags"))
        }
        self.json({**out, "converts": []})

    def commits(self, repo: str, revision: str) -> None:
        repository = self.repository(repo)
        out = repository.git(
            "log",
            "--date=format:%Y-%m-%dT%H:%M:%S.000Z",
            "--format=%H%x09%ad%x09%s",
            self.commit_of(repository, revision),
        ).decode()
        parts = [line.split("\t", 2) for line in out.splitlines()]
        self._paged(
            [{"id": i, "date": d, "title": t, "message": "", "authors": [{"user": "hub"}]} for i, d, t in parts]
        )

    def create_tag(self, repo: str, revision: str) -> None:
        repository, value = self.repository(repo, write=True), json.loads(self.body)
        try:
            repository.tag(value["tag"], self.commit_of(repository, revision), value.get("message"))
        except FileExistsError:
            raise Refusal(409, f"Tag reference exists already: refs/tags/{value['tag']}") from None
        except LookupError:
            raise Refusal(400, "Invalid tag name") from None
        self.json({})

    def delete_tag(self, repo: str, tag: str) -> None:
        repository = self.repository(repo, write=True)
        if tag not in dict(repository.refs("tags")):
            raise Refusal(404, f"Tag not found: {tag}", "RevisionNotFound")
        repository.git("tag", "-d", "--", tag)
        self.json({})

    def create_branch(self, repo: str, branch: str) -> None:
        repository = self.repository(repo, write=True)
        value = json.loads(self.body) if self.body else {}
        if branch in dict(repository.refs("heads")):
            raise Refusal(409, f"Reference already exists: {branch}")
        commit = self.commit_of(repository, value.get("startingPoint") or "main")
        repository.git("update-ref", f"refs/heads/{branch}", commit)
        self.json({})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        repository = self.repository(repo, content=True)
        commit = self.commit_of(repository, revision)
        entry = repository.entry(commit, path)
        if entry is None:
            data = b"Entry not found"
            return self.answer(
                404,
                data,
                **{"X-Repo-Commit": commit, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"},
            )
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if entry.lfs is None:
            return self._content(repository.content(entry), f'"{entry.oid}"', headers)
        headers |= {
            "X-Linked-Etag": f'"{entry.lfs}"',
            "X-Linked-Size": str(entry.size),
            "Location": f"{self.hub.storage}/{repository.id}/{entry.lfs}",
        }
        return self.answer(302, b"", **headers)

    def _content(self, data: bytes, etag: str, headers: dict[str, str]) -> None:
        headers = {**headers, "ETag": etag, "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.answer(200, data, **headers)
        begin, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if begin >= len(data):
            return self.answer(416, b"", **{"Content-Range": f"bytes */{len(data)}"})
        span = {"Content-Range": f"bytes {begin}-{end}/{len(data)}"}
        return self.answer(206, data[begin : end + 1], **headers, **span)

    # Writing

    def validate_yaml(self) -> None:
        value = json.loads(self.body)
        try:
            front_matter(value["content"].encode())
        except yaml.YAMLError as error:
            return self.answer(400, json.dumps({"errors": [{"message": str(error)}], "warnings": []}).encode())
        return self.json({"errors": [], "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        repository = self.repository(repo, write=True)
        is_empty = not repository.refs("heads")
        there = {} if is_empty else {e.path: e for e in repository.entries(self.commit_of(repository, revision))}
        out = []
        for file in json.loads(self.body)["files"]:
            large = file["path"].endswith(LARGE) or file["size"] > 10 << 20
            entry = there.get(file["path"])
            oid = None if entry is None else entry.lfs or entry.oid
            mode = "lfs" if large else "regular"
            out.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.json({"files": out})

    def commit(self, repo: str, revision: str) -> None:
        repository = self.repository(repo, write=True)
        files: dict[str, bytes] = {}
        pointers: dict[str, tuple[str, int]] = {}
        deleted: list[str] = []
        header: dict[str, Any] = {}
        for line in filter(None, self.body.split(b"\n")):
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                stored = repository.large(value["oid"])
                if not stored.is_file():
                    raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                pointers[value["path"]] = (value["oid"], stored.stat().st_size)
            elif item["key"] == "deletedFile":
                deleted.append(value["path"])
            else:
                deleted.append(value["path"].rstrip("/") + "/")
        message = "\n\n".join(filter(None, [header["summary"], header.get("description")]))
        try:
            parent = header.get("parentCommit")
            commit = repository.commit(
                files, pointers=pointers, deleted=deleted, message=message, branch=revision, parent=parent
            )
        except StaleError as stale:
            raise Refusal(
                412, f"A commit has happened since. The head is {stale}. Please refresh and try again."
            ) from None
        except LookupError as missing:
            raise Refusal(404, f"A file with this name doesn't exist: {missing}", "EntryNotFound") from None
        url = f"{self.hub.url}/{repository.id}/commit/{commit}"
        self.json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def lfs_batch(self, repo: str) -> None:
        value = json.loads(self.body)
        repository = self.repository(repo, write=value["operation"] == "upload")
        objects = []
        for wanted in value["objects"]:
            oid, answer = wanted["oid"], {"oid": wanted["oid"], "size": wanted["size"]}
            if value["operation"] == "upload" and not repository.large(oid).is_file():
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.storage}/{repo}/{oid}"},
                    "verify": {"href": f"{self.hub.url}/{repo}.git/info/lfs/verify"},
                }
            objects.append(answer)
        self.json({"transfer": "basic", "objects": objects})

    def lfs_verify(self, repo: str) -> None:
        repository, value = self.repository(repo, write=True), json.loads(self.body)
        stored = repository.large(value["oid"])
        if not stored.is_file() or stored.stat().st_size != value["size"]:
            raise Refusal(404, "the object did not arrive")
        self.json({})


class _Moved(Refusal):
    """A repository that is written in another case: the real one redirects, too."""

    def __init__(self, location: str) -> None:
        super().__init__(307, "moved")
        self.location = location


class _Storage(_Handler):
    """Where large files lie: another origin, which a login must not reach."""

    def _route(self) -> None:
        if self.headers.get("Authorization") is not None:
            raise Refusal(400, "Only one auth mechanism allowed")
        repo, _, sha256 = self.path_.lstrip("/").rpartition("/")
        repository = self.hub.repositories[repo]
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != sha256:
                raise Refusal(400, "the content is not what its name says")
            repository.put_large(self.body)
            return self.answer(200)
        return self._content(repository.large(sha256).read_bytes(), f'"{sha256}"', {})


def _file(entry: Entry) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": entry.path}
    if entry.lfs is not None:
        out["lfs"] = {"oid": entry.lfs, "size": entry.size, "pointerSize": entry.pointer_size}
    return out


_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create_repo),
    ("DELETE", "/api/repos/delete", _Handler.delete_repo),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("GET", "/api/models", _Handler.list_models),
    ("GET", f"/api/models/{_R}", _Handler.model_info),
    ("GET", f"/api/models/{_R}/revision/(?P<revision>[^/]+)", _Handler.model_info),
    ("GET", f"/api/models/{_R}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?", _Handler.tree),
    ("POST", f"/api/models/{_R}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("GET", f"/api/models/{_R}/refs", _Handler.refs),
    ("GET", f"/api/models/{_R}/commits/(?P<revision>[^/]+)", _Handler.commits),
    ("POST", f"/api/models/{_R}/tag/(?P<revision>[^/]+)", _Handler.create_tag),
    ("DELETE", f"/api/models/{_R}/tag/(?P<tag>[^/]+)", _Handler.delete_tag),
    ("POST", f"/api/models/{_R}/branch/(?P<branch>[^/]+)", _Handler.create_branch),
    ("POST", f"/api/models/{_R}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", f"/api/models/{_R}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/verify", _Handler.lfs_verify),
    ("GET", f"/{_R}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A Hub with nothing in it, its repositories below ``root``."""
    hub = Hub(root)
    with ExitStack() as stack:
        for handler in (_Handler, _Storage):
            server = stack.enter_context(_Server(("127.0.0.1", 0), type("Handler", (handler,), {"hub": hub})))
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            url = f"http://127.0.0.1:{server.server_address[1]}"
            if handler is _Handler:
                hub.url = url
            else:
                hub.storage = url
        yield hub
