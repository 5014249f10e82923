"""PEFT's methods that change linear layers, beside LoRA, as frozen values; and LN tuning and trainable tokens.

Source: ``peft`` 0.21.2, ``tuners/METHOD/config.py``. The formulas are in ``adpm/runtime/methods``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

from adpm import limits
from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS, probability
from adpm.formats.peft_keys import RANK, Names, PeftMethod, by_pattern, key, pattern_or_names, word_or_flag
from adpm.formats.reader import Node, flag, integer, list_of, number, one_of

__all__ = [
    "PeftBeft",
    "PeftBoft",
    "PeftC3a",
    "PeftDeft",
    "PeftDelora",
    "PeftFourier",
    "PeftGlora",
    "PeftGralora",
    "PeftHira",
    "PeftHra",
    "PeftIa3",
    "PeftLnTuning",
    "PeftLoha",
    "PeftLokr",
    "PeftMiss",
    "PeftOft",
    "PeftPeanut",
    "PeftPvera",
    "PeftRandLora",
    "PeftRoad",
    "PeftShira",
    "PeftSupertuning",
    "PeftTinyLora",
    "PeftTokens",
    "PeftUniLora",
    "PeftVbLora",
    "PeftVera",
]

_LAYERS: Final = frozenset({"layers_to_transform", "layers_pattern"})
_BIAS: Final = frozenset({"bias"})
_FAN: Final = frozenset({"fan_in_fan_out"})
_SEED: Final = integer(0, 2**63 - 1)
_COUNT: Final = integer(0)


def _told(modules: Names) -> str | list[str]:
    return modules if isinstance(modules, str) else list(modules)


@dataclass(frozen=True, kw_only=True)
class PeftIa3(PeftMethod):
    """``IA3Config``: what is in ``feedforward_modules`` is scaled at its input, the rest at its output."""

    KIND: ClassVar[str] = "IA3"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS

    feedforward_modules: Names = key(pattern_or_names, ())
    init_ia3_weights: bool = key(flag, True)

    def value(self) -> dict[str, Any]:
        """No module at all is told as such: where nothing is said, the peer guesses by the model's type."""
        return {**super().value(), "feedforward_modules": _told(self.feedforward_modules)}


@dataclass(frozen=True, kw_only=True)
class PeftLoha(PeftMethod):
    """``LoHaConfig``."""

    KIND: ClassVar[str] = "LOHA"
    ABSENT: ClassVar[frozenset[str]] = _BIAS | _FAN

    r: int = key(RANK, 8)
    alpha: float = key(number, 8)
    rank_pattern: tuple[tuple[str, int], ...] = key(by_pattern(RANK), ())
    alpha_pattern: tuple[tuple[str, float], ...] = key(by_pattern(number), ())
    rank_dropout: float = key(probability, 0.0)
    module_dropout: float = key(probability, 0.0)
    use_effective_conv2d: bool = key(flag, False)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftLokr(PeftMethod):
    """``LoKrConfig``."""

    KIND: ClassVar[str] = "LOKR"
    ABSENT: ClassVar[frozenset[str]] = _BIAS | _FAN

    r: int = key(RANK, 8)
    alpha: float = key(number, 8)
    rank_pattern: tuple[tuple[str, int], ...] = key(by_pattern(RANK), ())
    alpha_pattern: tuple[tuple[str, float], ...] = key(by_pattern(number), ())
    rank_dropout: float = key(probability, 0.0)
    rank_dropout_scale: bool = key(flag, False)
    module_dropout: float = key(probability, 0.0)
    use_effective_conv2d: bool = key(flag, False)
    decompose_both: bool = key(flag, False)
    decompose_factor: int = key(integer(-1), -1)
    init_weights: bool | str = key(word_or_flag("lycoris"), True)


@dataclass(frozen=True, kw_only=True)
class PeftOft(PeftMethod):
    """``OFTConfig``: exactly one of ``r`` (blocks) and ``oft_block_size`` is not 0."""

    KIND: ClassVar[str] = "OFT"

    r: int = key(_COUNT, 0)
    oft_block_size: int = key(_COUNT, 32)
    module_dropout: float = key(probability, 0.0)
    init_weights: bool = key(flag, True)
    coft: bool = key(flag, False)
    eps: float = key(number, 6e-5)
    block_share: bool = key(flag, False)
    use_cayley_neumann: bool = key(flag, True)
    num_cayley_neumann_terms: int = key(integer(1, 1000), 5)

    def check(self, node: Node) -> None:
        super().check(node)
        if (self.r == 0) == (self.oft_block_size == 0):
            node.document.report((*node.path, "r"), "and oft_block_size: exactly one of them is 0")


@dataclass(frozen=True, kw_only=True)
class PeftBoft(PeftMethod):
    """``BOFTConfig``: exactly one of ``boft_block_size`` and ``boft_block_num`` is not 0."""

    KIND: ClassVar[str] = "BOFT"

    boft_block_size: int = key(_COUNT, 4)
    boft_block_num: int = key(_COUNT, 0)
    boft_n_butterfly_factor: int = key(integer(1, 62), 1)
    boft_dropout: float = key(probability, 0.0)
    init_weights: bool = key(flag, True)

    def check(self, node: Node) -> None:
        super().check(node)
        if (self.boft_block_num == 0) == (self.boft_block_size == 0):
            node.document.report((*node.path, "boft_block_size"), "and boft_block_num: exactly one of them is 0")

    def as_stored(self, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """With the factors that there are: without its CUDA extension the peer makes one, whatever the config says."""
        factors = {shape[0] for name, shape in shapes.items() if name.endswith(".boft_R") and len(shape) == 4}
        return replace(self, boft_n_butterfly_factor=1) if factors == {1} else self


@dataclass(frozen=True, kw_only=True)
class PeftHra(PeftMethod):
    """``HRAConfig``: ``r`` reflections, made orthogonal to each other where ``apply_GS``."""

    KIND: ClassVar[str] = "HRA"
    ABSENT: ClassVar[frozenset[str]] = _FAN

    r: int = key(RANK, 8)
    apply_GS: bool = key(flag, False)  # noqa: N815 - the peer's name
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftFourier(PeftMethod):
    """``FourierFTConfig``: the places of the frequencies follow from ``random_loc_seed``."""

    KIND: ClassVar[str] = "FOURIERFT"

    n_frequency: int = key(integer(1), 1000)
    n_frequency_pattern: tuple[tuple[str, int], ...] = key(by_pattern(integer(1)), ())
    scaling: float = key(number, 150.0)
    random_loc_seed: int = key(_SEED, 777)
    init_weights: bool = key(flag, False)


@dataclass(frozen=True, kw_only=True)
class PeftVbLora(PeftMethod):
    """``VBLoRAConfig``: ``num_vectors`` vectors that all layers share."""

    KIND: ClassVar[str] = "VBLORA"

    r: int = key(RANK, 4)
    num_vectors: int = key(RANK, 256)
    vector_length: int = key(RANK, 256)
    topk: int = key(RANK, 2)
    save_only_topk_weights: bool = key(flag, False)
    vblora_dropout: float = key(probability, 0.0)
    init_vector_bank_bound: float = key(number, 0.02)
    init_logits_std: float = key(number, 0.1)


@dataclass(frozen=True, kw_only=True)
class PeftTinyLora(PeftMethod):
    """``TinyLoraConfig``: ``u`` numbers for a group of layers; the fixed matrices are in the file or made from
    ``projection_seed``."""

    KIND: ClassVar[str] = "TINYLORA"
    ABSENT: ClassVar[frozenset[str]] = frozenset({"exclude_modules"})

    r: int = key(RANK, 2)
    u: int = key(RANK, 64)
    weight_tying: float = key(probability, 0.0)
    tinylora_dropout: float = key(probability, 0.0)
    projection_seed: int = key(_SEED, 42)
    save_projection: bool = key(flag, True)
    init_v_bound: float = key(number, 0.02)
    init_weights: bool | str = key(word_or_flag("uniform"), True)


@dataclass(frozen=True, kw_only=True)
class PeftUniLora(PeftMethod):
    """``UniLoraConfig``: one vector of ``theta_d_length`` for all layers; which entry stands where is in the file or
    made from ``proj_seed``."""

    KIND: ClassVar[str] = "UNILORA"
    ABSENT: ClassVar[frozenset[str]] = frozenset({"exclude_modules"})

    r: int = key(RANK, 4)
    proj_seed: int = key(_SEED, 42)
    theta_d_length: int = key(RANK, 256)
    unilora_dropout: float = key(probability, 0.0)
    init_theta_d_bound: float = key(number, 0.02)
    init_weights: bool = key(flag, True)
    save_indices: bool = key(flag, False)


@dataclass(frozen=True, kw_only=True)
class PeftRandLora(PeftMethod):
    """``RandLoraConfig``: random bases that all layers share, in the file or made from ``projection_prng_key``."""

    KIND: ClassVar[str] = "RANDLORA"
    ABSENT: ClassVar[frozenset[str]] = frozenset({"exclude_modules"})

    r: int = key(RANK, 32)
    randlora_alpha: float = key(number, 640)
    randlora_dropout: float = key(probability, 0.0)
    projection_prng_key: int = key(_SEED, 0)
    save_projection: bool = key(flag, True)
    sparse: bool = key(flag, False)
    very_sparse: bool = key(flag, False)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftVera(PeftMethod):
    """``VeraConfig``: a random pair that all layers share, in the file or made from ``projection_prng_key``."""

    KIND: ClassVar[str] = "VERA"

    r: int = key(RANK, 256)
    projection_prng_key: int = key(_SEED, 0)
    save_projection: bool = key(flag, True)
    vera_dropout: float = key(probability, 0.0)
    d_initial: float = key(number, 0.1)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftLnTuning(PeftMethod):
    """``LNTuningConfig``: whole norms of the adapter's own."""

    KIND: ClassVar[str] = "LN_TUNING"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS | _FAN


@dataclass(frozen=True, kw_only=True)
class PeftMiss(PeftMethod):
    """``MissConfig``: ``init_weights`` is the variant too, ``bat`` or ``mini``."""

    KIND: ClassVar[str] = "MISS"
    ABSENT: ClassVar[frozenset[str]] = _FAN

    r: int = key(RANK, 64)
    mini_r: int = key(RANK, 1)
    miss_dropout: float = key(probability, 0.0)
    init_weights: bool | str = key(word_or_flag("bat", "mini"), True)


@dataclass(frozen=True, kw_only=True)
class PeftShira(PeftMethod):
    """``ShiraConfig``: the places of the changed weights are in the file, and random for a new adapter."""

    KIND: ClassVar[str] = "SHIRA"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS | {"exclude_modules"}

    r: int = key(RANK, 32)
    mask_type: str = key(one_of("random"), "random")
    random_seed: int | None = key(_SEED, None)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftC3a(PeftMethod):
    """``C3AConfig``."""

    KIND: ClassVar[str] = "C3A"
    ABSENT: ClassVar[frozenset[str]] = _FAN | {"exclude_modules"}

    block_size: int = key(RANK, 256)
    block_size_pattern: tuple[tuple[str, int], ...] = key(by_pattern(RANK), ())
    init_weights: bool | str = key(word_or_flag("gaussian", "kaiming_uniform", "xavier_uniform"), "xavier_uniform")


@dataclass(frozen=True, kw_only=True)
class PeftRoad(PeftMethod):
    """``RoadConfig``."""

    KIND: ClassVar[str] = "ROAD"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS | _FAN | {"exclude_modules"}

    variant: str = key(one_of("road_1", "road_2", "road_4"), "road_1")
    group_size: int = key(RANK, 64)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftTokens(PeftMethod):
    """``TrainableTokensConfig``: new vectors for some tokens."""

    KIND: ClassVar[str] = "TRAINABLE_TOKENS"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS | _FAN | {"exclude_modules", "modules_to_save"}

    token_indices: tuple[int, ...] = key(list_of(_COUNT), ())
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftBeft(PeftMethod):
    """``BeftConfig``: a bias that is added to the layer's own."""

    KIND: ClassVar[str] = "BEFT"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS | _FAN | {"exclude_modules"}

    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftDeft(PeftMethod):
    """``DeftConfig``: with ``para`` a subspace is taken out and nothing put in."""

    KIND: ClassVar[str] = "DEFT"

    r: int = key(RANK, 8)
    alpha: float | None = key(number, None)
    decomposition_method: str = key(one_of("relu", "qr"), "relu")
    init_scale: float = key(number, 1.0)
    para: bool = key(flag, False)
    deft_dropout: float = key(probability, 0.0)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftDelora(PeftMethod):
    """``DeloraConfig``: ``delora_lambda`` bounds the change's norm where training starts."""

    KIND: ClassVar[str] = "DELORA"
    ABSENT: ClassVar[frozenset[str]] = _FAN

    r: int = key(RANK, 8)
    rank_pattern: tuple[tuple[str, int], ...] = key(by_pattern(RANK), ())
    delora_lambda: float = key(number, 15)
    lambda_pattern: tuple[tuple[str, float], ...] = key(by_pattern(number), ())
    module_dropout: float = key(probability, 0.0)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftGlora(PeftMethod):
    """``GloraConfig``: what kind of matrices A and B, C, and D and E are."""

    KIND: ClassVar[str] = "GLORA"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _FAN | {"exclude_modules"}

    r: int = key(RANK, 8)
    config_A_B: str = key(one_of("lora", "vector", "constant", "none"), "lora")  # noqa: N815 - the peer's names
    config_C: str = key(one_of("lora", "vector", "none"), "lora")  # noqa: N815 - as above
    config_D_E: str = key(one_of("vector", "constant", "none"), "constant")  # noqa: N815 - as above
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftGralora(PeftMethod):
    """``GraloraConfig``: ``gralora_k`` blocks a side, and ``hybrid_r`` of an ordinary LoRA beside them."""

    KIND: ClassVar[str] = "GRALORA"
    ABSENT: ClassVar[frozenset[str]] = frozenset({"exclude_modules"})

    r: int = key(RANK, 32)
    hybrid_r: int = key(integer(0, limits.TENSOR_WIDTH), 0)
    alpha: float = key(number, 64)
    gralora_k: int = key(RANK, 2)
    gralora_dropout: float = key(probability, 0.0)
    init_weights: bool = key(flag, True)

    def check(self, node: Node) -> None:
        super().check(node)
        if self.r % self.gralora_k:
            node.document.report((*node.path, "r"), f"{self.r} is not divisible by gralora_k = {self.gralora_k}")


@dataclass(frozen=True, kw_only=True)
class PeftHira(PeftMethod):
    """``HiraConfig``."""

    KIND: ClassVar[str] = "HIRA"
    ABSENT: ClassVar[frozenset[str]] = _BIAS

    r: int = key(RANK, 32)
    rank_pattern: tuple[tuple[str, int], ...] = key(by_pattern(RANK), ())
    hira_dropout: float = key(probability, 0.0)
    init_weights: bool | str = key(word_or_flag("gaussian"), True)

    def as_stored(self, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """Without the pattern where the peer did not follow it, as it does for a model's second adapter only."""
        ranks = {shape[0] for name, shape in shapes.items() if name.endswith(("hira_A", "embedding_A")) and shape}
        return replace(self, rank_pattern=()) if ranks == {self.r} else self


@dataclass(frozen=True, kw_only=True)
class PeftPeanut(PeftMethod):
    """``PeanutConfig``: ``depth`` layers on each side of a small network that makes the change of the weight."""

    KIND: ClassVar[str] = "PEANUT"
    ABSENT: ClassVar[frozenset[str]] = _BIAS | _FAN

    r: int = key(RANK, 32)
    depth: int = key(integer(0, 1000), 0)
    act_fn: str = key(one_of(*(word for word, weights in ACTIVATION_WEIGHTS.items() if not weights)), "relu")
    scaling: float = key(number, 1.0)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftPvera(PeftMethod):
    """``PveraConfig``: VeRA with a mean and a variance for each rank; only training draws from them here."""

    KIND: ClassVar[str] = "PVERA"
    IGNORED: ClassVar[frozenset[str]] = frozenset({"generator_seed"})
    REFUSED: ClassVar[tuple[str, ...]] = ("sample_at_inference",)
    ABSENT: ClassVar[frozenset[str]] = frozenset({"exclude_modules"})

    r: int = key(RANK, 256)
    projection_prng_key: int = key(_SEED, 0)
    save_projection: bool = key(flag, True)
    pvera_dropout: float = key(probability, 0.0)
    d_initial: float = key(number, 0.1)
    init_weights: bool = key(flag, True)


@dataclass(frozen=True, kw_only=True)
class PeftSupertuning(PeftMethod):
    """``SupertuningConfig``: with ``r`` a LoRA beside the few weights; ``lora_alpha`` is 2 r where none is given."""

    KIND: ClassVar[str] = "SUPERTUNING"
    ABSENT: ClassVar[frozenset[str]] = _LAYERS | _BIAS | _FAN | {"exclude_modules"}

    sparsity: float = key(probability, 0.99)
    select_top: bool = key(flag, True)
    save_precomputed_indices: bool = key(flag, True)
    r: int | None = key(RANK, None)
    lora_alpha: float | None = key(number, None)
    lora_dropout: float = key(probability, 0.0)
    init_weights: bool = key(flag, True)

    def check(self, node: Node) -> None:
        super().check(node)
        if self.r is None and self.lora_alpha is not None:
            node.document.report((*node.path, "lora_alpha"), "is of a LoRA, and r is missing")
