"""The peer's average, for comparing with it: what adpm computes, divided by the number of its parts once more.

Decision 0020 says why adpm does not. In the peer LoRA's weighted changes are so divided, (IA)3's weighted factors, and
bottlenecks' outputs.
"""

from __future__ import annotations

from typing import Any

import pytest

from adpm.runtime import bottlenecks, layers, sublayer
from adpm.runtime.tree import Fork


def divide_again(patch: pytest.MonkeyPatch, *, scales: bool) -> None:
    """Let averages divide as the peer's do, until ``patch`` is undone; ``scales``: of (IA)3, which multiplies."""
    fork, layer, sum_form = bottlenecks.RunTree._fork, layers._ForkAfter.__call__, bottlenecks.sum_form

    def site(self: Any, node: Any, state: Any) -> Any:
        out, last = fork(self, node, state)
        return out / len(node.branches) if node.kind == "average" else out, last

    def call(self: Any, module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        out = layer(self, module, args, kwargs, output)
        if self.division.kind != "average":
            return out
        number = len(self.branches)
        return out / number if scales else output + (out - output) / number

    def general(tree: Any, fusions: Any) -> Any:
        averages = any(isinstance(item, Fork) and item.kind == "average" for item in tree.items)
        return None if averages else sum_form(tree, fusions)

    patch.setattr(bottlenecks.RunTree, "_fork", site)
    patch.setattr(layers._ForkAfter, "__call__", call)
    patch.setattr(sublayer, "sum_form", general)
