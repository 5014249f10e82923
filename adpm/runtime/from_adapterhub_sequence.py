"""AdapterHub's ReFT, prefix tuning and prompt tuning on a live model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Generator, Tensor

from adpm.errors import AdapterError
from adpm.formats.adapterhub_methods import PrefixTuning, PromptTuning, Reft
from adpm.formats.adapterhub_sequence import gate_slots, prefix_slots, reft_slots
from adpm.formats.adapterhub_tensors import Slot
from adpm.runtime.anatomy import Anatomy, AttentionSite
from adpm.runtime.methods.attention_prefix import GatePart, PrefixTuningPart, Target, start_gate, start_prefix
from adpm.runtime.methods.embedded_prompt import EmbeddedPromptPart, start_embedded_prompt
from adpm.runtime.methods.reft import ReftMaskPart, ReftPart, start_reft
from adpm.runtime.part import Blueprint

__all__ = ["prefix_blueprints", "prompt_blueprint", "reft_blueprints"]

_MASK = "shared/positions"


def reft_blueprints(config: Reft, anatomy: Anatomy) -> Iterator[Blueprint]:
    """A part for each layer, and one for what they look at."""
    widths = anatomy.widths()
    if config.orthogonality and config.r >= min(widths.values()):
        raise AdapterError(
            "adapter-misfit", f"{config.r} orthogonal rows do not fit a hidden size of {min(widths.values())}"
        )
    yield Blueprint(_MASK, ("", ""), (), ReftMaskPart, _start_nothing)
    for number, layer in anatomy.layers():
        if config.layers == "all" or number in config.layers:
            path = f"{anatomy.file_name(f'{layer}.reft_layer')}"
            yield Blueprint(
                key=path.replace(".", "/"),
                file=(f"{path}.refts.", "."),
                slots=reft_slots(config, widths[number]),
                build=partial(ReftPart, layer=layer, config=config, common=_MASK),
                start=start_reft,
            )


def prompt_blueprint(config: PromptTuning, anatomy: Anatomy) -> Blueprint:
    """One part before the first layer."""
    relative = any(name.endswith("relative_position_bias") for name in anatomy.modules)  # BEiT's, for its own patches
    if relative or not anatomy.family().embeddings.prompts:
        raise AdapterError(
            "method-unsupported",
            f"prompt tuning in AdapterHub's form does not run in {anatomy.model_type}",
            cause="the model counts the positions of its tokens before the prompt is among them",
            hint="prompt tuning in PEFT's form (peft_prompt_tuning) is put before the tokens",
        )
    return Blueprint(
        key="prompt_tuning",
        file=("prompt_tuning.prompt_tunings.", "."),
        slots=(Slot("vectors", "prompt_embedding.weight", (config.prompt_length, anatomy.embedding_size)),),
        build=partial(EmbeddedPromptPart, config=config),
        start=partial(_start_prompt, config),
    )


def _start_prompt(config: PromptTuning, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    if config.prompt_init != "random_uniform":
        raise AdapterError(
            "method-unsupported",
            "a new prompt can't start from a text here",
            cause="that takes the base's tokenizer",
            hint="prompt_init='random_uniform' is what adpm starts with",
        )
    start_embedded_prompt(tensors, generator)


def prefix_blueprints(config: PrefixTuning, anatomy: Anatomy) -> Iterator[Blueprint]:
    """A part for each kind of attention, and the gates of single attentions."""
    kinds: dict[str, list[AttentionSite]] = {}
    wanted = {"self": True, "encoder": config.encoder_prefix, "cross": config.cross_prefix}
    for site in anatomy.attentions():
        if wanted[site.prefix] and site.layer not in config.leave_out:
            kinds.setdefault(site.prefixes, []).append(site)
    for kind, sites in kinds.items():
        heads, size = _heads(sites[0])
        targets = tuple(
            Target(site.module, _gate_key(site) if config.use_gating else None, site.prefix == "cross")
            for site in sites
        )
        yield Blueprint(
            key=f"prefix_tuning/{kind}",
            file=("prefix_tuning.prefix_tunings.", f".{kind}."),
            slots=prefix_slots(config, len(sites) * 2 * heads * size, sites[0].width),
            build=partial(PrefixTuningPart, config=config, targets=targets, heads=heads),
            start=partial(start_prefix, config),
        )
        if config.use_gating:
            for site in sites:
                yield Blueprint(
                    key=_gate_key(site),
                    file=(f"{site.file}.prefix_tuning.prefix_gates.", "."),
                    slots=gate_slots("", 1 if config.shared_gating else 2, site.width),
                    build=GatePart,
                    start=start_gate,
                )


def _gate_key(site: AttentionSite) -> str:
    return f"{site.file}.prefix_gate".replace(".", "/")


def _heads(site: AttentionSite) -> tuple[int, int]:
    """Heads of keys and their size, as AdapterHub takes them from the config."""
    config = site.config
    every = int(getattr(config, "num_attention_heads", 1))
    heads = getattr(config, "num_key_value_heads", None) or every
    return int(heads), int(getattr(config, "d_kv", None) or site.width // every)


def _start_nothing(tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """For parts without tensors."""
