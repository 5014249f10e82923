"""The files that all contenders read, written once by adpm in the peers' formats: `python -m
tests.bench.runtime.material DIRECTORY`.

    pfeiffer/N   AdapterHub's format          lora/N   the same, LoRA r=8 on q and v          peft/N   LoRA in PEFT's
    project, store                            a locked and installed project for `adpm.load`, one for each kind
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from packaging.version import Version

import adpm
from adpm.core.base import BaseIdentity
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import Alias, PackageName
from adpm.core.release import Card, File, Method
from adpm.core.requirement import Requirement
from adpm.formats.card import write_card
from adpm.formats.lock import write_lock
from adpm.formats.oci import write_release
from adpm.runtime.identity import identify
from adpm.store.store import Store
from tests.bench.runtime.base import FEW, bert
from tests.bench.runtime.rows import MANY

__all__ = ["FORMATS", "make", "projects"]

_DONE: Final = "done"
FORMATS: Final[dict[str, tuple[str, str, int]]] = {  # configuration, whose format, how many
    "pfeiffer": ("pfeiffer", "adapterhub", FEW),
    "lora": ("lora", "adapterhub", MANY),
    "peft": ("peft_lora", "peft", MANY),
}

METHODS: Final = {"pfeiffer": Method("adapterhub", "bottleneck"), "peft": Method("peft", "lora")}


def make(root: Path) -> None:
    """Write everything below ``root``, once."""
    if (root / _DONE).exists():
        return
    root.mkdir(parents=True, exist_ok=True)
    model = bert()
    identity = identify(model)
    handle = adpm.attach(model)
    for kind, (config, format_, count) in FORMATS.items():
        options: dict[str, Any] = {"target_modules": ["query", "value"]} if kind == "peft" else {}
        handle.add("x", config, **options)
        for number in range(count):
            for parameter in handle.adapters["x"].parameters():
                parameter.data.normal_(std=0.02)
            handle.save("x", root / kind / str(number), format=format_)  # type: ignore[arg-type]  # one of the two
        handle.remove("x")
    projects(root, identity)
    (root / _DONE).touch()


def projects(root: Path, base: BaseIdentity) -> None:
    """Two projects, each with ``FEW`` locked adapters of one kind, in one store."""
    for kind in METHODS:
        packages: dict[str, LockedPackage] = {}
        aliases: dict[Alias, LockedAdapter] = {}
        with Store(root / "store").batch() as batch:
            for number in range(FEW):
                name = PackageName.parse(f"bench/{kind}-{number:02d}")
                files = tuple(
                    File(path.name, batch.put([path.read_bytes()]))
                    for path in sorted((root / kind / str(number)).iterdir())
                )
                card = write_card(Card(name, Version("1.0"), base, METHODS[kind]))
                blob = batch.put([card])
                manifest = batch.put([write_release(blob, files)])
                packages[name] = LockedPackage(name, Version("1.0"), "here", manifest, blob, files)
                aliases[Alias.parse(f"a{number:02d}")] = LockedAdapter(Requirement.parse(f"{name} >=1"))
        directory = root / "project" / kind
        directory.mkdir(parents=True)
        (directory / "adapter.lock").write_bytes(write_lock(Lock(base, aliases, {}, packages)))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
