"""PEFT's LoRA, and trainable tokens, on a live model: what each kind of module gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_lora import BlockDiagonal, PeftLora, Tokens
from adpm.runtime.anatomy import Anatomy, features
from adpm.runtime.methods.activated import INVOCATION, ActivatedPart, InvocationPart
from adpm.runtime.methods.block_diagonal import BlockDiagonalPart
from adpm.runtime.methods.conv import ConvPart, conv_slots, start_conv
from adpm.runtime.methods.embedding import EmbeddingPart, start_embedding
from adpm.runtime.methods.layer import CONVOLUTIONS
from adpm.runtime.methods.low_rank import LowRankOptions, LowRankPart, start_low_rank
from adpm.runtime.methods.parameter import ParameterPart, parameter_of, parameter_slots
from adpm.runtime.methods.patterns import by_pattern
from adpm.runtime.methods.residual import ResidualPart, first_pair
from adpm.runtime.methods.tied import TiedLowRankPart, start_tied, tie
from adpm.runtime.methods.tokens import TiedEmbeddingPart, TiedOutputPart, TokensPart
from adpm.runtime.part import Blueprint
from adpm.runtime.peft_targets import input_embeddings, no_target, targeted_by, tied_with

__all__ = ["lora_blueprints", "token_blueprints"]


def lora_blueprints(config: PeftLora, targets: list[str], anatomy: Anatomy, prefix: str) -> list[Blueprint]:
    """Every part of a LoRA but what all methods have: its changes of modules, parameters and tokens."""
    targets, tied = tie(targets, config.target_modules, anatomy) if config.ensure_weight_tying else (targets, [])
    parameters = list(_parameters(config, anatomy)) if config.target_parameters else []
    both = sorted({layer for layer, _, _ in parameters} & set(targets))
    if both:
        raise AdapterError("adapter-misfit", f"the adapter targets {', '.join(both)} and a parameter of it")
    tokens = list(_tokens(config.trainable_token_indices, anatomy))
    if not targets and not tokens and not parameters:
        raise no_target(config, anatomy)
    out = [_change(config, anatomy.modules[name], name, prefix) for name in targets]
    out += [_tied(config, anatomy, name, prefix) for name in tied]
    out += [_parameter(config, anatomy, *found, prefix) for found in parameters]
    if config.alora_invocation_tokens:
        watching = partial(InvocationPart, tokens=config.alora_invocation_tokens)
        out.append(Blueprint(INVOCATION, ("", ""), (), watching, _start_nothing))
    for name, ids in tokens:
        out += token_blueprints(name, ids, anatomy, prefix, ".token_adapter")
    return out


def _parameters(config: PeftLora, anatomy: Anatomy) -> Iterator[tuple[str, str, int]]:
    """What ``target_parameters`` names: a module, its parameter, and how deep the pair of that nests in a file."""
    for name, module in anatomy.modules.items():
        words = [word for word, _ in module.named_parameters(recurse=False)]
        wanted = [word for word in words if name and _is_named(f"{name}.{word}", config.target_parameters)]
        for below, word in enumerate(reversed(wanted)):
            yield name, word, below


def _is_named(path: str, names: tuple[str, ...]) -> bool:
    return any(path == wanted or path.endswith(f".{wanted}") for wanted in names)


def _parameter(config: PeftLora, anatomy: Anatomy, layer: str, word: str, below: int, prefix: str) -> Blueprint:  # noqa: PLR0917 - one place
    """What acts on one parameter: to change a linear layer's weight is to change the layer."""
    module = anatomy.modules[layer]
    if isinstance(module, nn.Linear) and word == "weight":
        return _change(config, module, layer, prefix, f"{layer}.{word}")
    if config.changes_base is not None:
        raise AdapterError(
            "method-unsupported",
            f"the adapter started as {config.init_lora_weights} and targets the parameter {layer}.{word}",
            cause="what it took out of the base is defined for linear layers",
        )
    found = parameter_of(layer, module, word, below)
    rank = by_pattern(config.rank_pattern, f"{layer}.{word}", config.r)
    alpha = by_pattern(config.alpha_pattern, f"{layer}.{word}", config.lora_alpha)
    return Blueprint(
        key=found.key,
        file=(f"{prefix}{layer}.", ""),
        slots=parameter_slots(found, rank),
        build=partial(ParameterPart, found=found, scale=config.scale(rank, alpha)),
        start=partial(_start, config.init_lora_weights, module),
    )


def _change(config: PeftLora, module: nn.Module, name: str, prefix: str, called: str | None = None) -> Blueprint:
    """What acts on one target: the kind of the module decides. ``called``: its name in patterns, if another."""
    rank = by_pattern(config.rank_pattern, called or name, config.r)
    alpha = by_pattern(config.alpha_pattern, called or name, config.lora_alpha)
    options = LowRankOptions(config.scale(rank, alpha), config.lora_dropout, chained=False, dora=config.use_dora)
    blueprint = partial(Blueprint, key=name.replace(".", "/"), file=(f"{prefix}{name}.", ""))
    way, sizes = config.init_lora_weights, features(module)
    if sizes is not None:
        slots = _linear_slots(config, rank, *sizes)
        if config.use_bdlora is not None:
            divided = _divided(config.use_bdlora, name, slots)
            if divided is not None:
                factor, slots = divided
                made = partial(
                    BlockDiagonalPart, layer=name, options=options, factor=factor, blocks=config.use_bdlora.nblocks
                )
                return blueprint(slots=slots, build=made, start=partial(_start, way, module))
        if config.changes_base is None:
            kind = ActivatedPart if config.alora_invocation_tokens else LowRankPart
            build, start = partial(kind, layer=name, options=options), partial(_start, way, module)
            return blueprint(slots=slots, build=build, start=start)
        if config.kasa_config is not None and rank >= min(sizes):
            raise AdapterError(
                "adapter-misfit", f"KaSA of rank {rank} leaves nothing of {name}, which is {sizes[1]} x {sizes[0]}"
            )
        first = first_pair(config.changes_base, module, rank, options.scale)
        residual = partial(ResidualPart, layer=name, options=options, first=first)
        return blueprint(slots=slots, build=residual, start=partial(_start_residual, first, module))
    if config.use_bdlora is not None or config.kasa_config is not None:
        raise AdapterError(
            "method-unsupported",
            f"the adapter targets {name}, a {type(module).__name__}",
            cause="block-diagonal LoRA and KaSA are defined for linear layers",
        )
    if config.alora_invocation_tokens:
        raise AdapterError(
            "method-unsupported",
            f"the adapter acts from its invocation on, and targets {name}, a {type(module).__name__}",
            cause="aLoRA is defined for linear layers",
        )
    if isinstance(module, nn.Embedding) and not config.lora_bias:
        return blueprint(
            slots=_embedding_slots(config, rank, module),
            build=partial(EmbeddingPart, layer=name, scale=options.scale),
            start=partial(start_embedding, way, module),
        )
    if type(module) in CONVOLUTIONS:
        return blueprint(
            slots=conv_slots(module, rank, dora=config.use_dora, bias=config.lora_bias),
            build=partial(ConvPart, layer=name, options=options, module=module),
            start=partial(start_conv, way, module),
        )
    raise AdapterError(
        "method-unsupported",
        f"the adapter targets {name}, a {type(module).__name__}",
        cause="adpm runs LoRA on linear layers, convolutions, and embeddings without lora_bias",
    )


def _divided(blocks: BlockDiagonal, name: str, slots: tuple[Slot, ...]) -> tuple[str, tuple[Slot, ...]] | None:
    """The factor that consists of blocks, and the slots with its blocks on top of each other; None for neither."""
    factor = blocks.factor(name)
    if factor == "both" or (factor is None and blocks.match_strict):
        raise AdapterError(
            "adapter-misfit",
            f"the adapter's block-diagonal LoRA says of {name} {'both' if factor else 'neither'} of A and B",
            hint="target_modules_bd_a and target_modules_bd_b name it once; match_strict: false allows neither",
        )
    if factor is None:
        return None
    whole = next(slot for slot in slots if slot.name == factor)
    rows, columns = whole.shape
    if rows % blocks.nblocks or columns % blocks.nblocks:
        raise AdapterError(
            "adapter-misfit", f"{factor} of {name} is {rows} x {columns}, which {blocks.nblocks} blocks can't divide"
        )
    divided = replace(whole, shape=(rows, columns // blocks.nblocks))
    return factor, tuple(divided if slot is whole else slot for slot in slots)


def _tied(config: PeftLora, anatomy: Anatomy, name: str, prefix: str) -> Blueprint:
    """What acts on an output layer that shares the embedding's pair, whose rank it has, with a scale of its own."""
    own = by_pattern(config.rank_pattern, name, config.r)
    alpha = by_pattern(config.alpha_pattern, name, config.lora_alpha)
    options = LowRankOptions(config.scale(own, alpha), config.lora_dropout, chained=False, dora=config.use_dora)
    module, embedding = anatomy.modules[name], input_embeddings(anatomy)
    rank = by_pattern(config.rank_pattern, embedding, config.r)
    return Blueprint(
        key=name.replace(".", "/"),
        file=(f"{prefix}{name}.", ""),
        slots=_linear_slots(config, rank, *(features(module) or (0, 0))),
        build=partial(TiedLowRankPart, layer=name, options=options, key=embedding.replace(".", "/")),
        start=partial(start_tied, module),
    )


def _linear_slots(config: PeftLora, rank: int, inputs: int, outputs: int) -> tuple[Slot, ...]:
    slots = [Slot("A", "lora_A.weight", (rank, inputs)), Slot("B", "lora_B.weight", (outputs, rank))]
    if config.lora_bias:
        slots.append(Slot("c", "lora_B.bias", (outputs,)))
    if config.use_dora:
        slots.append(Slot("magnitude", "lora_magnitude_vector", (outputs,)))
    if config.kasa_config is not None:
        slots.append(Slot("diag", "lora_diag", (rank,)))
    return tuple(slots)


def _embedding_slots(config: PeftLora, rank: int, module: nn.Embedding) -> tuple[Slot, ...]:
    slots = [
        Slot("A", "lora_embedding_A", (rank, module.num_embeddings)),
        Slot("B", "lora_embedding_B", (module.embedding_dim, rank)),
    ]
    if config.use_dora:
        slots.append(Slot("magnitude", "lora_magnitude_vector", (module.embedding_dim,)))
    return tuple(slots)


def _start(way: bool | str, module: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """The peer's ways to start that need neither data nor another base; ``false`` leaves both factors random."""
    if isinstance(way, str) and way.lower() not in ("gaussian", "orthogonal"):
        raise AdapterError(
            "method-unsupported",
            f"a new LoRA can't start as {way!r} here",
            hint="true, false, gaussian, orthogonal, pissa and olora are what adpm starts with",
        )
    start_low_rank("both" if way is False else "lora", module, tensors, generator)
    rank = len(tensors["A"])
    if way == "gaussian":
        nn.init.normal_(tensors["A"], std=1 / rank, generator=generator)
    elif way == "orthogonal":
        turn = torch.linalg.qr(torch.randn(rank, rank, generator=generator))[0]
        for name, half in (("A", turn[0::2]), ("B", turn[1::2])):
            tensor = tensors[name]
            size = tensor.shape[1] if name == "A" else tensor.shape[0]
            made = torch.randn(size, len(half), generator=generator) @ half / 10
            tensor.copy_(made.T if name == "A" else made)


def _start_residual(
    first: tuple[Tensor, Tensor], module: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None
) -> None:
    start_low_rank("lora", module, tensors, generator)
    if "diag" in tensors:
        nn.init.normal_(tensors["diag"], generator=generator)
        return
    tensors["A"].copy_(first[0])
    tensors["B"].copy_(first[1])


def _tokens(tokens: Tokens, anatomy: Anatomy) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Embeddings and the tokens of them that are trained; a plain list is of the input's."""
    plain = tuple(entry for entry in tokens if isinstance(entry, int))
    if plain:
        yield input_embeddings(anatomy), plain
    seen: set[str] = set()
    for entry in tokens:
        if isinstance(entry, int):
            continue
        for name in sorted(targeted_by((entry[0],), anatomy)):
            if name not in seen:
                seen |= {name, *tied_with(name, anatomy)}
                yield name, entry[1]


def token_blueprints(
    name: str, ids: tuple[int, ...], anatomy: Anatomy, prefix: str, below: str = ""
) -> list[Blueprint]:
    """The part of an embedding's new vectors, and one without tensors for each module that shares its weight."""
    module = anatomy.modules[name]
    weight = module._parameters.get("weight")  # noqa: SLF001 - not a child module's
    if not isinstance(module, nn.Embedding) or weight is None:
        raise AdapterError(
            "method-unsupported", f"the adapter trains tokens of {name}, a {type(module).__name__} and no embedding"
        )
    if len(set(ids)) != len(ids) or max(ids, default=0) >= len(weight):
        raise AdapterError(
            "adapter-misfit", f"the adapter's tokens repeat, or are more than the {len(weight)} of {name}"
        )
    key = f"{name}.tokens".replace(".", "/")
    file = (f"{prefix}{name}{below}.", "")
    slots = (Slot("vectors", "trainable_tokens_delta", (len(ids), weight.shape[1])),)
    build = partial(TokensPart, layer=name, ids=ids, rows=len(weight))
    out = [Blueprint(key, file, slots, build, partial(_start_tokens, weight, ids))]
    for other in tied_with(name, anatomy):
        kind = TiedEmbeddingPart if isinstance(anatomy.modules[other], nn.Embedding) else TiedOutputPart
        tied = partial(kind, layer=other, ids=ids, rows=len(weight), key=key)
        out.append(Blueprint(f"{other}.tokens".replace(".", "/"), file, (), tied, _start_nothing))
    return out


def _start_tokens(
    weight: Tensor,
    ids: tuple[int, ...],
    tensors: Mapping[str, Tensor],
    generator: Generator | None,  # noqa: ARG001 - a Blueprint's start
) -> None:
    tensors["vectors"].copy_(weight[list(ids)])


def _start_nothing(tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """For parts without tensors."""
