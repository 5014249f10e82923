"""What is tried of every method, on a small model of every family: the same for adpm and for both peers.

Runs without adpm, as the peers' environments have none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tests.parity.peers.small import SMALL, model_inputs, randomise, tensors_of

__all__ = ["HUB", "PEFT", "Attached", "Contender", "base", "method_settings", "run", "shake", "tried"]

# Settings that suit models this small; what is not named is at its default.
HUB: Final[Mapping[str, dict[str, Any]]] = {
    "adapter_plus": {"reduction_factor": 4, "stochastic_depth": 0.0},
    "compacter": {"reduction_factor": 4},
    "compacter++": {"reduction_factor": 4},
    "prompt_tuning": {"prompt_length": 3},
    "prefix_tuning": {"prefix_length": 3},
    "prefix_tuning_flat": {"prefix_length": 3},
    "loreft": {"r": 2},
    "noreft": {"r": 2},
    "direft": {"r": 2},
    "mtl_lora": {"r": 4, "n_up_projection": 2},
}
PEFT: Final[Mapping[str, dict[str, Any]]] = {
    "adalora": {"init_r": 4, "total_step": 10},
    "adaption_prompt": {"adapter_len": 3, "adapter_layers": 2},
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 8},
    "fourierft": {"n_frequency": 30, "scaling": 20.0},
    "hra": {"r": 4},
    "ia3": {"feedforward_modules": []},
    "miss": {"r": 4},
    "oft": {"oft_block_size": 8},
    "p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "prefix_tuning": {"num_virtual_tokens": 3},
    "prompt_tuning": {"num_virtual_tokens": 3},
    "randlora": {"r": 4, "randlora_alpha": 8},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "trainable_tokens": {"token_indices": [3, 9, 17]},
    "vblora": {"num_vectors": 8, "vector_length": 8},
    "vera": {"r": 4},
}
_NO_TARGETS: Final = ("adaption_prompt", "cpt", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "prompt_tuning")
_FIRST: Final = ("bert", "llama")  # on the first that works it is tried to merge and to mix
_SEES: Final = 1e-4
_SAME: Final = 1e-3


class Attached(Protocol):
    """A model with an adapter of the method, ``x``."""

    def add(self, name: str) -> None:
        """Another one of the same method, with other weights."""

    def alone(self, name: str) -> dict[str, Tensor]:
        """The model's outputs with one of them."""

    def mixed(self) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Its outputs with an adapter a row, and the rows' adapters."""

    def merged(self) -> dict[str, Tensor]:
        """Its outputs with ``x`` in its weights, and none active."""


class Contender(Protocol):
    """Methods by name, and how one gets onto a model. Whatever they raise: that does not work."""

    @property
    def methods(self) -> tuple[str, ...]: ...

    def attach(self, method: str, model: Any, run: Callable[[Any], dict[str, Tensor]]) -> Attached: ...


def tried(contender: Contender) -> dict[str, Any]:
    """For each method: the families on which it acts, whether it merges, and whether rows may have several."""
    families = [*_FIRST, *sorted(SMALL.keys() - set(_FIRST))]
    out: dict[str, Any] = {}
    for method in contender.methods:
        works: list[str] = []
        merges = mixes = False
        for family in families:
            with _quiet():
                attached = _acts(contender, method, family)
                if attached is None:
                    continue
                if not works:
                    merges, mixes = _merges(attached), _mixes(attached)
                works.append(family)
        out[method] = {"families": sorted(works), "merge": merges, "mixed": mixes}
    return out


def base(family: str) -> Any:
    torch.manual_seed(0)
    model = SMALL[family].model()
    randomise(model, 0.15)
    return model


def run(family: str) -> Callable[[Any], dict[str, Tensor]]:
    def outputs(model: Any, **more: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            return tensors_of(model(**model_inputs(SMALL[family].kind), **more))

    return outputs


def shake(parameters: Iterator[nn.Parameter], seed: int) -> None:
    """Random values around what is there, so that no zero start hides what a method does."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        if parameter.is_floating_point():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = parameter.data + 0.2 * noise.to(parameter)


def method_settings(method: str, model: Any) -> dict[str, Any]:
    """What PEFT's ``method`` is to be made with for ``model``: its linear layers, its norms, or its embedding."""
    if method in _NO_TARGETS:
        return dict(PEFT.get(method, {}))
    if method == "trainable_tokens":
        embedding = model.get_input_embeddings()
        found = [name for name, module in model.named_modules() if module is embedding]
    elif method == "ln_tuning":
        found = [name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")]
    else:
        found = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    return {**PEFT.get(method, {}), "target_modules": sorted({name.rpartition(".")[2] for name in found})}


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _acts(contender: Contender, method: str, family: str) -> Attached | None:
    model, outputs = base(family), run(family)
    bare = outputs(model)
    try:
        attached = contender.attach(method, model, outputs)
        found = attached.alone("x")
    except Exception:  # noqa: BLE001 - each contender has its own ways of saying no
        return None
    finite = all(bool(value.isfinite().all()) for value in found.values() if value.is_floating_point())
    return attached if finite and _far(found, bare) > _SEES else None


def _merges(attached: Attached) -> bool:
    try:
        alone = attached.alone("x")
        return _far(attached.merged(), alone) < _SAME
    except Exception:  # noqa: BLE001 - as above
        return False


def _mixes(attached: Attached) -> bool:
    try:
        attached.add("y")
        alone = {name: attached.alone(name) for name in ("x", "y")}
        found, rows = attached.mixed()
        for number, name in enumerate(rows):
            mine = {key: value[number] for key, value in found.items() if value.dim()}
            if _far(mine, {key: value[number] for key, value in alone[name].items() if value.dim()}) > _SAME:
                return False
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _far(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    if first.keys() != second.keys() or any(first[key].shape != second[key].shape for key in first):
        return float("inf")
    return max(float((first[key] - second[key]).abs().max()) for key in first)
