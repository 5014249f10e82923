"""How releases are chosen, as manifests and locks say it: the keys of ``adpm.core.rules.Rules``."""

from __future__ import annotations

from typing import Any

from adpm.core.moment import cutoff
from adpm.core.names import PackageName
from adpm.core.requirement import Requirement
from adpm.core.rules import RESOLUTIONS, Override, Rules
from adpm.formats.card import license_
from adpm.formats.reader import Fields, Node, flag, list_of, one_of, parsed

__all__ = ["rules_fields", "rules_value"]


def rules_fields(fields: Fields) -> Rules:
    """Read the keys of the rules; each package may be named once."""
    rules = Rules(
        overrides=fields.get("overrides", _overrides, default=()),
        exclude=fields.get("exclude", _exclude, default=()),
        resolution=fields.get("resolution", one_of(*RESOLUTIONS), default="highest"),
        exclude_newer=fields.get("exclude-newer", parsed(cutoff)),
        licenses=fields.get("licenses", _licenses),
        exclude_undated=fields.get("exclude-undated", flag, default=True),
    )
    for name in rules.exclude or ():
        if any(override.requirement.name == name for override in rules.overrides or ()):
            fields.node.document.report((*fields.node.path, "exclude"), f"{name} is overridden too; do one of the two")
    return rules


def rules_value(rules: Rules) -> dict[str, Any]:
    """What a lock says of ``rules``: only what is not as it would be anyway."""
    out: dict[str, Any] = {}
    if rules.overrides:
        out["overrides"] = [str(override.requirement) for override in rules.overrides]
    if rules.exclude:
        out["exclude"] = [str(name) for name in rules.exclude]
    if rules.resolution != "highest":
        out["resolution"] = rules.resolution
    if rules.exclude_newer is not None:
        out["exclude-newer"] = rules.exclude_newer
    if not rules.exclude_undated:
        out["exclude-undated"] = False
    if rules.licenses is not None:
        out["licenses"] = {"allow": list(rules.licenses)}
    return out


def _licenses(node: Node) -> tuple[str, ...]:
    fields = node.fields()
    allow = fields.need("allow", list_of(license_))
    fields.close()
    return tuple(sorted(set(allow or ())))


def _overrides(node: Node) -> tuple[Override, ...]:
    overrides = list_of(lambda inner: Override(parsed(Requirement.fixed)(inner), inner.line))(node)
    if len({override.requirement.name for override in overrides}) != len(overrides):
        node.fail("overrides one package twice; join the constraints with a comma")
    return tuple(sorted(overrides, key=lambda override: override.requirement.name))


def _exclude(node: Node) -> tuple[PackageName, ...]:
    return tuple(sorted(set(list_of(parsed(PackageName.parse))(node))))
