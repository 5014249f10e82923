"""PEFT's ``adapter_config.json`` as a frozen value of its method's class, read strictly and written back.

A key that adpm does not know, or a feature it does not run, is refused by name unless its value is off (null, false, 0,
an empty text, list or mapping): ``specs/peft.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from adpm import limits
from adpm.errors import AdapterError
from adpm.formats.json import open_json, pretty
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
from adpm.formats.peft_prompts import PeftAdaption, PeftPrefix, PeftPrompt, PeftPromptEncoder
from adpm.formats.reader import Document, Node, one_of

__all__ = ["PEFT_METHODS", "PeftLora", "PeftMethod", "peft_of", "read_peft_config", "write_peft_config"]

# Ways to start that change the base's weights by what nobody kept: data, or a quantisation. The peer fails at them too.
_CHANGES_BASE: Final = ("corda", "loftq")
_CODE: Final = "adapter-config-invalid"
# By the word in ``peft_type``.
PEFT_METHODS: Final[Mapping[str, type[PeftMethod]]] = {
    method.KIND: method
    for method in (
        PeftLora,
        PeftAdaLora,
        PeftAdaption,
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
        PeftPrefix,
        PeftPrompt,
        PeftPromptEncoder,
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
}


def _refuse_unsupported(value: Mapping[str, object], source: str) -> None:
    kind = value.get("peft_type")
    if isinstance(kind, str) and kind not in PEFT_METHODS:
        raise _unsupported(source, f"the method {kind}")
    for key in PEFT_METHODS[kind].REFUSED if isinstance(kind, str) else ():
        if value.get(key):
            raise _unsupported(source, f"the method {kind} with {key}")
    if kind == PeftLora.KIND:
        start = value.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
            raise AdapterError(
                "method-unsupported",
                f"{source} started as {start}, which changed the base's weights by what no file holds",
                cause="the adapter belongs to the changed base, which was saved beside it or not at all",
                hint="where your model is that changed base, write init_lora_weights: true into adapter_config.json",
            )


def _unsupported(source: str, what: str) -> AdapterError:
    return AdapterError(
        "method-unsupported",
        f"{source} is an adapter of {what}, which adpm does not run",
        hint=f"of PEFT's methods it runs {', '.join(sorted(PEFT_METHODS))}",
    )


def peft_of(value: Mapping[str, Any], *, source: str) -> PeftMethod:
    """A method's settings as a value; ``value`` is the content of an ``adapter_config.json``.

    Raises ``DocumentError`` (``adapter-config-invalid``) and ``AdapterError`` (``method-unsupported``).
    """
    _refuse_unsupported(value, source)
    return _decode(Document(dict(value), source=source, code=_CODE))


def read_peft_config(data: bytes, *, source: str) -> PeftMethod:
    """Read ``adapter_config.json``; faults as in :func:`peft_of`."""
    document = open_json(data, source=source, code=_CODE, limit=limits.CONFIG_BYTES)
    if isinstance(document.root.value, dict):
        _refuse_unsupported(document.root.value, source)
    return _decode(document)


def _decode(document: Document) -> PeftMethod:
    config = document.root.decode(_method)
    document.finish()
    return cast("PeftMethod", config)


def _method(node: Node) -> PeftMethod:
    kind = node.fields().need("peft_type", one_of(*PEFT_METHODS))
    if kind is None:
        node.fail("is no method's config")
    return PEFT_METHODS[kind].decode(node)


def write_peft_config(config: PeftMethod) -> bytes:
    """The bytes of an ``adapter_config.json`` that PEFT and adpm read as ``config``."""
    return pretty(config.value())
