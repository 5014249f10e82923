"""Mirrors: any of them serves the files of a lock; dead and corrupt ones are passed over; none says what there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob
from adpm.registry.mirrors import Mirrors
from adpm.registry.open import open_registry
from tests.cli.conftest import Workplace
from tests.net.serving import Request, cut, head, serve, unused_port
from tests.registry import oci, servers

DEAD = "http://127.0.0.1:{}/registry"


@pytest.fixture
def lock(work: Workplace) -> Workplace:
    """A project with a lock of two packages; nothing of it is in the store."""
    for name in ("text/sst-2", "lang/en"):
        work.publish(name, "1.0.0")
    work.start()
    work.adpm("add", "text/sst-2")
    work.adpm("add", "lang/en")
    shutil.rmtree(work.root / "home")
    return work


def declare(work: Workplace, url: str, *mirrors: str) -> None:
    options = [word for mirror in mirrors for word in ("--mirror", mirror)]
    work.adpm("registry", "add", "here", url, *options)


def installed(work: Workplace, status: int = 0) -> str:
    shutil.rmtree(work.root / "home", ignore_errors=True)
    ran = work.adpm("install", "--frozen", status=status)
    if status == 0:
        work.adpm("verify")
    return ran.err


def test_one_lock_from_each_alone_and_with_two_of_three_down(lock: Workplace, tmp_path: Path) -> None:
    before = lock.read("adapter.lock")
    with ExitStack() as stack:
        web = stack.enter_context(servers.nginx(lock.root / "registry", tmp_path / "nginx"))
        host = stack.enter_context(oci.docker_registry(tmp_path / "oci"))
        image = f"oci://{host}/mirror"
        for name in ("text/sst-2", "lang/en"):
            package = lock.root / "packages" / name.replace("/", "-") / "1.0.0"
            lock.adpm("publish", package, "--registry", image)
        directory = "../registry"
        dead = DEAD.format(unused_port())
        for alone in (web, image, directory):
            declare(lock, alone)
            installed(lock)
        for places in ((web, dead, dead), (dead, image, dead), (dead, dead, directory)):
            declare(lock, *places)
            said = installed(lock)
            assert (f"mirror {dead} is not used" in said) == (places[1] == dead)
        declare(lock, dead, dead)
        assert "error[network-failed]" in installed(lock, status=7)
    assert lock.read("adapter.lock") == before


def corrupt(request: Request) -> None:
    request.answer(200, b"these are not the bytes that you are looking for")


def slow(request: Request) -> None:
    request.send(head(200, {"Content-Length": "1000"}))
    while not request.stopping.is_set():
        request.send(b"x")
        request.wait(0.02)


@pytest.mark.parametrize(
    ("answer", "why", "again"),
    [
        (corrupt, "sha256:", False),
        (cut, "the connection broke", False),
        (lambda request: request.answer(503), "HTTP 503", False),
        (lambda request: request.answer(403), "does not let", False),
        (lambda request: request.answer(418), "HTTP 418", False),
        (lambda request: request.answer(404), None, True),
    ],
    ids=["corrupt", "cut", "busy", "refusing", "strange", "empty"],
)
def test_mirrors_that_do_not_serve(
    lock: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Request], object],
    why: str | None,
    again: bool,
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 1)  # so that it can be counted who was asked how often
    with serve(answer) as served:
        declare(lock, "../registry", served.url)
        said = installed(lock)
        assert len(served.requests) == (4 if again else 1)
    assert (f"here: mirror {served.url} is not used" in said) == (why is not None)
    assert why is None or why in said


def test_a_slow_mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limits, "MIRROR_SECONDS", 0.1)
    blob = Blob(Digest.of(b"x" * 1000), 1000)
    with serve(slow) as served:
        mirrors = Mirrors([served.url], lambda url: open_registry("mirror", url, tmp_path))
        assert mirrors.blob(PackageName("a"), blob) is None
        assert mirrors.blob(PackageName("a"), blob) is None
    assert len(served.requests) == 1
    assert "bytes came in a second" in mirrors.faults()[0]


def test_a_mirror_that_has_a_part(lock: Workplace, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(lock.root / "registry", part)
    shutil.rmtree(part / "packages" / "lang")
    shutil.rmtree(lock.root / "registry" / "packages" / "text")
    declare(lock, "../registry", str(part))
    assert "note:" not in installed(lock)


@pytest.fixture
def mirror_with_more(lock: Workplace, tmp_path: Path) -> str:
    """A mirror that lists a release which its registry does not have."""
    more = tmp_path / "more"
    shutil.copytree(lock.root / "registry", more)
    lock.publish("text/sst-2", "2.0.0", registry=str(more))
    return str(more)


def test_a_mirror_does_not_say_what_there_is(lock: Workplace, mirror_with_more: str) -> None:
    declare(lock, "../registry", mirror_with_more)
    lock.adpm("update")
    assert "2.0.0" not in lock.read("adapter.lock")
    declare(lock, DEAD.format(unused_port()), mirror_with_more)
    assert "error[network-failed]" in lock.adpm("info", "text/sst-2", status=7).err
    lock.adpm("update", status=7)
    assert installed(lock)


def test_mirrors_are_listed(lock: Workplace) -> None:
    declare(lock, "../registry", "../a", "https://example.org/b")
    (entry,) = lock.adpm("registry", "list", "--json").json["registries"]
    assert entry["mirrors"] == ["../a", "https://example.org/b"]
    ran = lock.adpm("registry", "add", "x", "../x", "--mirror", "https://me:s3cret@example.org", status=2)
    assert "s3cret" not in ran.err
