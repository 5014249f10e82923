"""Small random models of the four families, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

__all__ = ["FAMILIES", "inputs", "make", "outputs", "randomise"]

_SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
_DISTIL: dict[str, Any] = {
    "vocab_size": 50,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
FAMILIES: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "bert": (BertConfig, BertModel, BertForSequenceClassification, _SIZES),
    "roberta": (RobertaConfig, RobertaModel, RobertaForSequenceClassification, _SIZES),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaModel, XLMRobertaForSequenceClassification, _SIZES),
    "distilbert": (DistilBertConfig, DistilBertModel, DistilBertForSequenceClassification, _DISTIL),
}


def make(family: str = "bert", *, head: bool = False, seed: int = 0, **changes: Any) -> Any:
    """A model with random weights in evaluation mode; ``head``: its sequence classifier."""
    torch.manual_seed(seed)
    config_class, plain, classifier, sizes = FAMILIES[family]
    model = (classifier if head else plain)(config_class(**{**sizes, **changes}))
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn_like(parameter) * 0.15
        if "norm" in name.lower() and name.endswith("weight"):
            parameter.data += 1.0
    return model.eval()


def inputs(rows: int = 3, tokens: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(rows, tokens, dtype=torch.long)
    mask[-1, tokens // 2 :] = 0
    return {"input_ids": torch.randint(3, 50, (rows, tokens), generator=generator), "attention_mask": mask}


def outputs(model: Any, **more: Any) -> dict[str, torch.Tensor]:
    """Every tensor that the model gives, hidden states by number."""
    with torch.no_grad():
        out = model(**inputs(), output_hidden_states=True, **more)
    found = {key: value for key, value in out.items() if isinstance(value, torch.Tensor)}
    return found | {f"hidden_states.{i}": state for i, state in enumerate(out.hidden_states)}


def randomise(handle: Any, name: str, seed: int = 2) -> None:
    """Give every tensor of an adapter random values, so that no zero start hides an error."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in handle.adapters[name].parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter) * 0.3
