"""Keys that AdapterHub's and PEFT's configs read alike, and AdapterHub's activations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from adpm import limits
from adpm.formats.reader import Decoder, Fields, Node, flag, integer, list_of, number, one_of, text

__all__ = [
    "ACTIVATION_WEIGHTS",
    "LAYERS",
    "SEED",
    "WIDTH",
    "activation",
    "close_unless_off",
    "positive",
    "probability",
    "stated",
]

# Every activation of transformers 4.57 to 5.x and AdapterHub's own, with the weights it has (name -> shape).
_WEIGHTLESS: Final = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
    "hardswish",
    "laplace",
    "leaky_relu",
    "leakyrelu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
)
ACTIVATION_WEIGHTS: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    **{word: {} for word in _WEIGHTLESS},
    "prelu": {"weight": (1,)},
    "xielu": {"alpha_p": (1,), "alpha_n": (1,), "beta": (), "eps": ()},
}
WIDTH: Final = integer(1, limits.TENSOR_WIDTH)
LAYERS: Final = list_of(integer(0))
SEED: Final = integer(0)


def activation(node: Node) -> str:
    word = text(node).lower()
    if word not in ACTIVATION_WEIGHTS:
        one_of(*ACTIVATION_WEIGHTS)(node)
    return word


def positive(node: Node) -> float:
    value = number(node)
    if value <= 0:
        node.fail(f"{value} is not above 0")
    return value


def probability(node: Node) -> float:
    value = number(node)
    if not 0 <= value <= 1:
        node.fail(f"{value} is not between 0 and 1")
    return value


def stated(table: Mapping[str, Decoder[Any]], found: Fields) -> dict[str, Any]:
    """The keys of ``table`` that ``found`` states; null is false for a flag and absent for anything else."""
    out: dict[str, Any] = {}
    for key, decoder in table.items():
        value = found.get(key, decoder)
        if value is not None:
            out[key] = value
        elif decoder is flag and key in found:
            out[key] = False
    return out


def close_unless_off(node: Node, known: Collection[str]) -> None:
    """Report every key of a mapping that is not ``known`` and whose value could mean something."""
    for child in node.children():
        if child.path[-1] not in known and child.value:
            child.decode(_unknown)


def _unknown(node: Node) -> None:
    node.fail("is a key that adpm does not know, and its value is not off, so it may change the adapter's output")
