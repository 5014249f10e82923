"""SPDX license expressions against a list of the licenses that are allowed.

    expression = term *("OR" term)          one of them is enough
    term       = factor *("AND" factor)     all of them count
    factor     = ID ["WITH" EXCEPTION] / "(" expression ")"

Ids are compared without regard to case. ``ID WITH EXCEPTION`` is allowed where it is listed as such, or its ID is: an
exception only permits more. What is no expression is compared as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

__all__ = ["UNSTATED", "allowed"]

UNSTATED: Final = "NOASSERTION"  # SPDX's word for a license that nobody states
_TOKEN: Final = re.compile(r"[()]|[^\s()]+")


class _NoExpressionError(Exception):
    pass


def allowed(expression: str | None, allow: Collection[str]) -> bool:
    """Whether ``expression`` (None: none is stated) can be met with the licenses in ``allow`` alone."""
    listed = {" ".join(entry.lower().split()) for entry in allow}
    if expression is None:
        return UNSTATED.lower() in listed
    whole = " ".join(expression.lower().split())
    if whole in listed:
        return True
    tokens = _TOKEN.findall(whole)[::-1]
    try:
        found = _any(tokens, listed)
    except (_NoExpressionError, RecursionError):
        return False
    return found and not tokens


def _any(tokens: list[str], listed: Collection[str]) -> bool:
    found = _all(tokens, listed)
    while tokens and tokens[-1] == "or":
        tokens.pop()
        found |= _all(tokens, listed)
    return found


def _all(tokens: list[str], listed: Collection[str]) -> bool:
    found = _one(tokens, listed)
    while tokens and tokens[-1] == "and":
        tokens.pop()
        found &= _one(tokens, listed)
    return found


def _one(tokens: list[str], listed: Collection[str]) -> bool:
    word = tokens.pop() if tokens else ")"
    if word == "(":
        found = _any(tokens, listed)
        if not tokens or tokens.pop() != ")":
            raise _NoExpressionError
        return found
    if word in {")", "or", "and", "with"}:
        raise _NoExpressionError
    if tokens and tokens[-1] == "with":
        tokens.pop()
        if not tokens or tokens[-1] in {"(", ")", "or", "and", "with"}:
            raise _NoExpressionError
        return f"{word} with {tokens.pop()}" in listed or word in listed
    return word in listed
