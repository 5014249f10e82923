"""What the 1st, 100th and 1,000th release of a package costs its publisher: ``python tests/bench/publish.py``.

The registry is a directory; with ``--seaweed``, a real SeaweedFS on loopback, too. Each release has a card, a manifest
and two files of its own. Printed are milliseconds (the median of the nine publishes before), of which reading and
writing the index alone takes so many, and how many files were opened, or requests sent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as a script it would not find its neighbours

from adpm.core.names import PackageName  # noqa: E402
from adpm.formats.oci import read_index, write_index  # noqa: E402
from adpm.registry.open import open_registry  # noqa: E402
from adpm.registry.placed import PlacedRegistry  # noqa: E402
from adpm.testing.making import make  # noqa: E402

NAME = PackageName("text/sst-2")


def publish_many(registry: PlacedRegistry, work: Path, releases: int, count: Callable[[], int], unit: str) -> None:
    shown = {1, 10, 100, 1000, releases}
    print(f"{'release':>8} {'all':>10} {'index':>10} {unit:>10}")
    times: list[float] = []
    for i in range(1, releases + 1):
        publication = make(work, version=f"1.{i}")
        before, began = count(), time.perf_counter()
        registry.publish(publication, init=True)
        times.append(time.perf_counter() - began)
        number = count() - before
        if i in shown:
            median = statistics.median(times[-9:])
            print(f"{i:8} {median * 1e3:7.1f} ms {index_alone(registry) * 1e3:7.1f} ms {number:10}")


def index_alone(registry: PlacedRegistry) -> float:
    """Seconds for reading and writing what the index says, without moving it: it grows with the releases."""
    data = write_index(registry.versions(NAME))
    began = time.perf_counter()
    write_index(read_index(data, NAME, "the index"))
    return time.perf_counter() - began


def directory(work: Path, releases: int) -> None:
    events: Counter[str] = Counter()
    sys.addaudithook(lambda event, _: events.update([event]) if event == "open" or event.startswith("os.") else None)
    registry = open_registry("bench", str(work / "registry"), work)
    assert isinstance(registry, PlacedRegistry)
    print(f"\na directory; load average {os.getloadavg()[0]:.1f}")
    publish_many(registry, work, releases, lambda: sum(events.values()), "files")


def seaweed(work: Path, releases: int) -> None:
    from tests.registry import stores  # noqa: PLC0415 - needs what few have

    (work / "store").mkdir()
    with stores.seaweed(work / "store") as server:
        os.environ.update(server.environment)
        registry = open_registry("bench", "s3://adpm/bench", work)
        assert isinstance(registry, PlacedRegistry)
        sent = 0

        def counted(*_: object, **__: object) -> None:
            nonlocal sent
            sent += 1

        registry._place._bucket._s3.connect()  # type: ignore[attr-defined] # the bench looks inside
        registry._place._bucket._s3.s3.meta.events.register("before-send.s3", counted)  # type: ignore[attr-defined]
        print(f"\nSeaweedFS; load average {os.getloadavg()[0]:.1f}")
        publish_many(registry, work, releases, lambda: sent, "requests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=1000)
    parser.add_argument("--seaweed", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        directory(work, options.releases)
        if options.seaweed:
            seaweed(work, options.releases)


if __name__ == "__main__":
    main()
