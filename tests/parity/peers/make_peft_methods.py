"""Write random fixtures of PEFT's other methods in the corpus's layout with PEFT itself.

    PEFT_PYTHON tests/parity/peers/make_peft_methods.py OUT [--seed 1] [--rounds 2] [--everywhere]
    ADPM_PARITY_DIR=OUT pytest tests/parity

Runs in an environment with ``peft`` 0.21.2 and without adpm. Each round draws every method with random options on a
family of its choice, with ``--everywhere`` on one of all families, as a model of any task and of random sizes, with
options that methods have in common (``vary.py``), and now and then a second adapter, an adapter for each row, or the
keys of an older version's config; what the peer refuses is said and drawn again. All weights are random.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft.tuners.lora.config import BdLoraConfig, KasaConfig
from safetensors.torch import save_file
from small import SMALL, model_inputs, randomise, tensors_of  # type: ignore[import-not-found]  # beside this file, a script
from vary import forget, resize, rows_of, vary  # type: ignore[import-not-found]  # beside this file

TEXT = {"vocab_size": 50, "max_position_embeddings": 64, "hidden_size": 32, "num_attention_heads": 4}
LAYERS = {"num_hidden_layers": 2, "intermediate_size": 64}
ENDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
# Class, config, targets, feed-forward targets, norms, the token embedding's name.
FAMILIES: dict[str, tuple[str, str, dict[str, Any], list[str], list[str], list[str], str]] = {
    "bert": (
        "BertForSequenceClassification",
        "BertConfig",
        {**TEXT, **LAYERS, "num_labels": 3},
        ["query", "key", "attention.output.dense"],
        ["output.dense"],
        ["LayerNorm"],
        "word_embeddings",
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**TEXT, **LAYERS, "num_key_value_heads": 2, "pad_token_id": 0, "tie_word_embeddings": True},
        ["q_proj", "v_proj", "gate_proj"],
        ["down_proj"],
        ["input_layernorm", "norm"],
        "embed_tokens",
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 50, "d_model": 32, "num_heads": 4, "d_kv": 8, "d_ff": 64, "num_layers": 2, **ENDS},
        ["q", "v"],
        ["wo"],
        ["final_layer_norm"],
        "shared",
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 50, "n_positions": 64, "n_embd": 32, "n_head": 4, "n_layer": 2, "eos_token_id": 1},
        ["c_attn"],
        ["mlp.c_proj"],
        ["ln_1", "ln_f"],
        "wte",
    ),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        {
            "image_size": 16,
            "patch_size": 4,
            "hidden_size": 32,
            "num_attention_heads": 4,
            **LAYERS,
            "num_labels": 3,
        },
        ["patch_embeddings.projection"],
        [],
        ["layernorm_before"],
        "",
    ),
    "mistral": (
        "MistralForCausalLM",
        "MistralConfig",
        {**TEXT, **LAYERS, "num_key_value_heads": 2, "pad_token_id": 0, "sliding_window": 6},
        ["q_proj", "v_proj"],
        ["down_proj"],
        ["input_layernorm"],
        "embed_tokens",
    ),
    "mixtral": (
        "MixtralForCausalLM",
        "MixtralConfig",
        {**TEXT, **LAYERS, "num_key_value_heads": 2, "pad_token_id": 0, "num_local_experts": 4},
        ["q_proj", "v_proj"],
        ["experts.gate_up_proj", "experts.down_proj", "gate.weight"],
        ["input_layernorm"],
        "embed_tokens",
    ),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {
            **TEXT,
            **LAYERS,
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "head_dim": 8,
        },
        ["k_proj", "v_proj"],
        ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        ["input_layernorm"],
        "embed_tokens",
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {
            **TEXT,
            **LAYERS,
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
        },
        ["q_proj", "v_proj"],
        ["experts.gate_up_proj", "experts.down_proj"],
        ["input_layernorm"],
        "embed_tokens",
    ),
    "llama4_text": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {
            **TEXT,
            **LAYERS,
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "head_dim": 8,
            "intermediate_size_mlp": 64,
            "interleave_moe_layer_step": 1,
        },
        ["q_proj", "v_proj"],
        ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
        ["input_layernorm"],
        "embed_tokens",
    ),
}
TASKS = {"mistral": "CAUSAL_LM", "bert": "SEQ_CLS", "llama": "CAUSAL_LM", "gpt2": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}
INVOKED = [7, 9]  # what an adapter's invocation is, or begins with
KINDS: dict[str, str] = {}  # of input, of families that are discovered
Draw = Callable[[random.Random, str], Any]


SUFFIXES = (
    "Model",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForImageClassification",
)
WRITERS = {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "ForConditionalGeneration": "SEQ_2_SEQ_LM"}
FEEDS = ("down_proj", "wo", "wo_proj", "fc2", "fc_out", "lin2", "c_proj", "output.dense", "Wo", "ffn_output")
CONVOLVED = ("lora", "lora_options", "loha", "lokr", "oft", "boft", "hra", "ia3", "adalora", "hira")
TOGETHER = (
    *("lora_options", "ia3", "loha", "lokr", "oft", "boft", "hra", "fourierft", "miss", "shira", "road"),
    *("beft", "deft", "delora", "glora", "gralora", "hira", "peanut", "supertuning", "unilora"),
)
MIXING = ("LORA", "GLORA")  # that may have an adapter for each row
ONLY = {"adaption_prompt": ("ForCausalLM", "LMHeadModel"), "alora": ("ForCausalLM", "LMHeadModel")}


def discover(family: str, rng: random.Random, method: str) -> str:
    """Enter a family of ``small`` as a model of some task into the tables; the name that it has there."""
    small = replace(SMALL[family], settings=resize(SMALL[family].settings, rng))
    wanted = ONLY.get(method) or (tuple(WRITERS) if "p" in method[:2] and "tuning" in method else (*SUFFIXES, *WRITERS))
    there = [word for word in wanted if hasattr(transformers, small.word + word)]
    if not there:
        raise ValueError(f"no {family} does that")
    # A pair's classifier wants one end-of-text token in each text, and half a pair no second text.
    alone = ("ForSequenceClassification", "ForTokenClassification", "ForCausalLM") if small.kind == "pair" else ()
    suffix = rng.choice([word for word in there if word not in alone])
    model = small.model(suffix)
    inside = [
        (name, module) for name, module in model.named_modules() if any(part.isdigit() for part in name.split("."))
    ]
    linear = [name for name, module in inside if type(module).__name__ in ("Linear", "Conv1D")]
    feeds = sorted({word for word in FEEDS for name in linear if name.endswith("." + word)})
    own = sorted({name.rpartition(".")[2] for name in linear} - {word.rpartition(".")[2] for word in feeds})
    if method in CONVOLVED and rng.random() < 0.6:
        own += sorted(
            {name.rpartition(".")[2] for name, part in model.named_modules() if "Conv2d" in type(part).__name__}
        )
    norms = sorted({name.rpartition(".")[2] for name, module in inside if "Norm" in type(module).__name__})
    try:
        embedding = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
    except NotImplementedError:
        embedding = ""
    config = {**small.settings, "num_labels": 2 if "Question" in suffix else 3}
    known = f"{family}-{suffix.lower()}"
    FAMILIES[known] = (
        small.word + suffix,
        type(model.config).__name__,
        config,
        own,
        feeds,
        norms,
        embedding.rpartition(".")[2],
    )
    if suffix in WRITERS:
        TASKS[known] = WRITERS[suffix]
    KINDS[known] = small.kind
    return known


def targets(rng: random.Random, family: str, feed: bool = True) -> list[str]:
    own, feeds = FAMILIES[family][3:5]
    names = own + (feeds if feed else [])
    return rng.sample(names, rng.randint(1, len(names)))


def ia3(rng: random.Random, family: str) -> Any:
    own, feeds = FAMILIES[family][3:5]
    some = rng.sample(own + feeds, rng.randint(1, len(own + feeds)))
    return peft.IA3Config(
        target_modules=some,
        feedforward_modules=rng.choice(
            [
                [name for name in feeds if name in some],
                [],
                some[:1],
                rf".*\.({'|'.join(some[-2:])})".replace("output.", r"output\."),
            ]
        ),
    )


def adalora(rng: random.Random, family: str) -> Any:
    return peft.AdaLoraConfig(
        target_modules=targets(rng, family),
        init_r=rng.choice([4, 6]),
        target_r=2,
        lora_alpha=rng.choice([8, 16]),
        total_step=100,
    )


def loha(rng: random.Random, family: str) -> Any:
    names = targets(rng, family)
    return peft.LoHaConfig(
        target_modules=names,
        r=rng.choice([2, 4]),
        alpha=rng.choice([4, 8]),
        rank_pattern={names[0]: 3},
        use_effective_conv2d=rng.random() < 0.5,
    )


def lokr(rng: random.Random, family: str) -> Any:
    return peft.LoKrConfig(
        target_modules=targets(rng, family),
        r=rng.choice([1, 2, 4, 8]),
        alpha=rng.choice([4, 8]),
        decompose_both=rng.random() < 0.5,
        decompose_factor=rng.choice([-1, 2, 4, 5]),
        use_effective_conv2d=rng.random() < 0.5,
        init_weights=rng.choice([True, "lycoris"]),
    )


def oft(rng: random.Random, family: str) -> Any:
    values: dict[str, Any] = rng.choice([{"oft_block_size": 8}, {"r": 4, "oft_block_size": 0}, {"oft_block_size": 6}])
    return peft.OFTConfig(
        target_modules=targets(rng, family),
        coft=rng.random() < 0.3,
        eps=rng.choice([6e-5, 0.5]),
        block_share=rng.random() < 0.3,
        use_cayley_neumann=rng.random() < 0.5,
        num_cayley_neumann_terms=rng.choice([1, 2, 3, 4, 5, 6]),
        bias=rng.choice(["none", "none", "all", "oft_only"]),
        **values,
    )


def boft(rng: random.Random, family: str) -> Any:
    values: dict[str, Any] = rng.choice([{"boft_block_size": 4}, {"boft_block_num": 4, "boft_block_size": 0}])
    return peft.BOFTConfig(
        target_modules=targets(rng, family),
        boft_n_butterfly_factor=rng.choice([1, 2]),
        bias=rng.choice(["none", "none", "boft_only"]),
        **values,
    )


def hra(rng: random.Random, family: str) -> Any:
    return peft.HRAConfig(target_modules=targets(rng, family), r=rng.choice([1, 2, 3]), apply_GS=rng.random() < 0.5)


def lora_options(rng: random.Random, family: str) -> Any:
    dora = rng.random() < 0.3
    return peft.LoraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([1, 2, 4, 5, 8]),
        lora_alpha=rng.choice([1, 4, 16]),
        lora_dropout=rng.choice([0.0, 0.1]),
        use_rslora=rng.random() < 0.4,
        use_dora=dora,
        lora_bias=not dora and rng.random() < 0.3,
        fan_in_fan_out=family.startswith("gpt2"),
        init_lora_weights=rng.choice([True, False, "gaussian", "orthogonal"]),
    )


def fourier(rng: random.Random, family: str) -> Any:
    names = targets(rng, family)
    return peft.FourierFTConfig(
        target_modules=names,
        n_frequency=40,
        n_frequency_pattern={names[0]: 30},
        scaling=20.0,
        random_loc_seed=rng.choice([777, 3]),
    )


def vblora(rng: random.Random, family: str) -> Any:
    return peft.VBLoRAConfig(
        target_modules=targets(rng, family),
        r=rng.choice([2, 4]),
        num_vectors=12,
        vector_length=rng.choice([2, 4]),
        topk=rng.choice([1, 2, 3]),
        save_only_topk_weights=rng.random() < 0.5,
    )


def randlora(rng: random.Random, family: str) -> Any:
    return peft.RandLoraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([4, 5]),
        randlora_alpha=20,
        projection_prng_key=rng.choice([0, 5]),
        save_projection=rng.random() < 0.5,
        **rng.choice([{}, {"sparse": True}, {"very_sparse": True}]),
    )


def vera(rng: random.Random, family: str) -> Any:
    return peft.VeraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([3, 8]),
        projection_prng_key=rng.choice([0, 5]),
        save_projection=rng.random() < 0.5,
    )


def ln_tuning(rng: random.Random, family: str) -> Any:
    return peft.LNTuningConfig(target_modules=FAMILIES[family][5])


def miss(rng: random.Random, family: str) -> Any:
    way: dict[str, Any] = rng.choice(
        [{"init_weights": True}, {"init_weights": "mini", "mini_r": 4}, {"init_weights": "bat"}]
    )
    return peft.MissConfig(target_modules=targets(rng, family), r=rng.choice([2, 3, 4]), **way)


def shira(rng: random.Random, family: str) -> Any:
    return peft.ShiraConfig(target_modules=targets(rng, family), r=rng.choice([1, 2]))


def c3a(rng: random.Random, family: str) -> Any:
    names = targets(rng, family)
    return peft.C3AConfig(
        target_modules=names, block_size=rng.choice([2, 4, 8]), block_size_pattern=rng.choice([{}, {names[0]: 1}])
    )


def road(rng: random.Random, family: str) -> Any:
    return peft.RoadConfig(
        target_modules=targets(rng, family),
        variant=rng.choice(["road_1", "road_2", "road_4"]),
        group_size=rng.choice([2, 4, 8]),
    )


def tokens(rng: random.Random, family: str) -> Any:
    return peft.TrainableTokensConfig(target_modules=[FAMILIES[family][6]], token_indices=rng.sample(range(3, 50), 20))


def lora(rng: random.Random, family: str) -> Any:
    if family == "vit":
        return peft.LoraConfig(
            target_modules=["patch_embeddings.projection", "query", "q_proj"], r=4, use_dora=rng.random() < 0.5
        )
    embedding = FAMILIES[family][6]
    way = rng.choice(["embedding", "tokens", "dict", "pissa", "olora", "parameters"])
    names = targets(rng, family)
    if way == "embedding":
        return peft.LoraConfig(target_modules=[*names, embedding], r=3, use_dora=rng.random() < 0.5)
    if way in ("tokens", "dict"):
        ids = rng.sample(range(3, 50), 20)
        return peft.LoraConfig(
            target_modules=names, r=3, trainable_token_indices=ids if way == "tokens" else {embedding: ids}
        )
    if way == "parameters":
        return peft.LoraConfig(target_modules=[], target_parameters=[f"{name}.weight" for name in names], r=3)
    return peft.LoraConfig(target_modules=names, r=3, init_lora_weights=way)


def kasa(rng: random.Random, family: str) -> Any:
    return peft.LoraConfig(target_modules=targets(rng, family), r=rng.choice([1, 3]), kasa_config=KasaConfig())


def block_diagonal(rng: random.Random, family: str) -> Any:
    names = targets(rng, family)
    parts = [[name] for name in rng.sample(names, 2)] if len(names) > 1 else [names, []]
    blocks = BdLoraConfig(*parts, nblocks=rng.choice([2, 4]), match_strict=False)
    return peft.LoraConfig(target_modules=names, r=8, use_bdlora=blocks)


def beft(rng: random.Random, family: str) -> Any:
    return peft.BeftConfig(target_modules=targets(rng, family))


def deft(rng: random.Random, family: str) -> Any:
    return peft.DeftConfig(
        target_modules=targets(rng, family),
        r=rng.choice([1, 3, 4]),
        alpha=rng.choice([None, 2, 8]),
        decomposition_method=rng.choice(["relu", "qr"]),
        para=rng.random() < 0.3,
        bias=rng.choice(["none", "none", "all", "deft_only"]),
    )


def delora(rng: random.Random, family: str) -> Any:
    names = targets(rng, family)
    return peft.DeloraConfig(
        target_modules=names,
        r=rng.choice([1, 3, 8]),
        rank_pattern=rng.choice([{}, {names[0]: 5}]),
        delora_lambda=rng.choice([3, 15]),
        lambda_pattern=rng.choice([{}, {names[-1]: 8}]),
        bias=rng.choice(["none", "all", "delora_only"]),
    )


def glora(rng: random.Random, family: str) -> Any:
    return peft.GloraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([1, 3]),
        config_A_B=rng.choice(["lora", "vector", "constant", "none"]),
        config_C=rng.choice(["lora", "vector", "none"]),
        config_D_E=rng.choice(["vector", "constant", "none"]),
        bias=rng.choice(["none", "all", "glora_only"]),
    )


def gralora(rng: random.Random, family: str) -> Any:
    blocks = rng.choice([1, 2, 4])
    return peft.GraloraConfig(
        target_modules=targets(rng, family),
        r=blocks * rng.choice([1, 2]),
        gralora_k=blocks,
        hybrid_r=rng.choice([0, 3]),
        alpha=rng.choice([4, 16]),
        bias=rng.choice(["none", "all", "gralora_only"]),
    )


def hira(rng: random.Random, family: str) -> Any:
    names, embedding = targets(rng, family), FAMILIES[family][6]
    if embedding and rng.random() < 0.4:
        names.append(embedding)
    return peft.HiraConfig(target_modules=names, r=rng.choice([1, 4]), rank_pattern=rng.choice([{}, {names[0]: 3}]))


def peanut(rng: random.Random, family: str) -> Any:
    return peft.PeanutConfig(
        target_modules=targets(rng, family),
        r=rng.choice([2, 5]),
        depth=rng.choice([0, 1, 3]),
        act_fn=rng.choice(["relu", "gelu", "tanh", "silu"]),
        scaling=rng.choice([1.0, 2.5]),
    )


def pvera(rng: random.Random, family: str) -> Any:
    return peft.PveraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([3, 8]),
        projection_prng_key=rng.choice([0, 5]),
        save_projection=rng.random() < 0.5,
        bias=rng.choice(["none", "all", "pvera_only"]),
    )


def supertuning(rng: random.Random, family: str) -> Any:
    return peft.SupertuningConfig(
        target_modules=targets(rng, family),
        sparsity=rng.choice([0.5, 0.9]),
        select_top=rng.random() < 0.5,
        save_precomputed_indices=rng.random() < 0.6,
        **rng.choice([{}, {"r": 2}, {"r": 4, "lora_alpha": 6}]),
    )


def tinylora(rng: random.Random, family: str) -> Any:
    return peft.TinyLoraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([1, 2, 3]),
        u=rng.choice([3, 13]),
        weight_tying=rng.choice([0.0, 0.3, 0.5, 1.0]),
        save_projection=rng.random() < 0.5,
        projection_seed=rng.choice([42, 7]),
    )


def unilora(rng: random.Random, family: str) -> Any:
    return peft.UniLoraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([1, 3, 4]),
        theta_d_length=rng.choice([5, 64, 5000]),
        proj_seed=rng.choice([42, 7]),
        save_indices=rng.random() < 0.4,
    )


def prompt(rng: random.Random, family: str) -> Any:
    return peft.PromptTuningConfig(task_type=TASKS[family], num_virtual_tokens=rng.choice([2, 5]))


def p_tuning(rng: random.Random, family: str) -> Any:
    kind = rng.choice(["MLP", "LSTM"])
    return peft.PromptEncoderConfig(
        task_type=TASKS[family], num_virtual_tokens=3, encoder_hidden_size=16, encoder_reparameterization_type=kind
    )


def prefix(rng: random.Random, family: str) -> Any:
    return peft.PrefixTuningConfig(
        task_type=TASKS[family],
        num_virtual_tokens=rng.choice([2, 5]),
        prefix_projection=rng.random() < 0.5,
        encoder_hidden_size=16,
    )


def adaption(rng: random.Random, family: str) -> Any:
    return peft.AdaptionPromptConfig(
        task_type=TASKS[family], adapter_len=rng.choice([2, 5]), adapter_layers=rng.choice([1, 2])
    )


def alora(rng: random.Random, family: str) -> Any:
    """The inputs of a fixture have its invocation in their first row, and no other may."""
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=targets(rng, family),
        r=rng.choice([2, 4]),
        alora_invocation_tokens=rng.choice([[INVOKED[0]], INVOKED]),
    )


def replication(rng: random.Random, family: str) -> Any:
    return peft.LoraConfig(
        target_modules=targets(rng, family),
        r=rng.choice([2, 4]),
        layer_replication=rng.choice([[[0, 2], [0, 2]], [[0, 1], [0, 2], [1, 2]], [[0, 2], [1, 2]], [[1, 2]]]),
    )


def experts(rng: random.Random, family: str) -> Any:
    names = rng.sample(FAMILIES[family][4], rng.randint(1, len(FAMILIES[family][4])))
    return peft.LoraConfig(
        target_modules=rng.choice([[], FAMILIES[family][3]]),
        target_parameters=names,
        r=rng.choice([1, 3]),
        use_rslora=rng.random() < 0.5,
        rank_pattern=rng.choice([{}, {names[0]: 2}]),
    )


def tying(rng: random.Random, family: str) -> Any:
    names = rng.sample(["embed_tokens", "lm_head"], rng.randint(1, 2))
    rest = FAMILIES[family][3]
    if rng.random() < 0.4:
        return peft.LoraConfig(target_modules=rest, modules_to_save=names[:1], ensure_weight_tying=True)
    return peft.LoraConfig(target_modules=[*rest, *names], r=3, lora_alpha=6, ensure_weight_tying=True)


_ALL = ("bert", "llama", "t5", "gpt2")
_LINEAR = ("bert", "llama", "t5")
METHODS: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "ia3": (ia3, _ALL),
    "adalora": (adalora, _ALL),
    "loha": (loha, _LINEAR),
    "lokr": (lokr, _LINEAR),
    "oft": (oft, _LINEAR),
    "boft": (boft, _LINEAR),
    "hra": (hra, _LINEAR),
    "fourierft": (fourier, _ALL),
    "vblora": (vblora, _ALL),
    "randlora": (randlora, _ALL),
    "vera": (vera, _ALL),
    "ln_tuning": (ln_tuning, _ALL),
    "miss": (miss, _LINEAR),
    "shira": (shira, _LINEAR),
    "c3a": (c3a, _LINEAR),
    "road": (road, _LINEAR),
    "trainable_tokens": (tokens, _ALL),
    "lora_options": (lora_options, (*_ALL, "vit")),
    "lora": (lora, (*_ALL, "vit")),
    "kasa": (kasa, _LINEAR),
    "block_diagonal": (block_diagonal, _ALL),
    "beft": (beft, _LINEAR),
    "deft": (deft, _ALL),
    "delora": (delora, _LINEAR),
    "glora": (glora, _LINEAR),
    "gralora": (gralora, _ALL),
    "hira": (hira, _ALL),
    "peanut": (peanut, _LINEAR),
    "pvera": (pvera, _ALL),
    "supertuning": (supertuning, _LINEAR),
    "tinylora": (tinylora, _ALL),
    "unilora": (unilora, _ALL),
    "prompt_tuning": (prompt, _ALL),
    "p_tuning": (p_tuning, _ALL),
    "prefix_tuning": (prefix, _ALL),
    "adaption_prompt": (adaption, ("llama", "mistral", "gpt2")),
    "alora": (alora, ("llama", "mistral", "gpt2")),
    "layer_replication": (replication, ("llama", "mistral", "bert")),
    "ensure_weight_tying": (tying, ("llama",)),
    "target_parameters": (experts, ("mixtral", "qwen3_moe", "gpt_oss", "llama4_text")),
}


def outputs(model: Any, inputs: dict[str, torch.Tensor], **more: Any) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found: dict[str, torch.Tensor] = tensors_of(model(**inputs, **more, output_hidden_states=True))
    return found


def inputs_of(family: str, rng: random.Random) -> dict[str, torch.Tensor]:
    if family == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16)}
    if family in KINDS:
        found: dict[str, torch.Tensor] = model_inputs(KINDS[family], seed=rng.randrange(1000))
    else:
        mask = torch.ones(3, 11, dtype=torch.long)
        mask[1, 8:] = 0
        found = {"input_ids": torch.randint(3, 50, (3, 11)), "attention_mask": mask}
        if family == "t5":
            found["decoder_input_ids"] = torch.randint(3, 50, (3, 5))
    if "input_ids" in found:
        ids = found["input_ids"]
        ids[ids == INVOKED[0]] = 8
        ids[0, 2:4] = ids[0, 5:7] = torch.tensor(INVOKED)
    return found


def companion(model: Any, config: Any, count: int, rng: random.Random) -> tuple[Any, list[str]]:
    """Add a second adapter; what is active then: both, or one of them or none for each of ``count`` rows."""
    model.add_adapter("other", config)
    model.base_model.set_adapter(["default", "other"])
    if model.peft_type not in MIXING or rng.random() < 0.5:
        return ["default", "other"], []
    return "default", [rng.choice(["default", "other", "__base__"]) for _ in range(count)]


def fixture(out: Path, number: int, method: str, rng: random.Random, *, everywhere: bool) -> None:
    draw, families = METHODS[method]
    family = discover(rng.choice(list(SMALL)), rng, method) if everywhere else rng.choice(families)
    base_class, config_class, sizes = FAMILIES[family][:3]
    load = getattr(transformers, base_class)
    base_dir = out / "bases" / f"peft-{family}-{number}"
    base = load(getattr(transformers, config_class)(**sizes))
    randomise(base, 0.15)
    base.save_pretrained(base_dir)
    inputs = rows_of(inputs_of(family, rng), rng) if everywhere else inputs_of(family, rng)
    bare = {f"base.{key}": value for key, value in outputs(base.eval(), inputs).items()}
    config = draw(rng, family)
    config = vary(config, rng, base) if everywhere else config
    model: Any = peft.get_peft_model(load.from_pretrained(base_dir), config, "default")
    active: Any = "default"
    rows: list[str] = []
    if everywhere and method in TOGETHER and rng.random() < 0.3:
        # In the peer IA3 scales inputs or outputs as the first adapter has it, whatever the second's config says.
        second = config if method == "ia3" else vary(draw(rng, family), rng, base)
        active, rows = companion(model, second, len(next(iter(inputs.values()))), rng)
        if rows and {getattr(one, "bias", "none") for one in (config, second)} != {"none"}:
            raise ValueError("an adapter's biases are those of all rows, other adapters' and the base's too")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn_like(parameter) * 0.2
            around = ("magnitude", "ia3_l", "boft_s", "road_alpha", "ln_tuning")
            parameter.data.copy_(1.0 + noise if any(word in name for word in around) else noise)  # tied ones stay so
    directory = out / "peft-0.21.2" / f"{number:03}-{family}-{method}"
    model.save_pretrained(directory / "adapters")
    if rows:
        model.set_adapter("default")
    if everywhere and active == "default" and not rows and rng.random() < 0.3:
        forget(directory / "adapters", rng)
        model = peft.PeftModel.from_pretrained(load.from_pretrained(base_dir), directory / "adapters")
    forward = {"adapter_names": rows} if rows else {}
    expected = outputs(model.eval(), inputs, **forward)
    if all(bare[f"base.{k}"].shape == v.shape and torch.allclose(bare[f"base.{k}"], v) for k, v in expected.items()):
        sys.stderr.write(f"{directory.name}: the adapter changes nothing\n")
    save_file(expected | bare, directory / "expected.safetensors")
    save_file(inputs, directory / "inputs.safetensors")
    composition = {
        "adapters": list(model.peft_config),
        "active": active,
        "paths": {name: "adapters" if name == "default" else f"adapters/{name}" for name in model.peft_config},
        "forward_kwargs": forward,
    }
    meta = {
        "base": f"bases/{base_dir.name}",
        "base_class": base_class,
        "attn_implementation": "sdpa",
        "model_type": family,
        "peer": "peft",
        "bases_may_differ": True,  # between releases of transformers
        "tolerance_abs": 2e-5 * max(1.0, *(float(value.abs().max()) for value in expected.values())),
    }
    (directory / "composition.json").write_text(json.dumps(composition), "utf-8")
    (directory / "meta.json").write_text(json.dumps(meta), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--everywhere", action="store_true", help="on all families")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(40)
    number = 0
    for turn in range(arguments.rounds):
        for method in arguments.methods:
            seed = arguments.seed * 10000 + turn * 100 + list(METHODS).index(method)
            number += 1
            for attempt in range(6 if arguments.everywhere else 1):
                torch.manual_seed(seed + attempt * 10**7)
                rng = random.Random(seed + attempt * 10**7)
                try:
                    fixture(arguments.out, number, method, rng, everywhere=arguments.everywhere)
                    break
                except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, LookupError) as error:
                    sys.stderr.write(f"{number} {method}: the peer fails: {type(error).__name__} {str(error)[:150]}\n")


if __name__ == "__main__":
    main()
