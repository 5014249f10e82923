"""AdapterHub's ``adapter_config.json`` and ``head_config.json`` as frozen values, read strictly and written back.

Source: ``adapters`` 1.3.0, ``configuration/adapter_config.py``, ``heads/base.py``, ``loading.py``. What differs: a
number may be whole where the peer insists on a float; an unknown key is a fault unless its value is off (null, false,
0, an empty text, list or mapping), for such a key can't change an output. ``specs/adapterhub.md`` is normative.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, cast

from packaging.version import InvalidVersion, Version

from adpm import limits
from adpm.errors import AdapterError
from adpm.formats.json import open_json, pretty
from adpm.formats.reader import Decoder, Document, Fields, Node, flag, integer, list_of, number, one_of, text

__all__ = [
    "ACTIVATION_WEIGHTS",
    "NAMED",
    "VERSION",
    "WIDTH",
    "AdapterHubConfig",
    "Bottleneck",
    "LowRank",
    "Method",
    "activation",
    "close_unless_off",
    "method_of",
    "method_value",
    "open_config",
    "probability",
    "read_adapter_config",
    "values_of",
    "write_adapter_config",
]

_CODE: Final = "adapter-config-invalid"
VERSION: Final = "adapters.1.3.0"  # what files that adpm writes say; it decides how a reader treats LoRA's alpha

# Every activation of transformers 4.57 to 5.x and AdapterHub's own, with the weights it has (name -> shape).
_WEIGHTLESS: Final = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
    "hardswish",
    "laplace",
    "leaky_relu",
    "leakyrelu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
)
ACTIVATION_WEIGHTS: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    **{word: {} for word in _WEIGHTLESS},
    "prelu": {"weight": (1,)},
    "xielu": {"alpha_p": (1,), "alpha_n": (1,), "beta": (), "eps": ()},
}
# Files from before `version` was written name two activations otherwise.
_OLD_ACTIVATIONS: Final = {"gelu": "gelu_new", "gelu_orig": "gelu"}


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


Method = Bottleneck | LowRank


@dataclass(frozen=True, slots=True)
class AdapterHubConfig:
    """One ``adapter_config.json``: ``name`` is part of the weights' names; several methods are a config union."""

    name: str
    methods: tuple[Method, ...]
    model_type: str | None = None
    model_name: str | None = None
    hidden_size: int | None = None
    old_task: bool = False  # a task adapter from before v2: its config names inverse blocks that its file lacks


_SEQUENTIAL: Final = Bottleneck(False, True, 16, "relu", original_ln_before=True)
_DOUBLE: Final = Bottleneck(True, True, 16, "swish")
_PARALLEL: Final = Bottleneck(False, True, 2, "relu", init_weights="mam_adapter", is_parallel=True, scaling=4.0)
_COMPACT: Final[dict[str, Any]] = {"phm_layer": True, "reduction_factor": 32, "non_linearity": "gelu"}
_INVERSE: Final[dict[str, Any]] = {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2}
# What a user may call a method by; the old names are AdapterHub's own synonyms.
NAMED: Final[Mapping[str, Method]] = {
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
    "lora": LowRank(),
    "dora": LowRank(use_dora=True),
    "vera": LowRank(init_weights="vera", vera_d=0.1, vera_b=0.0),
    "dvora": LowRank(init_weights="vera", vera_d=0.1, vera_b=0.0, use_dora=True),
    "ia3": LowRank(
        intermediate_lora=True, r=1, alpha=1, attn_matrices=("k", "v"), composition_mode="scale", init_weights="ia3"
    ),
}


def activation(node: Node) -> str:
    word = text(node).lower()
    if word not in ACTIVATION_WEIGHTS:
        one_of(*ACTIVATION_WEIGHTS)(node)
    return word


def positive(node: Node) -> float:
    value = number(node)
    if value <= 0:
        node.fail(f"{value} is not above 0")
    return value


def probability(node: Node) -> float:
    value = number(node)
    if not 0 <= value <= 1:
        node.fail(f"{value} is not between 0 and 1")
    return value


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


WIDTH: Final = integer(1, limits.TENSOR_WIDTH)
_LAYERS: Final = list_of(integer(0))
_SEED: Final = integer(0)
_BOTTLENECK: Final[dict[str, Decoder[Any]]] = {
    **{field.name: flag for field in fields(Bottleneck) if field.type == "bool"},
    "reduction_factor": _reduction,
    "non_linearity": activation,
    "init_weights": one_of("bert", "mam_adapter", "houlsby"),
    "init_weights_seed": _SEED,
    "scaling": _scaling,
    "residual_before_ln": _residual,
    "inv_adapter": one_of("nice", "glow"),
    "inv_adapter_reduction_factor": positive,
    "leave_out": _LAYERS,
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
    "leave_out": _LAYERS,
    "r": WIDTH,
    "alpha": number,
    "dropout": probability,
    "attn_matrices": list_of(one_of("q", "k", "v", "o")),
    "composition_mode": one_of("add", "scale"),
    "init_weights": one_of("lora", "bert", "ia3", "vera"),
    "init_weights_seed": _SEED,
    "vera_d": number,
    "vera_b": number,
    "dtype": text,
}


def values_of(table: Mapping[str, Decoder[Any]], found: Fields) -> dict[str, Any]:
    """The keys of ``table`` that ``found`` states; null is false for a flag and absent for anything else."""
    out: dict[str, Any] = {}
    for key, decoder in table.items():
        value = found.get(key, decoder)
        if value is not None:
            out[key] = value
        elif decoder is flag and key in found:
            out[key] = False
    return out


def close_unless_off(node: Node, known: Collection[str]) -> None:
    """Report every key of a mapping that is not ``known`` and whose value could mean something."""
    for child in node.children():
        if child.path[-1] not in known and child.value:
            child.decode(_unknown)


def _unknown(node: Node) -> None:
    node.fail("is a key that adpm does not know, and its value is not off, so it may change the adapter's output")


def _refuse_unsupported(value: object, source: str) -> None:
    """Raise for a method of AdapterHub's that adpm does not run; anything that is no method at all is left alone."""
    if not isinstance(value, dict):
        return
    architecture = value.get("architecture")
    if architecture == "union" and isinstance(value.get("configs"), list):
        for part in value["configs"]:
            _refuse_unsupported(part, source)
    elif isinstance(architecture, str) and architecture != "lora":
        raise AdapterError(
            "method-unsupported",
            f"{source} is an adapter of the method {architecture!r}, which adpm does not run yet",
            hint="bottleneck adapters and LoRA are what it runs",
        )


def _method(node: Node) -> Method:
    if isinstance(node.value, str):
        return NAMED[one_of(*NAMED)(node)]
    found = node.fields()
    return _bottleneck(found, node) if found.get("architecture", text) is None else _low_rank(found, node)


def _low_rank(found: Fields, node: Node) -> LowRank:
    method = LowRank(**values_of(_LOW_RANK, found))
    close_unless_off(node, (*_LOW_RANK, "architecture"))
    if method.composition_mode == "scale" and (method.r != 1 or method.use_dora or method.dropout):
        node.fail("composition_mode 'scale' needs r = 1 and neither dropout nor use_dora")
    return method


def _bottleneck(found: Fields, node: Node) -> Bottleneck:
    values = values_of(_BOTTLENECK, found)
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


def _methods(node: Node) -> tuple[Method, ...]:
    if isinstance(node.value, dict) and node.value.get("architecture") == "union":
        return node.fields().need("configs", list_of(_method, most=100))
    return (_method(node),)


def method_of(value: Mapping[str, Any], *, source: str) -> Method:
    """One method's settings as a value; ``value`` is what stands under ``config`` in a file.

    Raises ``DocumentError`` (``adapter-config-invalid``) and ``AdapterError`` (``method-unsupported``).
    """
    _refuse_unsupported(value, source)
    document = Document(dict(value), source=source, code=_CODE)
    method = document.root.decode(_method)
    document.finish()
    return cast("Method", method)


def open_config(data: bytes, source: str) -> tuple[Document, Fields]:
    document = open_json(data, source=source, code=_CODE, limit=limits.CONFIG_BYTES)
    found = document.root.decode(Node.fields)
    document.finish()
    return document, cast("Fields", found)


def read_adapter_config(data: bytes, *, source: str) -> AdapterHubConfig:
    """Read ``adapter_config.json``; faults as in :func:`method_of`.

    Old files are read as they were meant: nested invertible blocks, renamed activations, and LoRA from before 1.1.0,
    which was trained with alpha = r whatever it says.
    """
    document, found = open_config(data, source)
    _refuse_unsupported(cast("dict[str, object]", document.root.value).get("config"), source)
    methods = found.need("config", _methods)
    version = found.get("version", text)
    config = AdapterHubConfig(
        name=found.need("name", text),
        methods=methods,
        model_type=found.get("model_type", text),
        model_name=found.get("model_name", text),
        hidden_size=found.get("hidden_size", WIDTH),
        old_task=found.get("type", text) == "text_task",
    )
    document.finish()
    return replace(config, methods=tuple(_as_meant(method, version) for method in methods))


def _as_meant(method: Method, version: str | None) -> Method:
    if isinstance(method, Bottleneck) and version is None:
        return replace(method, non_linearity=_OLD_ACTIVATIONS.get(method.non_linearity, method.non_linearity))
    if isinstance(method, LowRank) and version is not None and version.startswith("adapters."):
        try:
            old = Version(version.removeprefix("adapters.")) < Version("1.1.0")
        except InvalidVersion:
            old = False
        return replace(method, alpha=method.r) if old else method
    return method


def method_value(method: Method) -> dict[str, Any]:
    """``method`` as the mapping that :func:`method_of` reads."""
    out: dict[str, Any] = {} if isinstance(method, Bottleneck) else {"architecture": "lora"}
    for field in fields(method):
        value = getattr(method, field.name)
        if field.name == "reduction_factor" and isinstance(value, tuple):
            value = dict(value)
        out[field.name] = list(value) if isinstance(value, tuple) else value
    if isinstance(method, Bottleneck) and not isinstance(method.scaling, str):
        out["scaling"] = float(method.scaling)  # the peer refuses whole numbers here
    return out


def write_adapter_config(config: AdapterHubConfig, *, model_class: str) -> bytes:
    """The bytes of an ``adapter_config.json`` that AdapterHub and adpm read as ``config``."""
    values = [method_value(method) for method in config.methods]
    return pretty(
        {
            "config": values[0] if len(values) == 1 else {"architecture": "union", "configs": values},
            "hidden_size": config.hidden_size,
            "model_class": model_class,
            "model_name": config.model_name,
            "model_type": config.model_type,
            "name": config.name,
            "version": VERSION,
        }
    )
