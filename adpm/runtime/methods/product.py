"""Parametrised hypercomplex multiplication: a weight matrix as a sum of Kronecker products (Compacter).

    H = sum_i  R_i (x) W_i        R: n x n x n, W: n x (in/n) x (out/n), H: in x out;   y = x H + b

R and W may each be a product of two thinner tensors, and each may be shared by all layers of an adapter.
Source: Mahabadi et al. 2021, https://arxiv.org/abs/2106.04647; ``adapters`` 1.3.0, ``methods/modeling.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_methods import Bottleneck
from adpm.runtime.part import Part

__all__ = ["multiply", "start_product"]


def multiply(x: Tensor, own: Part, shared: Part, place: str) -> Tensor:
    """``x H + b`` for the layer at ``place`` ("down" or "up"): tensors that it lacks itself are the shared ones."""
    rule = _tensor(own, f"{place}_phm_rule") if _has(own, f"{place}_phm_rule") else _tensor(shared, "phm_rule")
    weight = _tensor(own, f"{place}_W") if _has(own, f"{place}_W") else _tensor(shared, f"W_{place}")
    n, rows, columns = weight.shape
    matrix = torch.einsum("nij,nrc->jcir", rule, weight).reshape(n * columns, n * rows)  # out x in
    return functional.linear(x, matrix, own.get(f"{place}_b"))


def _has(part: Part, name: str) -> bool:
    return name in part or f"{name}_left" in part


def _tensor(part: Part, name: str) -> Tensor:
    return part[name] if name in part else torch.bmm(part[f"{name}_left"], part[f"{name}_right"])


def start_product(config: Bottleneck, tensors: Mapping[str, Tensor], generator: Generator | None, *, own: bool) -> None:
    """The peer's start: Xavier for W slice by slice, noise for R; a shared rule (not ``own``) has its own range."""
    for name, tensor in tensors.items():
        if "phm_rule" in name:
            spread = (0.01, 0.01) if own else (1.0, config.phm_init_range)
            if config.phm_c_init == "uniform":
                nn.init.uniform_(tensor, -spread[0], spread[0], generator=generator)
            else:
                nn.init.normal_(tensor, std=spread[1], generator=generator)
        elif "_W" in f"_{name}":
            for matrix in tensor:
                nn.init.xavier_normal_(matrix, generator=generator)
        elif name.endswith("_b"):
            nn.init.zeros_(tensor)
