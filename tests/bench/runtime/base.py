"""The base that all contenders adapt: random weights in the sizes of BERT-base, the same in every process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn
from transformers import BertConfig, BertModel

__all__ = ["FEW", "SEED", "bert", "forward", "same_weights", "step"]

SEED: Final = 0
FEW: Final = 20  # adapters beside which those that act are loaded
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
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(3, model.config.vocab_size, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_RATE)
    model.train()

    def run() -> object:
        optimiser.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask).last_hidden_state.square().mean()
        loss.backward()
        return optimiser.step()

    return run
