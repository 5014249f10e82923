"""What another release of transformers calls the modules of a model: PEFT's files and configs name them.

transformers 5 renamed modules of some families (``Family.renamed``). An adapter that was saved on 4 and one that was
saved on 5 differ in names alone, those in its patterns included. So a config is matched against the names of the
release that its file is from, and what it matched is the model's module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["other_names"]

Pairs = tuple[tuple[str, str], ...]


def other_names(modules: Iterable[str], pairs: Pairs, prefix: str) -> dict[str, str]:
    """By the other release's name the model's own, for all ``modules``; empty where no pair fits.

    ``prefix`` is what stands before the base's modules.
    """
    names = tuple(modules)
    inner = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    is_four = any(four and _fits(four, name) for four, _ in pairs for name in inner)
    ways = [(four, five) if is_four else (five, four) for four, five in pairs]
    found = {_other(name, prefix, ways): name for name in names}
    return found if found.keys() != set(names) else {}


def _other(name: str, prefix: str, ways: Iterable[tuple[str, str]]) -> str:
    if not name.startswith(prefix) or not name:
        return name
    inner = name.removeprefix(prefix)
    for ours, theirs in ways:
        if (fit := _fits(ours, inner)) is not None:
            parts = theirs.replace("#", "{}").format(*fit.groups()), inner[fit.end() :].lstrip(".")
            return prefix + ".".join(filter(None, parts))
    return name


def _fits(pattern: str, name: str) -> re.Match[str] | None:
    """Where ``name`` begins with what ``pattern`` means: that module, or one below it."""
    return re.match(re.escape(pattern).replace(r"\#", r"(\d+)") + (r"(?=\.|\Z)" if pattern else ""), name)
