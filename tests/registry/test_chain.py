"""The chain: one owner a package, and nothing but "no such package" leads on."""

from __future__ import annotations

from pathlib import Path

import pytest

from adpm.core.manifest import RegistrySource
from adpm.core.names import PackageName
from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError, UsageError
from adpm.registry.chain import Chain, Member, matches
from adpm.registry.directory import open_directory
from adpm.registry.port import Registry
from adpm.testing.making import make
from tests.net.serving import Request, serve, unused_port

NAME = PackageName("text/sst-2")


def filled(directory: Path, **versions: str) -> None:
    """Directory registries by name, each with one version of text/sst-2; an empty text: none of it."""
    for name, version in versions.items():
        registry = open_directory(name, str(directory / name), directory, None)
        registry.publish(make(directory, "some/thing"), init=True)
        if version:
            registry.publish(make(directory, version=version))


def chain_of(directory: Path, **patterns: tuple[str, ...]) -> Chain:
    return Chain.of([RegistrySource(name, name, found) for name, found in patterns.items()], directory)


def owner(chain: Chain, package: str = NAME, registry: str | None = None) -> tuple[str, list[str]]:
    found = chain.find(PackageName(package), registry)
    return found.registry.name, [str(listing.version) for listing in found.listings]


def test_the_first_that_has_it_is_the_only_one_asked(tmp_path: Path) -> None:
    filled(tmp_path, a="", b="1.0", c="2.0")
    assert owner(chain_of(tmp_path, a=(), b=(), c=())) == ("b", ["1.0"])
    assert owner(chain_of(tmp_path, c=(), b=(), a=())) == ("c", ["2.0"])


def test_a_pattern_decides_before_the_order(tmp_path: Path) -> None:
    filled(tmp_path, a="1.0", b="2.0", c="3.0")
    assert owner(chain_of(tmp_path, a=(), b=("text/*",), c=("text/sst-*",))) == ("b", ["2.0"])
    assert owner(chain_of(tmp_path, a=(), b=("lang/*",), c=("text/sst-*",))) == ("c", ["3.0"])


def test_an_owner_that_lacks_a_package_hides_it(tmp_path: Path) -> None:
    filled(tmp_path, a="1.0", b="")
    with pytest.raises(NotFoundError) as caught:
        owner(chain_of(tmp_path, a=(), b=("text/*",)))
    assert caught.value.code == "package-not-found"
    assert "asked: registry b" in str(caught.value.cause)


def test_a_registry_with_patterns_is_asked_for_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path, a="1.0")
    with pytest.raises(NotFoundError, match="other names alone"):
        owner(chain_of(tmp_path, a=("lang/*",)))
    with pytest.raises(NotFoundError, match="declares no registry"):
        owner(chain_of(tmp_path))


def test_a_pin_decides_before_all(tmp_path: Path) -> None:
    filled(tmp_path, a="1.0", b="2.0", c="")
    chain = chain_of(tmp_path, a=(), b=("lang/*",), c=())
    assert owner(chain, registry="b") == ("b", ["2.0"])
    assert owner(chain) == ("a", ["1.0"])
    with pytest.raises(NotFoundError):
        owner(chain, registry="c")


def test_an_unknown_registry(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        chain_of(tmp_path, team=()).registry("tema")
    assert (caught.value.code, caught.value.hint) == ("registry-unknown", "did you mean 'team'?")
    with pytest.raises(UsageError, match="no registry is called 'x'"):
        chain_of(tmp_path).registry("x")


def test_did_you_mean(tmp_path: Path) -> None:
    filled(tmp_path, a="1.0", b="1.0")
    with pytest.raises(NotFoundError) as caught:
        owner(chain_of(tmp_path, a=(), b=()), "text/sst2")
    assert caught.value.hint == "did you mean text/sst-2?"


def test_a_registry_that_is_not_there_ends_the_search(tmp_path: Path) -> None:
    filled(tmp_path, b="1.0")
    with pytest.raises(NotFoundError) as caught:
        owner(chain_of(tmp_path, a=(), b=()))
    assert caught.value.code == "registry-not-found"


def refused_by(url: str, directory: Path) -> AdpmError:
    filled(directory, b="1.0")
    with pytest.raises(AdpmError) as caught:
        Chain.of([RegistrySource("a", url), RegistrySource("b", "b")], directory).find(NAME)
    return caught.value


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_wants_credentials_ends_the_search(tmp_path: Path, status: int) -> None:
    with serve(lambda request: request.answer(status)) as served:
        assert isinstance(refused_by(served.url, tmp_path), LoginNeededError)


def test_a_registry_that_is_down_ends_the_search(tmp_path: Path) -> None:
    assert isinstance(refused_by(f"http://127.0.0.1:{unused_port()}", tmp_path), NetworkError)


def test_a_registry_with_a_broken_index_ends_the_search(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.answer(200, b'{"format":1}' if request.path == "/adpm-registry.json" else b"<html>welcome</html>")

    with serve(answer) as served:
        assert refused_by(served.url, tmp_path).code == "index-invalid"


def test_a_web_server_that_is_no_registry_ends_the_search(tmp_path: Path) -> None:
    with serve(lambda request: request.answer(404)) as served:
        assert refused_by(served.url, tmp_path).code == "registry-not-found"


def test_a_package_that_the_web_lacks_is_looked_for_further(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        if request.path == "/adpm-registry.json":
            request.answer(200, b'{"format":1}')
        else:
            request.answer(404)

    filled(tmp_path, b="1.0")
    with serve(answer) as served:
        chain = Chain.of([RegistrySource("a", served.url), RegistrySource("b", "b")], tmp_path)
        assert owner(chain) == ("b", ["1.0"])


def test_a_registry_is_opened_when_it_is_asked(tmp_path: Path) -> None:
    filled(tmp_path, a="1.0")
    opened = []

    def opening(name: str) -> Member:
        def open_it() -> Registry:
            opened.append(name)
            return open_directory(name, name, tmp_path, None)

        return Member(name, (), open_it)

    chain = Chain([opening("a"), opening("b")])
    for _ in range(2):
        chain.find(NAME)
    assert opened == ["a"]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("team/*", "team/a", True),
        ("team/*", "team/a/b", True),
        ("team/*", "team", False),
        ("team/*", "my-team/a", False),
        ("*", "anything/at/all", True),
        ("*-internal", "a/b-internal", True),
        ("text/sst.2", "text/sst-2", False),
        ("text/sst-2", "text/sst-2", True),
        ("a*b*c", "a/x/b/c", True),
        ("a*b*c", "acb", False),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected
