"""How fast ``adpm install`` downloads, against tools that move the same bytes: ``python tests/bench/download.py``.

Everything is on this machine: nginx on loopback, data of its own making, below ``--work`` (a temporary directory). The
contenders take turns, ``--rounds`` times; the table has medians, and as ratio the contender's time in that of curl.

* ``curl --parallel``: the same files, 16 connections; it neither hashes nor syncs.
* ``sha256``: the same files, hashed by as many processes as there are cores.
* ``curl, then sha256``: both times of a round together: verified bytes as they are got by hand.
* ``pip download``: the same bytes as wheels, from a simple index on the same server.
* ``snapshot_download``: the same files as one repository of a Hub, by ``huggingface_hub``.
* ``skopeo copy``, ``oras (Python)``: the same files as layers of one OCI artifact on the same server. The former
  stands for the ``oras`` command, where that is not installed: both are Go, and copy layers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as a script it would not find its neighbours

from tests.bench import served  # noqa: E402

ONE = "adpm, one adapter"
_HASH = """
import hashlib, sys
for path in sys.stdin.read().split():
    with open(path, "rb") as file: hashlib.file_digest(file, "sha256")
"""


class Contenders:
    """Ways to get the bytes of ``made`` from the server at ``port`` into a fresh directory below ``work``."""

    def __init__(self, made: served.Made, port: int, work: Path) -> None:
        self._made = made
        self._port = port
        self._into = work / "into"

    def adpm(self) -> None:
        environment = {"ADPM_HOME": str(self._into), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
        self._run([sys.executable, "-m", "adpm", "install", "--locked"], environment, cwd=self._made.project)

    def curl(self) -> None:
        lines = []
        for i, path in enumerate(self._made.weights):
            lines += [f'url = "http://127.0.0.1:{self._port}/{path}"', f'output = "{self._into / str(i)}"']
        config = self._into.with_name("curl.conf")
        config.write_text("\n".join(lines))
        self._run(["curl", "--silent", "--parallel", "--parallel-max", "16", "--config", str(config)])

    def sha256(self) -> None:
        cores = os.cpu_count() or 1
        paths = [str(self._made.root / path) for path in self._made.weights]
        running = []
        for i in range(cores):
            process = subprocess.Popen([sys.executable, "-c", _HASH], stdin=subprocess.PIPE, text=True)
            assert process.stdin is not None
            process.stdin.write("\n".join(paths[i::cores]))
            process.stdin.close()
            running.append(process)
        assert all(process.wait() == 0 for process in running)

    def pip(self) -> None:
        names = [f"bench-w{i:04d}" for i in range(len(self._made.weights))]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest"]
        index = ["--index-url", f"http://127.0.0.1:{self._port}/simple/", "--disable-pip-version-check"]
        self._run([*command, str(self._into), *index, *names], {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "0"})

    def hub(self) -> None:
        code = (
            f"import huggingface_hub; huggingface_hub.snapshot_download({served.HUB!r}, cache_dir={str(self._into)!r})"
        )
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{self._port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        self._run([sys.executable, "-c", code], environment)

    def skopeo(self) -> None:
        source = f"docker://127.0.0.1:{self._port}/bench/all:1.0"
        self._run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", source, f"dir:{self._into}"])

    def oras(self) -> None:
        code = (
            "import oras.client; oras.client.OrasClient(insecure=True, tls_verify=False)"
            f".pull('127.0.0.1:{self._port}/bench/all:1.0', allowed_media_type=[], outdir={str(self._into)!r})"
        )
        self._run([sys.executable, "-c", code])

    def oras_command(self) -> None:
        reference = f"127.0.0.1:{self._port}/bench/all:1.0"
        self._run(["oras", "pull", "--plain-http", "--output", str(self._into), reference])

    def _run(self, command: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        done = subprocess.run(
            command, env=os.environ | (environment or {}), cwd=cwd, check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")

    def fresh(self) -> None:
        """An empty directory to fetch into. Where the one before was is left for the end, with files that are empty:
        ext4 takes long for a new file where others were removed a moment ago."""
        if self._into.exists():
            for path in self._into.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    path.chmod(0o600)
                    os.truncate(path, 0)
            self._into.rename(self._into.with_name(f"old-{time.time_ns()}"))
        self._into.mkdir()


@dataclass(frozen=True)
class Took:
    """Seconds of wall time, and of processors, of one run and what it started."""

    wall: float
    work: float


def measured(contenders: Contenders, runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[Took]]:
    out: dict[str, list[Took]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            contenders.fresh()
            os.sync()  # what the one before left unwritten is not this one's to pay for
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            run()
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            out[name].append(Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    contenders.fresh()
    return out


def show(title: str, times: dict[str, list[Took]], size: int, files: dict[str, int], base: str) -> None:
    """``files``: how many each contender asks for."""
    print(f"\n{title}; load average {os.getloadavg()[0]:.1f}")
    print(f"{'':20} {'median':>9} {'best':>9} {'processor':>10} {'MB/s':>7} {'files/s':>8} {'ratio':>7}")
    for name, found in times.items():
        median, best = statistics.median(took.wall for took in found), min(took.wall for took in found)
        work = statistics.median(took.work for took in found)
        rates = f"{size / median / 1e6:7.0f} {files[name] / median:8.0f}" if files[name] else f"{'':16}"
        print(f"{name:20} {median:7.2f} s {best:7.2f} s {work:8.2f} s {rates} {ratio(times, name, base):6.2f}x")


def others(contenders: Contenders) -> dict[str, Callable[[], None]]:
    """Package managers and their like, those that are installed."""
    out = {"pip download": contenders.pip}
    if importlib.util.find_spec("huggingface_hub"):
        out["snapshot_download"] = contenders.hub
    if shutil.which("oras"):
        out["oras pull"] = contenders.oras_command
    elif shutil.which("skopeo"):
        out["skopeo copy"] = contenders.skopeo
    if importlib.util.find_spec("oras"):
        out["oras (Python)"] = contenders.oras
    return out


def make(work: Path, port: int, adapters: int, size: int, each: int = 1) -> tuple[served.Made, served.Made]:
    """What is fetched, and a project that fetches one adapter of that size: what it takes is start-up."""
    made = served.make(work, adapters=adapters, each=each, size=size, port=port)
    (work / "one").mkdir()
    single = served.make(work / "one", adapters=1, size=size, port=port)
    shutil.copytree(single.root, made.root, dirs_exist_ok=True)
    return made, single


def ratio(times: dict[str, list[Took]], over: str, under: str, besides: str | None = None) -> float:
    """How much longer ``over`` takes than ``under``; without what ``besides`` takes, if that is given."""
    spared = times[besides] if besides else [Took(0.0, 0.0)] * len(times[over])
    rounds = zip(times[over], times[under], spared, strict=True)
    return statistics.median((a.wall - c.wall) / b.wall for a, b, c in rounds)


def large(work: Path, rounds: int, adapters: int, size: int, *, quick: bool) -> None:
    port = served.free_port()
    made, single = make(work, port, adapters, size)
    if not quick:
        served.add_wheels(made)
        served.add_artifact(made)
        served.add_hub(made)
    with served.nginx(made.root, work / "nginx", port):
        contenders = Contenders(made, port, work)
        runs = {
            "adpm install": contenders.adpm,
            ONE: Contenders(single, port, work).adpm,
            "curl --parallel": contenders.curl,
            "sha256": contenders.sha256,
        }
        if not quick:
            runs |= others(contenders)
        times = measured(contenders, runs, rounds)
    pairs = zip(times["curl --parallel"], times["sha256"], strict=True)
    times["curl, then sha256"] = [Took(got.wall + hashed.wall, got.work + hashed.work) for got, hashed in pairs]
    files = dict.fromkeys(times, adapters) | {"adpm install": made.requests, ONE: 0, "pip download": 2 * adapters}
    show(f"{adapters} adapters of {size / 1e6:.1f} MB, cold", times, made.size, files, "curl --parallel")
    slowest = max("curl --parallel", "sha256", key=lambda name: statistics.median(took.wall for took in times[name]))
    print(
        f"adpm moves {1 / ratio(times, 'adpm install', slowest):.0%} of what {slowest} does (goal 70 %), "
        f"{1 / ratio(times, 'adpm install', slowest, ONE):.0%} beyond start-up"
    )


def small(work: Path, rounds: int) -> None:
    port, slow = served.free_port(), served.free_port()
    for adapters, each, late, at in ((4, 100, 0.0, port), (200, 1, 0.05, slow)):
        made, single = make(work, at, adapters, 20_000, each)
        with served.nginx(made.root, work / "nginx", port), served.delayed(slow, port, late):
            contenders = Contenders(made, at, work)
            runs = {
                "adpm install": contenders.adpm,
                ONE: Contenders(single, at, work).adpm,
                "curl --parallel": contenders.curl,
            }
            times = measured(contenders, runs, rounds)
        files = {"adpm install": made.requests, ONE: 2, "curl --parallel": len(made.weights)}
        title = f"{adapters} adapters with {each} files of 20 kB each, answers {late * 1e3:.0f} ms late"
        show(title, times, made.size, files, "curl --parallel")
        beyond = statistics.median(
            all_.wall - one.wall for all_, one in zip(times["adpm install"], times[ONE], strict=True)
        )
        print(f"adpm beyond what one adapter takes: {(made.requests - 2) / beyond:.0f} files/s")
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--work", type=Path, help="make the data here; where it lies on a disk, the disk is measured, too"
    )
    parser.add_argument("--only", choices=["large", "small"])
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--size", type=int, default=3_600_000, help="bytes of an adapter")
    parser.add_argument("--quick", action="store_true", help="only adpm, curl and sha256")
    options = parser.parse_args()
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as directory:
        for name in ("large", "small") if options.only is None else (options.only,):
            work = Path(directory) / name
            work.mkdir()
            if name == "large":
                large(work, options.rounds, options.adapters, options.size, quick=options.quick)
            else:
                small(work, options.rounds)


if __name__ == "__main__":
    main()
