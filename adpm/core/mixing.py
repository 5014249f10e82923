"""Which adapters may act together, from what is known of their methods and heads without reading weights.

One table for all who judge a composition. A method that the table does not know may do anything: what only the weights
can tell, the runtime checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from adpm.core.composition import Block, Composition, leaves
from adpm.errors import CompositionError

__all__ = ["METHODS", "Member", "Method", "check_mixing"]


@dataclass(frozen=True, slots=True)
class Method:
    """What of a composition a method can't be part of. ``acts``: how it works, as the reason.

    ``lengthens``: it puts positions of its own before the text's, which only one adapter can do at a time.
    """

    acts: str
    never_in: frozenset[str] = frozenset()
    lengthens: bool = False


_LINEAR: Final = Method(
    "it changes linear layers; AdapterFusion weighs the outputs of bottleneck adapters", frozenset({"fuse"})
)
_HIDDEN: Final = Method(
    "it changes hidden states; AdapterFusion weighs the outputs of bottleneck adapters", frozenset({"fuse"})
)
_PREFIX: Final = Method(
    "it adds keys and values to attention, which have no position in the text and no output of their own",
    frozenset({"fuse", "split", "average"}),
    lengthens=True,
)
_PROMPT: Final = Method(
    "it puts positions before the text's, which all parts would have to have",
    frozenset({"fuse", "split", "average", "parallel", "batch"}),
    lengthens=True,
)

# By the method's own name, as cards have it. After the table of composition blocks in AdapterHub's documentation, and
# PEFT's rule that prompt learning does not mix.
METHODS: Final[Mapping[str, Method]] = {
    "bottleneck": Method("it changes the output of a sub-layer"),
    **dict.fromkeys(
        ("lora", "adalora", "dora", "vera", "ia3", "loha", "lokr", "oft", "boft", "hra", "fourierft"), _LINEAR
    ),
    **dict.fromkeys(("reft", "loreft", "noreft", "direft"), _HIDDEN),
    "adaption_prompt": Method(
        "its prompts are attended to in every row and position",
        frozenset({"fuse", "split", "average", "parallel", "batch"}),
    ),
    "prefix_tuning": _PREFIX,
    **dict.fromkeys(("prompt_tuning", "p_tuning", "multitask_prompt_tuning", "cpt"), _PROMPT),
}


@dataclass(frozen=True, slots=True)
class Member:
    """An adapter of a composition: its method's name, and what tells its head from others; None without one."""

    method: str
    head: str | None = None


def check_mixing(composition: Composition, member: Callable[[str], Member], *, what: str) -> None:
    """Raise ``CompositionError`` (``composition-method``, ``composition-heads``) for what can't act together.

    ``member`` tells what is behind a name; ``what`` is what the composition is called.
    """
    _check_methods(composition, member, what)
    _check_lengths(composition, member, what)
    for heads in _heads(composition, member):
        if len({member(name).head for name in heads}) > 1:
            raise CompositionError(
                "composition-heads",
                f"{what} has {len(heads)} heads side by side: of {', '.join(heads)}",
                cause=f"{composition}: one head makes the output of a text, and none of these comes last",
                hint="put an adapter with the head that is meant behind them: stack(..., NAME)",
            )


def _check_methods(composition: Composition, member: Callable[[str], Member], what: str) -> None:
    if not isinstance(composition, Block):
        return
    for part in composition.parts:
        for name in leaves(part):
            method = METHODS.get(member(name).method)
            if method is not None and composition.kind in method.never_in:
                raise CompositionError(
                    "composition-method",
                    f"{what} can't {composition.kind} {name}, whose method is {member(name).method}",
                    cause=f"{composition}: {method.acts}",
                    hint=f"take {name} out of {composition.kind}(...)" + _instead(composition),
                )
        _check_methods(part, member, what)


def _instead(block: Block) -> str:
    if block.kind != "fuse":
        return ", or use adapters of another method there"
    return f", or weigh them yourself: average({', '.join(f'{part}: 1' for part in block.parts)})"


def _check_lengths(composition: Composition, member: Callable[[str], Member], what: str) -> None:
    for names in _together(composition):
        long = [name for name in names if (method := METHODS.get(member(name).method)) and method.lengthens]
        if len(long) > 1:
            raise CompositionError(
                "composition-method",
                f"{what} stacks {long[0]} and {long[1]}, which both put positions before the text's",
                cause=f"{composition}: {member(long[0]).method} and {member(long[1]).method}; one can act at a time",
                hint=f"keep {long[0]} or {long[1]}, or make two compositions of it",
            )


def _together(composition: Composition) -> Iterator[tuple[str, ...]]:
    """The names that act on one text, once for each way through the branches."""
    if not isinstance(composition, Block):
        yield (composition,)
    elif composition.kind in {"parallel", "batch"}:
        for part in composition.parts:
            yield from _together(part)
    else:
        ways: list[tuple[str, ...]] = [()]
        for part in composition.parts:
            found = list(_together(part))
            ways = [(*before, *after) for before in ways for after in found][:_WAYS]
        yield from ways


_WAYS: Final = 1_000  # a composition with more ways through it is judged by these


def _heads(composition: Composition, member: Callable[[str], Member]) -> list[list[str]]:
    """Whose heads would make each output: one name where one comes last, several where none does.

    Each branch of ``parallel`` and ``batch`` has an output of its own.
    """
    if not isinstance(composition, Block):
        return [[composition]] if member(composition).head is not None else []
    if composition.kind in {"stack", "skip"}:
        return next((heads for part in reversed(composition.parts) if (heads := _heads(part, member))), [])
    outputs = [heads for part in composition.parts for heads in _heads(part, member)]
    if composition.kind in {"parallel", "batch"} or not outputs:
        return outputs
    return [[name for heads in outputs for name in heads]]
