"""Every row of the table for adpm, `adapters` and `peft`, in turns of one run: `python -m tests.bench.runtime`.

Each contender is a process of its own with one thread, and only one of them works at a time: in each round every task
is done by each of them in turn. Writes a JSON file and a Markdown table beside it, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

from tests.bench.runtime.environments import python_of
from tests.bench.runtime.report import RESULT, ROOT, markdown, summary
from tests.bench.runtime.rows import CONTENDERS, TASKS, Task

_QUICK: Final = 2
_ROUNDS: Final = 16


class Worker:
    """A contender's process; ``versions`` is what it has installed."""

    def __init__(self, name: str, role: str, work: Path) -> None:
        command = [python_of(name, work), "-m", "tests.bench.runtime.worker", name, role, str(work / "material")]
        self.log = work / f"{name}-{role}.log"
        with self.log.open("w", encoding="utf-8") as log:
            self.process: subprocess.Popen[str] = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )
        self.versions: dict[str, str] = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self.process.stdin).close()
        self.process.wait()

    def ask(self, key: str) -> dict[str, float]:
        """What it measures for the task ``key``."""
        pipe = self._pipe(self.process.stdin)
        pipe.write(f"{key}\n")
        pipe.flush()
        found: dict[str, float] = self._answer()
        return found

    def _answer(self) -> Any:
        line = self._pipe(self.process.stdout).readline()
        if not line:
            raise SystemExit(f"a worker ended:\n{self.log.read_text(encoding='utf-8')[-3000:]}")
        return json.loads(line)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def measure(work: Path, rounds: int, names: tuple[str, ...], crowds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The result after each round; ``crowds``: the contenders that are measured with many adapters loaded too."""
    samples: dict[str, dict[str, list[dict[str, float]]]] = {task.key: defaultdict(list) for task in TASKS}
    versions: dict[str, dict[str, str]] = {}
    before = _load()
    with ExitStack() as stack:
        workers: dict[tuple[str, str], Worker] = {}
        for role, wanted in (("many", crowds), ("few", names)):
            for name in wanted:
                print(f"{name} gets ready ({role})", file=sys.stderr)
                worker = workers[name, role] = stack.enter_context(Worker(name, role, work))
                versions[name] = worker.versions

        def take(task: Task, order: tuple[str, ...]) -> None:
            for name in order:
                if name in task.who and (name, task.worker) in workers:
                    samples[task.key][name].append(workers[name, task.worker].ask(task.key))

        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            turn = number % len(names)
            for task in TASKS:
                if number == 0 or (task.every and number % task.every == 0):
                    take(task, names[turn:] + names[:turn])
            yield {
                "format": 1,
                "rounds": number + 1,
                "machine": {"processor": _processor(), "cores": os.cpu_count(), "load": [before, _load()]},
                "versions": versions,
                "figures": {key: {name: summary(found) for name, found in by.items()} for key, by in samples.items()},
            }


def _load() -> float:
    return round(os.getloadavg()[0], 1)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.runtime", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file; the table is written beside it")
    parser.add_argument("--work", type=Path, default=ROOT / ".venv-bench", help="where environments and adapters lie")
    parser.add_argument("--rounds", type=int, help=f"{_ROUNDS}, or {_QUICK} if quick")
    parser.add_argument("--quick", action="store_true", help="few rounds, and of the peers nothing with 500 adapters")
    parser.add_argument("--only", choices=CONTENDERS, nargs="+", default=CONTENDERS, help="contenders")
    arguments = parser.parse_args()
    work, names = arguments.work.absolute(), tuple(arguments.only)
    work.mkdir(parents=True, exist_ok=True)
    for name in names:
        python_of(name, work)
    material = [sys.executable, "-m", "tests.bench.runtime.material", str(work / "material")]
    subprocess.run(material, cwd=ROOT, check=True)
    crowds = tuple(name for name in names if name == "adpm" or not arguments.quick)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table = ""
    rounds = arguments.rounds or (_QUICK if arguments.quick else _ROUNDS)
    for result in measure(work, rounds, names, crowds):
        table = markdown(result)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
