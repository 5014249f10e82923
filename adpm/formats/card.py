"""The card: what a release says of itself, as canonical JSON. It is the config blob of the release's OCI manifest."""

from __future__ import annotations

import re
from typing import Any, Final

from packaging.version import Version

from adpm import limits
from adpm.core.names import Digest, PackageName, parse_version
from adpm.core.release import Card, Method, Metric
from adpm.core.requirement import Requirement
from adpm.formats.base import base_node, base_value
from adpm.formats.json import canonical, open_json
from adpm.formats.reader import Decoder, Node, list_of, map_of, number, one_of, parsed, text

__all__ = [
    "CARD_FORMAT",
    "language",
    "license_",
    "metric",
    "metric_value",
    "read_card",
    "requires_node",
    "requires_value",
    "task",
    "write_card",
]

CARD_FORMAT: Final = 1
_TASK: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?\Z")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")
_LICENSE: Final = re.compile(r"[A-Za-z0-9.+() -]{1,100}\Z")


def _matching(pattern: re.Pattern[str], wanted: str) -> Decoder[str]:
    def decode(node: Node) -> str:
        value = text(node)
        if not pattern.match(value):
            node.fail(f"{value[:80]!r} is not {wanted}")
        return value

    return decode


task: Final = _matching(_TASK, "a task such as sentiment/sst-2")
language: Final = _matching(_LANGUAGE, "a BCP 47 language tag such as en or pt-BR")
license_: Final = _matching(_LICENSE, "an SPDX license expression such as Apache-2.0")


def metric(node: Node) -> Metric:
    """``{name: accuracy, value: 0.924, dataset: sst-2, split: validation}``."""
    fields = node.fields()
    out = Metric(
        name=fields.need("name", text),
        value=fields.need("value", number),
        dataset=fields.get("dataset", text),
        split=fields.get("split", text),
    )
    fields.close()
    return out


def requires_node(node: Node) -> tuple[Requirement, ...]:
    """``{"lang/en": ">=1,<2"}``: package names to constraints in the requirement grammar."""
    requirements = map_of(PackageName.parse, _requirement)(node).values()
    return tuple(sorted(requirements, key=lambda requirement: requirement.name))


def _requirement(node: Node) -> Requirement:
    constraint = "" if node.value == "" else text(node)
    return Requirement.fixed(f"{node.path[-1]} {constraint}")


def requires_value(requires: tuple[Requirement, ...]) -> dict[str, str]:
    return {str(requirement.name): requirement.constraint for requirement in requires}


def write_card(card: Card) -> bytes:
    """The canonical bytes of ``card``: they depend on its content alone. A score without a fraction is an integer."""
    out: dict[str, Any] = {
        "card": CARD_FORMAT,
        "name": str(card.name),
        "version": str(card.version),
        "base": base_value(card.base),
        "method": {"format": card.method.format, "kind": card.method.kind},
    }
    if card.requires:
        out["requires"] = requires_value(card.requires)
    for key in ("description", "task", "language", "license"):
        value = getattr(card, key)
        if value is not None:
            out[key] = value
    if card.metrics:
        out["metrics"] = [metric_value(m) for m in card.metrics]
    if card.parents:
        out["parents"] = list(card.parents)
    return canonical(out)


def metric_value(m: Metric) -> dict[str, Any]:
    """The JSON object that ``metric`` reads."""
    whole = abs(m.value) <= limits.INTEGER_MAX and m.value == int(m.value)
    parts = {"name": m.name, "value": int(m.value) if whole else m.value, "dataset": m.dataset, "split": m.split}
    return {key: value for key, value in parts.items() if value is not None}


def read_card(data: bytes, source: str) -> Card:
    """Read a card; raises ``DocumentError`` (``card-invalid``) with all its faults.

    Strict: it must be the very bytes that ``write_card`` makes of its content, so that one content has one digest.
    """
    document = open_json(data, source=source, code="card-invalid", limit=limits.CARD_BYTES)
    card = document.root.decode(_card)
    if card is not None and not document.faults and write_card(card) != data:
        document.report((), "is not in canonical form")
    document.finish(hint="the release was not made by adpm, or it was damaged; ask its publisher")
    assert card is not None  # noqa: S101 - finish has raised otherwise
    return card


def _card(node: Node) -> Card:
    fields = node.fields()
    fields.need("card", _format)
    version: Version = fields.need("version", parsed(parse_version))
    card = Card(
        name=fields.need("name", parsed(PackageName.parse)),
        version=version,
        base=fields.need("base", base_node),
        method=fields.need("method", _method),
        requires=fields.get("requires", requires_node, default=()),
        description=fields.get("description", text),
        task=fields.get("task", task),
        language=fields.get("language", language),
        license=fields.get("license", license_),
        metrics=fields.get("metrics", list_of(metric, most=limits.METRICS), default=()),
        parents=fields.get("parents", list_of(parsed(Digest.parse), most=limits.PARENTS), default=()),
    )
    fields.close()
    return card


def _format(node: Node) -> None:
    if node.value != CARD_FORMAT or type(node.value) is not int:
        node.fail(f"this adpm reads card format {CARD_FORMAT}, this is {node.value!r}; a newer adpm may read it")


def _method(node: Node) -> Method:
    fields = node.fields()
    method = Method(format=fields.need("format", one_of("adapterhub", "peft")), kind=fields.need("kind", text))
    fields.close()
    return method
