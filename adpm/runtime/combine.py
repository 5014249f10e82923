"""A new adapter from the weights of others: weighted sums, negation, LoRA's products.

    average                 sum_i w_i t_i of every tensor, with weights made to add up to one; any method
    linear                  AdapterHub: sum_i w_i t_i of every tensor. PEFT's LoRA: A = sum_i sign sqrt|v_i| A_i,
                            B = sum_i sqrt|v_i| B_i with v_i = w_i times the adapter's scale
    negate_b                AdapterHub's LoRA: A = sum |w_i| A_i, B = sum w_i B_i
    svd                     LoRA: sum_i w_i scale_i B_i A_i, in as many ranks as asked for
    cat                     LoRA: the same exactly, with all ranks beside each other
    ties, dare_linear, ...  PEFT's LoRA: as ``linear``, by that rule (``arithmetic.py``); with ``_svd`` of the products

Sources: ``adapters`` 1.3.0, ``methods/lora.py`` (``average_adapter``); ``peft`` 0.21.2, ``tuners/lora/model.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from adpm.errors import UsageError
from adpm.formats.adapterhub import AdapterHubConfig
from adpm.formats.adapterhub_methods import LowRank
from adpm.formats.peft_lora import PeftLora
from adpm.runtime.adapter import Adapter, Source, blueprints_of, build
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.arithmetic import SUMS, Rule, factors
from adpm.runtime.methods.low_rank import PAIR, LowRankPart

__all__ = ["combined"]

Weighed = Mapping[str, float]
_SVD = "_svd"
_METHODS = ("average", "negate_b", "svd", "cat", *SUMS, *(f"{kind}{_SVD}" for kind in SUMS[1:]))


def combined(  # noqa: PLR0917 - each is a thing of its own
    adapters: Mapping[str, Adapter], weights: Weighed, method: str, rank: int | None, rule: Rule, anatomy: Anatomy
) -> Adapter:
    """The adapter; ``rule``'s kind is not looked at. Raises ``UsageError`` (``merge-invalid``)."""
    if method not in _METHODS:
        raise UsageError("merge-invalid", f"{method!r} is no way to merge", hint=f"ways are {', '.join(_METHODS)}")
    if not weights or not all(math.isfinite(weight) for weight in weights.values()):
        _refuse("it needs an adapter and a finite weight for each")
    total = sum(weights.values())
    if method == "average" and total == 0:
        _refuse("weights that add up to 0 have no average")
    hub = {isinstance(adapters[name].source.config, AdapterHubConfig) for name in weights}
    if len(hub) != 1:
        _refuse("adapters of AdapterHub's and of PEFT's format mean different things by their weights")
    if method == "average" or (method in ("linear", "negate_b") and hub == {True}):
        shares = {name: weight / total for name, weight in weights.items()} if method == "average" else weights
        return _tensorwise(adapters, shares, method == "negate_b", anatomy)
    return _low_rank(adapters, weights, method, rank, rule, anatomy)


def _refuse(why: str) -> NoReturn:
    raise UsageError("merge-invalid", "these adapters can't be merged so", cause=why, hint="see specs/composition.md")


def _same(source: Source) -> object:
    """What has to be equal for tensors to mean the same."""
    config = source.config
    if isinstance(config, AdapterHubConfig):
        methods: tuple[Any, ...] = config.methods  # not all have the field
        return tuple(replace(method, dropout=0.0) if hasattr(method, "dropout") else method for method in methods)
    return replace(config, base_model_name_or_path=None)


def _tensorwise(adapters: Mapping[str, Adapter], weights: Weighed, negate_b: bool, anatomy: Anatomy) -> Adapter:
    chosen = [adapters[name] for name in weights]
    if len({_same(adapter.source) for adapter in chosen}) != 1:
        _refuse("their settings differ")
    source = replace(chosen[0].source, head=None)
    blueprints = blueprints_of(source, anatomy)
    tensors: dict[str, dict[str, Tensor]] = {}
    for blueprint in blueprints:
        made = tensors[blueprint.key] = {}
        for slot in blueprint.slots:
            own = [adapter.parts[blueprint.key][slot.name].detach() for adapter in chosen]
            if blueprint.key == PAIR and not all(torch.equal(own[0], other) for other in own):
                _refuse("each of them has a random pair of its own, and their vectors refer to it")
            shares = [abs(w) if negate_b and slot.name == "A" else w for w in weights.values()]
            if negate_b and slot.name not in ("A", "B"):
                _refuse("negate_b is for LoRA alone")
            made[slot.name] = own[0].clone() if blueprint.key == PAIR else Rule("linear").merge(own, shares)
    return build(source, blueprints, tensors)


def _low_rank(  # noqa: PLR0917 - as above
    adapters: Mapping[str, Adapter], weights: Weighed, method: str, rank: int | None, rule: Rule, anatomy: Anatomy
) -> Adapter:
    chosen = {name: _plain_parts(name, adapters[name]) for name in weights}
    ranks = {name: max(part["A"].shape[0] for part in parts.values()) for name, parts in chosen.items()}
    products = method == "svd" or method.endswith(_SVD)
    if not products and method != "cat" and len(set(ranks.values())) != 1:
        _refuse(f"{method} wants one rank, and they have {', '.join(map(str, ranks.values()))}; svd and cat do not")
    if rank is not None and not products:
        _refuse("rank is a setting of svd and what ends in _svd")
    new = sum(ranks.values()) if method == "cat" else (rank or max(ranks.values()))
    source = _source(adapters, list(weights), new, anatomy, {key for parts in chosen.values() for key in parts})
    rule = replace(rule, kind="linear" if method == "svd" else method.removesuffix(_SVD))
    blueprints = blueprints_of(source, anatomy)
    tensors: dict[str, dict[str, Tensor]] = {}
    for blueprint in blueprints:
        here = [(parts[blueprint.key], weights[name]) for name, parts in chosen.items() if blueprint.key in parts]
        if products:
            deltas = [part["B"].detach() @ part["A"].detach() * part.options.scale for part, _ in here]
            a, b = factors(rule.merge(deltas, [weight for _, weight in here]), new)
        elif method == "cat":
            a = torch.cat([part["A"].detach() * (weight * part.options.scale) for part, weight in here])
            b = torch.cat([part["B"].detach() for part, _ in here], 1)
            more = new - len(a)
            a, b = torch.nn.functional.pad(a, (0, 0, 0, more)), torch.nn.functional.pad(b, (0, more))
        else:
            scaled = [weight * part.options.scale for part, weight in here]
            roots = [math.sqrt(abs(value)) for value in scaled]
            signed = [math.copysign(root, value) for root, value in zip(roots, scaled, strict=True)]
            a = rule.merge([part["A"].detach() for part, _ in here], signed)
            b = rule.merge([part["B"].detach() for part, _ in here], roots)
        tensors[blueprint.key] = {"A": a, "B": b}
    return build(source, blueprints, tensors)


def _plain_parts(name: str, adapter: Adapter) -> dict[str, LowRankPart]:
    """An adapter's LoRA; refused where it is more than that."""
    parts = {key: part for key, part in adapter.parts.items() if isinstance(part, LowRankPart) and part.is_plain}
    if len(parts) != len(adapter.parts) or not parts:
        _refuse(f"{name!r} is no plain LoRA, without biases, saved modules and heads; average takes other methods")
    return parts


def _source(adapters: Mapping[str, Adapter], names: list[str], rank: int, anatomy: Anatomy, keys: set[str]) -> Source:
    """The settings of a LoRA of this rank, its scale 1, on all layers of ``names``."""
    source = adapters[names[0]].source
    if isinstance(source.config, AdapterHubConfig):
        method = source.config.methods[0]
        if len({_same(replace(adapters[name].source, head=None)) for name in names}) != 1:
            _refuse("their settings differ")
        lora = replace(cast("LowRank", method), r=rank, alpha=rank)
        return Source(replace(source.config, methods=(lora,)))
    config = cast("PeftLora", source.config)
    layers = {
        part.layer: None for name in names for part in adapters[name].parts.values() if isinstance(part, LowRankPart)
    }
    lora_config = replace(
        config,
        r=rank,
        lora_alpha=float(rank),
        use_rslora=False,
        rank_pattern=(),
        alpha_pattern=(),
        target_modules=tuple(sorted(layers)),
        exclude_modules=(),
        layers_to_transform=(),
        layers_pattern=(),
        init_lora_weights=True,
    )
    found = Source(lora_config)
    if {blueprint.key for blueprint in blueprints_of(found, anatomy)} != keys:
        _refuse("their layers can't be named in one config")
    return found
