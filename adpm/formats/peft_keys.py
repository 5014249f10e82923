"""How one key of PEFT's configs is read, and the mapping that a config class makes of its own fields.

A config is a frozen dataclass whose fields are made by :func:`key`: the decoder stands beside the default, so a class
is its own table of keys. What a file may hold beside them is in :attr:`PeftMethod.IGNORED`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Self, cast

from adpm import limits
from adpm.formats.adapterhub import close_unless_off
from adpm.formats.reader import Decoder, Node, flag, integer, list_of, one_of, text

__all__ = [
    "RANK",
    "Names",
    "PeftMethod",
    "by_pattern",
    "key",
    "names",
    "one_or_more",
    "pattern",
    "pattern_or_names",
    "word_or_flag",
]

_REPETITIONS: Final = 4  # of unbounded repetitions in one pattern; more could take for ever to fail
_RISKY: Final = re.compile(r"\)[*+{]|\\[1-9]")
# Keys that decide where files are or what PEFT wraps: never an output.
_HARMLESS: Final = frozenset({"auto_mapping", "inference_mode", "peft_type", "peft_version", "revision"})

Names = str | tuple[str, ...]  # a regular expression over whole names, or ends of names
RANK: Final = integer(1, limits.TENSOR_WIDTH)
names: Final = list_of(text)


def key(decoder: Decoder[Any], default: Any) -> Any:
    """A field of a config: how its value is read, and what stands for an absent or null one."""
    return field(default=default, metadata={"decoder": decoder})


def pattern(node: Node) -> str:
    """A regular expression that can't take for ever: files are not trusted."""
    value = text(node)
    if len(value) > limits.PATTERN_CHARACTERS:
        node.fail(f"has {len(value)} characters, at most {limits.PATTERN_CHARACTERS} are allowed")
    try:
        re.compile(value)
    except re.error as error:
        node.fail(f"is not a regular expression: {error}")
    if _RISKY.search(value) or len(re.findall(r"[*+]|\{\d*,", value)) > _REPETITIONS:
        node.fail("repeats groups or too much: to match it could take for ever")
    return value


def pattern_or_names(node: Node) -> Names:
    return pattern(node) if isinstance(node.value, str) else names(node)


def one_or_more(decoder: Decoder[Any]) -> Decoder[Any]:
    return lambda node: list_of(decoder)(node) if isinstance(node.value, list) else (decoder(node),)


def by_pattern(decoder: Decoder[Any]) -> Decoder[tuple[tuple[str, Any], ...]]:
    """A mapping from regular expressions over names to values, in the file's order."""

    def decode(node: Node) -> tuple[tuple[str, Any], ...]:
        out = []
        for child in node.children():
            found = Node(child.document, child.path, str(child.path[-1])).decode(pattern)
            value = child.decode(decoder)
            if found is not None and value is not None:
                out.append((found, value))
        return tuple(out)

    return decode


def word_or_flag(*words: str) -> Decoder[bool | str]:
    """True, false or one of ``words``; any word where none is given."""
    word: Decoder[Any] = one_of(*words) if words else text
    return lambda node: word(node) if isinstance(node.value, str) else flag(node)


@dataclass(frozen=True, kw_only=True)
class PeftMethod:
    """What the configs of all methods have. Values are as in the file: lists are tuples, mappings tuples of pairs.

    ``KIND`` is the method's word in ``peft_type``; ``IGNORED`` are keys that never change an output, ``ABSENT`` keys of
    this class that the method's config does not have in the peer.
    """

    KIND: ClassVar[str]
    IGNORED: ClassVar[frozenset[str]] = frozenset()
    REFUSED: ClassVar[tuple[str, ...]] = ()  # keys that change outputs and that adpm does not run
    ABSENT: ClassVar[frozenset[str]] = frozenset()

    target_modules: Names = key(pattern_or_names, ())
    exclude_modules: Names = key(pattern_or_names, ())
    layers_to_transform: tuple[int, ...] = key(one_or_more(integer(0)), ())
    layers_pattern: tuple[str, ...] = key(one_or_more(pattern), ())
    modules_to_save: tuple[str, ...] = key(list_of(pattern), ())
    bias: str = key(text, "none")
    fan_in_fan_out: bool = key(flag, False)
    task_type: str | None = key(text, None)
    base_model_name_or_path: str | None = key(text, None)

    @classmethod
    def decode(cls, node: Node) -> Self:
        """The config in a mapping; unknown keys are faults unless they are off."""
        found = node.fields()
        values: dict[str, Any] = {}
        known = cls.keys()
        for entry in known:
            value = found.get(entry, cls._decoder(entry))
            if value is not None:
                values[entry] = value
        close_unless_off(node, (*known, *cls.IGNORED, *cls.REFUSED, *_HARMLESS))
        only = cls.KIND.lower() + "_only"
        if "bias" in values and values["bias"] not in ("none", "all") and not str(values["bias"]).endswith("_only"):
            node.document.report((*node.path, "bias"), f"{values['bias']!r} is none of none, all, {only}")
        config = cls(**values)
        config.check(node)
        return config

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The keys that a file may have, in a fixed order."""
        return tuple(entry.name for entry in fields(cls) if entry.name not in cls.ABSENT)

    @classmethod
    def _decoder(cls, name: str) -> Decoder[Any]:
        decoders = {entry.name: entry.metadata["decoder"] for entry in fields(cls)}
        return cast("Decoder[Any]", decoders[name])

    def check(self, node: Node) -> None:
        """Report values that don't go together."""
        if not self.target_modules:
            node.document.report((*node.path, "target_modules"), "is missing")

    def as_stored(self, shapes: Mapping[str, tuple[int, ...]]) -> Self:  # noqa: ARG002 - what others look at
        """The config that a file's tensors (name to shape) say it was, where the peer writes another."""
        return self

    def value(self) -> dict[str, Any]:
        """The mapping that :meth:`decode` reads."""
        out: dict[str, Any] = {"peft_type": self.KIND, "inference_mode": True}
        for name in self.keys():
            found = getattr(self, name)
            if name.endswith("_pattern") and name != "layers_pattern":
                found = {pair[0]: list(pair[1]) if isinstance(pair[1], tuple) else pair[1] for pair in found}
            elif isinstance(found, tuple):
                found = list(found) or None
            out[name] = found
        return out
