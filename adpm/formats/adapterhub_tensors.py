"""Which tensors an AdapterHub method has at one place of a model: names in the file, names in the runtime, shapes.

One table for everyone: the runtime builds modules from it, the reader checks a file against it, and publishing checks
weights against their config without torch. Source: ``adapters`` 1.3.0, ``methods/modeling.py``, ``methods/lora.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS
from adpm.formats.adapterhub_methods import Bottleneck, LowRank

__all__ = [
    "Slot",
    "activation_slots",
    "bottleneck_slots",
    "fused_slots",
    "inverse_slots",
    "linear_slots",
    "low_rank_slots",
    "shared_low_rank_slots",
    "shared_slots",
    "width",
]


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor: ``name`` in the runtime's module, ``file`` below the adapter's prefix in the peer's file.

    ``aliases`` are further names under which the peer's pickles repeat the same tensor. ``below``: it holds whole
    numbers, which are never trained, from 0 to below this, or below one of these in each row.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    below: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        return bool(self.below)


def width(hidden: int, factor: float) -> int:
    """Units in a bottleneck: the peer's rounding, at least one."""
    return max(1, int(hidden // factor))


def activation_slots(word: str, name: str, file: str, alias: str | None = None) -> Iterator[Slot]:
    for weight, shape in ACTIVATION_WEIGHTS[word].items():
        aliases = () if alias is None else (f"{alias}.f.{weight}",)
        yield Slot(f"{name}_{weight}", f"{file}.f.{weight}", shape, aliases)


def linear_slots(name: str, file: str, rows: int, columns: int, *, bias: bool = True) -> Iterator[Slot]:
    yield Slot(f"{name}_weight", f"{file}.weight", (rows, columns))
    if bias:
        yield Slot(f"{name}_bias", f"{file}.bias", (rows,))


def _norm(name: str, file: str, hidden: int, alias: str | None = None) -> Iterator[Slot]:
    for part in ("weight", "bias"):
        yield Slot(f"{name}_{part}", f"{file}.{part}", (hidden,), () if alias is None else (f"{alias}.{part}",))


def bottleneck_slots(config: Bottleneck, hidden: int, units: int) -> tuple[Slot, ...]:
    """The tensors of one bottleneck; ``units`` is :func:`width` of its layer. Keys follow ``...adapters.NAME.``."""
    out: list[Slot] = []
    first = 0
    if config.ln_before:
        out += _norm("norm_before", "adapter_down.0", hidden, alias="adapter_norm_before")
        first = 1
    if config.phm_layer:
        out += _phm(config, "down", f"adapter_down.{first}", hidden, units)
        out += _phm(config, "up", "adapter_up", units, hidden)
    else:
        out += linear_slots("down", f"adapter_down.{first}", units, hidden)
        out += linear_slots("up", "adapter_up", hidden, units)
    out += activation_slots(config.non_linearity, "activation", f"adapter_down.{first + 1}", alias="non_linearity")
    if isinstance(config.scaling, str):
        out.append(Slot("scaling", "scaling", (1,) if config.scaling == "learned" else (hidden,)))
    if config.ln_after:
        out += _norm("norm_after", "adapter_norm_after", hidden)
    if config.use_gating:
        out += linear_slots("gate", "gate", 1, hidden)
    return tuple(out)


def _phm(config: Bottleneck, name: str, file: str, inputs: int, outputs: int) -> Iterator[Slot]:
    """A product layer's own tensors; what the config shares is in :func:`shared_slots`."""
    if not config.shared_phm_rule:
        yield from _rule(config, f"{name}_", f"{file}.")
    if not config.shared_W_phm:
        yield from _factors(config, f"{name}_W", f"{file}.W", inputs, outputs)
    if config.phm_bias:
        yield Slot(f"{name}_b", f"{file}.b", (outputs,))


def _rule(config: Bottleneck, name: str, file: str) -> Iterator[Slot]:
    n = config.phm_dim
    if config.factorized_phm_rule:
        yield Slot(f"{name}phm_rule_left", f"{file}phm_rule_left", (n, n, 1))
        yield Slot(f"{name}phm_rule_right", f"{file}phm_rule_right", (n, 1, n))
    else:
        yield Slot(f"{name}phm_rule", f"{file}phm_rule", (n, n, n))


def _factors(config: Bottleneck, name: str, file: str, inputs: int, outputs: int) -> Iterator[Slot]:
    n, rows, columns = config.phm_dim, inputs // config.phm_dim, outputs // config.phm_dim
    if config.factorized_phm_W:
        yield Slot(f"{name}_left", f"{file}_left", (n, rows, config.phm_rank))
        yield Slot(f"{name}_right", f"{file}_right", (n, config.phm_rank, columns))
    else:
        yield Slot(name, file, (n, rows, columns))


def shared_slots(config: Bottleneck, hidden: int, units: int) -> tuple[Slot, ...]:
    """What all product layers of one adapter share. Keys follow ``shared_parameters.NAME.``."""
    out: list[Slot] = []
    if config.phm_layer and config.shared_phm_rule:
        out += _rule(config, "", "")
    if config.phm_layer and config.shared_W_phm:
        out += _factors(config, "W_down", "W_down", hidden, units)
        out += _factors(config, "W_up", "W_up", units, hidden)
    return tuple(out)


def inverse_slots(config: Bottleneck, hidden: int) -> tuple[Slot, ...]:
    """The two networks of an invertible adapter. Keys follow ``invertible_adapters.NAME.``."""
    first, second = hidden // 2, hidden - hidden // 2
    if config.inv_adapter == "nice":
        networks = (("F", second, first), ("G", first, second))
    else:
        networks = (("s1", first, 2 * second), ("s2", second, 2 * first))
    out: list[Slot] = []
    for name, inputs, outputs in networks:
        units = int(inputs // (config.inv_adapter_reduction_factor or 1))
        out += linear_slots(f"{name}_in", f"{name}.0", units, inputs)
        out += activation_slots(config.non_linearity, f"{name}_activation", f"{name}.1")
        out += linear_slots(f"{name}_out", f"{name}.2", outputs, units)
    return tuple(out)


def low_rank_slots(config: LowRank, inputs: int, outputs: int) -> tuple[Slot, ...]:
    """The tensors of a low-rank change of one linear layer. Keys follow ``...loras.NAME.``."""
    out: list[Slot] = []
    if config.is_vera:
        out.append(Slot("vera_D", "vera_D", (config.r, config.r)))
        out.append(Slot("vera_B", "vera_B", (outputs, outputs)))
    elif config.composition_mode == "scale":
        out.append(Slot("vector", "lora_B", (outputs, 1)))
    else:
        out.append(Slot("A", "lora_A", (config.r, inputs)))
        out.append(Slot("B", "lora_B", (outputs, config.r)))
    if config.use_dora:
        out.append(Slot("magnitude", "m.weight", (outputs, 1)))
    if config.use_gating:
        out += linear_slots("gate", "gate", 1, inputs)
    return tuple(out)


def fused_slots(config: LowRank, inputs: int, widths: tuple[int, ...]) -> tuple[Slot, ...]:
    """The tensors on a layer that makes q, k and v at once; ``widths`` are those of the matrices that change."""
    out: list[Slot] = []
    if config.composition_mode == "scale":
        out.append(Slot("vector", "lora_B", (sum(widths), 1)))
    else:
        out.append(Slot("A", "lora_A", (config.r * len(widths), inputs)))
        out.append(Slot("B", "lora_B", (sum(widths), config.r)))
    if config.use_gating:
        out += linear_slots("gate", "gate", len(widths), inputs)
    return tuple(out)


def shared_low_rank_slots(config: LowRank, inputs: int, outputs: int) -> tuple[Slot, ...]:
    """VeRA's frozen pair, one for all layers. Keys follow ``shared_parameters.NAME.``."""
    if not config.is_vera:
        return ()
    return Slot("A", "lora_A", (config.r, inputs)), Slot("B", "lora_B", (outputs, config.r))
