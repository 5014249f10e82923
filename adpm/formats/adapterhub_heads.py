"""AdapterHub's prediction heads: ``head_config.json`` as a frozen value, and which tensors a head has.

Source: ``adapters`` 1.3.0, ``heads/base.py``, ``heads/language_modeling.py``, ``heads/dependency_parsing.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

from adpm.errors import AdapterError
from adpm.formats.adapterhub import VERSION, open_config
from adpm.formats.adapterhub_keys import WIDTH, activation, close_unless_off, probability, stated
from adpm.formats.adapterhub_tensors import Slot, activation_slots, linear_slots
from adpm.formats.json import pretty
from adpm.formats.reader import Decoder, Document, Node, flag, integer, one_of, text

__all__ = ["LANGUAGE_HEADS", "HeadConfig", "HeadType", "head_of", "head_slots", "read_head_config", "write_head_config"]

_CODE: Final = "adapter-config-invalid"
HeadType = Literal[
    "classification",
    "multilabel_classification",
    "multiple_choice",
    "tagging",
    "question_answering",
    "dependency_parsing",
    "image_classification",
    "causal_lm",
    "masked_lm",
    "seq2seq_lm",
]
LANGUAGE_HEADS: Final = ("causal_lm", "masked_lm", "seq2seq_lm")


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """One ``head_config.json``. Names as in the peer; a head of one type uses only what ``_DEFAULTS`` lists for it."""

    name: str
    head_type: HeadType = "classification"
    num_labels: int = 2
    num_choices: int = 2
    layers: int = 2
    activation_function: str | None = "tanh"
    label2id: tuple[tuple[str, int], ...] | None = None
    use_pooler: bool = False
    bias: bool = True
    multilabel: bool = False
    dropout_prob: float | None = None
    vocab_size: int | None = None
    embedding_size: int | None = None
    layer_norm: bool = False
    shift_labels: bool = False
    hidden_size: int | None = None

    @property
    def labels(self) -> int:
        """How many scores the head gives; for multiple choice one for each choice, in rows of their own."""
        if self.head_type in LANGUAGE_HEADS:
            return self.vocab_size or 0
        return 1 if self.head_type == "multiple_choice" else self.num_labels

    @property
    def label_map(self) -> Mapping[str, int] | None:
        """Labels to numbers, by the peer's names where the head has none; None of a language head."""
        if self.label2id is not None:
            return dict(self.label2id)
        if self.head_type in LANGUAGE_HEADS:
            return None
        count = self.num_choices if self.head_type == "multiple_choice" else self.num_labels
        return {f"LABEL_{number}": number for number in range(count)}


_MANY: Final[dict[str, Any]] = {"num_labels": 2, "layers": 2, "activation_function": "tanh"}
_WHOLE: Final[dict[str, Any]] = {**_MANY, "use_pooler": False, "bias": True, "dropout_prob": None}
_EACH: Final[dict[str, Any]] = {**_MANY, "layers": 1, "dropout_prob": None}
_WORDS: Final[dict[str, Any]] = {
    "vocab_size": None,
    "layers": 1,
    "activation_function": None,
    "layer_norm": False,
    "bias": False,
    "shift_labels": False,
}
# What the config of each type has, beside label2id, and the peer's defaults.
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "classification": _WHOLE,
    "multilabel_classification": _WHOLE,
    "image_classification": {**_WHOLE, "multilabel": False},
    "multiple_choice": {
        "num_choices": 2,
        **{key: value for key, value in _WHOLE.items() if key not in ("num_labels", "bias")},
    },
    "tagging": _EACH,
    "question_answering": _EACH,
    "dependency_parsing": {"num_labels": 2},
    "causal_lm": {**_WORDS, "embedding_size": None, "shift_labels": True, "dropout_prob": None},
    "masked_lm": {
        **_WORDS,
        "embedding_size": None,
        "layers": 2,
        "activation_function": "gelu",
        "layer_norm": True,
        "bias": True,
    },
    "seq2seq_lm": _WORDS,
}
_HEAD: Final[dict[str, Decoder[Any]]] = {
    "num_labels": WIDTH,
    "num_choices": WIDTH,
    "layers": integer(1, 100),
    "activation_function": activation,
    "use_pooler": flag,
    "bias": flag,
    "multilabel": flag,
    "dropout_prob": probability,
    "vocab_size": WIDTH,
    "embedding_size": WIDTH,
    "layer_norm": flag,
    "shift_labels": flag,
}


def read_head_config(data: bytes, *, source: str) -> HeadConfig:
    """Read ``head_config.json``. Heads of other types raise ``AdapterError`` (``method-unsupported``)."""
    document, found = open_config(data, source)
    values = cast("dict[str, object]", document.root.value)
    config = values.get("config")
    kind = config.get("head_type") if isinstance(config, dict) else values.get("model_class")
    if isinstance(kind, str) and kind not in _DEFAULTS:
        raise AdapterError(
            "method-unsupported",
            f"{source} is a head of the type {kind!r}, which adpm does not run",
            hint="with_head=False reads the adapter without its head; what it runs: " + ", ".join(_DEFAULTS),
        )
    head = found.need("config", _head)
    name = found.get("name", text, default="default")
    hidden_size = found.get("hidden_size", WIDTH)
    document.finish()
    return replace(head, name=name, hidden_size=hidden_size)


def head_of(value: Mapping[str, Any], *, source: str) -> HeadConfig:
    """A head's settings as a value; ``value`` is what stands under ``config`` in a file, of a classifier by default."""
    document = Document({"head_type": "classification", **value}, source=source, code=_CODE)
    head = document.root.decode(_head)
    document.finish()
    return cast("HeadConfig", head)


def _head(node: Node) -> HeadConfig:
    found = node.fields()
    kind: HeadType | None = found.need("head_type", one_of(*_DEFAULTS))
    if kind is None:  # a fault, which is raised in the end
        return HeadConfig(name="default")
    table = {key: _HEAD[key] for key in _DEFAULTS[kind]}
    values = {**_DEFAULTS[kind], **stated(table, found)}
    if "activation_function" in found and found.get("activation_function", activation) is None:
        values["activation_function"] = None
    labels = found.get("label2id", _labels)
    close_unless_off(node, (*table, "head_type", "label2id"))
    if kind == "question_answering" and values["num_labels"] != 2:
        node.fail("a question answering head has two labels, the start and the end")
    return HeadConfig(name="default", head_type=kind, label2id=labels, **values)


def _labels(node: Node) -> tuple[tuple[str, int], ...]:
    out = [(str(child.path[-1]), child.decode(integer(0))) for child in node.children()]
    return tuple(sorted((label, number) for label, number in out if number is not None))


def write_head_config(head: HeadConfig, *, model_class: str, model_type: str | None, model_name: str | None) -> bytes:
    """The bytes of a ``head_config.json`` that AdapterHub and adpm read as ``head``."""
    values: dict[str, Any] = {key: getattr(head, key) for key in _DEFAULTS[head.head_type]}
    values["head_type"] = head.head_type
    values["label2id"] = None if head.label2id is None else dict(head.label2id)
    return pretty(
        {
            "config": values,
            "hidden_size": head.hidden_size,
            "model_class": model_class,
            "model_name": model_name,
            "model_type": model_type,
            "name": head.name,
            "version": VERSION,
        }
    )


def head_slots(head: HeadConfig, hidden: int) -> tuple[Slot, ...]:
    """A head's tensors, numbered as in the peer's sequence of layers. Keys follow ``heads.NAME.``."""
    if head.head_type == "dependency_parsing":
        return (
            Slot("arcs", "biaffine_arcs.weight", (1, hidden + 1, hidden)),
            Slot("rels", "biaffine_rels.weight", (head.num_labels, hidden + 1, hidden + 1)),
        )
    words = head.head_type in LANGUAGE_HEADS
    inner = (head.embedding_size or hidden) if words else hidden
    out: list[Slot] = []
    place = 0
    for layer in range(head.layers - 1):
        place += not words  # a dropout stands before each layer of the others
        out += linear_slots(f"layer{layer}", str(place), inner, hidden if layer == 0 else inner)
        place += 1
        if head.activation_function:
            out += activation_slots(head.activation_function, f"activation{layer}", str(place))
            place += 1
        if words and head.layer_norm:
            for part in ("weight", "bias"):
                out.append(Slot(f"norm{layer}_{part}", f"{place}.{part}", (inner,)))
            place += 1
    place += not words
    out += linear_slots(f"layer{head.layers - 1}", str(place), head.labels, inner, bias=head.bias)
    return tuple(out)
