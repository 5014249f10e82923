"""``adpm.merge``: adapters in directories to a new one in a directory, on the model that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from adpm.runtime.adapters import Adapters, attach
from adpm.runtime.anatomy import HANDLE

__all__ = ["merge"]


def merge(
    model: nn.Module,
    weights: Mapping[str | Path, float],
    directory: str | Path,
    method: str = "average",
    *,
    format: Literal["adapterhub", "peft"] | None = None,  # noqa: A002 - the word users know
    **settings: Any,
) -> None:
    """Combine the adapters in the directories ``weights``, each with its weight, and save the result in ``directory``.

    ``method`` and ``settings`` are those of ``Adapters.combine``, ``format`` is that of ``Adapters.save``; errors are
    theirs and those of ``Adapters.read``. The model is as before.
    """
    own: Adapters | None = getattr(model, HANDLE, None)
    handle = attach(model) if own is None else own
    names = {f"merge/{number}": Path(place) for number, place in enumerate(weights)}
    result = "merge/result"
    try:
        for name, place in names.items():
            handle.read(place, name=name, with_head=False)
        handle.combine(result, dict(zip(names, weights.values(), strict=True)), method, **settings)
        handle.save(result, directory, format)
    finally:
        if own is None:
            handle.unload()
        else:
            for name in (*names, result):
                if name in handle.names:
                    handle.remove(name)
