"""The head that a model has itself: whether it looks untrained, and the labels that the model's config shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from adpm.runtime.adapter import Adapter
from adpm.runtime.anatomy import Anatomy, output_embeddings
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.methods.whole import ModulePart
from adpm.runtime.tree import Leaf, Node

__all__ = ["Labels", "labels_of", "untrained_head"]

_LIKE = 0.05  # by how much a fresh weight's spread may differ from the config's


def untrained_head(adapter: Adapter, anatomy: Anatomy) -> str | None:
    """A layer of the model's own head that looks as it was started and that ``adapter`` does not replace."""
    if not anatomy.prefix or any(isinstance(part, HeadPart) for part in adapter.parts.values()):
        return None
    replaced = tuple(f"{part.layer}." for part in adapter.parts.values() if isinstance(part, ModulePart))
    words = output_embeddings(anatomy)
    for name, module in anatomy.modules.items():
        outside = name and not f"{name}.".startswith(anatomy.prefix) and name not in words
        if outside and not f"{name}.".startswith(replaced) and _untrained(module, anatomy.config):
            return name
    return None


def _untrained(module: nn.Module, config: Any) -> bool:
    weight, bias = (module._parameters.get(name) for name in ("weight", "bias"))  # noqa: SLF001 - not a child's
    if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point() or weight.is_meta:
        return False
    if isinstance(bias, Tensor):
        return not bool(bias.any())
    spread = getattr(config, "initializer_range", None)
    if not isinstance(spread, float):
        return False
    values = weight.detach().float()
    centred = abs(values.mean().item()) < 4 * spread / math.sqrt(values.numel())
    return centred and abs(values.std().item() / spread - 1) < max(_LIKE, 3 / math.sqrt(2 * values.numel()))


def labels_of(speaking: Node[HeadPart] | None) -> Mapping[str, int] | None:
    """The label map of the one head that speaks; None where several do, or it has none."""
    return speaking.part.config.label_map if isinstance(speaking, Leaf) else None


class Labels:
    """What a model's config says of labels: the active head's, and the model's own when there is none."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self._own: tuple[Any, Any] | None = None

    def show(self, labels: Mapping[str, int] | None) -> None:
        """Put ``labels`` into the config, or back what was there."""
        if labels is not None and self.config is not None:
            if self._own is None:
                self._own = getattr(self.config, "id2label", None), getattr(self.config, "label2id", None)
            self.config.id2label = {number: label for label, number in labels.items()}
            self.config.label2id = dict(labels)
        elif self._own is not None:
            self.config.id2label, self.config.label2id = self._own
            self._own = None
