"""AdapterHub's methods as frozen values: the settings that stand under ``config`` in its files.

Source: ``adapters`` 1.3.0, ``configuration/adapter_config.py``. What differs: a number may be whole where the peer
insists on a float; an unknown key is a fault unless its value is off (null, false, 0, an empty text, list or mapping).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final, Literal, cast

from adpm.errors import AdapterError
from adpm.formats.adapterhub_keys import (
    LAYERS,
    SEED,
    WIDTH,
    activation,
    close_unless_off,
    positive,
    probability,
    stated,
)
from adpm.formats.reader import Decoder, Document, Fields, Node, flag, list_of, number, one_of, text

__all__ = [
    "NAMED",
    "Bottleneck",
    "LowRank",
    "Method",
    "MtlLora",
    "PrefixTuning",
    "PromptTuning",
    "Reft",
    "method_of",
    "methods_node",
    "methods_value",
    "refuse_unsupported",
]

_CODE: Final = "adapter-config-invalid"


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """``BnConfig``: a down-projection, an activation and an up-projection after a sub-layer. Names as in the peer."""

    mh_adapter: bool
    output_adapter: bool
    reduction_factor: float | tuple[tuple[str, float], ...]  # a mapping: layer number or "default" to factor
    non_linearity: str
    original_ln_before: bool = False
    original_ln_after: bool = True
    ln_before: bool = False
    ln_after: bool = False
    init_weights: Literal["bert", "mam_adapter", "houlsby"] = "bert"
    init_weights_seed: int | None = None
    is_parallel: bool = False
    scaling: float | Literal["learned", "channel"] = 1.0
    use_gating: bool = False
    residual_before_ln: bool | Literal["post_add"] = True
    adapter_residual_before_ln: bool = False
    inv_adapter: Literal["nice", "glow"] | None = None
    inv_adapter_reduction_factor: float | None = None
    cross_adapter: bool = False
    leave_out: tuple[int, ...] = ()
    dropout: float = 0.0
    phm_layer: bool = False
    phm_dim: int = 4
    factorized_phm_W: bool = True  # noqa: N815 - the peer's name
    shared_W_phm: bool = False  # noqa: N815 - the peer's name
    shared_phm_rule: bool = True
    factorized_phm_rule: bool = False
    phm_c_init: Literal["normal", "uniform"] = "normal"
    phm_init_range: float = 0.0001
    learn_phm: bool = True
    hypercomplex_nonlinearity: str = "glorot-uniform"
    phm_rank: int = 1
    phm_bias: bool = True
    stochastic_depth: float = 0.0

    def factor(self, layer: int) -> float | None:
        """The reduction factor in ``layer``; None where a mapping names neither it nor a default."""
        if not isinstance(self.reduction_factor, tuple):
            return self.reduction_factor
        factors = dict(self.reduction_factor)
        return factors.get(str(layer), factors.get("default"))


@dataclass(frozen=True, slots=True)
class LowRank:
    """``LoRAConfig``: low-rank changes of linear layers, or, composed by ``scale``, (IA)3's vectors."""

    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    leave_out: tuple[int, ...] = ()
    r: int = 8
    alpha: float = 8
    dropout: float = 0.0
    attn_matrices: tuple[str, ...] = ("q", "v")
    composition_mode: Literal["add", "scale"] = "add"
    init_weights: Literal["lora", "bert", "ia3", "vera"] = "lora"
    init_weights_seed: int | None = None
    use_gating: bool = False
    use_dora: bool = False
    vera_d: float | None = None
    vera_b: float | None = None
    dtype: str | None = None

    @property
    def is_vera(self) -> bool:
        """The peer takes it for VeRA where either is written with a decimal point."""
        return self.composition_mode == "add" and (isinstance(self.vera_d, float) or isinstance(self.vera_b, float))


@dataclass(frozen=True, slots=True)
class MtlLora:
    """``MTLLoRAConfig``: LoRA with several up-projections and a matrix of the task between the factors."""

    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    leave_out: tuple[int, ...] = ()
    r: int = 8
    alpha: float = 8
    dropout: float = 0.0
    attn_matrices: tuple[str, ...] = ("q", "v")
    init_weights: Literal["lora", "bert"] = "lora"
    init_weights_seed: int | None = None
    use_gating: bool = False
    dtype: str | None = None
    n_up_projection: int = 1
    task_specific_matrix_type: Literal["singular_values", "linear"] = "singular_values"
    weights_sharpness: float = 0.05


@dataclass(frozen=True, slots=True)
class Reft:
    """``ReftConfig``: low-rank interventions on the outputs of layers, at the first and last positions.

    The peer's files leave ``subtract_projection`` out, and reading them back it takes it for true, as it does in any
    union; DiReFT, which is known by it, is recognised by its activation where it stands alone.
    """

    layers: tuple[int, ...] | Literal["all"] = "all"
    prefix_positions: int = 3
    suffix_positions: int = 0
    r: int = 1
    orthogonality: bool = True
    tied_weights: bool = False
    subtract_projection: bool = True
    dropout: float = 0.05
    non_linearity: str | None = None
    dtype: str | None = None
    init_weights_seed: int | None = None
    output_reft: bool = True


@dataclass(frozen=True, slots=True)
class PrefixTuning:
    """``PrefixTuningConfig``: keys and values before those of attention."""

    encoder_prefix: bool = True
    cross_prefix: bool = True
    leave_out: tuple[int, ...] = ()
    flat: bool = False
    prefix_length: int = 30
    bottleneck_size: int = 512
    non_linearity: str = "tanh"
    dropout: float = 0.0
    use_gating: bool = False
    shared_gating: bool = True
    init_weights_seed: int | None = None


@dataclass(frozen=True, slots=True)
class PromptTuning:
    """``PromptTuningConfig``: vectors before the embedded tokens, or behind the first of them."""

    prompt_length: int = 10
    prompt_init: Literal["random_uniform", "from_string"] = "random_uniform"
    prompt_init_text: str | None = None
    combine: Literal["prefix", "prefix_after_bos"] = "prefix"
    init_weights_seed: int | None = None


Method = Bottleneck | LowRank | MtlLora | Reft | PrefixTuning | PromptTuning

_SEQUENTIAL: Final = Bottleneck(False, True, 16, "relu", original_ln_before=True)
_DOUBLE: Final = Bottleneck(True, True, 16, "swish")
_PARALLEL: Final = Bottleneck(False, True, 2, "relu", init_weights="mam_adapter", is_parallel=True, scaling=4.0)
_COMPACT: Final[dict[str, Any]] = {"phm_layer": True, "reduction_factor": 32, "non_linearity": "gelu"}
_INVERSE: Final[dict[str, Any]] = {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2}
_PLUS: Final = Bottleneck(
    False,
    True,
    96,
    "gelu",
    original_ln_before=True,
    original_ln_after=False,
    residual_before_ln=False,
    stochastic_depth=0.1,
    init_weights="houlsby",
    scaling="channel",
)
_SINGLE: Final[Mapping[str, Method]] = {
    "seq_bn": _SEQUENTIAL,
    "pfeiffer": _SEQUENTIAL,
    "seq_bn_inv": replace(_SEQUENTIAL, **_INVERSE),
    "pfeiffer+inv": replace(_SEQUENTIAL, **_INVERSE),
    "double_seq_bn": _DOUBLE,
    "houlsby": _DOUBLE,
    "double_seq_bn_inv": replace(_DOUBLE, **_INVERSE),
    "houlsby+inv": replace(_DOUBLE, **_INVERSE),
    "par_bn": _PARALLEL,
    "parallel": _PARALLEL,
    "scaled_par_bn": replace(_PARALLEL, scaling="learned"),
    "scaled_parallel": replace(_PARALLEL, scaling="learned"),
    "compacter": replace(_DOUBLE, **_COMPACT),
    "compacter++": replace(_SEQUENTIAL, **_COMPACT),
    "adapter_plus": _PLUS,
    "lora": LowRank(),
    "dora": LowRank(use_dora=True),
    "vera": LowRank(init_weights="vera", vera_d=0.1, vera_b=0.0),
    "dvora": LowRank(init_weights="vera", vera_d=0.1, vera_b=0.0, use_dora=True),
    "ia3": LowRank(
        intermediate_lora=True, r=1, alpha=1, attn_matrices=("k", "v"), composition_mode="scale", init_weights="ia3"
    ),
    "mtl_lora": MtlLora(),
    "loreft": Reft(),
    "noreft": Reft(orthogonality=False),
    "direft": Reft(orthogonality=False, subtract_projection=False),
    "prefix_tuning": PrefixTuning(),
    "prefix_tuning_flat": PrefixTuning(flat=True),
    "prompt_tuning": PromptTuning(),
}
# What a user may call a method by; the old names are AdapterHub's own synonyms.
NAMED: Final[Mapping[str, tuple[Method, ...]]] = {
    **{name: (method,) for name, method in _SINGLE.items()},
    "mam": (PrefixTuning(bottleneck_size=800), _PARALLEL),
    "unipelt": (
        PrefixTuning(prefix_length=10, use_gating=True),
        replace(_SEQUENTIAL, use_gating=True),
        LowRank(alpha=2, use_gating=True),
    ),
}


def _reduction(node: Node) -> float | tuple[tuple[str, float], ...]:
    if not isinstance(node.value, dict):
        return positive(node)
    out = []
    for child in node.children():
        layer = str(child.path[-1])
        factor = child.decode(positive)
        if layer != "default" and not layer.isdecimal():
            child.fail("is neither a layer's number nor 'default'")
        if factor is not None:
            out.append((layer, factor))
    return tuple(sorted(out))


def _scaling(node: Node) -> float | str:
    return one_of("learned", "channel")(node) if isinstance(node.value, str) else number(node)


def _residual(node: Node) -> bool | str:
    return one_of("post_add")(node) if isinstance(node.value, str) else flag(node)


_BOTTLENECK: Final[dict[str, Decoder[Any]]] = {
    **{field.name: flag for field in fields(Bottleneck) if field.type == "bool"},
    "reduction_factor": _reduction,
    "non_linearity": activation,
    "init_weights": one_of("bert", "mam_adapter", "houlsby"),
    "init_weights_seed": SEED,
    "scaling": _scaling,
    "residual_before_ln": _residual,
    "inv_adapter": one_of("nice", "glow"),
    "inv_adapter_reduction_factor": positive,
    "leave_out": LAYERS,
    "dropout": probability,
    "phm_dim": WIDTH,
    "phm_c_init": one_of("normal", "uniform"),
    "phm_init_range": number,
    "hypercomplex_nonlinearity": one_of("phm", "glorot-normal", "glorot-uniform", "normal"),
    "phm_rank": WIDTH,
    "stochastic_depth": probability,
}
_LOW_RANK: Final[dict[str, Decoder[Any]]] = {
    **{field.name: flag for field in fields(LowRank) if field.type == "bool"},
    "leave_out": LAYERS,
    "r": WIDTH,
    "alpha": number,
    "dropout": probability,
    "attn_matrices": list_of(one_of("q", "k", "v", "o")),
    "composition_mode": one_of("add", "scale"),
    "init_weights": one_of("lora", "bert", "ia3", "vera"),
    "init_weights_seed": SEED,
    "vera_d": number,
    "vera_b": number,
    "dtype": text,
}
_MTL: Final[dict[str, Decoder[Any]]] = {
    **{key: _LOW_RANK[key] for key in (field.name for field in fields(MtlLora)) if key in _LOW_RANK},
    "init_weights": one_of("lora", "bert"),
    "n_up_projection": WIDTH,
    "task_specific_matrix_type": one_of("singular_values", "linear"),
    "weights_sharpness": positive,
}


def _which_layers(node: Node) -> tuple[int, ...] | str:
    return one_of("all")(node) if isinstance(node.value, str) else LAYERS(node)


_REFT: Final[dict[str, Decoder[Any]]] = {
    **{field.name: flag for field in fields(Reft) if field.type == "bool"},
    "layers": _which_layers,
    "prefix_positions": SEED,
    "suffix_positions": SEED,
    "r": WIDTH,
    "dropout": probability,
    "non_linearity": activation,
    "dtype": text,
    "init_weights_seed": SEED,
}
_PREFIX: Final[dict[str, Decoder[Any]]] = {
    **{field.name: flag for field in fields(PrefixTuning) if field.type == "bool"},
    "leave_out": LAYERS,
    "prefix_length": WIDTH,
    "bottleneck_size": WIDTH,
    "non_linearity": activation,
    "dropout": probability,
    "init_weights_seed": SEED,
}
_PROMPT: Final[dict[str, Decoder[Any]]] = {
    "prompt_length": WIDTH,
    "prompt_init": one_of("random_uniform", "from_string"),
    "prompt_init_text": text,
    "combine": one_of("prefix", "prefix_after_bos"),
    "init_weights_seed": SEED,
}
# Methods that are read by their table alone, by the word in ``architecture``.
_PLAIN: Final[Mapping[str, tuple[type[Method], dict[str, Decoder[Any]]]]] = {
    "mtl_lora": (MtlLora, _MTL),
    "prefix_tuning": (PrefixTuning, _PREFIX),
    "prompt_tuning": (PromptTuning, _PROMPT),
}
_ARCHITECTURES: Final[Mapping[type[Method], str]] = {
    LowRank: "lora",
    Reft: "reft",
    **{method: word for word, (method, _) in _PLAIN.items()},
}


def refuse_unsupported(value: object, source: str) -> None:
    """Raise for a method of AdapterHub's that adpm does not run; anything that is no method at all is left alone."""
    if not isinstance(value, dict):
        return
    architecture = value.get("architecture")
    if architecture == "union" and isinstance(value.get("configs"), list):
        for part in value["configs"]:
            refuse_unsupported(part, source)
    elif isinstance(architecture, str) and architecture not in _ARCHITECTURES.values():
        raise AdapterError(
            "method-unsupported",
            f"{source} is an adapter of the method {architecture!r}, which adpm does not run yet",
            hint=f"beside bottleneck adapters it runs {', '.join(_ARCHITECTURES.values())}",
        )


def methods_node(node: Node) -> tuple[Method, ...]:
    """The methods of a config: one, a known name's, or those of a union."""
    if isinstance(node.value, str):
        return NAMED[one_of(*NAMED)(node)]
    if isinstance(node.value, dict) and node.value.get("architecture") == "union":
        return node.fields().need("configs", list_of(partial(_method, united=True), most=100))
    return (_method(node),)


def _method(node: Node, *, united: bool = False) -> Method:
    found = node.fields()
    architecture = found.get("architecture", text)
    if architecture is None:
        return _bottleneck(found, node)
    if architecture == "reft":
        return _reft(found, node, united=united)
    if architecture not in _PLAIN:
        return _low_rank(found, node)
    method, table = _PLAIN[architecture]
    values = stated(table, found)
    off = ("vera_d", "vera_b", "use_dora")  # keys that MTL-LoRA has from LoRA, and that must be off there
    ours = {"architecture": None, "composition_mode": None} if architecture == "mtl_lora" else {"architecture": None}
    if values.get("prompt_init") == "from_string" and "prompt_init_text" not in values:
        node.fail("prompt_init 'from_string' needs prompt_init_text")
    if architecture == "mtl_lora" and found.get("composition_mode", text, default="add") != "add":
        node.fail("composition_mode is 'add' for mtl_lora")
    close_unless_off(node, (*table, *ours))
    return method(**{key: value for key, value in values.items() if key not in off})


def _reft(found: Fields, node: Node, *, united: bool) -> Reft:
    """A non-linear intervention without orthogonality is DiReFT's, alone and where the file does not say more."""
    values = stated(_REFT, found)
    close_unless_off(node, (*_REFT, "architecture"))
    direct = not united and "non_linearity" in values and values.get("orthogonality") is False
    if "subtract_projection" not in values and direct:
        values["subtract_projection"] = False
    if not values.get("prefix_positions", 3) and not values.get("suffix_positions"):
        node.fail("prefix_positions and suffix_positions are both 0")
    return Reft(**values)


def _low_rank(found: Fields, node: Node) -> LowRank:
    method = LowRank(**stated(_LOW_RANK, found))
    close_unless_off(node, (*_LOW_RANK, "architecture"))
    if method.composition_mode == "scale" and (method.r != 1 or method.use_dora or method.dropout):
        node.fail("composition_mode 'scale' needs r = 1 and neither dropout nor use_dora")
    return method


def _bottleneck(found: Fields, node: Node) -> Bottleneck:
    values = stated(_BOTTLENECK, found)
    required = dict.fromkeys(("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"))
    for key in required:
        if cast("dict[str, object]", node.value).get(key) is None:
            found.need(key, _BOTTLENECK[key])
    nested = found.get("invertible_adapter", _nested_inverse)
    if nested is not None:
        values["inv_adapter"], values["inv_adapter_reduction_factor"] = nested
    close_unless_off(node, (*_BOTTLENECK, "architecture", "invertible_adapter"))
    method = Bottleneck(**{**required, **values})
    if method.inv_adapter and method.inv_adapter_reduction_factor is None:
        node.fail("inv_adapter needs inv_adapter_reduction_factor")
    if method.residual_before_ln == "post_add" and not method.original_ln_before and not method.is_parallel:
        node.fail("residual_before_ln 'post_add' needs original_ln_before")
    return method


def _nested_inverse(node: Node) -> tuple[str, float]:
    """Version 1 had one mapping where there are two keys now."""
    found = node.fields()
    return found.need("block_type", one_of("nice", "glow")), found.need("reduction_factor", positive)


def method_of(value: Mapping[str, Any], *, source: str) -> tuple[Method, ...]:
    """Methods as values; ``value`` is what stands under ``config`` in a file.

    Raises ``DocumentError`` (``adapter-config-invalid``) and ``AdapterError`` (``method-unsupported``).
    """
    refuse_unsupported(value, source)
    document = Document(dict(value), source=source, code=_CODE)
    methods = document.root.decode(methods_node)
    document.finish()
    return cast("tuple[Method, ...]", methods)


def methods_value(methods: Sequence[Method]) -> dict[str, Any]:
    """``methods`` as the mapping that :func:`method_of` reads: one, or a union."""
    if len(methods) == 1:
        return _value(methods[0], united=False)
    return {"architecture": "union", "configs": [_value(method, united=True) for method in methods]}


def _value(method: Method, *, united: bool) -> dict[str, Any]:
    word = _ARCHITECTURES.get(type(method))
    out: dict[str, Any] = {} if word is None else {"architecture": word}
    for field in fields(method):
        value = getattr(method, field.name)
        if field.name == "reduction_factor" and isinstance(value, tuple):
            value = dict(value)
        out[field.name] = list(value) if isinstance(value, tuple) else value
    if isinstance(method, Bottleneck) and not isinstance(method.scaling, str):
        out["scaling"] = float(method.scaling)  # the peer refuses whole numbers here
    if isinstance(method, Reft) and _reads_back(method, united=united):
        del out["subtract_projection"]  # the peer knows no such key in a file
    return out


def _reads_back(method: Reft, *, united: bool) -> bool:
    """Whether ``subtract_projection`` follows from the other settings, as :func:`_reft` reads them."""
    if united:
        return method.subtract_projection
    return method.subtract_projection == (method.orthogonality or method.non_linearity is None)
