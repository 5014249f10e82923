"""Runs adpm commands in forked children and kills them when told: ``python -m tests.crash.worker``.

One JSON object a line comes in (``arguments``, ``directory``, ``home``, ``kill_after`` in seconds or null), one number
a line goes out: the exit status, or -9. Forking spares each of hundreds of commands the start of Python. The child is
killed through a descriptor of its own, so never anyone else.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from typing import Any

from adpm.cli.main import run

_COMMANDS = ("adpm.cli.commands.publish", "adpm.cli.commands.install", "adpm.cli.install", "adpm.ops.registries")


def main() -> None:
    for module in (*_COMMANDS, "adpm.registry.directory"):
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            obey(order)
        print(end_of(child, order["kill_after"]), flush=True)


def obey(order: dict[str, Any]) -> None:
    status = 70
    try:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(order["directory"])
        os.environ["ADPM_HOME"] = order["home"]
        run(order["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_of(child: int, kill_after: float | None) -> int:
    process = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([process], [], [], kill_after)
        if not ended:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(process)


if __name__ == "__main__":
    main()
