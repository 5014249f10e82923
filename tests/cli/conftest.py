"""A workplace for whole commands: run in this process, in a directory of their own, with a store of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adpm.cli.main import run
from adpm.registry import web
from tests.making import make_adapter, make_base


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Workplace:
    """``root/project`` is where commands run; ``base``, ``registry`` and packages lie beside it."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.project = root / "project"
        self.project.mkdir()
        self.base = make_base(root / "base")
        self._capture = capture

    def refused(self, code: str, *arguments: str | Path) -> str:
        """Run a command that must fail with the error ``code``; what it said."""
        ran = self.run(*arguments)
        assert ran.status > 0
        assert f"error[{code}]: " in ran.err, f"{arguments}: {ran}"
        return ran.err

    def adpm(self, *arguments: str | Path, status: int = 0) -> Ran:
        """Run a command; its exit status must be ``status``."""
        ran = self.run(*arguments)
        assert ran.status == status, f"{arguments}: {ran}"
        return ran

    def run(self, *arguments: str | Path) -> Ran:
        """Run a command; no traceback may appear."""
        self._capture.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        ran = Ran(exit_.value.code if isinstance(exit_.value.code, int) else 1, out, err)
        assert "Traceback" not in err
        return ran

    def package(self, name: str, version: str, **options: Any) -> Path:
        """A package directory; ``publish`` it."""
        directory = self.root / "packages" / name.replace("/", "-") / version
        return make_adapter(directory, name, version, base=options.pop("base", self.base), **options)

    def publish(self, name: str, version: str, *, registry: str = "../registry", **options: Any) -> str:
        """Publish a new adapter; the digest of the release."""
        return self.adpm(
            "publish", self.package(name, version, **options), "--registry", registry, "--init"
        ).out.strip()

    def start(self) -> None:
        """A project on the base with the registry ``here``."""
        self.adpm("init", "--base", self.base)
        self.adpm("registry", "add", "here", "../registry")

    def read(self, name: str) -> str:
        return (self.project / name).read_text(encoding="utf-8")


def forget_logins() -> None:
    """As if the next command were run in a process of its own."""
    web._client().close()
    web._client.cache_clear()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path, capsys)
    monkeypatch.setenv("ADPM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(workplace.project)
    yield workplace
    os.chdir("/")
