"""How a plan meets the model: one forward hook a point, which asks the active plan what to do.

Hooks are objects and not closures, so that a deep copy of a model has hooks of its own that ask its own handle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

__all__ = ["Act", "Capture", "Hooks", "Order", "Plan", "Point", "plan_of"]


class Point(NamedTuple):
    """A place where something can act: before or after the forward pass of the module called ``module``."""

    module: str
    when: Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What acts where under one composition, made when it is first activated.

    Before a module: (module, args, kwargs) to the (args, kwargs) to use instead, or None. After it: (module, args,
    kwargs, output) to the output to use instead, or None.
    """

    points: Mapping[Point, Callable[..., Any]] = field(default_factory=dict)


class Order(IntEnum):
    """Which of several operations at one point comes first."""

    MODULE = 0  # changes what the module itself computes
    SUBLAYER = 1  # acts on what a sub-layer gives
    SEE = 2  # looks at the outcome


class Act(NamedTuple):
    """One operation of a plan before it is made."""

    point: Point
    call: Callable[..., Any]
    order: Order = Order.MODULE


def plan_of(acts: Iterable[Act]) -> Plan:
    """The plan that does all of ``acts``; those at one point by their order, then as they are given."""
    points: dict[Point, list[Act]] = {}
    for act in acts:
        points.setdefault(act.point, []).append(act)
    return Plan({point: _one(point, found) for point, found in points.items()})


def _one(point: Point, acts: list[Act]) -> Callable[..., Any]:
    if len(acts) == 1:
        return acts[0].call
    calls = [act.call for act in sorted(acts, key=lambda act: act.order)]
    return _Before(calls) if point.when == "before" else _After(calls)


class _Before:
    """Several operations before a module: each gets the arguments that the one before it leaves."""

    def __init__(self, calls: Sequence[Callable[..., Any]]) -> None:
        self.calls = tuple(calls)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        changed = None
        for call in self.calls:
            found = call(module, args, kwargs)
            if found is not None:
                changed = args, kwargs = found
        return changed


class _After:
    """Several operations after a module: each gets the output that the one before it leaves."""

    def __init__(self, calls: Sequence[Callable[..., Any]]) -> None:
        self.calls = tuple(calls)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        changed = None
        for call in self.calls:
            found = call(module, args, kwargs, output)
            if found is not None:
                changed = output = found
        return changed


class Capture:
    """A value that one hook leaves for a later one in the same forward pass of the same thread."""

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}

    def put(self, value: Any) -> None:
        self._values[_thread()] = value

    def take(self) -> Any:
        """The value put last, once; None where there is none."""
        return self._values.pop(_thread(), None)


def _thread() -> int:
    """The thread; while torch.compile traces, which can't follow a thread's number, there is only one."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class _Hook:
    def __init__(self, hooks: Hooks, point: Point) -> None:
        self.hooks = hooks
        self.point = point

    def __call__(self, *args: Any) -> Any:
        act = self.hooks.plan.points.get(self.point)
        return None if act is None else act(*args)


class Hooks:
    """The hooks that are in the model's modules now. No hook stands where the plan does nothing."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self.plan = Plan()
        self._standing: dict[Point, RemovableHandle] = {}

    def switch(self, plan: Plan) -> None:
        """Make ``plan`` the active one. Cost: for plans that act at the same points, one assignment."""
        before, self.plan = self.plan, plan
        if before.points.keys() == plan.points.keys():
            return
        for point in before.points.keys() - plan.points.keys():
            self._standing.pop(point).remove()
        for point in plan.points:
            if point not in self._standing:
                self._standing[point] = self._stand(point)

    def _stand(self, point: Point) -> RemovableHandle:
        module = self.modules[point.module]
        if point.when == "before":
            return module.register_forward_pre_hook(_Hook(self, point), with_kwargs=True)
        return module.register_forward_hook(_Hook(self, point), with_kwargs=True)
