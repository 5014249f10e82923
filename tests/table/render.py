"""From what was tried to README's table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from adpm.formats.adapterhub_methods import NAMED
from tests.parity.peers.small import SMALL

__all__ = ["README", "RESULT", "ROOT", "in_readme", "table"]

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
RESULT: Final = Path(__file__).with_name("result.json")

Found = Mapping[str, Any]

_BEGIN, _END = "<!-- methods -->", "<!-- /methods -->"
_MANY: Final = 6  # names of families in one cell


def in_readme(readme: str, result: Mapping[str, Any]) -> str:
    """``readme`` with the table between its markers."""
    found = f"{_BEGIN}\n{table(result)}{_END}"
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: found, readme, flags=re.DOTALL)


def table(result: Mapping[str, Any]) -> str:
    ours, hub, peft = (result[name]["methods"] for name in ("adpm", "adapters", "peft"))
    versions = {name: result[name]["versions"][name] for name in ("adapters", "peft")}
    lines = [
        "| method | saved as | merges | rows mix | families | the peer: merges, rows mix, families |",
        "|---|---|---|---|---|---|",
        f"| **as in `adapters` {versions['adapters']}** | | | | | |",
    ]
    lines += [_line(_called(names), ours.get(names[0]), hub.get(names[0])) for names in _alike(ours, hub)]
    lines.append(f"| **as in `peft` {versions['peft']}** | | | | | |")
    plain = {name.removeprefix("peft_"): found for name, found in ours.items() if name.startswith("peft_")}
    lines += [_line(name, plain.get(name), peft.get(name)) for name in sorted(plain.keys() | _runs(peft))]
    return "\n".join(lines) + "\n"


def _alike(ours: Mapping[str, Found], hub: Mapping[str, Found]) -> list[tuple[str, ...]]:
    """AdapterHub's names, those together that mean one config."""
    groups: dict[object, list[str]] = {}
    for name in NAMED:
        if name in ours:
            groups.setdefault(NAMED[name], []).append(name)
    others = [(name,) for name in sorted(_runs(hub) - NAMED.keys())]
    return [*map(tuple, groups.values()), *others]


def _runs(peer: Mapping[str, Found]) -> set[str]:
    """The methods with which the peer's trial did anything."""
    return {name for name, found in peer.items() if found["families"]}


def _called(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ({', '.join(names[1:])})"


def _line(name: str, ours: Found | None, peer: Found | None) -> str:
    if ours is None or not ours["families"]:
        cells = ["", "", "", "-"]
    else:
        cells = [", ".join(ours["formats"]), _yes(ours["merge"]), _yes(ours["mixed"]), _families(ours["families"])]
    beside = "-"
    if peer is not None and peer["families"]:
        words = [word for word, does in (("merges", peer["merge"]), ("rows mix", peer["mixed"])) if does]
        beside = ", ".join([*words, _families(peer["families"])])
    return f"| {name} | {' | '.join(cells)} | {beside} |"


def _yes(does: bool) -> str:
    return "yes" if does else ""


def _families(found: Iterable[str]) -> str:
    """How many of all, and which, by the shorter list."""
    there = set(found)
    lacking = SMALL.keys() - there
    if not lacking:
        return f"all {len(SMALL)}"
    if len(lacking) <= _MANY:
        return f"{len(there)}: not {', '.join(sorted(lacking))}"
    return f"{len(there)}" if len(there) > _MANY else f"{len(there)}: {', '.join(sorted(there))}"
