"""PEFT's configs on a live model: which parts they have, and where their tensors stand in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import (
    PeftBeft,
    PeftBoft,
    PeftC3a,
    PeftDeft,
    PeftDelora,
    PeftFourier,
    PeftGlora,
    PeftGralora,
    PeftHira,
    PeftHra,
    PeftIa3,
    PeftLnTuning,
    PeftLoha,
    PeftLokr,
    PeftMiss,
    PeftOft,
    PeftPeanut,
    PeftPvera,
    PeftRandLora,
    PeftRoad,
    PeftShira,
    PeftSupertuning,
    PeftTinyLora,
    PeftTokens,
    PeftUniLora,
    PeftVbLora,
    PeftVera,
)
from adpm.formats.peft_lora import PeftAdaLora, PeftLora
from adpm.formats.peft_prompts import PeftAdaption, PeftVirtual
from adpm.runtime.anatomy import Anatomy, features
from adpm.runtime.from_peft_lora import lora_blueprints, token_blueprints
from adpm.runtime.from_peft_prompts import virtual_blueprint
from adpm.runtime.methods.adalora import AdaLoraPart
from adpm.runtime.methods.adaption import adaption_blueprints
from adpm.runtime.methods.beft import BeftPart
from adpm.runtime.methods.boft import BoftPart
from adpm.runtime.methods.c3a import C3aPart
from adpm.runtime.methods.deft import DeftPart
from adpm.runtime.methods.delora import DeloraPart
from adpm.runtime.methods.fourier import FourierPart
from adpm.runtime.methods.frozen import FrozenPart
from adpm.runtime.methods.glora import GloraPart
from adpm.runtime.methods.gralora import GraloraPart
from adpm.runtime.methods.hira import HiraPart
from adpm.runtime.methods.hra import HraPart
from adpm.runtime.methods.ia3 import Ia3Part
from adpm.runtime.methods.layer import MethodPart, Place, Tensors, weight_of
from adpm.runtime.methods.loha import LohaPart
from adpm.runtime.methods.lokr import LokrPart
from adpm.runtime.methods.miss import MissPart
from adpm.runtime.methods.oft import OftPart
from adpm.runtime.methods.peanut import PeanutPart
from adpm.runtime.methods.pvera import PveraPart, pvera_pair_slots
from adpm.runtime.methods.randlora import RandLoraPart, randlora_base_slots, start_randlora_bases
from adpm.runtime.methods.road import RoadPart
from adpm.runtime.methods.shira import ShiraPart
from adpm.runtime.methods.supertuning import SupertuningPart
from adpm.runtime.methods.tied import TiedModulePart, tie
from adpm.runtime.methods.tinylora import (
    PROJECTIONS,
    VECTORS,
    TinyLoraPart,
    projection_slots,
    start_projections,
    start_vectors,
    vector_slots,
)
from adpm.runtime.methods.unilora import (
    LAYOUT,
    THETA,
    UniLoraPart,
    layout_slots,
    start_layout,
    start_theta,
    theta_slots,
)
from adpm.runtime.methods.vblora import BANK, VbLoraPart, bank_slots, start_bank
from adpm.runtime.methods.vera import PROJECTION, VeraPart, start_vera_pair, vera_pair_slots
from adpm.runtime.methods.whole import BiasPart, ModulePart
from adpm.runtime.part import Blueprint, Part
from adpm.runtime.peft_targets import input_embeddings, no_target, saved_names, target_names

__all__ = ["BIAS", "MODULE", "PREFIX", "peft_blueprints"]

PREFIX: Final = "base_model.model."
SHARED: Final = "base_model."
BIAS: Final = "bias"  # the last part of a bias part's key
MODULE: Final = "module"  # the last part of a whole module's key

# What changes a linear layer by the class of its config, and what its layers share.
_METHODS: Final[Mapping[type[PeftMethod], type[MethodPart]]] = {
    PeftAdaLora: AdaLoraPart,
    PeftBeft: BeftPart,
    PeftBoft: BoftPart,
    PeftC3a: C3aPart,
    PeftDeft: DeftPart,
    PeftDelora: DeloraPart,
    PeftFourier: FourierPart,
    PeftGlora: GloraPart,
    PeftGralora: GraloraPart,
    PeftHira: HiraPart,
    PeftHra: HraPart,
    PeftIa3: Ia3Part,
    PeftLoha: LohaPart,
    PeftLokr: LokrPart,
    PeftMiss: MissPart,
    PeftOft: OftPart,
    PeftPeanut: PeanutPart,
    PeftPvera: PveraPart,
    PeftRandLora: RandLoraPart,
    PeftRoad: RoadPart,
    PeftShira: ShiraPart,
    PeftSupertuning: SupertuningPart,
    PeftTinyLora: TinyLoraPart,
    PeftUniLora: UniLoraPart,
    PeftVbLora: VbLoraPart,
    PeftVera: VeraPart,
}


@dataclass(frozen=True, slots=True)
class _Shared:
    """``option``: what in the config says whether a file holds it; the empty text: every file does."""

    key: str
    slots: Callable[[PeftMethod, list[Place]], tuple[Slot, ...]]
    start: Callable[[PeftMethod, Tensors, Generator | None], None]
    part: Callable[[Any, Mapping[str, str]], Part]
    option: str = ""


_STORED: Final = "save_projection"
_SHARED: Final[Mapping[type[PeftMethod], tuple[_Shared, ...]]] = {
    PeftPvera: (_Shared(PROJECTION, pvera_pair_slots, start_vera_pair, FrozenPart, _STORED),),
    PeftRandLora: (_Shared(PROJECTION, randlora_base_slots, start_randlora_bases, FrozenPart, _STORED),),
    PeftTinyLora: (
        _Shared(VECTORS, vector_slots, start_vectors, Part),
        _Shared(PROJECTIONS, projection_slots, start_projections, FrozenPart, _STORED),
    ),
    PeftUniLora: (
        _Shared(THETA, theta_slots, start_theta, Part),
        _Shared(LAYOUT, layout_slots, start_layout, FrozenPart, "save_indices"),
    ),
    PeftVbLora: (_Shared(BANK, bank_slots, start_bank, Part),),
    PeftVera: (_Shared(PROJECTION, vera_pair_slots, start_vera_pair, FrozenPart, _STORED),),
}


def peft_blueprints(config: PeftMethod, anatomy: Anatomy) -> tuple[Blueprint, ...]:
    """Every part of the adapter. Raises ``AdapterError`` (``adapter-misfit``, ``method-unsupported``)."""
    saved, tied = _saved(config, anatomy)
    targets = [name for name in target_names(config, anatomy) if name not in tied]
    twice = sorted(set(saved) & set(targets))
    if twice:
        raise AdapterError("adapter-misfit", f"the adapter both changes and replaces {', '.join(twice)}")
    below = PREFIX
    if isinstance(config, PeftVirtual):
        out, below = [virtual_blueprint(config, anatomy)], SHARED
    elif isinstance(config, PeftAdaption):
        out = adaption_blueprints(config, anatomy, PREFIX)
    elif isinstance(config, PeftLora):
        out = lora_blueprints(config, targets, anatomy, PREFIX)
    elif not targets:
        raise no_target(config, anatomy)
    elif isinstance(config, PeftTokens):
        out = [
            blueprint for name in targets for blueprint in token_blueprints(name, config.token_indices, anatomy, PREFIX)
        ]
    elif isinstance(config, PeftLnTuning):
        out = [_module(anatomy.modules[name], name, f"{PREFIX}{name}.ln_tuning_layers.") for name in targets]
    else:
        out = list(_method(config, targets, anatomy))
    files = {blueprint.file[0] for blueprint in out}
    changed = [name for name in anatomy.modules if f"{PREFIX}{name}." in files]
    out += [_module(anatomy.modules[name], name, f"{below}{name}.") for name in saved]
    for name in tied:
        key = f"{input_embeddings(anatomy)}.{MODULE}".replace(".", "/")
        original = anatomy.modules[name]
        columns, rows = weight_of(original).shape[::-1]
        unbiased = nn.Linear(columns, rows, bias=False, device="meta")  # the peer's copy has the weight alone
        build = partial(TiedModulePart, layer=name, original=unbiased, key=key)
        start = partial(_copy, original)
        out.append(replace(_module(unbiased, name, f"{below}{name}."), build=build, start=start))
    if config.bias != "none":
        free = set(_biased(anatomy, [*saved, *tied]))
        out += _biases(free if config.bias == "all" else set(changed), free, changed, anatomy)
    return tuple(out)


def _saved(config: PeftMethod, anatomy: Anatomy) -> tuple[list[str], list[str]]:
    """The modules that are saved whole, and output layers that have the weight of one of them."""
    saved = saved_names(config, anatomy)
    if not isinstance(config, PeftLora) or not config.ensure_weight_tying:
        return saved, []
    saved, tied = tie(saved, config.modules_to_save, anatomy)
    embeddings = [name for name in saved if isinstance(anatomy.modules[name], nn.Embedding)]
    if tied and len(embeddings) > 1:
        raise AdapterError(
            "method-unsupported",
            f"the adapter saves {', '.join(embeddings)} and ties {', '.join(tied)} to them",
            cause="PEFT takes such embeddings for output layers, and can't run the model",
        )
    return saved, tied


def _method(config: PeftMethod, targets: Iterable[str], anatomy: Anatomy) -> Iterator[Blueprint]:
    """A part for each target, and one for what they share."""
    method = _METHODS[type(config)]
    found = [_place(config, anatomy, name) for name in targets]
    places = [replace(place, number=number, among=len(found)) for number, place in enumerate(found)]
    for place in places:
        yield Blueprint(
            key=place.name.replace(".", "/"),
            file=(f"{PREFIX}{place.name}.", ""),
            slots=method.slots(config, place),
            build=partial(method, place=place, config=config),
            start=partial(method.start, config, place),
        )
    for shared in _SHARED.get(type(config), ()):
        yield Blueprint(
            key=shared.key,
            file=(SHARED, ""),
            slots=shared.slots(config, places),
            build=shared.part,
            start=partial(shared.start, config),
            stored=not shared.option or getattr(config, shared.option),
        )


def _place(config: PeftMethod, anatomy: Anatomy, name: str) -> Place:
    module = anatomy.modules[name]
    sizes, method = features(module), _METHODS[type(config)]
    if isinstance(module, nn.Embedding) and method.EMBEDDED:
        sizes = module.num_embeddings, module.embedding_dim
    if sizes is None and type(module) in method.CONVOLVED:
        rows, columns = weight_of(module).shape
        return Place(name, module, columns, rows, tuple(cast("nn.Conv2d", module).kernel_size))
    if sizes is None:
        where = " and ".join(["linear layers", *(kind.__name__ for kind in method.CONVOLVED)])
        raise AdapterError(
            "method-unsupported",
            f"the adapter targets {name}, a {type(module).__name__}, and {config.KIND} is defined for {where} only",
        )
    return Place(name, module, *sizes)


def _module(module: nn.Module, name: str, file: str) -> Blueprint:
    tensors = module.state_dict(keep_vars=True)
    return Blueprint(
        key=f"{name}.{MODULE}".replace(".", "/"),
        file=(file, ""),
        slots=tuple(Slot(key, key, tuple(tensor.shape)) for key, tensor in tensors.items()),
        build=partial(ModulePart, layer=name, original=module),
        start=partial(_copy, module),
    )


def _copy(module: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:  # noqa: ARG001 - a Blueprint's start
    own = module.state_dict()
    for name, tensor in tensors.items():
        tensor.copy_(own[name])


def _biased(anatomy: Anatomy, saved: list[str]) -> Iterator[str]:
    for name in anatomy.modules:
        if name and not any(name == whole or name.startswith(f"{whole}.") for whole in saved):
            yield name


def _biases(wanted: set[str], free: set[str], changed: list[str], anatomy: Anatomy) -> Iterator[Blueprint]:
    """A part for each of the ``free`` modules that adds one of the biases of those ``wanted``.

    Modules may share a bias: replicas all add it, and of an output layer and what that is in the layer does. A file has
    it below ``base_layer`` where any adapter of the model that was saved changes the module, and below
    ``original_module`` where another one saves it whole.
    """
    owners: dict[Tensor, list[str]] = {}
    for name, module in anatomy.modules.items():
        own = module._parameters.get("bias")  # noqa: SLF001 - not a child module's
        if name and own is not None:
            owners.setdefault(own, []).append(name)
    for bias, sharing in owners.items():
        if wanted.isdisjoint(sharing):
            continue
        adding = [name for name in sharing if "weight" in anatomy.modules[name]._parameters] or sharing  # noqa: SLF001 - as above
        paths = [f"{name}{below}.bias" for name in sharing for below in ("", ".base_layer", ".original_module")]
        for name in filter(free.__contains__, adding):
            file = f"{name}.{'base_layer.' if name in changed else ''}bias"
            yield Blueprint(
                key=f"{name}.{BIAS}".replace(".", "/"),
                file=(PREFIX, ""),
                slots=(Slot("bias", file, tuple(bias.shape), tuple(path for path in paths if path != file)),),
                build=partial(BiasPart, layer=name),
                start=partial(_copy, anatomy.modules[name]),
            )
