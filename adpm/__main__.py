"""The command ``adpm``, which is also ``python -m adpm``."""

from __future__ import annotations

import gc
from typing import Final, NoReturn

__all__ = ["main"]

_OBJECTS: Final = 200_000  # made and not freed, until the collector looks: a command makes fewer while it imports


def main() -> NoReturn:
    """Run one command.

    A command lives for a moment and its modules make no cycles worth collecting: to look for them while it starts, and
    again when it ends, would take a sixth of its time (``tests/bench/startup.py``).
    """
    gc.set_threshold(_OBJECTS)
    from adpm.cli.main import run  # noqa: PLC0415 - what it imports is what the collector must not look at

    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
