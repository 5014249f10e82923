"""Which tensors AdapterHub's methods for layers' outputs, attention and embeddings have: names in the file, shapes.

Source: ``adapters`` 1.3.0, ``methods/reft.py``, ``methods/prefix_tuning.py``, ``methods/prompt_tuning.py``.
"""

from __future__ import annotations

from adpm.formats.adapterhub_methods import MtlLora, PrefixTuning, Reft
from adpm.formats.adapterhub_tensors import Slot

__all__ = ["gate_slots", "mtl_slots", "prefix_slots", "reft_slots"]


def mtl_slots(config: MtlLora, inputs: int, outputs: int) -> tuple[Slot, ...]:
    """MTL-LoRA on one linear layer. Keys follow ``...loras.NAME.``."""
    task = (config.r,) if config.task_specific_matrix_type == "singular_values" else (config.r, config.r)
    out = [
        Slot("A", "lora_A", (config.r, inputs)),
        Slot("B", "lora_B", (config.n_up_projection, outputs, config.r)),
        Slot("task", "task_specific.values", task),
        Slot("weights", "weights", (config.n_up_projection,)),
    ]
    return (*out, *(gate_slots("gate.", 1, inputs) if config.use_gating else ()))


def gate_slots(file: str, rows: int, width: int) -> tuple[Slot, ...]:
    """A gate's linear layer."""
    return Slot("gate_weight", f"{file}weight", (rows, width)), Slot("gate_bias", f"{file}bias", (rows,))


def reft_slots(config: Reft, hidden: int) -> tuple[Slot, ...]:
    """One layer's units: one for the first positions and one for the last, or one for both where weights are tied.

    Keys follow ``...reft_layer.refts.NAME.``.
    """
    out: list[Slot] = []
    for unit in range(1 if config.tied_weights else 2):
        file = f"units.{unit}"
        out.append(Slot(f"source{unit}_weight", f"{file}.learned_source.weight", (config.r, hidden)))
        out.append(Slot(f"source{unit}_bias", f"{file}.learned_source.bias", (config.r,)))
        if config.orthogonality:
            below = f"{file}.projection.parametrizations.weight"
            out.append(Slot(f"projection{unit}", f"{below}.original", (config.r, hidden)))
            out.append(Slot(f"base{unit}", f"{below}.0.base", (hidden, hidden)))
        else:
            out.append(Slot(f"projection{unit}", f"{file}.projection.weight", (config.r, hidden)))
    return tuple(out)


def prefix_slots(config: PrefixTuning, width: int, hidden: int) -> tuple[Slot, ...]:
    """The prefixes of all attentions of one kind; ``width`` is layers x 2 x heads x head size.

    Keys follow ``prefix_tuning.prefix_tunings.NAME.KIND_prefix.``.
    """
    if config.flat:
        return (Slot("flat", "control_trans", (config.prefix_length * width,)),)
    units = config.bottleneck_size
    return (
        Slot("tokens", "wte.weight", (config.prefix_length, hidden)),
        Slot("down_weight", "control_trans.0.weight", (units, hidden)),
        Slot("down_bias", "control_trans.0.bias", (units,)),
        Slot("up_weight", "control_trans.2.weight", (width, units)),
        Slot("up_bias", "control_trans.2.bias", (width,)),
    )
