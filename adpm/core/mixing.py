"""Which adapters may act together, from what is known of their methods and heads without reading weights.

One table for all who judge a composition. A method that the table does not know may do anything: what only the weights
can tell, the runtime checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from adpm.core.composition import Block, Composition, blocks, leaves
from adpm.core.release import Method
from adpm.errors import CompositionError

__all__ = ["METHODS", "Member", "Rule", "check_fusions", "check_mixing", "fused", "fusion_for"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a composition a method can't be part of. ``acts``: how it works, as the reason.

    ``lengthens``: it puts positions of its own before the text's, which only one adapter can do at a time.
    """

    acts: str
    never_in: frozenset[str] = frozenset()
    lengthens: bool = False


_LINEAR: Final = Rule(
    "it changes linear layers; AdapterFusion weighs the outputs of bottleneck adapters", frozenset({"fuse"})
)
_WHOLE: Final = frozenset({"fuse", "split", "average", "parallel", "batch"})
_HIDDEN: Final = Rule("it changes the hidden states of a whole pass, not those of parts of it", _WHOLE)
_PREFIX: Final = Rule(
    "it adds keys and values to attention, which have no position in the text and no output of their own",
    frozenset({"fuse", "split", "average"}),
)
_PROMPT: Final = Rule("it puts positions before the text's, which all parts would have to have", _WHOLE, lengthens=True)

# By the method's own name, as cards have it. After the table of composition blocks in AdapterHub's documentation, and
# PEFT's rule that prompt learning does not mix.
METHODS: Final[Mapping[str, Rule]] = {
    "bottleneck": Rule("it changes the output of a sub-layer"),
    **dict.fromkeys(
        (
            *("lora", "adalora", "dora", "vera", "mtl_lora", "ia3", "loha", "lokr", "oft", "boft", "hra", "fourierft"),
            *("c3a", "ln_tuning", "miss", "randlora", "road", "shira", "trainable_tokens", "vblora", "beft", "deft"),
            *("delora", "glora", "gralora", "hira", "peanut", "pvera", "supertuning"),
        ),
        _LINEAR,
    ),
    **dict.fromkeys(("reft", "loreft", "noreft", "direft"), _HIDDEN),
    "adaption_prompt": Rule("its prompts are attended to in every row and position", _WHOLE),
    "prefix_tuning": _PREFIX,
    **dict.fromkeys(("prompt_tuning", "p_tuning", "multitask_prompt_tuning", "cpt"), _PROMPT),
}
_PEFT: Final[Mapping[str, Rule]] = {"prefix_tuning": _PROMPT}  # handed to the model as a cache, for a whole pass


@dataclass(frozen=True, slots=True)
class Member:
    """An adapter of a composition: its method, and what tells its head from others; None without one.

    ``name``: what its own files call it, where that was read. ``fusion``: for which adapters, by such names, the
    weights for ``fuse`` were made that lie with it, if any do.
    """

    method: Method
    head: str | None = None
    name: str | None = None
    fusion: tuple[str, ...] | None = None

    @property
    def rule(self) -> Rule | None:
        """What its method can't be part of; None for a method that is not known."""
        own = _PEFT if self.method.format == "peft" else {}
        return own.get(self.method.kind) or METHODS.get(self.method.kind)


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
            rule = member(name).rule
            if rule is not None and composition.kind in rule.never_in:
                raise CompositionError(
                    "composition-method",
                    f"{what} can't {composition.kind} {name}, whose method is {member(name).method.kind}",
                    cause=f"{composition}: {rule.acts}",
                    hint=f"take {name} out of {composition.kind}(...)" + _instead(composition),
                )
        _check_methods(part, member, what)


def _instead(block: Block) -> str:
    if block.kind != "fuse":
        return ", or use adapters of another method there"
    return f", or weigh them yourself: average({', '.join(f'{part}: 1' for part in block.parts)})"


def _check_lengths(composition: Composition, member: Callable[[str], Member], what: str) -> None:
    """Those that lengthen the text stand in stacks alone, so that all of a composition act on one text."""
    long = [name for name in leaves(composition) if (rule := member(name).rule) is not None and rule.lengthens]
    if len(long) > 1:
        raise CompositionError(
            "composition-method",
            f"{what} stacks {long[0]} and {long[1]}, which both put positions before the text's",
            cause=f"{composition}: {member(long[0]).method.kind} and {member(long[1]).method.kind}; "
            "one can act at a time",
            hint=f"keep {long[0]} or {long[1]}, or make two compositions of it",
        )


def fused(block: Block) -> tuple[str, ...]:
    """The adapters whose outputs a ``fuse`` weighs: the last of each branch."""
    return tuple(list(leaves(part))[-1] for part in block.parts)


def fusion_for(block: Block, member: Callable[[str], Member], names: Iterable[str]) -> str | None:
    """Of ``names`` the first with weights that were made for what ``block`` fuses, in its order; None without one."""
    own = tuple(member(name).name for name in fused(block))
    return next((name for name in names if member(name).fusion == own), None)


def check_fusions(
    composition: Composition, member: Callable[[str], Member], names: Iterable[str], *, what: str
) -> None:
    """Raise ``CompositionError`` (``composition-fusion``) for a ``fuse`` of others than its weights were made for.

    ``names``: all that may bring weights. Where none of a composition's own adapters does, there is nothing to judge.
    """
    for block in blocks(composition):
        if block.kind != "fuse" or fusion_for(block, member, names) is not None:
            continue
        for name in dict.fromkeys(leaves(composition)):
            made = member(name).fusion
            if made is not None:
                called = ", ".join(f"{inner} ({member(inner).name or 'no name'})" for inner in fused(block))
                raise CompositionError(
                    "composition-fusion",
                    f"{what} fuses {', '.join(fused(block))}, but the weights that come with {name} "
                    f"were made for {', '.join(made)}",
                    cause=f"{block}: by the names in their own files these are {called}",
                    hint="fuse the adapters that they were made for, in that order, or bring weights for these",
                )


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
