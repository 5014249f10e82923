"""One contender's process: `python -m tests.bench.runtime.worker NAME few|many MATERIAL`, driven over a pipe.

A line on standard input is a task's key, a line on standard output what it measured, as JSON. The first line out says
what is installed. Whatever else a library prints goes to standard error.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

__all__ = ["Contender"]

_MODULES: Final = {"adpm": "ours", "adapters": "adapterhub", "peft": "peft_library"}
_VERSIONS: Final = ("torch", "transformers", "adapters", "peft", "safetensors")


class Contender(Protocol):
    """What each contender's module has; ``material`` is what ``material.py`` wrote.

    Both return what can be measured by key; one call is one round's measurement.
    """

    def few(self, material: Path) -> Mapping[str, Callable[[], dict[str, float]]]:
        """The tasks with ``FEW`` adapters of each kind on one model."""
        ...

    def many(self, material: Path) -> Mapping[str, Callable[[], dict[str, float]]]:
        """The tasks with ``MANY`` LoRAs on one model; this process has loaded nothing before."""
        ...


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    name, role, material = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def say(value: Any) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    contender = cast("Contender", importlib.import_module(f"tests.bench.runtime.{_MODULES[name]}"))
    prepare = contender.few if role == "few" else contender.many
    tasks = prepare(Path(material))
    for key in tasks:
        if key.startswith(("read.", "load.")):
            tasks[key]()  # once before it counts: what a library imports when it first reads is no part of reading
    say(_versions())
    for line in sys.stdin:
        say(tasks[line.strip()]())


if __name__ == "__main__":
    main()
