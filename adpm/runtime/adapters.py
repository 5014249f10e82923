"""The handle on a model: add, read, activate, train, save, unload."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

from torch import Generator, nn

from adpm.core.base import BaseIdentity
from adpm.core.composition import Block, Composition, Rows, blocks, leaves, parse_composition
from adpm.errors import CompositionError, NotFoundError, UsageError
from adpm.runtime.adapter import Adapter, blueprints_of, build
from adpm.runtime.anatomy import HANDLE, Anatomy
from adpm.runtime.arithmetic import Rule
from adpm.runtime.combine import combined
from adpm.runtime.compose import make_plan
from adpm.runtime.create import Config, Head, new_source
from adpm.runtime.from_adapterhub import HEAD
from adpm.runtime.fusion import FUSION_FILES, Fusion, new_fusion, read_fusion, save_fusion
from adpm.runtime.hooks import Hooks, Plan
from adpm.runtime.merging import Merged
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.outputs import speaker
from adpm.runtime.own_head import Labels, labels_of, untrained_head
from adpm.runtime.read import HEAD_CONFIG, read_adapter, read_directory
from adpm.runtime.save import save_adapter
from adpm.runtime.sites.declare import Sites
from adpm.runtime.tree import last_name, place
from adpm.runtime.weights import Buffer

__all__ = ["Adapters", "attach"]

Wanted = str | Composition | Rows | None
Rowwise = Sequence[str | Composition | None]
_NOTHING: Final = Plan()


def attach(model: nn.Module, *, sites: Sites | None = None) -> Adapters:
    """An empty handle on ``model``, registered as ``model.adpm``; nothing acts yet.

    ``sites`` declares where bottlenecks and AdapterHub's LoRA act in a model that adpm has no table for: a mapping or
    a YAML file's path (``specs/sites.md``). Raises ``UsageError`` (``already-attached``) where the model has a handle,
    ``DocumentError`` (``sites-invalid``), ``NotFoundError`` (``sites-not-found``) and, where the model does not have
    what ``sites`` names, ``AdapterError`` (``family-unsupported``). Cost: one walk over the model's modules.
    """
    if hasattr(model, HANDLE):
        raise UsageError(
            "already-attached", "the model has an adpm handle already", hint=f"use model.{HANDLE}, or unload() it first"
        )
    handle = Adapters(model, sites)
    model.add_module(HANDLE, handle)
    return handle


class Adapters(nn.Module):
    """All adapters of one model. A module, so that ``.to()``, ``parameters()`` and ``state_dict()`` see their weights.

    ``compositions`` are compositions by name, which ``activate`` takes too.
    """

    def __init__(self, model: nn.Module, sites: Sites | None = None) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict()
        self.compositions: dict[str, Composition] = {}
        self._anatomy = Anatomy(model, sites)
        self._hooks = Hooks(self._anatomy.modules)
        self.fusions = nn.ModuleDict()
        self._fusion_names: dict[str, tuple[str, ...]] = {}  # which adapters a fusion is of, by its key
        self._plans: dict[Composition, Plan] = {}
        self._labels = Labels(self._anatomy.config)
        self._untrained: _Untrained | None = None
        self._merged: Merged | None = None

    @property
    def model(self) -> nn.Module:
        return self._anatomy.model

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters that are on the model, in the order in which they came."""
        return tuple(_name(key) for key in self.adapters)

    @property
    def active(self) -> Composition | Rows | None:
        """What acts in this thread."""
        found: Composition | Rows | None = self._hooks.current().composition
        return found

    def add(
        self,
        name: str,
        config: Config = "pfeiffer",
        *,
        head: Head = None,
        generator: Generator | None = None,
        **options: object,
    ) -> None:
        """A new adapter with fresh weights; it acts when it is activated or trained.

        ``config`` is a name that AdapterHub knows ("pfeiffer", "houlsby", "par_bn", "compacter", "lora", ...), PEFT's
        word with "peft_" before it ("peft_lora", "peft_ia3", ...), or settings as they stand in either peer's file;
        ``options`` replace single settings. ``head`` is a number of labels or an AdapterHub classification head's
        settings. Raises ``UsageError`` (``adapter-exists``,
        ``adapter-name-invalid``, ``method-unknown``), ``DocumentError`` (``adapter-config-invalid``) and
        ``AdapterError`` (``adapter-misfit``, ``family-unsupported``).
        """
        self._check_new(name)
        source = new_source(name, config, head, options, self._anatomy)
        blueprints = blueprints_of(source, self._anatomy)
        tensors = {blueprint.key: blueprint.new(self._anatomy.weight, generator) for blueprint in blueprints}
        self._keep(name, build(source, blueprints, tensors))

    def read(
        self, directory: str | Path, name: str, *, base: BaseIdentity | None = None, with_head: bool = True
    ) -> None:
        """The adapter in ``directory``, in AdapterHub's or PEFT's format, as ``name``; errors as ``read_adapter``'s.

        ``base`` is what it is known to be trained on; ``with_head`` false: AdapterHub's head beside it is not read.
        """
        directory = Path(directory)
        files = read_directory(directory)
        self.read_files(files, name, source=str(directory), base=base, with_head=with_head)

    def read_files(
        self,
        files: Mapping[str, Buffer],
        name: str,
        *,
        source: str,
        base: BaseIdentity | None = None,
        with_head: bool = True,
    ) -> None:
        """The same from ``files`` in memory (path -> content), which stay in use: weights are bound and not copied."""
        self._check_new(name)
        if not with_head:
            files = {path: data for path, data in files.items() if path != HEAD_CONFIG}
        with self._own_layers():
            adapter = read_adapter(files, self._anatomy, source=source, base=base)
        random = untrained_head(adapter, self._anatomy)
        if random is not None:
            warnings.warn(
                f"{source} has no head, and the model's own ({random}) looks untrained: its scores are random",
                UserWarning,
                stacklevel=2,
            )
        self._keep(name, adapter)

    def add_fusion(
        self,
        names: Sequence[str],
        config: str | Mapping[str, object] = "dynamic",
        *,
        generator: Generator | None = None,
        **options: object,
    ) -> None:
        """Fresh weights for ``fuse`` of ``names``, in this order, instead of those that are there.

        ``config`` is "dynamic", "static", or settings as in AdapterHub's file; ``train`` trains them. Raises
        ``UsageError`` (``fusion-invalid``), ``DocumentError`` (``adapter-config-invalid``) and ``NotFoundError``
        (``adapter-not-found``).
        """
        self._check_attached()
        fused = tuple(names)
        self._keep_fusion(fused, new_fusion(fused, self._all(), config, options, self._anatomy, generator))

    def read_fusion(self, directory: str | Path, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """The fusion that AdapterHub wrote into ``directory``; the names of the adapters that it fuses here.

        ``names``: what the adapters are called here, in the file's order; else they are called as in the file. Errors
        as ``read``'s, and ``UsageError`` (``fusion-invalid``).
        """
        files = read_directory(Path(directory), FUSION_FILES)
        return self.read_fusion_files(files, names, source=str(directory))

    def read_fusion_files(
        self, files: Mapping[str, Buffer], names: Sequence[str] | None = None, *, source: str
    ) -> tuple[str, ...]:
        """The same from ``files`` in memory."""
        self._check_attached()
        wanted = None if names is None else tuple(names)
        fused, fusion = read_fusion(files, wanted, self._all(), self._anatomy, source=source)
        self._keep_fusion(fused, fusion)
        return fused

    def save_fusion(self, names: Sequence[str], directory: str | Path) -> None:
        """Write the fusion of ``names`` so that AdapterHub reads it."""
        key = _fusion_key(tuple(names))
        if key not in self.fusions:
            known = "; ".join(map(", ".join, self._fusion_names.values())) or "none"
            raise NotFoundError("fusion-missing", f"there is no fusion of {', '.join(names)}", hint=f"there is {known}")
        save_fusion(cast("Fusion", self.fusions[key]), self._anatomy, Path(directory))

    def combine(
        self,
        name: str,
        weights: Mapping[str, float],
        method: str = "average",
        *,
        rank: int | None = None,
        density: float = 1.0,
        majority: Literal["total", "frequency"] = "total",
        generator: Generator | None = None,
    ) -> None:
        """A new adapter from the weights of others, by their names; negative weights subtract.

        ``method``: "average", "linear", "negate_b", "svd", "cat", "ties", "dare_linear", "dare_ties",
        "magnitude_prune", and these four with "_svd" (``combine.py`` has the formulas). ``rank`` is that of an svd;
        ``density`` the share of values that pruning keeps; ``majority`` how TIES elects signs. Heads are left out.
        Raises ``UsageError`` (``merge-invalid``, ``adapter-exists``) and ``NotFoundError`` (``adapter-not-found``).
        """
        self._check_new(name)
        rule = Rule("linear", density, majority, generator)
        chosen = {other: self._adapter(other) for other in weights}
        self._keep(name, combined(chosen, weights, method, rank, rule, self._anatomy))

    def merge(self, name: str) -> None:
        """Write an adapter's change into the base's weights: no hook acts any more. Nothing is active then.

        ``unmerge`` and ``unload`` put the base's own weights back, bit for bit. Another adapter can be active on top.
        Raises ``AdapterError`` (``merge-unsupported``), ``UsageError`` (``adapter-merged``) where one is merged.
        """
        self._check_attached()
        if self._merged is not None:
            raise UsageError("adapter-merged", f"{self._merged.name!r} is merged already", hint="unmerge() it first")
        adapter = self._adapter(name)
        self.activate(None)
        self._merged = Merged(name, adapter, self._anatomy)

    def unmerge(self) -> None:
        """Give the base its own weights back; nothing happens where no adapter is merged."""
        if self._merged is not None:
            self._merged.restore()
            self._merged = None

    @property
    def merged(self) -> str | None:
        """The adapter that is merged into the base."""
        return None if self._merged is None else self._merged.name

    def remove(self, name: str) -> None:
        """Take an adapter off the model; its memory is free then. Raises ``UsageError`` (``adapter-active``) while it
        acts."""
        removed = self._adapter(name)
        compositions = [plan.composition for plan in self._hooks.plans() if plan.composition is not None]
        if any(name in leaves(composition) for composition in compositions):
            raise UsageError("adapter-active", f"the adapter {name!r} is active", hint="activate something else first")
        del self.adapters[_key(name)]
        for key in [key for key, names in self._fusion_names.items() if name in names]:
            del self.fusions[key], self._fusion_names[key]
        self._plans.clear()
        removed.parts.clear()  # they refer to it, so that only the collector would find the two

    def activate(self, composition: Wanted = None, *, rows: Rowwise | None = None) -> None:
        """Make a composition act, or nothing, in all threads. Cost after the first time: one assignment.

        ``composition`` is a name under ``compositions``, an expression such as ``stack(en, sst)``, or a value. ``rows``
        instead has one for each row of the batches to come, None for the bare base: an adapter, or any expression
        without ``parallel``; its plan is made each time. Raises ``CompositionError`` (``composition-invalid``,
        ``composition-unsupported``, ``fusion-missing``) and ``NotFoundError`` (``adapter-not-found``).
        """
        self._check_attached()
        plan = self._plan(composition, rows)
        self._hooks.switch(plan)
        self._labels.show(plan.labels)

    @contextmanager
    def using(self, composition: Wanted = None, *, rows: Rowwise | None = None) -> Iterator[None]:
        """Let ``composition`` or ``rows`` act for a while in this thread alone, whatever others activate or use."""
        self._check_attached()
        before = self._hooks.enter(self._plan(composition, rows))
        try:
            yield
        finally:
            self._hooks.leave(before)

    def disabled(self) -> Any:
        """The bare base for a while."""
        return self.using(None)

    def train(self, mode: bool | str | Composition = True) -> Self:
        """Train a composition: activate it, freeze everything but its adapters and their heads, set training mode.

        Where it fuses, the fusion is trained and the adapters are not, as in AdapterHub; heads are.

        Given a boolean it is ``nn.Module.train``, which the model's own ``train()`` and ``eval()`` call.
        """
        if isinstance(mode, bool):
            return super().train(mode)
        composition = self._resolve(mode)
        self.activate(composition)
        if self._untrained is None:
            self._untrained = _Untrained(self.model)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        fused = {tuple(map(last_name, block.parts)) for block in blocks(composition) if block.kind == "fuse"}
        for key, names in self._fusion_names.items():
            if names in fused:
                for fusing in cast("Fusion", self.fusions[key]).parts.values():
                    fusing.make_trainable()
        for name in leaves(composition):
            for part in self._adapter(name).parts.values():
                if not fused or isinstance(part, HeadPart):
                    part.make_trainable()
        self.model.train()
        return self

    def save(self, name: str, directory: str | Path, format: Literal["adapterhub", "peft"] | None = None) -> None:  # noqa: A002 - the word users know
        """Write an adapter, and its head, so that the peer of that format reads it; by default the format it came in.

        Files are safetensors and JSON, and the same adapter always gives the same bytes. Raises ``AdapterError``
        (``format-unsupported``) where the format has no such adapter.
        """
        save_adapter(self._adapter(name), name, self._anatomy, Path(directory), format)

    def unload(self) -> nn.Module:
        """Take everything off the model: hooks, adapters, the handle, and what ``train`` set. Returns the model."""
        self._check_attached()
        self._hooks.clear()
        self._labels.show(None)
        self.unmerge()
        if self._untrained is not None:
            self._untrained.restore()
            self._untrained = None
        delattr(self.model, HANDLE)
        return self.model

    def _resolve(self, composition: str | Composition) -> Composition:
        if isinstance(composition, Block):
            return composition
        return self.compositions.get(composition) or parse_composition(composition)

    def _plan(self, composition: Wanted, rows: Rowwise | None = None) -> Plan:
        if rows is not None:
            if composition is not None:
                raise UsageError("rows-invalid", "either a composition or rows can be active", hint="leave one out")
            composition = Rows(tuple(None if row is None else self._resolve(row) for row in rows))
            if not composition.parts:
                raise UsageError("rows-invalid", "rows names no row", hint="name an adapter, or None, for each row")
        if composition is None:
            return _NOTHING
        resolved = composition if isinstance(composition, Rows) else self._resolve(composition)
        plan = None if isinstance(resolved, Rows) else self._plans.get(resolved)
        if plan is None:
            adapters = {name: self._adapter(name) for name in leaves(resolved)}
            fusions = {names: cast("Fusion", self.fusions[key]) for key, names in self._fusion_names.items()}
            heads = {
                name: p for name, adapter in adapters.items() if isinstance(p := adapter.parts.get(HEAD), HeadPart)
            }
            labels = labels_of(speaker(place(resolved, heads.get, None)))
            made = make_plan(resolved, adapters, fusions, self._anatomy)
            plan = replace(made, composition=resolved, labels=labels)
            if not isinstance(resolved, Rows):  # each batch has others
                self._plans[resolved] = plan
        return plan

    def _adapter(self, name: str) -> Adapter:
        key = _key(name)
        if key not in self.adapters:
            known = ", ".join(sorted(self.names)) or "none"
            raise NotFoundError("adapter-not-found", f"the model has no adapter {name!r}", hint=f"it has {known}")
        return cast("Adapter", self.adapters[key])

    def _check_new(self, name: str) -> None:
        self._check_attached()
        try:
            valid = parse_composition(name) == name
        except CompositionError:
            valid = False
        if not valid:
            raise UsageError(
                "adapter-name-invalid",
                f"{name!r} can't name an adapter",
                hint="a name is letters, digits, '.', '_', '/' and '-', and begins with a letter or digit",
            )
        if _key(name) in self.adapters:
            raise UsageError("adapter-exists", f"the model has an adapter {name!r} already", hint="remove() it first")

    def _check_attached(self) -> None:
        if getattr(self.model, HANDLE, None) is not self:
            raise UsageError("not-attached", "this handle was unloaded", hint="attach() the model again")

    def _own_layers(self) -> AbstractContextManager[object]:
        """The model with its own layers for a while, should an adapter that replicates some be active."""
        return nullcontext() if self._hooks.current().replicas is None else self.disabled()

    def _all(self) -> dict[str, Adapter]:
        return {name: self._adapter(name) for name in self.names}

    def _keep_fusion(self, names: tuple[str, ...], fusion: Fusion) -> None:
        key = _fusion_key(names)
        self.fusions[key] = fusion.train() if self.model.training else fusion
        self._fusion_names[key] = names
        self._plans.clear()
        if self.active is not None:
            self.activate(self.active)

    def _keep(self, name: str, adapter: Adapter) -> None:
        # Not by add_module, which refuses what ModuleDict has as a method: "keys", "half", "train".
        self.adapters._modules[_key(name)] = adapter.train() if self.model.training else adapter  # noqa: SLF001 - see above


class _Untrained:
    """What ``train`` changes on a model, as it was."""

    def __init__(self, model: nn.Module) -> None:
        self.flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self.modes = [(module, module.training) for module in model.modules()]

    def restore(self) -> None:
        for parameter, flag in self.flags:
            parameter.requires_grad_(flag)
        for module, mode in self.modes:
            module.training = mode


def _key(name: str) -> str:
    """A name as a module's name, which has no dots."""
    return name.replace(".", "%2E")


def _fusion_key(names: tuple[str, ...]) -> str:
    return ",".join(map(_key, names))


def _name(key: str) -> str:
    return key.replace("%2E", ".")
