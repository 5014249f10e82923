"""A docker-registry behind a gate that lets in by tokens alone, each for one repository, and a service for them."""

from __future__ import annotations

import base64
import http.client
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from adpm.core.names import PackageName
from adpm.errors import LoginNeededError, NetworkError
from adpm.net.bearer import challenge
from adpm.registry.open import open_registry
from adpm.store.store import Store
from adpm.testing.making import make
from tests.net.serving import Request, Served, serve
from tests.registry.oci import docker_registry, log_in

NAME = PackageName("text/sst-2")
_WRONG = "not-the-one"


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@contextmanager
def gate(behind: str, *, uses: int) -> Iterator[tuple[Served, Served]]:
    """The gate and the token service. A token is good for the scopes it names, and for ``uses`` requests."""
    tokens: dict[str, list[str]] = {}
    left: dict[str, int] = {}
    numbers = itertools.count()
    login = "Basic " + base64.b64encode(b"u:pw").decode()

    def service(request: Request) -> None:
        if request.method == "POST":
            form = parse_qs(request.body.decode())
            known = form["refresh_token"] == ["identity"] and form["grant_type"] == ["refresh_token"]
            scopes = form.get("scope", [""])[0].split()
        else:
            known = request.headers["Authorization"] == login
            scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
        if not known:
            request.answer(401, b"{}")
            return
        token = f"token-{next(numbers)}"
        tokens[token], left[token] = scopes, uses
        request.answer(200, b'{"token": "%s"}' % token.encode())

    with serve(service) as issuing:

        def guard(request: Request) -> None:
            path = urlsplit(request.path).path
            repository = path.removeprefix("/v2/").rpartition("/blobs/uploads/")[0] or path.removeprefix("/v2/")
            for word in ("/blobs/", "/manifests/", "/tags/"):
                repository = repository.rpartition(word)[0] or repository
            need = "pull" if request.method in {"GET", "HEAD"} else "pull,push"
            scope = f"repository:{repository}:{need}"
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            good = any(held in {scope, scope.replace(":pull", ":pull,push")} for held in tokens.get(token, []))
            if path != "/v2/" and (not good or left[token] == 0):
                realm = f'Bearer realm="{issuing.url}/token",service="the, registry",scope="{scope}"'
                request.answer(401, b"{}", WWW_Authenticate=realm)
                return
            if path != "/v2/":
                left[token] -= 1
            connection = http.client.HTTPConnection(behind)
            headers = {k: v for k, v in request.headers.items() if k not in {"Authorization", "Host"}}
            connection.request(request.method, request.path, request.body, {**headers, "Host": request.headers["Host"]})
            response = connection.getresponse()
            data = response.read()
            passed = {
                k: v for k, v in response.getheaders() if k not in {"Content-Length", "Transfer-Encoding", "Date"}
            }
            passed["Content-Length"] = response.headers.get("Content-Length", str(len(data)))
            connection.close()
            request.answer(response.status, data, **passed)

        with serve(guard) as guarding:
            yield guarding, issuing


@pytest.mark.parametrize("uses", [1, 1000])
def test_the_whole_way_with_tokens(tmp_path: Path, uses: int) -> None:
    """Also where each token is good for one request only, so that it is stale every time."""
    with docker_registry(tmp_path / "server") as host, gate(host, uses=uses) as (guarding, issuing):
        log_in(tmp_path / "docker", urlsplit(guarding.url).netloc)
        url = guarding.url.replace("http", "oci") + "/x"
        publication = make(tmp_path)
        registry = open_registry("oci", url, tmp_path)
        assert registry.publish(publication).created
        assert registry.publish(make(tmp_path, "text/other", files={"adapter_config.json": b"{}"})).created
        reader = open_registry("oci", url, tmp_path)
        (listing,) = reader.versions(NAME)
        store = Store(tmp_path / "store")
        for file in reader.confirmed(listing).release.files:
            store.put(reader.blob(NAME, file.blob), file.blob)
        if uses == 1000:  # one to read and one to write for each repository, and one more to mount
            assert len(issuing.requests) <= 6
        asked = [parse_qs(urlsplit(request.path).query) for request in issuing.requests]
        assert all(query["service"] == ["the, registry"] for query in asked)


def test_an_identity_token(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "server") as host, gate(host, uses=1000) as (guarding, _):
        (tmp_path / "docker").mkdir()
        netloc = urlsplit(guarding.url).netloc
        (tmp_path / "docker" / "config.json").write_text(
            f'{{"auths": {{"https://{netloc}/v1/": {{"auth": "eDp5", "identitytoken": "identity"}}}}}}'
        )
        assert open_registry("oci", f"oci://{netloc}/x", tmp_path).publish(make(tmp_path)).created


def test_a_refused_login_names_no_secret(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "server") as host, gate(host, uses=9) as (guarding, _):
        netloc = urlsplit(guarding.url).netloc
        log_in(tmp_path / "docker", netloc, password=_WRONG)
        with pytest.raises(LoginNeededError) as caught:
            open_registry("oci", f"oci://{netloc}/x", tmp_path).versions(NAME)
        assert _WRONG not in f"{caught.value} {caught.value.hint} {caught.value.values}"


@pytest.mark.parametrize("realm", ["", "ftp://127.0.0.1/token", "file:///etc/passwd"])
def test_a_token_service_that_is_none(tmp_path: Path, realm: str) -> None:
    def answer(request: Request) -> None:
        request.answer(401, b"{}", WWW_Authenticate=f'Bearer realm="{realm}"')

    with serve(answer) as server, pytest.raises(NetworkError) as caught:
        open_registry("oci", server.url.replace("http", "oci"), tmp_path).versions(NAME)
    assert caught.value.code == "redirect-refused"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', ("basic", {"realm": "x"})),
        ('bearer realm="https://a/t",service=b', ("bearer", {"realm": "https://a/t", "service": "b"})),
        ('Negotiate, Bearer realm="a, basic b", scope="c d"', ("bearer", {"realm": "a, basic b", "scope": "c d"})),
        ('Bearer realm="a\\"b", Basic realm="c"', ("bearer", {"realm": 'a"b'})),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_challenges(header: str, expected: object) -> None:
    assert challenge(header) == expected
