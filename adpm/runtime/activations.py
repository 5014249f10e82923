"""Every activation that a bottleneck, a head or an invertible adapter may name.

Functions of the input and of the weights that ``formats.adapterhub.ACTIVATION_WEIGHTS`` lists, in its order. Formulas:
``transformers.activations``; ``leakyrelu`` is AdapterHub's own word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "Activation"]

Activation = Callable[..., Tensor]


def gelu_erf(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def gelu_clipped(x: Tensor) -> Tensor:
    return torch.clip(functional.gelu(x), -10, 10)


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def gelu_fused(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def gelu_fast(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


def gelu_quick(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def laplace(x: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def linear(x: Tensor) -> Tensor:
    return x


def relu_squared(x: Tensor) -> Tensor:
    return torch.square(functional.relu(x))


def sqrt_softplus(x: Tensor) -> Tensor:
    return functional.softplus(x).sqrt()


def xielu(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    """xIELU, https://arxiv.org/abs/2411.13010; ``beta`` and ``eps`` are constants that files carry along."""
    positive = functional.softplus(alpha_p) * x * x + beta * x
    negative = (torch.expm1(torch.min(x, eps)) - x) * (beta + functional.softplus(alpha_n)) + beta * x
    return torch.where(x > 0, positive, negative)


ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": functional.gelu,
    "gelu_10": gelu_clipped,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_fast,
    "gelu_new": gelu_tanh,
    "gelu_python": gelu_erf,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_fused,
    "hardswish": functional.hardswish,
    "laplace": laplace,
    "leaky_relu": functional.leaky_relu,
    "leakyrelu": functional.leaky_relu,
    "linear": linear,
    "mish": functional.mish,
    "prelu": functional.prelu,
    "quick_gelu": gelu_quick,
    "relu": functional.relu,
    "relu2": relu_squared,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "sqrtsoftplus": sqrt_softplus,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "xielu": xielu,
}
