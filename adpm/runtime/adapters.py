"""The handle on a model: add, read, activate, train, save, unload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

import torch
from torch import Generator, nn

from adpm.core.base import BaseIdentity
from adpm.core.composition import Block, Composition, leaves, parse_composition
from adpm.errors import CompositionError, NotFoundError, UsageError
from adpm.runtime.adapter import Adapter, blueprints_of, build
from adpm.runtime.anatomy import HANDLE, Anatomy
from adpm.runtime.compose import make_plan
from adpm.runtime.create import Config, Head, new_source
from adpm.runtime.hooks import Hooks, Plan
from adpm.runtime.read import HEAD_CONFIG, read_adapter, read_directory
from adpm.runtime.save import save_adapter
from adpm.runtime.sites.declare import Sites
from adpm.runtime.weights import Buffer

__all__ = ["Adapters", "attach"]

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
        self._plans: dict[Composition, Plan] = {}
        self._untrained: _Untrained | None = None

    @property
    def model(self) -> nn.Module:
        return self._anatomy.model

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters that are on the model, in the order in which they came."""
        return tuple(_name(key) for key in self.adapters)

    @property
    def active(self) -> Composition | None:
        """What acts in this thread."""
        found: Composition | None = self._hooks.current().composition
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

        ``config`` is a name that AdapterHub knows ("pfeiffer", "houlsby", "par_bn", "compacter", "lora", ...),
        "peft_lora", or settings as they stand in either peer's file; ``options`` replace single settings. ``head`` is a
        number of labels or an AdapterHub classification head's settings. Raises ``UsageError`` (``adapter-exists``,
        ``adapter-name-invalid``, ``method-unknown``), ``DocumentError`` (``adapter-config-invalid``) and
        ``AdapterError`` (``adapter-misfit``, ``family-unsupported``).
        """
        self._check_new(name)
        source = new_source(name, config, head, options, self._anatomy)
        blueprints = blueprints_of(source, self._anatomy)
        like = self._anatomy.weight
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        for blueprint in blueprints:
            tensors[blueprint.key] = {
                slot.name: torch.empty(slot.shape, dtype=like.dtype, device=like.device) for slot in blueprint.slots
            }
            with torch.no_grad():
                blueprint.start(tensors[blueprint.key], generator)
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
        self._keep(name, read_adapter(files, self._anatomy, source=source, base=base))

    def remove(self, name: str) -> None:
        """Take an adapter off the model. Raises ``UsageError`` (``adapter-active``) while it acts."""
        self._adapter(name)
        compositions = [plan.composition for plan in self._hooks.plans() if plan.composition is not None]
        if any(name in leaves(composition) for composition in compositions):
            raise UsageError("adapter-active", f"the adapter {name!r} is active", hint="activate something else first")
        del self.adapters[_key(name)]
        self._plans.clear()

    def activate(self, composition: str | Composition | None) -> None:
        """Make a composition act, or nothing, in all threads. Cost after the first time: one assignment.

        ``composition`` is a name under ``compositions``, an expression such as ``stack(en, sst)``, or a value. Raises
        ``CompositionError`` (``composition-invalid``, ``composition-unsupported``) and ``NotFoundError``
        (``adapter-not-found``).
        """
        self._check_attached()
        self._hooks.switch(self._plan(composition))

    @contextmanager
    def using(self, composition: str | Composition | None) -> Iterator[None]:
        """Let ``composition`` act for a while in this thread alone, whatever others activate or use meanwhile."""
        self._check_attached()
        before = self._hooks.enter(self._plan(composition))
        try:
            yield
        finally:
            self._hooks.leave(before)

    def disabled(self) -> Any:
        """The bare base for a while."""
        return self.using(None)

    def train(self, mode: bool | str | Composition = True) -> Self:
        """Train a composition: activate it, freeze everything but its adapters and their heads, set training mode.

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
        for name in leaves(composition):
            for part in self._adapter(name).parts.values():
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
        if self._untrained is not None:
            self._untrained.restore()
            self._untrained = None
        delattr(self.model, HANDLE)
        return self.model

    def _resolve(self, composition: str | Composition) -> Composition:
        if isinstance(composition, Block):
            return composition
        return self.compositions.get(composition) or parse_composition(composition)

    def _plan(self, composition: str | Composition | None) -> Plan:
        if composition is None:
            return _NOTHING
        composition = self._resolve(composition)
        plan = self._plans.get(composition)
        if plan is None:
            adapters = {name: self._adapter(name) for name in self.names}
            plan = replace(make_plan(composition, adapters, self._anatomy), composition=composition)
            self._plans[composition] = plan
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

    def _keep(self, name: str, adapter: Adapter) -> None:
        self.adapters[_key(name)] = adapter.train() if self.model.training else adapter


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


def _name(key: str) -> str:
    return key.replace("%2E", ".")
