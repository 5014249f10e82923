"""The base that all contenders adapt: random weights in the sizes of BERT-base, the same in every process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn
from transformers import BertConfig, BertModel

__all__ = ["FEW", "LOWEST", "SEED", "bert", "forward", "gradients", "same_weights", "step"]

SEED: Final = 0
FEW: Final = 20  # adapters beside which those that act are loaded
LOWEST: Final = {"pfeiffer": "encoder.layer.0", "lora": "embeddings"}  # below it no adapter of a kind needs gradients
_RATE: Final = 1e-6  # so small that hundreds of steps leave the numbers what they are


def bert(**sizes: Any) -> Any:
    """A BERT in evaluation mode; ``sizes`` are those of BERT-base but for those given."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model: Any = BertModel(BertConfig(**sizes))
    return model.eval()


def same_weights(model: nn.Module) -> Any:
    """Another model over the very same memory: what differs in time then lies in what is computed."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.data, requires_grad=True) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def forward(model: Any, rows: int, tokens: int, **more: Any) -> Callable[[], object]:
    """One forward pass without gradients."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(3, model.config.vocab_size, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)

    def run() -> object:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask, **more)

    return run


def step(model: Any, rows: int, tokens: int) -> Callable[[], object]:
    """One step of training what is trainable: forward pass, loss, backward pass, AdamW."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_RATE)
    backward = _backward(model, rows, tokens)

    def run() -> object:
        optimiser.zero_grad()
        backward()
        return optimiser.step()

    return run


def gradients(model: Any, rows: int, tokens: int, lowest: str) -> Callable[[], object]:
    """The least that a step can take whose lowest adapter acts on the output of the module ``lowest``: forward pass,
    loss, and gradients of the activations down to there. ``model`` is frozen by it."""
    model.requires_grad_(False)
    model.get_submodule(lowest).register_forward_hook(lambda _module, _args, output: _wanted(output))
    return _backward(model, rows, tokens)


def _wanted(output: Any) -> Any:
    hidden = output[0] if isinstance(output, tuple) else output
    hidden.requires_grad_(True)
    return output


def _backward(model: Any, rows: int, tokens: int) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(3, model.config.vocab_size, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)
    model.train()

    def run() -> object:
        loss = model(input_ids=ids, attention_mask=mask).last_hidden_state.square().mean()
        return loss.backward()

    return run
