"""Heads on the model's outputs: the user's model gives the head's scores, and a loss where it is given labels.

The head reads the base's last states, whether the model is the bare base or has a head of its own, whose result is
then not used. Which state stands for a whole text: the pooler's output where the head wants it; in encoders the first
token's; in decoders the last token's that is no padding; in encoder-decoders the last end-of-text token's.
Source: ``adapters`` 1.3.0, ``heads/model_mixin.py`` (``forward_head``) and the families' ``adapter_model.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    CausalLMOutputWithPast,
    ImageClassifierOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils.generic import ModelOutput

from adpm.core.composition import Block, Rows
from adpm.errors import CompositionError, UsageError
from adpm.formats.adapterhub_heads import LANGUAGE_HEADS
from adpm.runtime.anatomy import Anatomy, is_tied
from adpm.runtime.division import Division
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.calls import OUTPUT_CACHE, Call
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.tree import Chain, Fork, Leaf, Node, leaves_of

__all__ = ["HeadsOutput", "ParsingOutput", "head_acts", "speaker"]

Undo = Callable[[Tensor], Tensor]

# What heads are given in the model's place; the model would compute a loss of its own from it, or not know it.
_TARGETS: Final = ("labels", "start_positions", "end_positions", "labels_arcs", "labels_rels", "word_starts")
# What they look at beside.
_SEEN: Final = ("attention_mask", "input_ids")
_ROWWISE: Final = (*_TARGETS, *_SEEN)


@dataclass
class ParsingOutput(ModelOutput):
    """Of a dependency parser. ``arc_preds``: batch x words x (1 + words); ``rel_preds`` with the labels last."""

    loss: Tensor | None = None
    rel_preds: Tensor | None = None
    arc_preds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class _HeadsOutput(ModelOutput):
    """Of several heads, one a branch; ``loss`` is the sum of theirs. A branch without a head shows its last states."""

    loss: Tensor | None = None
    head_outputs: tuple[ModelOutput, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

    @property
    def logits(self) -> Tensor:
        """All heads' scores below each other, where they are of one size."""
        return torch.vstack([output["logits"] for output in self.head_outputs or ()])


if TYPE_CHECKING or OUTPUT_CACHE == "cache":

    @dataclass
    class HeadsOutput(_HeadsOutput):
        cache: Any = None

else:

    @dataclass
    class HeadsOutput(_HeadsOutput):
        past_key_values: Any = None


_OUTPUTS: Final[dict[str, type[ModelOutput]]] = {
    "classification": SequenceClassifierOutput,
    "multilabel_classification": SequenceClassifierOutput,
    "image_classification": ImageClassifierOutput,
    "multiple_choice": MultipleChoiceModelOutput,
    "tagging": TokenClassifierOutput,
    "question_answering": QuestionAnsweringModelOutput,
    "dependency_parsing": ParsingOutput,
    "causal_lm": CausalLMOutput,
    "masked_lm": MaskedLMOutput,
    "seq2seq_lm": Seq2SeqLMOutput,
}
_OF_PAIRS: Final[dict[str, type[ModelOutput]]] = {
    "classification": Seq2SeqSequenceClassifierOutput,
    "multilabel_classification": Seq2SeqSequenceClassifierOutput,
    "question_answering": Seq2SeqQuestionAnsweringModelOutput,
}


def speaker(node: Node[HeadPart] | None) -> Leaf[HeadPart] | Fork[HeadPart] | None:
    """Which head speaks: the last one of a chain, an average or a fusion; each branch's where the batch is divided."""
    if isinstance(node, Chain):
        return speaker(node.items[-1])
    if isinstance(node, Fork) and node.kind in ("average", "fuse", "split"):
        return list(leaves_of(node))[-1]
    return node


def head_acts(
    tree: Chain[HeadPart], undo: Callable[[Block | Rows | None, int], Undo | None], anatomy: Anatomy
) -> list[Act]:
    """Hooks on the whole model and, where it has a head of its own, on its base.

    ``undo`` gives the invertible adapter's way back for a branch of a block, or for everything.
    """
    found = speaker(tree)
    view = _View(anatomy)
    act: _Single | _Several
    if isinstance(found, Leaf):
        act = _Single(found.part, undo(None, 0), view)
    elif isinstance(found, Fork):
        heads: list[tuple[HeadPart | None, Undo | None]] = []
        for number, branch in enumerate(found.branches):
            own = speaker(branch)
            if isinstance(own, Fork):
                raise CompositionError(
                    "composition-unsupported",
                    f"{found.block} divides the batch among heads twice",
                    hint="name each row's adapter: activate(rows=[...])",
                )
            heads.append((None if own is None else own.part, undo(found.block, number)))
        act = _Several(found.block, heads, view)
    else:
        raise TypeError("a tree has a head")
    acts = [Act(Point("", "before"), act.take), Act(Point("", "after"), act.finish)]
    if anatomy.prefix:
        acts.append(Act(Point(anatomy.prefix.rstrip("."), "after"), act.see_base))
    chooses = any(leaf.part.config.head_type == "multiple_choice" for leaf in leaves_of(found))
    if chooses and not type(anatomy.model).__name__.endswith("ForMultipleChoice"):  # which does this itself
        acts.append(Act(Point("", "before"), _a_row_for_each_choice, Order.FIRST))
    return acts


# The model's inputs and how many dimensions each has, without that of choices.
_DIMENSIONS: Final = {"input_ids": 2, "attention_mask": 2, "token_type_ids": 2, "position_ids": 2, "inputs_embeds": 3}


def _a_row_for_each_choice(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Inputs of texts x choices x tokens as the model takes them, (texts x choices) x tokens."""
    named = Call(module).named(args, kwargs)
    given = {name: value for name in _DIMENSIONS if isinstance(value := named.get(name), Tensor)}
    flat = {name: value.flatten(0, 1) for name, value in given.items() if value.dim() > _DIMENSIONS[name]}
    return ((), named | flat) if flat else None


class _View:
    """How this model's outputs are to be read."""

    def __init__(self, anatomy: Anatomy) -> None:
        config: Any = anatomy.config
        kind = anatomy.model_type
        self.pairs = bool(getattr(config, "is_encoder_decoder", False))
        self.last_token = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        self.padding: int | None = getattr(config, "pad_token_id", None)
        self.end: int | None = getattr(config, "eos_token_id", None)
        base = anatomy.module(anatomy.prefix.rstrip("."))
        self.pooled = getattr(base, "pooler", None) is not None
        self.always_pools = self.pooled and kind == "beit"
        # T5 scales what goes into its head where that is its embedding, and the peer what its heads read of each token.
        scaled = kind in ("t5", "mt5") and is_tied(anatomy)
        self.scale: float = config.d_model**-0.5 if scaled else 1.0

    def pools(self, head: HeadPart) -> bool:
        """Whether the head reads what the pooler gives: on BEiT it does whatever its config says, as in the peer."""
        return head.config.use_pooler or self.always_pools

    def tokens(self, states: Tensor) -> Tensor:
        """The states of all tokens as heads read them."""
        return states if self.scale == 1.0 else states * self.scale

    def text(self, head: HeadPart, base: Any, states: Tensor, given: dict[str, Any]) -> Tensor:
        """The state of each text, batch x hidden."""
        if self.pools(head):
            pooled: Tensor = _pooled(base)
            return pooled
        ids = given.get("input_ids")
        if self.last_token:
            rows = torch.arange(states.shape[0], device=states.device)
            if ids is None or self.padding is None:
                return states[:, -1]
            return states[rows, ids.ne(self.padding).sum(-1) - 1]
        if self.pairs and ids is not None and ids.shape[1] == states.shape[1]:
            ends = ids.eq(self.end)
            if not bool(ends.any(-1).all()):
                raise UsageError(
                    "head-input", "a text has no end-of-text token, whose state the head reads", hint="append it"
                )
            # The last one in each row.
            where = ends.shape[1] - 1 - ends.flip(-1).int().argmax(-1)
            return states[torch.arange(states.shape[0], device=states.device), where]
        return states[:, -1] if self.pairs else states[:, 0]


def _pooled(base: Any) -> Any:
    """The pooler's output of a base's outputs, whether they go by name or by place."""
    return base[1] if isinstance(base, tuple) else base.pooler_output


class _Acts(ABC):
    """What single and several heads have in common: catching arguments and the base's output."""

    def __init__(self, view: _View) -> None:
        self.view = view
        self.given = Capture()
        self.base = Capture()

    def take(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        given = {name: kwargs[name] for name in _ROWWISE if kwargs.get(name) is not None}
        if args and isinstance(args[0], Tensor):
            given.setdefault("input_ids", args[0])
        self.given.put(given)
        return args, {key: value for key, value in kwargs.items() if key not in _TARGETS}

    def see_base(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002 - a hook's
        self.base.put(output)

    def finish(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        base = self.base.take()
        if base is None:
            base = output
        given = self.given.take() or {}
        out = self.outcome(base, base[0], given)
        if isinstance(output, tuple):
            plain = base if isinstance(base, tuple) else base.to_tuple()
            rest = plain[2 if self.view.pooled else 1 :]
            return tuple(value for value in out.values() if value is not None) + rest
        for name, value in base.items():  # what the base said and the head's kind of output has a place for
            if getattr(out, name, value) is None:
                out[name] = value
        return out

    @abstractmethod
    def outcome(self, base: Any, states: Tensor, given: dict[str, Any]) -> ModelOutput:
        """What the head, or the heads, make of the base's last ``states``."""


class _Single(_Acts):
    """One head for the whole batch."""

    def __init__(self, head: HeadPart, undo: Undo | None, view: _View) -> None:
        super().__init__(view)
        self.head = head
        self.undo = undo

    def outcome(self, base: Any, states: Tensor, given: dict[str, Any]) -> ModelOutput:
        return _output(self.head, self.undo, self.view, base, states, given)


class _Several(_Acts):
    """A head for each branch's rows."""

    def __init__(self, block: Block | Rows, heads: Sequence[tuple[HeadPart | None, Undo | None]], view: _View) -> None:
        super().__init__(view)
        self.division = Division(block)
        self.copies = self.division.kind == "parallel"
        self.heads = tuple(heads)

    def outcome(self, base: Any, states: Tensor, given: dict[str, Any]) -> ModelOutput:
        count = len(self.heads)
        pieces = self.division.divide(states)
        shares: list[dict[str, Any]] = [dict(given) if self.copies else {} for _ in self.heads]
        if not self.copies:
            for name, value in given.items():
                for share, piece in zip(shares, self.division.divide(value), strict=True):
                    share[name] = piece
        poolers: Any = (None,) * count
        if any(head is not None and self.view.pools(head) for head, _ in self.heads):
            poolers = self.division.divide(_pooled(base))
        outs: list[ModelOutput] = []
        for (head, undo), piece, share, pooled in zip(self.heads, pieces, shares, poolers, strict=True):
            if head is None:
                outs.append(BaseModelOutput(last_hidden_state=piece))
            else:
                outs.append(_output(head, undo, self.view, (piece, pooled), piece, share))
        losses = [out["loss"] for out in outs if "loss" in out]
        total = sum(losses[1:], losses[0]) if losses else None
        return HeadsOutput(loss=total, head_outputs=tuple(outs))


def _output(  # noqa: PLR0917 - the head, and what it is given
    head: HeadPart, undo: Undo | None, view: _View, base: Any, states: Tensor, given: dict[str, Any]
) -> ModelOutput:
    kind = head.config.head_type
    made = _OF_PAIRS.get(kind, _OUTPUTS[kind]) if view.pairs else _OUTPUTS[kind]
    if kind == "causal_lm" and getattr(base, OUTPUT_CACHE, None) is not None:
        made = CausalLMOutputWithPast
    loss: Tensor | None = None
    labels = given.get("labels")
    if kind == "dependency_parsing":
        if "word_starts" not in given:
            raise UsageError("head-input", "a dependency parser wants word_starts", hint="pass where each word begins")
        padding = view.padding or 0
        arcs, rels = head.parse(states, given["word_starts"], padding)
        if "labels_arcs" in given and "labels_rels" in given:
            loss = head.parse_loss(arcs, rels, given["labels_arcs"], given["labels_rels"], padding)
        return made(loss=loss, rel_preds=rels, arc_preds=arcs)
    if kind == "question_answering":
        start, end = head.logits(view.tokens(states)).unbind(-1)
        if "start_positions" in given and "end_positions" in given:
            loss = head.span_loss(start, end, given["start_positions"], given["end_positions"])
        return made(loss=loss, start_logits=start, end_logits=end)
    whole = kind not in LANGUAGE_HEADS and kind != "tagging"
    logits = head.logits(view.text(head, base, states, given) if whole else view.tokens(states), undo)
    if labels is not None:
        loss = head.loss(logits, labels, given.get("attention_mask"))
    return made(loss=loss, logits=logits)
