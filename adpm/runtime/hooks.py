"""How a plan meets the model: one forward hook a point, which asks the active plan what to do.

Hooks are objects and not closures, so that a deep copy of a model has hooks of its own that ask its own handle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from adpm.errors import CompositionError
from adpm.runtime.replication import Replicas

__all__ = ["Act", "Capture", "Hooks", "Order", "Plan", "Point", "plan_of"]


class Point(NamedTuple):
    """A place where something can act: before or after the forward pass of the module called ``module``, or always
    after it: after one that failed too, whose output is None then."""

    module: str
    when: Literal["before", "after", "always"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What acts where under one composition, made when it is first activated.

    Before a module: (module, args, kwargs) to the (args, kwargs) to use instead, or None. After it: (module, args,
    kwargs, output) to the output to use instead, or None.
    """

    points: Mapping[Point, Callable[..., Any]] = field(default_factory=dict)
    composition: Any = None  # what it is the plan of
    labels: Mapping[str, int] | None = None  # of the head that speaks
    replicas: Replicas | None = None  # the layers that it is for, where they are not the model's own
    modules: Mapping[str, nn.Module] | None = None  # by name, with those layers


class Order(IntEnum):
    """Which of several operations at one point comes first."""

    FIRST = -1  # changes what all others see
    MODULE = 0  # changes what the module itself computes
    SUBLAYER = 1  # acts on what a sub-layer gives
    SEE = 2  # looks at the outcome
    LAST = 3  # changes what none of the others may see


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

    def see(self) -> Any:
        """The value put last, which stays; None where there is none.

        A thread without a value, such as one of torch's that computes a pass again, sees that of the only one with one.
        """
        values = self._values
        thread = _thread()
        if thread in values or len(values) != 1:
            return values.get(thread)
        return next(iter(values.values()))


def _thread() -> int:
    """The thread; while torch.compile traces, which can't follow a thread's number, there is only one."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class _Hook:
    def __init__(self, hooks: Hooks, point: Point) -> None:
        self.hooks = hooks
        self.point = point

    def __call__(self, *args: Any) -> Any:
        act = self.hooks.current().points.get(self.point)
        return None if act is None else act(*args)


_LOCK: Final = threading.RLock()  # for moving hooks; not the handle's own, for locks can't be copied


class Hooks:
    """The hooks that are in the model's modules now. No hook stands where no thread's plan does anything.

    All threads follow one plan, but for those that have entered one of their own.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self.plan = Plan()
        self._replicas: Replicas | None = None  # that the model has now
        self._own: dict[int, Plan] = {}
        self._standing: dict[Point, RemovableHandle] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy, in whatever process, has the plan that its maker followed, for all threads."""
        return {**self.__dict__, "plan": self.current(), "_own": {}}

    def current(self) -> Plan:
        """The plan of this thread."""
        own = self._own
        if not own:
            return self.plan
        if torch.compiler.is_compiling():  # a thread's number can't be traced; who compiles entered last
            return next(reversed(own.values()))
        plan = own.get(threading.get_ident())
        return self._of_a_helper() if plan is None else plan

    def plans(self) -> Iterator[Plan]:
        """Every plan that some thread follows."""
        yield self.plan
        yield from tuple(self._own.values())

    def switch(self, plan: Plan) -> None:
        """Make ``plan`` the one that all threads follow; in a thread that has entered its own, replace that one.

        Cost: for plans that act at the same points, one assignment.
        """
        self._check(plan)
        thread = threading.get_ident()
        if thread in self._own:
            self._own[thread] = plan
        else:
            self.plan = plan
        self._settle()

    def enter(self, plan: Plan) -> Plan | None:
        """Give this thread a plan of its own; what to ``leave`` with."""
        self._check(plan)
        thread = threading.get_ident()
        before = self._own.get(thread)
        self._own[thread] = plan
        self._settle()
        return before

    def leave(self, before: Plan | None) -> None:
        """Undo ``enter``, which returned ``before``."""
        thread = threading.get_ident()
        if before is None:
            self._own.pop(thread, None)
        else:
            self._own[thread] = before
        self._settle()

    def clear(self) -> None:
        """Nothing acts in any thread, and no hook stands."""
        self._own.clear()
        self.switch(Plan())

    def _of_a_helper(self) -> Plan:
        """The plan of a thread that has none of its own: that of the only one that has, where this one is torch's.

        Backward passes that compute a forward pass again (checkpointing on a GPU) do so in threads of torch's.
        """
        if len(self._own) == 1 and all(thread.ident != threading.get_ident() for thread in threading.enumerate()):
            return next(iter(self._own.values()), self.plan)
        return self.plan

    def _check(self, plan: Plan) -> None:
        """Raise ``CompositionError`` (``composition-unsupported``) where another thread runs the model with others of
        its layers than ``plan`` is for."""
        thread = threading.get_ident()
        if any(other.replicas is not plan.replicas for ident, other in self._own.items() if ident != thread):
            raise CompositionError(
                "composition-unsupported",
                f"{plan.composition} can't be run beside what another thread uses",
                cause="one of the two replicates layers of the model, which all threads share",
                hint="run adapters that replicate layers in one thread, or on a copy of the model",
            )

    def _replicate(self, plan: Plan) -> None:
        """Give the model the layers that ``plan`` is for; no hook stands then."""
        for handle in self._standing.values():
            handle.remove()
        self._standing.clear()
        if self._replicas is not None:
            self._replicas.leave()
        if plan.replicas is not None:
            plan.replicas.enter()
        self._replicas = plan.replicas

    def _settle(self) -> None:
        current = self.current()
        if not self._own and self._standing.keys() == current.points.keys() and current.replicas is self._replicas:
            return
        with _LOCK:
            if current.replicas is not self._replicas:
                self._replicate(current)
            plans = [plan for plan in self.plans() if plan.replicas is self._replicas]
            wanted = {point for plan in plans for point in plan.points}
            for point in self._standing.keys() - wanted:
                self._standing.pop(point).remove()
            for point in wanted - self._standing.keys():
                self._standing[point] = self._stand(point)

    def _stand(self, point: Point) -> RemovableHandle:
        module = (self.current().modules or self.modules)[point.module]
        if point.when == "before":
            return module.register_forward_pre_hook(_Hook(self, point), with_kwargs=True)
        # First, so that what transformers records of a layer is what the next one gets, whenever it began to record.
        always = point.when == "always"
        return module.register_forward_hook(_Hook(self, point), with_kwargs=True, prepend=True, always_call=always)
