"""Write random fixtures of everything in AdapterHub in the corpus's layout, with AdapterHub itself.

    ADAPTERHUB_PYTHON tests/parity/peers/make_any.py OUT [--seed 1] [--count 40] [--families ...] [--methods ...]
    ADPM_PARITY_DIR=OUT pytest tests/parity

Beyond ``make_adapterhub.py`` and ``make_compositions.py``, whose parts it draws from: every method with its options, by
itself or under any composition, on bases of odd sizes and with other settings of their families, for batches of any
size. Prints what was drawn, and to stderr what the peer does not run. Runs without adpm.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import adapters
import torch
import transformers
from adapters import composition as ac

sys.path.insert(0, str(Path(__file__).parent))
from make_adapterhub import (  # type: ignore[import-not-found]  # beside this file, which runs as a script
    FAMILIES,
    PLAIN,
    bottleneck,
    low_rank,
    prefix,
    randomise_adapters,
    record,
    shares,
    write,
)
from make_compositions import (  # type: ignore[import-not-found]  # as above
    add_fusions,
    add_heads,
    composition,
    description,
    of_prefixes,
    outputs,
    outputs_of_base,
)
from small import SMALL, model_inputs, randomise  # type: ignore[import-not-found]  # as above

Draw = Callable[[random.Random, str, int], Any]  # a config for a family's model of so many layers

WIDTHS: Final = ("hidden_size", "dim", "d_model", "n_embd")
LAYERS: Final = ("num_hidden_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers", "num_layers")
WIDE: Final = ("intermediate_size", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner")
# What else a family's config may say, of which one is drawn.
VARIANTS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "bert": ({}, {"hidden_act": "relu"}, {"is_decoder": True}),
    "bert-generation": ({}, {"hidden_act": "relu"}),
    "plbart": ({}, {"scale_embedding": False}, {"decoder_layers": 1}),
    "electra": ({}, {"embedding_size": None}),
    "albert": ({}, {"num_hidden_groups": 2}, {"inner_group_num": 2}, {"hidden_act": "gelu"}),
    "deberta": ({}, {"pos_att_type": ["c2p"]}, {"relative_attention": False, "pos_att_type": []}),
    "deberta-v2": (
        {},
        {"share_att_key": False},
        {"position_buckets": -1, "norm_rel_ebd": "none"},
        {"conv_kernel_size": 3, "conv_act": "gelu"},
        {"relative_attention": False, "pos_att_type": []},
    ),
    "distilbert": ({}, {"activation": "relu"}, {"sinusoidal_pos_embds": True}),
    "gpt2": ({}, {"n_inner": 40}, {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    "llama": ({}, {"num_key_value_heads": 1}, {"attention_bias": True, "mlp_bias": True}, {"num_key_value_heads": 4}),
    "mistral": ({}, {"sliding_window": 4}, {"head_dim": 12}),
    "t5": ({}, {"feed_forward_proj": "gated-gelu"}, {"d_kv": 10}, {"num_decoder_layers": 1}),
    "mt5": ({}, {"feed_forward_proj": "relu"}, {"d_kv": 6}),
    "bart": ({}, {"decoder_layers": 1}, {"scale_embedding": True}, {"decoder_ffn_dim": 48}),
    "mbart": ({}, {"scale_embedding": True}, {"encoder_layers": 1}),
    "whisper": ({}, {"scale_embedding": True}, {"decoder_layers": 1}),
    "vit": ({}, {"qkv_bias": False}, {"hidden_act": "relu"}),
    "clip": ({}, {"vision_config": {**SMALL["clip"].settings["vision_config"], "hidden_size": 48}}),
    "beit": ({}, {"use_relative_position_bias": False}, {"use_mean_pooling": False}, {"layer_scale_init_value": 0.0}),
}


def settings_of(rng: random.Random, family: str) -> dict[str, Any]:
    """A family's small settings in another size, with another of its options."""
    width, layers, wide = rng.choice([24, 32, 40, 48]), rng.choice([1, 2, 2, 3]), rng.choice([40, 64, 72])

    def sized(settings: dict[str, Any]) -> dict[str, Any]:
        sizes = {**dict.fromkeys(WIDTHS, width), **dict.fromkeys(LAYERS, layers), **dict.fromkeys(WIDE, wide)}
        sizes["num_decoder_layers"] = layers
        return {key: sized(v) if isinstance(v, dict) else sizes.get(key, v) for key, v in settings.items()}

    found = {**sized(SMALL[family].settings), **rng.choice(VARIANTS.get(family, ({},)))}
    if "embedding_size" in found and found["embedding_size"] is None:
        found["embedding_size"] = width
    if found.get("num_hidden_groups") == 2:
        found["num_hidden_layers"] = 2 * layers
    return found


def named(*names: str, **choices: Sequence[Any]) -> Draw:
    """The peer's own configs of these names, with one of the values for each key."""

    def draw(rng: random.Random, family: str, layers: int) -> Any:
        return adapters.AdapterConfig.load(
            rng.choice(names), **{key: rng.choice(values) for key, values in choices.items()}
        )

    return draw


def plus(rng: random.Random, family: str, layers: int) -> Any:
    return adapters.AdapterPlusConfig(
        reduction_factor=rng.choice([3, 8, 96]),
        original_ln_before=rng.random() < 0.8,
        residual_before_ln=False,
        scaling=rng.choice(["channel", "learned", 2.0]),
        stochastic_depth=0.0,  # for which the peer wants torchvision
    )


def phm(rng: random.Random, family: str, layers: int) -> Any:
    values: dict[str, Any] = {
        "reduction_factor": rng.choice([2, 4]),
        "phm_dim": rng.choice([2, 2, 4]),
        "phm_rank": rng.choice([1, 2, 3]),
        "factorized_phm_W": rng.random() < 0.6,
        "shared_phm_rule": rng.random() < 0.6,
        "factorized_phm_rule": rng.random() < 0.4,
        "phm_bias": rng.random() < 0.7,
        "learn_phm": rng.random() < 0.7,
        "phm_c_init": rng.choice(["normal", "uniform"]),
        "leave_out": rng.choice([[], [0]]) if layers > 1 else [],
    }
    values["shared_W_phm"] = values["factorized_phm_W"] and rng.random() < 0.3
    return adapters.AdapterConfig.load(rng.choice(["compacter", "compacter++"]), **values)


def any_bottleneck(rng: random.Random, family: str, layers: int) -> Any:
    return bottleneck(rng, family)


def layered(rng: random.Random, family: str, layers: int) -> Any:
    """A bottleneck with sizes of its own in some layers, some of them odd."""
    sizes = {str(number): rng.choice([1, 3, 5, 7.5, 0.75]) for number in range(layers) if rng.random() < 0.6}
    return bottleneck(rng, family).replace(reduction_factor={**sizes, "default": rng.choice([2, 6])}, phm_layer=False)


def lora(rng: random.Random, family: str, layers: int) -> Any:
    found = low_rank(rng)
    return found.replace(
        leave_out=rng.choice([[], [], [rng.randrange(layers)]]),
        init_weights_seed=rng.choice([None, 42]),
        dtype=rng.choice([None, None, "float32"]),
        selfattn_lora=rng.random() < 0.9 or not (found.intermediate_lora or found.output_lora),
    )


def mtl_lora(rng: random.Random, family: str, layers: int) -> Any:
    return adapters.MTLLoRAConfig(
        r=rng.choice([1, 2, 5]),
        alpha=rng.choice([1, 8]),
        n_up_projection=rng.choice([1, 2, 3]),
        weights_sharpness=rng.choice([0.05, 0.5, 1.0]),
        attn_matrices=rng.choice([["q"], ["q", "v"], ["k", "v"], ["q", "k", "v"]]),
        intermediate_lora=rng.random() < 0.4,
        output_lora=rng.random() < 0.4,
        leave_out=rng.choice([[], [0]]),
    )


def reft(rng: random.Random, family: str, layers: int) -> Any:
    values: dict[str, Any] = {
        "layers": rng.choice(["all", "all", [rng.randrange(layers)]]),
        "prefix_positions": rng.choice([0, 1, 3, 5]),
        "suffix_positions": rng.choice([0, 1, 2, 4]),
        "r": rng.choice([1, 2, 5]),
        "tied_weights": rng.random() < 0.4,
    }
    values["prefix_positions"] = values["prefix_positions"] or int(not values["suffix_positions"])
    kind = rng.choice([adapters.LoReftConfig, adapters.NoReftConfig, adapters.DiReftConfig])
    # The peer does not save what tells DiReFT from NoReFT: decision 0012.
    activations: dict[type, list[str | None]] = {
        adapters.NoReftConfig: [None],
        adapters.DiReftConfig: ["relu", "gelu", "tanh"],
    }
    return kind(**values, non_linearity=rng.choice(activations.get(kind, [None, None, "relu"])))


def any_prefix(rng: random.Random, family: str, layers: int) -> Any:
    return prefix(rng).replace(
        encoder_prefix=rng.random() < 0.7, cross_prefix=rng.random() < 0.7, bottleneck_size=rng.choice([8, 13])
    )


def prompt(rng: random.Random, family: str, layers: int) -> Any:
    return adapters.PromptTuningConfig(
        prompt_length=rng.choice([1, 2, 4, 7]), combine=rng.choice(["prefix", "prefix_after_bos"])
    )


def mam(rng: random.Random, family: str, layers: int) -> Any:
    return adapters.MAMConfig(
        any_prefix(rng, family, layers), adapters.ParBnConfig(reduction_factor=rng.choice([2, 5]))
    )


def unipelt(rng: random.Random, family: str, layers: int) -> Any:
    return adapters.UniPELTConfig(
        adapters.PrefixTuningConfig(prefix_length=rng.choice([2, 5]), bottleneck_size=9),
        adapters.SeqBnConfig(reduction_factor=rng.choice([2, 5])),
        adapters.LoRAConfig(r=rng.choice([2, 4]), alpha=2, intermediate_lora=rng.random() < 0.5),
    )


def union(rng: random.Random, family: str, layers: int) -> Any:
    if rng.random() < 0.25:
        places = [{"mh_adapter": True, "output_adapter": False}, {"mh_adapter": False, "output_adapter": True}]
        return adapters.ConfigUnion(*(bottleneck(rng, family).replace(**place, inv_adapter=None) for place in places))
    draws = rng.sample([any_prefix, lora, reft, any_bottleneck, prompt], rng.choice([2, 2, 3]))
    return adapters.ConfigUnion(*(draw(rng, family, layers) for draw in draws))


METHODS: Final[dict[str, Draw]] = {
    "seq_bn": named("seq_bn", "pfeiffer", reduction_factor=[2, 3, 16], non_linearity=["relu", "gelu", "swish"]),
    "double_seq_bn": named("double_seq_bn", "houlsby", reduction_factor=[2, 7], cross_adapter=[True, False]),
    "par_bn": named("par_bn", "scaled_par_bn", reduction_factor=[2, 5], scaling=[4.0, 0.3, "learned", "channel"]),
    "inv": named("seq_bn_inv", "double_seq_bn_inv", reduction_factor=[4], inv_adapter_reduction_factor=[1, 2, 4]),
    "plus": plus,
    "bottleneck": any_bottleneck,
    "layered": layered,
    "phm": phm,
    "lora": lora,
    "lora_named": named("lora", "dora", "ia3", "vera", "dvora", leave_out=[[], [0]]),
    "mtl_lora": mtl_lora,
    "reft": reft,
    "prefix": any_prefix,
    "prompt": prompt,
    "mam": mam,
    "unipelt": unipelt,
    "union": union,
}
ALIKE: Final = ("seq_bn", "double_seq_bn", "par_bn", "bottleneck", "layered", "phm", "lora", "plus")


def inputs_of(
    rng: random.Random, kind: str, seed: int, *, batch: bool, heads: bool, ends: int | None
) -> dict[str, torch.Tensor]:
    """``batch``: of the size that compositions are for. ``ends``: what text pairs have, for ``heads`` to read there.

    What releases of transformers make of padding on the left is not alike, so that heads do not get it.
    """
    rows, tokens = (4, 11) if batch else (rng.choice([1, 2, 3, 5]), rng.choice([6, 9, 12]))
    padding = {"padded": rng.random() < 0.75, "left": not heads and rng.random() < 0.3}
    found: dict[str, torch.Tensor] = model_inputs(kind, seed=seed, rows=rows, tokens=tokens, **padding)
    if kind == "pair" and heads and ends is not None:
        found["input_ids"][:, 4] = ends
        found["decoder_input_ids"] = found["input_ids"].flip(0)
    return found


def configs_of(rng: random.Random, family: str, method: str, layers: int) -> tuple[list[str], list[Any], Any]:
    """Names, a config for each, and what is active: the method alone, in a stack, or in any composition."""
    kind = rng.choice(["alone", "alone", "stack", "composed"])
    names = rng.choice([["a", "b", "c"], ["task", "lang", "Third-1"]])
    if kind == "composed" and method == "prefix":
        return names, [METHODS[method](rng, family, layers) for _ in names], of_prefixes(rng, names)
    if kind == "composed" and method in ALIKE:
        found = METHODS[method](rng, family, layers)
        linear = method == "lora"
        if linear and (found.use_gating or found.use_dora):  # the last one's norm for all: decision 0020
            found = adapters.LoRAConfig(r=4, alpha=8)
        return names, [found] * 3, composition(rng, names, linear)
    if kind == "stack":
        others = rng.sample([name for name in METHODS if name not in ("union", "prompt")], rng.choice([1, 2]))
        drawn = [METHODS[other](rng, family, layers) for other in (method, *others)]
        rng.shuffle(drawn)
        return names[: len(drawn)], drawn, ac.Stack(*names[: len(drawn)])
    return names[:1], [METHODS[method](rng, family, layers)], ac.Stack(names[0])


def impossible(configs: Sequence[Any], base: Any) -> None:
    """Raise ``ValueError`` for what adpm refuses by name and the peer runs, to no use."""
    parts = [part for config in configs for part in getattr(config, "configs", [config])]
    prompts = any(isinstance(part, adapters.PromptTuningConfig) for part in parts)
    if prompts and getattr(base.config, "use_relative_position_bias", False):
        raise ValueError("a prompt that does not act where it could not")
    if base.config.model_type in ("deberta", "modernbert") and any(getattr(part, "use_dora", False) for part in parts):
        raise ValueError("DoRA on a fused layer, which is LoRA")


def unseen(family: str, configs: Sequence[Any]) -> bool:
    """Whether the peer's own mask hides prefixes under SDPA: decision 0012."""
    parts = [part for config in configs for part in getattr(config, "configs", [config])]
    prefixes = any(isinstance(part, adapters.PrefixTuningConfig) for part in parts)
    return prefixes and family in ("gpt2", "llama", "mistral")


def model_of(family: str, base: Path, plain: bool, attention: dict[str, str]) -> Any:
    word = SMALL[family].word
    if not plain:
        return getattr(adapters, f"{word}AdapterModel").from_pretrained(base, **attention)
    model = getattr(transformers, f"{word}{SMALL[family].base}").from_pretrained(base, **attention)
    known = {name for name, _ in model.named_parameters()}
    adapters.init(model)
    for name, parameter in model.named_parameters():
        if name not in known:  # the bias of a fused layer without one, which the peer leaves random: decision 0030
            parameter.data.zero_()
    return model


def well_conditioned(model: Any, inputs: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> bool:
    """Whether in float64 the outputs are what was ``found``, and not large: then they say something."""
    try:
        exact = outputs(model.double(), {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()})
    except RuntimeError:  # a method that computes in float32
        exact = found
    model.float()
    largest = max(float(value.abs().max()) for value in found.values())
    different = max(float((found[key] - value).abs().max()) for key, value in exact.items())
    return largest < 100 and different < 1e-5 * max(1.0, largest)


def fixture(out: Path, number: int, rng: random.Random, family: str, method: str) -> str:
    small = SMALL[family]
    base_dir = out / "bases" / f"any-{family}-{number}"
    base = small.model(**settings_of(rng, family))
    randomise(base, 0.15)
    layers = getattr(base.config, "num_hidden_layers", 2)
    names, configs, active = configs_of(rng, family, method, layers)
    base.save_pretrained(base_dir)
    impossible(configs, base)
    choices = ["eager", "sdpa"] if base._supports_sdpa and not unseen(family, configs) else ["eager"]
    attention = {"attn_implementation": rng.choice(choices)}
    shared = any(shares(config) for config in configs)
    if family in PLAIN and shared:
        raise ValueError("from a plain model it saves no shared tensors")
    plain = family in PLAIN or (rng.random() < 0.25 and not shared)
    model = model_of(family, base_dir, plain, attention)
    for name, config in zip(names, configs, strict=True):
        model.add_adapter(name, config=config)
    fusions = add_fusions(rng, model, active)
    pooled = getattr(base, "pooler", None) is not None
    divided = (ac.BatchSplit, ac.Parallel)  # twice: the peer has one head then for adapters that have their own
    twice = isinstance(active, divided) and any(isinstance(part, divided) for part in active)
    heads = add_heads(rng, model, active, pooled) if not plain and not twice and rng.random() < 0.4 else []
    randomise_adapters(model)
    model.eval()
    skipped = [0] if layers > 1 and rng.random() < 0.1 else None
    model.set_active_adapters(active, skip_layers=skipped)
    if not plain and not heads:
        model.active_head = None
    ends = getattr(model.config, "eos_token_id", None)
    inputs = inputs_of(rng, small.kind, number, batch=len(names) == 3, heads=bool(heads), ends=ends)
    if any(model.heads[head].config["head_type"] == "dependency_parsing" for head in heads):
        inputs["word_starts"] = torch.tensor([[1, 2, 4, 5] + [0] * (inputs["input_ids"].shape[1] - 4)]).repeat(
            len(inputs["input_ids"]), 1
        )
    expected = outputs(model, inputs)
    if family in ("t5", "mt5") and not plain and not heads and model.config.tie_word_embeddings:  # scaled for the heads
        expected["last_hidden_state"] = expected["last_hidden_state"] * model.config.d_model**0.5
    if not well_conditioned(model, inputs, outputs(model, inputs)):
        raise ValueError("its outputs are rounding alone")
    bare = getattr(transformers, f"{small.word}{small.base}").from_pretrained(base_dir, **attention).eval()
    expected |= outputs_of_base(bare, inputs)
    directory = out / "adapters-1.3.0" / f"{number:04}-{family}-{method}-{type(active).__name__.lower()}"
    write(model, directory, names, list(dict.fromkeys(heads)), fusions)
    described = description(names, active, skipped, fusions, heads)
    record(directory, bare, base_dir, (inputs, expected), described, model_type=family, note=str(active))
    return f"{directory.name} {'plain ' if plain else ''}{'head ' if heads else ''}{active}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(40)
    for number in range(arguments.count):
        seed = arguments.seed * 1000 + number
        torch.manual_seed(seed)
        rng = random.Random(seed)
        family, method = rng.choice(arguments.families), rng.choice(arguments.methods)
        try:
            print(fixture(arguments.out, number, rng, family, method))
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer can't run the case
            sys.stderr.write(f"{number} {family} {method}: {type(error).__name__} {str(error)[:150]!r}\n")


if __name__ == "__main__":
    main()
