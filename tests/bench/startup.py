"""How long a command takes before it has done anything: `python tests/bench/startup.py [ROUNDS]`.

Prints wall times, ratios to `python -c pass` and CPU times, measured interleaved in one run: the best and the median of
all rounds. The project has 200 locked adapters of four files, all of them in the store.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import Alias, PackageName
from adpm.core.release import Blob, File
from adpm.core.requirement import Requirement
from adpm.formats.lock import write_lock
from adpm.formats.oci import write_release
from adpm.store.store import Store

ADAPTERS = 200


def make_project(root: Path, adapters: int = ADAPTERS) -> None:
    """A project in ``root`` whose lock pins ``adapters`` packages, with everything in the store ``root/home``."""
    packages: dict[str, LockedPackage] = {}
    aliases: dict[Alias, LockedAdapter] = {}
    lines = ["base: bench/base", "registries: [{name: here, url: registry}]", "adapters:"]
    with Store(root / "home").batch() as batch:
        for i in range(adapters):
            name = PackageName.parse(f"bench/adapter-{i:04d}")
            alias = Alias.parse(f"a{i:04d}")
            names = ("adapter.safetensors", "adapter_config.json", "head_config.json", "model_head.safetensors")
            files = tuple(File(n, batch.put([f"{name} {n}".encode() * 50])) for n in names)
            card: Blob = batch.put([f"card of {name}".encode()])
            manifest = batch.put([write_release(card, files)])
            packages[name] = LockedPackage(name, Version("1.0"), "here", manifest, card, files)
            aliases[alias] = LockedAdapter(Requirement.parse(f"{name} >=1,<2"))
            lines.append(f"  {alias}: {name} >=1,<2")
    (root / "adapter.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    base = BaseIdentity("bench/base", None, None, None)
    (root / "adapter.lock").write_bytes(write_lock(Lock(base, aliases, {}, packages)))


def run(command: Sequence[str], root: Path) -> tuple[float, float]:
    """Seconds of wall time and of CPU time of one run, which must succeed."""
    before, began = children(), time.perf_counter()
    subprocess.run(
        command, cwd=root, env=os.environ | {"ADPM_HOME": str(root / "home")}, check=True, capture_output=True
    )
    return time.perf_counter() - began, children() - before


def children() -> float:
    """Seconds of CPU time that ended child processes have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(rounds: int = 20) -> None:
    python = sys.executable
    adpm = [python, "-m", "adpm"]
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "adpm --help": [*adpm, "--help"],
        f"adpm install --locked ({ADAPTERS} adapters, nothing to do)": [*adpm, "install", "--locked"],
        f"adpm lock ({ADAPTERS} adapters, nothing to do)": [*adpm, "lock", "--offline"],
        "adpm checkout (1 adapter, 4 files)": [*adpm, "checkout"],
        f"adpm checkout ({ADAPTERS} adapters, {4 * ADAPTERS} files)": [*adpm, "checkout"],
    }
    with tempfile.TemporaryDirectory() as directory:
        root, one = Path(directory) / "all", Path(directory) / "one"
        for where, adapters in ((root, ADAPTERS), (one, 1)):
            where.mkdir()
            make_project(where, adapters)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                for where in (root, one):
                    shutil.rmtree(where / "adapters", ignore_errors=True)
                times[name].append(run(command, one if "(1 adapter" in name else root))
    floors = [min(column) for column in zip(*times["python -c pass"], strict=True)]
    print(f"{'command':55} {'best':>9} {'median':>9} {'beyond pass':>12} {'ratio':>7} {'CPU':>9} {'beyond pass':>12}")
    for name, found in times.items():
        walls, spent = zip(*found, strict=True)
        best, median, cpu = min(walls), statistics.median(walls), min(spent)
        print(
            f"{name:55} {best * 1e3:6.1f} ms {median * 1e3:6.1f} ms {(best - floors[0]) * 1e3:9.1f} ms "
            f"{best / floors[0]:6.1f}x {cpu * 1e3:6.1f} ms {(cpu - floors[1]) * 1e3:9.1f} ms"
        )
    none, every = (min(wall for wall, _ in found) for found in list(times.values())[-2:])
    print(f"{ADAPTERS} adapters are linked in {(every - none) * 1e3:.1f} ms, beyond the same command for one")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
