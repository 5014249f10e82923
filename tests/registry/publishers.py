"""Many publishers at once: ``python -m tests.registry.publishers URL WORK COUNT different|same``.

COUNT processes, forked after everything is imported, each publish one release of one package when all are ready: of
their own version, or of version 1.0 with content of their own. One line a process: what it was told, and after how many
seconds.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

from adpm.errors import AdpmError
from adpm.registry.open import open_registry
from adpm.testing.making import make


def main(url: str, work: Path, count: int, same: bool) -> None:
    kind = {"s3": "adpm.registry.s3", "oci": "adpm.registry.oci_open"}.get(url.partition(":")[0])
    importlib.import_module(kind or "adpm.registry.directory")
    start, go = os.pipe()
    children = []
    for me in range(count):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(start, 1)  # ends when the parent closes the other side
            status = 70
            try:
                sys.stdout.write(json.dumps(publish(url, work / str(me), me, same)) + "\n")
                sys.stdout.flush()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(go)
    failed = [child for child in children if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
    sys.exit(1 if failed else 0)


def publish(url: str, work: Path, me: int, same: bool) -> dict[str, object]:
    work.mkdir(parents=True)
    publication = make(work, version="1.0" if same else f"1.{me}", files={"weights": b"%d" % me})
    began = time.monotonic()
    try:
        told = str(open_registry("many", url, work).publish(publication, init=True).listing.version)
    except AdpmError as error:
        told = f"{error.code}: {error.cause}"
    return {"me": me, "told": told, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "same")
