"""An AdapterHub head on the model's outputs: the user's model gives class scores, and a loss if it is given labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Capture, Point
from adpm.runtime.methods.head import HeadPart

__all__ = ["head_points"]


def head_points(head: HeadPart, anatomy: Anatomy) -> dict[Point, Any]:
    """Hooks on the whole model and, where it has a head of its own, on its base."""
    act = _Head(head, pooled=anatomy.family().pooled)
    points: dict[Point, Any] = {Point("", "before"): act.take_labels, Point("", "after"): act.finish}
    if anatomy.prefix:
        points[Point(anatomy.prefix.rstrip("."), "after")] = act.see_base
    return points


class _Head:
    def __init__(self, head: HeadPart, *, pooled: bool) -> None:
        self.head = head
        self.extras = 2 if pooled else 1  # where hidden states begin in the base's tuple
        self.labels = Capture()
        self.base = Capture()

    def take_labels(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        self.labels.put(kwargs.get("labels"))
        return args, {key: value for key, value in kwargs.items() if key != "labels"}

    def see_base(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002 - a hook's
        self.base.put(output)

    def finish(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        base = self.base.take()
        if base is None:
            base = output
        labels: Tensor | None = self.labels.take()
        logits: Tensor = self.head.logits(base[1] if self.head.config.use_pooler else base[0][:, 0])
        loss = None if labels is None else self.head.loss(logits, labels)
        if isinstance(output, tuple):
            rest = base[self.extras :] if isinstance(base, tuple) else base.to_tuple()[self.extras :]
            return (logits, *rest) if loss is None else (loss, logits, *rest)
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=getattr(base, "hidden_states", None),
            attentions=getattr(base, "attentions", None),
        )
