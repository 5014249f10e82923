"""Reading ``adapter.yaml``. Its grammar is in ``specs/manifest.md``; editing it is in ``adpm.formats.edit``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from adpm import limits
from adpm.core.address import has_secret
from adpm.core.composition import Composition, leaves, parse_composition
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.manifest import BaseSource, Manifest, PackageHeader, RegistrySource, Wanted
from adpm.core.metrics import Floor, Preference
from adpm.core.names import Alias, Channel, PackageName, parse_version
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.source import is_source, parse_source
from adpm.core.workspace import Workspace, member_pattern
from adpm.errors import DocumentError, Fault, UsageError
from adpm.formats.card import language, license_, metric, task
from adpm.formats.conflict import markers
from adpm.formats.reader import Decoder, Fields, Node, list_of, map_of, parsed, text
from adpm.formats.rules import rules_fields
from adpm.formats.source import wanted_source
from adpm.formats.yaml import YamlDocument, open_yaml

__all__ = ["floors", "open_manifest", "read_manifest", "registry_name"]

_REGISTRY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_PATTERN: Final = re.compile(r"[a-z0-9._/*-]{1,128}\Z")


def registry_name(name: str) -> str:
    """A registry's name: lower-case letters, digits, ``-``, ``_``; else ``UsageError`` (``registry-name-invalid``)."""
    if not _REGISTRY.match(name):
        raise UsageError(
            "registry-name-invalid",
            f"{name[:80]!r} is not a registry's name",
            hint="use up to 64 lower-case letters, digits, '-' and '_', such as 'team'",
        )
    return name


def read_manifest(data: bytes, source: str, root: Manifest | None = None) -> Manifest:
    """Read a manifest; raises ``DocumentError`` (``manifest-invalid``) with all its faults and their lines.

    ``root``: of a workspace's member the root's, which says for all what registries and rules there are, and what the
    base is where the member does not.
    """
    return open_manifest(data, source, root)[0]


def open_manifest(data: bytes, source: str, root: Manifest | None = None) -> tuple[Manifest, YamlDocument]:
    """The manifest and the document it was read from, for those who edit it."""
    _check_merged(data, source)
    document = open_yaml(data, source=source, code="manifest-invalid", limit=limits.MANIFEST_BYTES)
    if document.root.value is None:
        return _completed(document.root, Manifest(), root), document
    manifest = document.root.decode(lambda node: _manifest(node, root))
    document.finish()
    assert manifest is not None  # noqa: S101 - finish has raised otherwise
    return manifest, document


def _check_merged(data: bytes, source: str) -> None:
    conflicts = markers(data)[: limits.DOCUMENT_FAULTS]
    if conflicts:
        faults = [Fault("", "git's conflict marker: two sides were not merged", line) for line in conflicts]
        hint = f"settle {source} by hand first; then 'adpm lock' settles {LOCK_FILE}"
        raise DocumentError("manifest-invalid", source, faults, hint=hint)


def _compose(node: Node) -> Mapping[str, Composition]:
    """Compositions by name. Between braces YAML ends a value at a comma, so that the rest of one becomes a name."""
    if any(str(child.path[-1]).count(")") > str(child.path[-1]).count("(") for child in node.children()):
        node.fail("has a composition cut at a comma: put it in quotes, or on a line of its own")
    read: Decoder[Mapping[str, Composition]] = map_of(Alias.parse, parsed(parse_composition))
    return read(node)


def _manifest(node: Node, root: Manifest | None) -> Manifest:
    fields = node.fields()
    manifest = Manifest(
        base=fields.get("base", _base),
        bases=fields.get("bases", map_of(Alias.parse, _base), default={}),
        registries=fields.get("registries", list_of(_registry, most=limits.REGISTRIES), default=()),
        adapters=(
            *(fields.get("adapters", _adapters) or ()),
            *(wanted for group in (fields.get("groups", _groups) or {}).values() for wanted in group),
        ),
        compose=fields.get("compose", _compose, default={}),
        package=fields.get("package", _package),
        rules=rules_fields(fields),
        workspace=fields.get("workspace", _workspace),
    )
    fields.close()
    if not node.document.faults:
        manifest = _completed(node, manifest, root)
        _check_aliases(node, manifest)
        _check_registries(node, manifest)
        _check_bases(node, manifest)
        _check_compositions(node, manifest)
        _check_exclusions(node, manifest, root)
    return manifest


def _completed(node: Node, manifest: Manifest, root: Manifest | None) -> Manifest:
    """A member's manifest with what the root of its workspace says for it; what only the root may say is a fault."""
    if root is None:
        return manifest
    given = [key for key in ("workspace", "registries") if getattr(manifest, key)]
    rules = [field.name for field in dataclasses.fields(Rules)]
    given += [key.replace("_", "-") for key in rules if getattr(manifest.rules, key) != getattr(Rules(), key)]
    for key in given:
        node.document.report((key,), f"is for the whole workspace: it stands in the {MANIFEST_FILE} of its root")
    if manifest.base is None and not manifest.bases:
        manifest = replace(manifest, base=root.base, bases=root.bases)
    return replace(manifest, registries=root.registries, rules=root.rules)


def _workspace(node: Node) -> Workspace:
    fields = node.fields()
    workspace = Workspace(
        fields.need("members", list_of(parsed(member_pattern))),
        fields.get("exclude", list_of(parsed(member_pattern)), default=()),
    )
    fields.close()
    return workspace


def _base(node: Node) -> BaseSource:
    if isinstance(node.value, str):
        return BaseSource(model=text(node))
    fields = node.fields()
    base = BaseSource(
        model=fields.get("model", text),
        revision=fields.get("revision", text),
        path=fields.get("path", text),
        license=fields.get("license", license_),
    )
    fields.close()
    if base.model is None and base.path is None:
        node.fail("names neither a model nor a path")
    return base


def _registry(node: Node) -> RegistrySource:
    fields = node.fields()
    registry = RegistrySource(
        name=fields.need("name", parsed(registry_name)),
        url=fields.need("url", _url),
        packages=fields.get("packages", list_of(_pattern), default=()),
        mirrors=fields.get("mirrors", list_of(_url, most=limits.MIRRORS), default=()),
    )
    fields.close()
    return registry


def _url(node: Node) -> str:
    url = text(node)
    if has_secret(url):
        node.fail("has a user or password in it, which everybody reads here: take it out, and run 'adpm login HOST'")
    return url


def _pattern(node: Node) -> str:
    pattern = text(node)
    if not _PATTERN.match(pattern):
        node.fail(f"{pattern[:80]!r} is not a pattern of package names such as 'team/*'")
    return pattern


def _adapters(node: Node) -> tuple[Wanted, ...]:
    return tuple(map_of(Alias.parse, _wanted)(node).values())


def _groups(node: Node) -> dict[Alias, tuple[Wanted, ...]]:
    return map_of(Alias.parse, _group)(node)


def _group(node: Node) -> tuple[Wanted, ...]:
    return tuple(replace(wanted, group=str(node.path[-1])) for wanted in _adapters(node))


def _path(wanted: Wanted) -> tuple[str, ...]:
    """Where an adapter stands in the manifest."""
    return ("adapters", str(wanted.alias)) if wanted.group is None else ("groups", wanted.group, str(wanted.alias))


def _wanted(node: Node) -> Wanted:
    alias = Alias(node.path[-1])  # checked by map_of
    if isinstance(node.value, str):
        line = text(node)
        return Wanted(alias, parse_source(line) if is_source(line) else Requirement.parse(line), line=node.line)
    fields = node.fields()
    kind = _source_kind(node, fields)
    if kind is not None:
        source = wanted_source(node, fields, kind)
        base, slot = _place(fields)
        fields.close()
        return Wanted(alias, source, None, base, slot, line=node.line)
    package = fields.need("package", parsed(PackageName.parse))
    registry = fields.get("registry", parsed(registry_name))
    base, slot = _place(fields)
    where, prefer = fields.get("where", floors) or (), fields.get("prefer", parsed(Preference.parse))
    plain = Requirement(package)
    requirement = fields.get("version", lambda v: Requirement.parse(f"{package or 'x'} {text(v)}"), default=plain)
    channel = fields.get("channel", parsed(Channel.parse))
    if channel is not None:
        if requirement is not plain:
            node.fail("has 'version' and 'channel'; a channel means one release: leave 'version' out")
        requirement = Requirement(package, channel=channel)
    fields.close()
    return Wanted(alias, requirement, registry, base, slot, where=where, prefer=prefer, line=node.line)


def floors(node: Node) -> tuple[Floor, ...]:
    """One floor, or a list of them, each once."""
    one = parsed(Floor.parse)
    return (one(node),) if isinstance(node.value, str) else tuple(dict.fromkeys(list_of(one)(node)))


def _place(fields: Fields) -> tuple[str | None, str | None]:
    """The base and the slot that an adapter is for."""
    return fields.get("base", parsed(Alias.parse)), fields.get("slot", parsed(Alias.parse))


def _source_kind(node: Node, fields: Fields) -> str | None:
    """The key under which a mapping names a direct source; None where it wants a package from the registries."""
    given = [key for key in ("package", "path", "git") if key in fields]
    if len(given) > 1:
        node.fail(f"has {' and '.join(map(repr, given))}: an adapter comes from one place")
    if given in (["path"], ["git"]):
        return given[0]
    package = fields.get("package", lambda value: value.value)
    return "package" if isinstance(package, str) and is_source(package) else None


def _package(node: Node) -> PackageHeader:
    fields = node.fields()
    header = PackageHeader(
        name=fields.need("name", parsed(PackageName.parse)),
        version=fields.need("version", parsed(parse_version)),
        requires=fields.get("requires", _requirements, default=()),
        description=fields.get("description", text),
        task=fields.get("task", task),
        language=fields.get("language", language),
        license=fields.get("license", license_),
        metrics=fields.get("metrics", list_of(metric, most=limits.METRICS), default=()),
    )
    fields.close()
    return header


def _requirements(node: Node) -> tuple[Requirement, ...]:
    requirements = list_of(parsed(Requirement.fixed))(node)
    if len({requirement.name for requirement in requirements}) != len(requirements):
        node.fail("requires one package twice; join the constraints with a comma")
    return tuple(sorted(requirements, key=lambda requirement: requirement.name))


def _check_aliases(node: Node, manifest: Manifest) -> None:
    seen: dict[Alias, Wanted] = {}
    for wanted in manifest.adapters:
        other = seen.setdefault(wanted.alias, wanted)
        if other is not wanted:
            node.document.report(_path(wanted), f"{wanted.alias!r} stands under {'.'.join(_path(other))} too")


def _check_registries(node: Node, manifest: Manifest) -> None:
    names = [registry.name for registry in manifest.registries]
    for i, name in enumerate(names):
        if name in names[:i]:
            node.document.report(("registries", i, "name"), f"a registry named {name!r} is declared above")
    for wanted in manifest.adapters:
        if wanted.registry is not None and wanted.registry not in names:
            known = f"; declared are {', '.join(names)}" if names else ""
            node.document.report(_path(wanted), f"no registry named {wanted.registry!r} is declared{known}")


def _check_bases(node: Node, manifest: Manifest) -> None:
    if manifest.base is not None and manifest.bases:
        node.document.report(("bases",), "a project has 'base' or 'bases', not both")
    declared = f"; declared are {', '.join(manifest.bases)}" if manifest.bases else ""
    for wanted in manifest.adapters:
        path = _path(wanted)
        if wanted.base is None and manifest.bases:
            node.document.report(path, f"does not say which base it is for{declared}")
        elif wanted.base is not None and wanted.base not in manifest.bases:
            node.document.report(path, f"no base named {wanted.base!r} is declared under bases{declared}")


def _check_compositions(node: Node, manifest: Manifest) -> None:
    """Names that can only be aliases must be declared; names with a ``/`` may be packages that the lock will bring."""
    aliases = {str(wanted.alias) for wanted in manifest.adapters}
    for name, composition in manifest.compose.items():
        for leaf in dict.fromkeys(leaves(composition)):
            if leaf not in aliases and not _may_be_package(leaf):
                node.document.report(("compose", str(name)), f"{leaf!r} is no alias under adapters")


def _check_exclusions(node: Node, manifest: Manifest, root: Manifest | None) -> None:
    """What the project itself wants can't be excluded: that is for what releases require."""
    for wanted in manifest.adapters:
        if isinstance(wanted.requirement, Requirement) and wanted.requirement.name in manifest.rules.exclude:
            path, name = _path(wanted), wanted.requirement.name
            if root is None:
                node.document.report(("exclude",), f"{name} is wanted under {'.'.join(path)}")
            else:
                node.document.report(path, f"{name} stands under 'exclude' in the workspace's root")


def _may_be_package(leaf: str) -> bool:
    try:
        PackageName.parse(leaf)
    except UsageError:
        return False
    return "/" in leaf
