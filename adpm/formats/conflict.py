"""Git's conflict markers, and the versions of a document that stand between them.

    <<<<<<< ours
    ...                       what this side has
    ||||||| ancestor          only in the styles diff3 and zdiff3
    ...                       what both sides began with
    =======
    ...                       what the other side has
    >>>>>>> theirs

Seven characters at the beginning of a line, then a space or the line's end. No line of a JSON document or of a YAML
mapping can begin like that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from adpm.errors import DocumentError, Fault

__all__ = ["Sides", "markers", "split"]

_MARKER: Final = re.compile(rb"(<{7}|\|{7}|={7}|>{7})(?: .*)?\r?\n?\Z")
_OPENING: Final = re.compile(rb"^<{7}(?: |\r?$)", re.MULTILINE)
_Part = Literal["both", "ours", "base", "theirs"]
_NEXT: Final[dict[tuple[_Part, bytes], _Part]] = {
    ("both", b"<<<<<<<"): "ours",
    ("ours", b"|||||||"): "base",
    ("ours", b"======="): "theirs",
    ("base", b"======="): "theirs",
    ("theirs", b">>>>>>>"): "both",
}
_HINT: Final = "bring one side back with 'git checkout --ours' or '--theirs' and the file's name, then go on from there"


@dataclass(frozen=True, slots=True)
class Sides:
    """One document as each side of a merge has it; ``base``: as both began, where every conflict says so."""

    ours: bytes
    theirs: bytes
    base: bytes | None


def markers(data: bytes) -> list[int]:
    """The 1-based lines on which conflicts begin; none in a document that was merged."""
    if not _OPENING.search(data):
        return []
    return [number for number, line in enumerate(data.splitlines(), 1) if _OPENING.match(line)]


def split(data: bytes, *, source: str, code: str) -> Sides | None:
    """The sides of ``data``; None where it has no conflict.

    Raises ``DocumentError`` with ``code`` where markers are missing or out of order. ``base`` is a guess in the style
    zdiff3, which takes lines that both sides changed alike out of the conflict: it may be no document at all.
    """
    if not markers(data):
        return None
    texts: dict[_Part, list[bytes]] = {"ours": [], "base": [], "theirs": []}
    part: _Part = "both"
    ancestors = 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        found = _MARKER.match(line)
        if found is None:
            for side in texts if part == "both" else [part]:
                texts[side].append(line)
        elif (part, found[1]) in _NEXT:
            part = _NEXT[part, found[1]]
            ancestors += part == "base"
        else:
            fault = f"the conflict marker {found[1].decode()!r} is out of order"
            raise DocumentError(code, source, [Fault("", fault, number)], hint=_HINT)
    if part != "both":
        last = markers(data)[-1]
        raise DocumentError(code, source, [Fault("", "this conflict has no end", last)], hint=_HINT)
    ours, base, theirs = (b"".join(texts[side]) for side in ("ours", "base", "theirs"))
    return Sides(ours, theirs, base if ancestors == len(markers(data)) else None)
