"""README's table of methods from what was tried."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.runtime.every.methods import FAMILY_NAMES, METHODS

__all__ = ["OURS", "PEERS", "README", "grouped", "in_readme", "text_of"]

Found = Mapping[str, list[str]]  # what can be done, in words, and the families
README: Final = Path(__file__).parents[3] / "README.md"
OURS: Final = Path(__file__).with_name("ours.json")
PEERS: Final = Path(__file__).with_name("peers.json")
_BEGIN, _END = "<!-- methods -->", "<!-- /methods -->"
_FORMATS: Final = {"adapterhub": "AdapterHub", "peft": "PEFT"}
_PEERS: Final = {"adapterhub": "adapters", "peft": "peft"}
_MERGE, _ROWS = "merge", "rows"


def grouped(by_family: Mapping[str, str]) -> dict[str, list[str]]:
    """The families of each outcome."""
    return {outcome: [f for f, own in by_family.items() if own == outcome] for outcome in sorted({*by_family.values()})}


def text_of(value: Mapping[str, Any]) -> str:
    """JSON, one method a line."""
    lines = [f"{json.dumps(key)}: {json.dumps(value[key])}" for key in value]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def in_readme(readme: str, ours: Mapping[str, Found], peers: Mapping[str, Any]) -> str:
    """``readme`` with the table between its markers."""
    table = f"{_BEGIN}\n{_table(ours, peers)}{_END}"
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: table, readme, flags=re.DOTALL)


def _table(ours: Mapping[str, Found], peers: Mapping[str, Any]) -> str:
    total = len(FAMILY_NAMES)
    titles = " | ".join(f"{name} {peers[form]['version']}" for form, name in _PEERS.items())
    lines = [f"| method | families of {total} | saved for | merged | in mixed batches | {titles} |", "|---" * 7 + "|"]
    lines += [_row(method, ours.get(method, {}), peers) for method in METHODS]
    for form, name in _PEERS.items():
        lacking = [word for word in peers[form]["known"] if _own(form, word) not in METHODS and not _same(form, word)]
        if lacking:
            lines.append(f"| {name} has besides: {', '.join(lacking).lower()} | not yet | | | | | |")
    return "\n".join(lines) + "\n"


def _own(form: str, word: str) -> str:
    return f"peft_{word.lower()}" if form == "peft" else word


def _same(form: str, word: str) -> bool:
    """Whether ``word`` is another name for a method of the table."""
    from adpm.formats.adapterhub_methods import NAMED  # noqa: PLC0415 - names, for this alone

    return form == "adapterhub" and word in NAMED


def _row(method: str, found: Found, peers: Mapping[str, Any]) -> str:
    form = "peft" if method.startswith("peft_") else "adapterhub"
    runs = _running(found)
    formats = [title for word, title in _FORMATS.items() if any(word in words for words, _ in runs)]
    known = peers[form]["methods"].get(method.removeprefix("peft_").upper() if form == "peft" else method, {})
    beside = [_beside(known) if own == form else "" for own in _PEERS]
    cells = [
        f"`{method}`",
        str(_count(runs, None)),
        ", ".join(formats),
        _of(runs, _MERGE),
        _of(runs, _ROWS),
        *beside,
    ]
    return f"| {' | '.join(cells)} |"


def _running(found: Found) -> list[tuple[list[str], int]]:
    """What can be done, and in how many families; without those that are refused."""
    words = [(outcome.split(), len(families)) for outcome, families in found.items()]
    return [(done, count) for done, count in words if {*done} <= {*_FORMATS, _MERGE, _ROWS}]


def _count(runs: list[tuple[list[str], int]], word: str | None) -> int:
    return sum(count for words, count in runs if word is None or word in words)


def _of(runs: list[tuple[list[str], int]], word: str) -> str:
    able, total = _count(runs, word), _count(runs, None)
    return "no" if not able else "yes" if able == total else f"in {able}"


def _beside(found: Found) -> str:
    """What the peer has."""
    runs = _running(found)
    if not runs:
        return "no"
    more = [f"{what} {_of(runs, word)}" for what, word in (("merged", _MERGE), ("mixed", _ROWS)) if _count(runs, word)]
    return ", ".join([str(_count(runs, None)), *(one.removesuffix(" yes") for one in more)])
