"""The methods that adpm and the peers know, and settings that fit each small model of the tests."""

from __future__ import annotations

from typing import Any, Final

from adpm.formats.adapterhub_methods import NAMED
from adpm.formats.peft import PEFT_METHODS
from adpm.runtime.sites import FAMILIES
from tests.parity.peers.small import SMALL
from tests.runtime.test_methods import PEFT

__all__ = ["FAMILY_NAMES", "METHODS", "settings_for"]

FAMILY_NAMES: Final = sorted(FAMILIES.keys() & SMALL.keys())
# What a method can't do without, or is small with. The others of PEFT's have the settings of `test_methods`.
_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "peft_lora": {"r": 4},
    "peft_adalora": {"init_r": 4, "total_step": 10},
    "peft_ia3": {"feedforward_modules": []},
    "peft_loha": {"r": 3},
    "peft_oft": {"oft_block_size": 8},
    "peft_boft": {"boft_block_size": 4},
    "peft_miss": {"r": 4},
    "peft_trainable_tokens": {"token_indices": list(range(3, 30))},
    "peft_adaption_prompt": {"adapter_len": 3, "adapter_layers": 2},
    "peft_p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "peft_prompt_tuning": {"num_virtual_tokens": 3},
    "peft_prefix_tuning": {"num_virtual_tokens": 3},
    "adapter_plus": {"stochastic_depth": 0.0, "reduction_factor": 4},
    "compacter": {"reduction_factor": 4},
    "compacter++": {"reduction_factor": 4},
    "mtl_lora": {"n_up_projection": 2},
    "prefix_tuning": {"bottleneck_size": 16},
}
_UNTARGETED: Final = ("adaption_prompt", "p_tuning", "prompt_tuning", "prefix_tuning")


def _hub() -> list[str]:
    """AdapterHub's names, the last of those that mean the same."""
    return sorted({methods: name for name, methods in NAMED.items()}.values())


METHODS: Final = [*_hub(), *(f"peft_{kind.lower()}" for kind in sorted(PEFT_METHODS))]  # as `add` is given them


def settings_for(method: str, model: Any) -> dict[str, Any]:
    """What ``add`` is given beside the method's name; ``model`` says what the targets are called."""
    if not method.startswith("peft_"):
        return _SETTINGS.get(method, {})
    known = _SETTINGS.get(method, PEFT.get(method.removeprefix("peft_"), {}))
    return known if method.endswith(_UNTARGETED) else {**known, "target_modules": _targets(method, model)}


def _targets(method: str, model: Any) -> str | list[str]:
    names = dict(model.named_modules())
    if method == "peft_ln_tuning":
        return sorted({name.rpartition(".")[2] for name, module in names.items() if "Norm" in type(module).__name__})
    if method == "peft_trainable_tokens":
        try:
            table = model.get_input_embeddings()
        except NotImplementedError:  # of a model that is two
            table = None
        return [name for name, module in names.items() if module is table] or ["word_embeddings"]
    return "all-linear"
