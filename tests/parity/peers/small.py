"""Small models of every family: what their configs say, and inputs for them. Runs without adpm and without a peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

__all__ = ["SMALL", "Small", "head_inputs", "model_inputs", "randomise", "tensors_of"]

_ENCODER: Final[dict[str, Any]] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
_TOKENS: Final[dict[str, Any]] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_DECODER: Final = {**_ENCODER, **_TOKENS, "num_key_value_heads": 2}
_GPT: Final = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, **_TOKENS}
_BART: Final = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "max_position_embeddings": 40,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_T5: Final = {
    "vocab_size": 50,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_IMAGE: Final = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 16,
    "patch_size": 8,
}
_DISENTANGLED: Final = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}


@dataclass(frozen=True)
class Small:
    """``word`` begins the names of its classes; ``kind`` of input: "text", "pair", "image", "both" or "sound"."""

    word: str
    settings: dict[str, Any]
    kind: str = "text"

    def model(self, suffix: str = "Model", **changes: Any) -> Any:
        """A model in evaluation mode; ``changes`` replace settings."""
        config_class = getattr(transformers, f"{self.word}Config", None) or getattr(
            transformers, f"{self.word}TextConfig"
        )
        config = config_class(**{**self.settings, **changes})
        return getattr(transformers, f"{self.word}{suffix}")(config).eval()


SMALL: Final[dict[str, Small]] = {
    "bert": Small("Bert", _ENCODER),
    "roberta": Small("Roberta", {**_ENCODER, "pad_token_id": 1}),
    "xlm-roberta": Small("XLMRoberta", _ENCODER),
    "distilbert": Small(
        "DistilBert",
        {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40},
    ),
    "electra": Small("Electra", {**_ENCODER, "embedding_size": 16}),
    "deberta": Small("Deberta", {**_ENCODER, **_DISENTANGLED}),
    "deberta-v2": Small(
        "DebertaV2",
        {**_ENCODER, **_DISENTANGLED, "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_buckets": 8},
    ),
    "albert": Small("Albert", {**_ENCODER, "embedding_size": 16, "num_hidden_layers": 3, "num_hidden_groups": 1}),
    "mpnet": Small("MPNet", {**_ENCODER, "pad_token_id": 1}),
    "modernbert": Small(
        "ModernBert", {**_ENCODER, **_TOKENS, "cls_token_id": 1, "sep_token_id": 2, "reference_compile": False}
    ),
    "gpt2": Small("GPT2", _GPT),
    "gptj": Small("GPTJ", {**_GPT, "rotary_dim": 4}),
    "llama": Small("Llama", _DECODER),
    "mistral": Small("Mistral", _DECODER),
    "qwen2": Small("Qwen2", _DECODER),
    "qwen3": Small("Qwen3", {**_DECODER, "head_dim": 8}),
    "gemma2": Small("Gemma2", {**_DECODER, "head_dim": 8}),
    "gemma3_text": Small("Gemma3Text", {**_DECODER, "head_dim": 8}),
    "phi3": Small("Phi3", _DECODER),
    "t5": Small("T5", _T5, "pair"),
    "mt5": Small("MT5", {**_T5, "feed_forward_proj": "gated-gelu"}, "pair"),
    "bart": Small("Bart", _BART, "pair"),
    "mbart": Small("MBart", _BART, "pair"),
    "whisper": Small(
        "Whisper",
        {
            **_BART,
            "num_mel_bins": 8,
            "max_source_positions": 10,
            "max_target_positions": 40,
            "decoder_start_token_id": 3,
        },
        "sound",
    ),
    "vit": Small("ViT", _IMAGE, "image"),
    "beit": Small("Beit", {**_IMAGE, "use_relative_position_bias": True}, "image"),
    "clip": Small(
        "CLIP",
        {
            "text_config": {**_ENCODER, **_TOKENS, "projection_dim": 16},
            "vision_config": {**_IMAGE, "projection_dim": 16},
            "projection_dim": 16,
        },
        "both",
    ),
    "clip_text_model": Small("CLIPText", {**_ENCODER, **_TOKENS}),
    "clip_vision_model": Small("CLIPVision", _IMAGE, "image"),
}


def model_inputs(kind: str, *, padded: bool = True, seed: int = 1) -> dict[str, torch.Tensor]:
    """Three rows of random inputs; ``padded``: the second row of a text ends early."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 50, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 6:] = 0
    out: dict[str, torch.Tensor] = {}
    if kind in ("text", "pair", "both"):
        out |= {"input_ids": ids, "attention_mask": mask}
    if kind in ("pair", "sound"):
        out["decoder_input_ids"] = torch.randint(3, 50, (3, 5), generator=generator)
    if kind in ("image", "both"):
        out["pixel_values"] = torch.randn(3, 3, 16, 16, generator=generator)
    if kind == "sound":
        out["input_features"] = torch.randn(3, 8, 20, generator=generator)
    return out


def head_inputs(kind: str, head: str, *, end: int | None, seed: int = 1) -> dict[str, torch.Tensor]:
    """What a model with a head of the type ``head`` is given: ``end`` is the token that a text ends with."""
    found = model_inputs(kind, seed=seed)
    if head == "dependency_parsing":
        found["word_starts"] = torch.tensor([[1, 2, 4, 7, 0, 0, 0, 0, 0]] * 3)
    if kind == "pair" and "classification" in head:  # of the state at the end, where the decoder reads the same text
        found["input_ids"][:, 5] = torch.tensor(end)
        found["decoder_input_ids"] = found["input_ids"].roll(1, -1)
    return found


def randomise(module: torch.nn.Module, scale: float) -> None:
    """Random weights, norms around one; so that no zero start hides an error."""
    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter) * scale
        around_one = "norm" in name.lower() or "ln_" in name
        parameter.data = 1.0 + noise if around_one and name.endswith("weight") else noise


def tensors_of(out: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor that a model gives, those of tuples by number and of outputs in outputs by path; without caches."""
    found: dict[str, torch.Tensor] = {}
    for key, value in out.items():
        path = f"{name}{key}"
        if isinstance(value, torch.Tensor):
            found[path] = value.clone().contiguous()
        elif isinstance(value, tuple):
            states = [state for state in value if isinstance(state, torch.Tensor)]
            found |= {f"{path}.{number}": state.clone().contiguous() for number, state in enumerate(states)}
        elif hasattr(value, "items") and "past_key_values" not in key:
            found |= tensors_of(value, f"{path}.")
    return found
