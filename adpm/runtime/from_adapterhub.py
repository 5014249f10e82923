"""AdapterHub's configs on a live model: which parts they have, and where their tensors stand in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub import AdapterHubConfig
from adpm.formats.adapterhub_heads import LANGUAGE_HEADS, HeadConfig, head_slots
from adpm.formats.adapterhub_methods import Bottleneck, LowRank, Method, MtlLora, PrefixTuning, PromptTuning, Reft
from adpm.formats.adapterhub_sequence import mtl_slots
from adpm.formats.adapterhub_tensors import (
    Slot,
    bottleneck_slots,
    fused_slots,
    inverse_slots,
    low_rank_slots,
    shared_low_rank_slots,
    shared_slots,
    width,
)
from adpm.runtime.anatomy import Anatomy, features, is_tied, token_embedding
from adpm.runtime.from_adapterhub_sequence import prefix_blueprints, prompt_blueprint, reft_blueprints
from adpm.runtime.methods.bottleneck import PRODUCT, BottleneckPart, SharedProductPart, start_bottleneck
from adpm.runtime.methods.fused import FusedPart
from adpm.runtime.methods.head import HeadPart, TiedHeadPart, last_weight, start_head
from adpm.runtime.methods.inverse import InversePart, start_inverse
from adpm.runtime.methods.low_rank import PAIR, LowRankOptions, LowRankPart, SharedPairPart, start_low_rank, start_vera
from adpm.runtime.methods.mtl_lora import MtlLoraPart, start_mtl_lora
from adpm.runtime.methods.product import start_product
from adpm.runtime.part import Blueprint
from adpm.runtime.sites.family import LOCATIONS, SUBLAYERS

__all__ = ["HEAD", "INVERSE", "adapterhub_blueprints", "head_blueprint"]

HEAD = "head"
_FUSED = "selfattn.qkv"
INVERSE = "inverse"


def adapterhub_blueprints(config: AdapterHubConfig, anatomy: Anatomy) -> tuple[Blueprint, ...]:
    """Every part of the adapter. Raises ``AdapterError`` (``family-unsupported``, ``adapter-misfit``)."""
    out: list[Blueprint] = []
    for method in config.methods:
        out += _method(method, anatomy)
    keys = [blueprint.key for blueprint in out]
    if len(set(keys)) != len(keys):
        raise AdapterError(
            "adapter-misfit",
            f"the adapter {config.name!r} has two parts at one place",
            cause=", ".join(sorted({key for key in keys if keys.count(key) > 1})),
        )
    return tuple(out)


def _method(method: Method, anatomy: Anatomy) -> Iterable[Blueprint]:
    match method:
        case Bottleneck():
            return _bottlenecks(method, anatomy)
        case LowRank():
            return _low_ranks(method, anatomy)
        case MtlLora():
            return _mtl_loras(method, anatomy)
        case Reft():
            return reft_blueprints(method, anatomy)
        case PrefixTuning():
            return prefix_blueprints(method, anatomy)
        case PromptTuning():
            return (prompt_blueprint(method, anatomy),)


def _mtl_loras(config: MtlLora, anatomy: Anatomy) -> Iterator[Blueprint]:
    for location in _locations(config):
        for layer, name in anatomy.linears(location):
            sizes = features(anatomy.module(name))
            if layer in config.leave_out or sizes is None:
                continue
            path = anatomy.file_name(name)
            yield Blueprint(
                key=path.replace(".", "/"),
                file=(f"{path}.loras.", "."),
                slots=mtl_slots(config, *sizes),
                build=partial(MtlLoraPart, layer=name, config=config),
                start=partial(start_mtl_lora, config, anatomy.module(name)),
            )


def _bottlenecks(config: Bottleneck, anatomy: Anatomy) -> Iterator[Blueprint]:
    hidden = anatomy.hidden_size
    for name in SUBLAYERS:
        if not getattr(config, name):
            continue
        for site in anatomy.sites(name):
            if site.layer in config.leave_out:
                continue
            units = _units(config, site.width, site.layer)
            yield Blueprint(
                key=site.adapters.replace(".", "/"),
                file=(f"{site.adapters}.adapters.", "."),
                slots=bottleneck_slots(config, site.width, units),
                build=partial(BottleneckPart, config=config, site=site),
                start=partial(start_bottleneck, config),
            )
    if config.phm_layer and (config.shared_phm_rule or config.shared_W_phm):
        units = _units(config, hidden, 0) if config.shared_W_phm else config.phm_dim
        yield Blueprint(
            key=PRODUCT,
            file=("shared_parameters.", "."),
            slots=shared_slots(config, hidden, units),
            build=partial(SharedProductPart, config=config),
            start=partial(start_product, config, own=False),
        )
    if config.inv_adapter is not None:
        if not anatomy.family().embeddings.invertible:
            raise AdapterError(
                "method-unsupported", f"a model of type {anatomy.model_type} takes no invertible adapters"
            )
        yield Blueprint(
            key=INVERSE,
            file=(f"{anatomy.family().embeddings.owner}invertible_adapters.", "."),
            slots=inverse_slots(config, anatomy.embedding_size),
            build=partial(InversePart, config=config),
            start=partial(start_inverse, config),
        )


def _units(config: Bottleneck, hidden: int, layer: int) -> int:
    factor = config.factor(layer)
    if factor is None:
        raise AdapterError(
            "adapter-misfit",
            f"the adapter's reduction_factor names neither layer {layer} nor a default",
            hint='write it as {"1": 8, "default": 16}',
        )
    units = width(hidden, factor)
    if config.phm_layer and (hidden % config.phm_dim or units % config.phm_dim):
        raise AdapterError(
            "adapter-misfit",
            f"phm_dim {config.phm_dim} does not divide hidden size {hidden} and bottleneck {units}",
        )
    return units


def _low_ranks(config: LowRank, anatomy: Anatomy) -> Iterator[Blueprint]:
    options = LowRankOptions(
        scale=config.alpha if config.composition_mode == "scale" else config.alpha / config.r,
        dropout=config.dropout,
        chained=True,
        multiplies=config.composition_mode == "scale",
        dora=config.use_dora,
        gated=config.use_gating,
        vera=config.is_vera,
    )
    first: tuple[int, int] | None = None
    for location in _locations(config):
        for layer, name in anatomy.linears(location):
            if layer in config.leave_out:
                continue
            module = anatomy.module(name)
            sizes = features(module)
            if sizes is None:
                raise AdapterError("family-unsupported", f"{name} is no linear layer")
            path = anatomy.file_name(name)
            if location == _FUSED:
                yield _fused(config, anatomy, name, sizes)
                continue
            first = first or sizes
            if config.is_vera and sizes != first:
                raise AdapterError(
                    "adapter-misfit",
                    f"{name} has the sizes {sizes}, and another layer of the adapter {first}",
                    cause="VeRA's layers share one pair of matrices",
                    hint="name attn_matrices of the same sizes",
                )
            yield Blueprint(
                key=path.replace(".", "/"),
                file=(f"{path}.loras.", "."),
                slots=low_rank_slots(config, *sizes),
                build=partial(LowRankPart, layer=name, options=options),
                start=partial(_start_low_rank, config, module),
            )
    if config.is_vera and first is not None:
        yield Blueprint(
            key=PAIR,
            file=("shared_parameters.", "."),
            slots=shared_low_rank_slots(config, *first),
            build=SharedPairPart,
            start=partial(start_low_rank, config.init_weights, None),
        )


def _fused(config: LowRank, anatomy: Anatomy, name: str, sizes: tuple[int, int]) -> Blueprint:
    """The part of a layer that makes queries, keys and values at once."""
    if config.use_dora or config.is_vera:
        raise AdapterError(
            "method-unsupported",
            f"DoRA and VeRA are for separate queries, keys and values, and {name} makes all three",
        )
    others: int | None = getattr(anatomy.config, "num_key_value_heads", None)
    queries: int = 1 if others is None else getattr(anatomy.config, "num_attention_heads", 1)
    others = others or 1
    unit = sizes[1] // (queries + 2 * others)
    widths = (queries * unit, others * unit, others * unit)
    chosen = tuple(width for width, matrix in zip(widths, "qkv", strict=True) if matrix in config.attn_matrices)
    path = anatomy.file_name(name)
    return Blueprint(
        key=path.replace(".", "/"),
        file=(f"{path}.loras.", "."),
        slots=fused_slots(config, sizes[0], chosen),
        build=partial(FusedPart, config=config, layer=name, sizes=widths),
        start=partial(start_low_rank, config.init_weights, None),
    )


def _start_low_rank(
    config: LowRank, module: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None
) -> None:
    start_low_rank(config.init_weights, module, tensors, generator)
    if config.is_vera:
        start_vera(config.vera_d or 0.0, config.vera_b or 0.0, tensors)


def _locations(config: LowRank | MtlLora) -> Iterator[str]:
    for location in LOCATIONS:
        kind, _, matrix = location.partition(".")
        if getattr(config, f"{kind}_lora") and (not matrix or set(matrix) & set(config.attn_matrices)):
            yield location


def head_blueprint(head: HeadConfig, anatomy: Anatomy) -> Blueprint:
    """A head's part; ``AdapterError`` where it wants a pooler that the model does not have."""
    base = anatomy.module(anatomy.prefix.rstrip("."))
    if head.use_pooler and getattr(base, "pooler", None) is None:
        raise AdapterError("adapter-misfit", "the head wants the pooler's output, and the model has no pooler")
    if head.layers == 1 and (head.embedding_size or anatomy.hidden_size) != anatomy.hidden_size:
        raise AdapterError(
            "adapter-misfit",
            f"a head of one layer reads states of {head.embedding_size} values; the model's have {anatomy.hidden_size}",
            hint="give it two layers, of which the first changes their size",
        )
    dropout = head.dropout_prob
    for key in ("classifier_dropout", "hidden_dropout_prob"):
        dropout = getattr(anatomy.config, key, None) if dropout is None else dropout
    eps = getattr(anatomy.config, "layer_norm_eps", 1e-12)
    slots = head_slots(head, anatomy.hidden_size)
    embedding = _tied_embedding(head, slots, anatomy)
    kind = HeadPart if embedding is None else partial(TiedHeadPart, embedding=embedding)
    return Blueprint(
        key=HEAD,
        file=("heads.", "."),
        slots=slots,
        build=partial(kind, config=head, dropout=dropout or 0.0, eps=eps),
        start=partial(start_head, head, getattr(anatomy.config, "initializer_range", 0.02), embedding),
    )


def _tied_embedding(head: HeadConfig, slots: tuple[Slot, ...], anatomy: Anatomy) -> nn.Module | None:
    """The embedding of tokens with whose weight a language head makes scores; None where it has a weight of its own."""
    if head.head_type not in LANGUAGE_HEADS or not is_tied(anatomy):
        return None
    embedding = token_embedding(anatomy)
    weight = getattr(embedding, "weight", None)
    (shape,) = (slot.shape for slot in slots if slot.name == last_weight(head))
    return embedding if weight is not None and not weight.is_meta and tuple(weight.shape) == shape else None
