"""PEFT's LoRA and AdaLoRA as frozen values. Source: ``peft`` 0.21.2, ``tuners/lora/config.py``, ``tuners/adalora``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Self

from adpm.formats.adapterhub_keys import probability
from adpm.formats.peft_keys import RANK, PeftMethod, by_pattern, key, word_or_flag
from adpm.formats.reader import Node, flag, integer, list_of, number, text

__all__ = ["BlockDiagonal", "PeftAdaLora", "PeftLora", "Tokens"]

Tokens = tuple[int, ...] | tuple[tuple[str, tuple[int, ...]], ...]  # of the input embedding, or by module

# Keys about how training starts or what PEFT wraps.
_TRAINING: Final = frozenset(
    {
        "corda_config",
        "eva_config",
        "loftq_config",
        "lora_ga_config",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
    }
)
_INDEX: Final = integer(0)
_REPLICATED: Final = 1024  # layers after replication: a file must not make a model as deep as it likes


def _layers(node: Node) -> tuple[int, int]:
    """A range of layers, the second number not included."""
    pair = list_of(integer(0, _REPLICATED))(node)
    if len(pair) != 2 or pair[0] >= pair[1]:
        node.fail("is no range of layers: [first, behind the last]")
    return pair[0], pair[1]


@dataclass(frozen=True, slots=True)
class BlockDiagonal:
    """``BdLoraConfig``: the parts of names of modules whose A, and whose B, is of ``nblocks`` blocks."""

    target_modules_bd_a: tuple[str, ...] = ()
    target_modules_bd_b: tuple[str, ...] = ()
    nblocks: int = 1
    match_strict: bool = True

    @classmethod
    def decode(cls, node: Node) -> Self | None:
        """None for a null."""
        if node.value is None:
            return None
        found = node.fields()
        out = cls(
            found.get("target_modules_bd_a", list_of(text), default=()),
            found.get("target_modules_bd_b", list_of(text), default=()),
            found.get("nblocks", RANK, default=1),
            found.get("match_strict", flag, default=True),
        )
        found.close()
        return out

    def factor(self, name: str) -> str | None:
        """Which of A and B the blocks are of at the module ``name``; None for neither, "both" for what can't be."""
        a, b = (any(part in name for part in parts) for parts in (self.target_modules_bd_a, self.target_modules_bd_b))
        return ("both" if b else "A") if a else ("B" if b else None)


@dataclass(frozen=True, slots=True)
class Kasa:
    """``KasaConfig``: weights of the training's loss."""

    beta: float = 1e-4
    gamma: float = 1e-3

    @classmethod
    def decode(cls, node: Node) -> Self | None:
        """None for a null."""
        if node.value is None:
            return None
        found = node.fields()
        out = cls(found.get("beta", number, default=1e-4), found.get("gamma", number, default=1e-3))
        found.close()
        return out


def _tokens(node: Node) -> Tokens:
    if not isinstance(node.value, dict):
        return list_of(_INDEX)(node)
    found = [(str(child.path[-1]), child.decode(list_of(_INDEX))) for child in node.children()]
    return tuple((name, tokens) for name, tokens in found if tokens is not None)


@dataclass(frozen=True, kw_only=True)
class PeftLora(PeftMethod):
    """``LoraConfig``, as far as it decides an output."""

    KIND: ClassVar[str] = "LORA"
    IGNORED: ClassVar[frozenset[str]] = _TRAINING
    # What changes outputs and adpm does not run.
    REFUSED: ClassVar[tuple[str, ...]] = (
        "arrow_config",
        "megatron_config",
        "monteclora_config",
        "use_qalora",
        "velora_config",
    )

    r: int = key(RANK, 8)
    lora_alpha: float = key(number, 8)
    lora_dropout: float = key(probability, 0.0)
    use_rslora: bool = key(flag, False)
    use_dora: bool = key(flag, False)
    lora_bias: bool = key(flag, False)
    rank_pattern: tuple[tuple[str, int], ...] = key(by_pattern(RANK), ())
    alpha_pattern: tuple[tuple[str, float], ...] = key(by_pattern(number), ())
    init_lora_weights: bool | str = key(word_or_flag(), True)
    target_parameters: tuple[str, ...] = key(list_of(text), ())
    trainable_token_indices: Tokens = key(_tokens, ())
    alora_invocation_tokens: tuple[int, ...] = key(list_of(_INDEX), ())
    ensure_weight_tying: bool = key(flag, False)
    layer_replication: tuple[tuple[int, int], ...] = key(list_of(_layers), ())
    use_bdlora: BlockDiagonal | None = key(BlockDiagonal.decode, None)
    kasa_config: Kasa | None = key(Kasa.decode, None)

    @property
    def layer_order(self) -> tuple[int, ...]:
        """The base's layers in the order in which the adapter runs them, some of them several times; empty for as
        they are."""
        return tuple(layer for start, end in self.layer_replication for layer in range(start, end))

    def scale(self, rank: int, alpha: float) -> float:
        return alpha / (rank**0.5 if self.use_rslora else rank)

    @property
    def changes_base(self) -> str | None:
        """The way to start that takes something out of the base's weights, if it is one."""
        if self.kasa_config is not None:
            return "kasa"
        start = self.init_lora_weights
        word = start.lower() if isinstance(start, str) else ""
        return next((way for way in ("pissa", "olora") if word.startswith(way)), None)

    def check(self, node: Node) -> None:
        if not (self.target_modules or self.target_parameters or self.trainable_token_indices):
            super().check(node)
        if self.target_parameters and (self.lora_dropout or self.use_dora or self.lora_bias):
            node.document.report((*node.path, "target_parameters"), "allows neither dropout, DoRA nor lora_bias")
        if self.alora_invocation_tokens and (self.use_dora or self.target_parameters or self.changes_base):
            why = "allows neither DoRA, target_parameters nor a start that changes the base"
            node.document.report((*node.path, "alora_invocation_tokens"), why)
        apart = [
            word for word in ("use_dora", "alora_invocation_tokens", "use_bdlora", "kasa_config") if getattr(self, word)
        ]
        if len(apart) > 1:
            node.document.report((*node.path, apart[1]), f"can't be beside {apart[0]}")
        if self.use_bdlora and (self.lora_bias or self.changes_base):
            node.document.report(
                (*node.path, "use_bdlora"), "allows neither lora_bias nor a start that changes the base"
            )
        if len(self.layer_order) > _REPLICATED:
            node.document.report((*node.path, "layer_replication"), f"has more than {_REPLICATED} layers")

    def value(self) -> dict[str, Any]:
        out = super().value()
        if self.trainable_token_indices and isinstance(self.trainable_token_indices[0], tuple):
            out["trainable_token_indices"] = {name: list(ids) for name, ids in _named(self.trainable_token_indices)}
        out["layer_replication"] = [list(pair) for pair in self.layer_replication] or None
        for word in ("use_bdlora", "kasa_config"):
            found = getattr(self, word)
            out[word] = None if found is None else asdict(found)
        return out


def _named(tokens: Tokens) -> list[tuple[str, tuple[int, ...]]]:
    return [entry for entry in tokens if isinstance(entry, tuple)]


@dataclass(frozen=True, kw_only=True)
class PeftAdaLora(PeftMethod):
    """``AdaLoraConfig``. ``rank_pattern``: after training, which of a layer's ``init_r`` singular values are left."""

    KIND: ClassVar[str] = "ADALORA"
    IGNORED: ClassVar[frozenset[str]] = _TRAINING | {
        "r",
        "use_rslora",
        "target_r",
        "tinit",
        "tfinal",
        "deltaT",
        "beta1",
        "beta2",
        "orth_reg_weight",
        "alpha_pattern",
    }

    init_r: int = key(RANK, 12)
    total_step: int = key(integer(1), 1)  # of the training; the peer loads no file without it
    lora_alpha: float = key(number, 8)
    lora_dropout: float = key(probability, 0.0)
    init_lora_weights: bool = key(flag, True)
    rank_pattern: tuple[tuple[str, tuple[bool, ...]], ...] = key(by_pattern(list_of(flag)), ())
