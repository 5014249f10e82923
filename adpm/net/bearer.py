"""How an OCI registry lets people in: basic, or tokens of a service that it names, each good for one repository.

After the "token authentication specification" of the distribution project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from adpm import limits
from adpm.errors import LoginNeededError, NetworkError
from adpm.formats.json import open_json
from adpm.formats.reader import Node
from adpm.net.authority import way_in
from adpm.net.client import Client
from adpm.net.credentials import Login
from adpm.net.url import origin, shown

__all__ = ["RegistryAuthority", "challenge"]

_SCHEME: Final = re.compile(r"(?:^|,)\s*(basic|bearer)(?=\s|,|$)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_REPOSITORY: Final = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags)/")
_CLIENT: Final = "adpm"

_Key = tuple[str, bool]  # a repository (empty: the registry itself), and whether it is written to


def challenge(header: str) -> tuple[str, Mapping[str, str]] | None:
    """The first scheme of ``WWW-Authenticate`` headers that adpm knows, in small letters, and its parameters."""
    quoted = [match.span() for match in re.finditer(r'"(?:[^"\\]|\\.)*"', header)]
    found = [m for m in _SCHEME.finditer(header) if not any(a < m.start(1) < b for a, b in quoted)]
    if not found:
        return None
    first = found[0]
    rest = header[first.end() : found[1].start() if len(found) > 1 else len(header)]
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", text) if text else word for name, text, word in _PARAMETER.findall(rest)
    }
    return first[1].lower(), parameters


class RegistryAuthority:
    """Logs in to the registry at ``root`` (scheme, host and port) when it asks for that. Threads may share it.

    ``login`` is asked once. A token is kept until the registry no longer takes it. ``client`` talks to the token
    service; the login goes there, but never in plain text where the registry itself is asked over HTTPS.
    """

    def __init__(self, root: str, login: Callable[[], Login | None], client: Client) -> None:
        self._root = root
        self._login_of = login
        self._client = client
        self._lock = Lock()
        self._asked = False
        self._login: Login | None = None
        self._basic: str | None = None
        self._tokens: dict[_Key, str] = {}

    def authorization(self, method: str, url: str) -> str | None:
        if origin(url) != origin(self._root):
            return None  # an address for an upload elsewhere carries its own permission
        if self._basic is not None:
            return self._basic
        repository, writes = _key(method, url)
        return self._tokens.get((repository, True)) or (None if writes else self._tokens.get((repository, False)))

    def challenged(self, method: str, url: str, challenges: str, sent: str | None) -> bool:
        asked = challenge(challenges)
        if asked is None or origin(url) != origin(self._root):
            return False
        scheme, parameters = asked
        with self._lock:  # one thread asks, the others wait for what it gets
            if self.authorization(method, url) not in {None, sent}:
                return True
            if scheme == "basic":
                login = self._known_login()
                self._basic = None if login is None else login.basic()
                return self._basic not in {None, sent}
            key = _key(method, url)
            ready = self._known_login()
            if ready is not None and ready.user is None and not ready.identity:
                self._tokens[key] = f"Bearer {ready.secret}"  # a token that is good for the registry itself
                return self._tokens[key] != sent
            self._tokens.pop((key[0], True), None)
            self._tokens[key] = "Bearer " + self._token(parameters, _scopes(key, url, parameters.get("scope")))
            return True

    def login(self, url: str) -> Login | None:  # noqa: ARG002 - an Authority
        with self._lock:
            return self._known_login()

    def _known_login(self) -> Login | None:
        if not self._asked:
            self._login, self._asked = self._login_of(), True
        return self._login

    def _token(self, parameters: Mapping[str, str], scopes: list[str]) -> str:
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme not in ({"https"} if self._root.startswith("https:") else {"http", "https"}):
            raise NetworkError(
                "redirect-refused",
                f"{urlsplit(self._root).netloc} names no token service that can be trusted",
                cause=f"it says {shown(realm)!r}" if realm else "it names none",
                hint="ask who runs that registry",
            )
        try:
            data = self._asked_service(realm, parameters, scopes)
        except LoginNeededError as error:
            login = self._known_login()
            if login is None:
                raise
            place = urlsplit(self._root).netloc
            raise LoginNeededError(
                "login-needed",
                f"{place} does not accept the login of {login}",
                cause=error.cause,
                hint=way_in(self._root, login),
            ) from error
        return _read_token(data, f"the answer of the token service {shown(realm)}")

    def _asked_service(self, realm: str, parameters: Mapping[str, str], scopes: list[str]) -> bytes:
        login = self._known_login()
        pairs = [("service", parameters["service"])] if "service" in parameters else []
        if login is not None and login.identity:
            form = [*pairs, ("client_id", _CLIENT), ("grant_type", "refresh_token"), ("refresh_token", login.secret)]
            answer = self._client.exchange(
                "POST",
                realm,
                good={200},
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode([*form, ("scope", " ".join(scopes))]).encode(),
                limit=limits.TOKEN_BYTES,
                redirects=0,
            )
        else:
            query = urlencode([*pairs, *(("scope", scope) for scope in scopes)])
            basic = None if login is None else login.basic()
            answer = self._client.exchange(
                "GET",
                f"{realm}{'&' if '?' in realm else '?'}{query}",
                good={200},
                headers={} if basic is None else {"Authorization": basic},
                limit=limits.TOKEN_BYTES,
                redirects=0,
            )
        return answer.data


def _key(method: str, url: str) -> _Key:
    match = _REPOSITORY.match(urlsplit(url).path)
    return (match[1] if match else "", method not in {"GET", "HEAD"})


def _scopes(key: _Key, url: str, asked: str | None) -> list[str]:
    """What a token must be good for: what the registry asks for, else what the request does; and reading the
    repository that a blob is mounted from."""
    repository, writes = key
    own = f"repository:{repository}:{'pull,push' if writes else 'pull'}" if repository else ""
    scopes = (asked or own).split()
    scopes += [f"repository:{source}:pull" for name, source in parse_qsl(urlsplit(url).query) if name == "from"]
    return list(dict.fromkeys(scopes))


def _read_token(data: bytes, source: str) -> str:
    document = open_json(data, source=source, code="registry-invalid", limit=limits.TOKEN_BYTES)
    token = document.root.decode(_token)
    document.finish(hint="ask who runs it")
    assert token is not None  # noqa: S101 - finish has raised otherwise
    return token


def _token(node: Node) -> str:
    fields = node.fields()
    token = fields.get("token", _word) or fields.get("access_token", _word)
    if token is None:
        node.fail("has no token")
    return token


def _word(node: Node) -> str:
    if not isinstance(node.value, str) or not re.fullmatch(r"[!-~]+", node.value):
        node.fail("is no token")
    return node.value
