"""Reading and writing ``adapter.lock``: canonical JSON, one package a block, so that git merges it line by line.

The grammar is in ``specs/lock.md``. ``write_lock`` of what ``read_lock`` read gives the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

from packaging.version import Version

from adpm import limits
from adpm.core.composition import Composition, parse_composition
from adpm.core.files import LOCK_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedMember, LockedPackage, package_key
from adpm.core.metrics import Preference
from adpm.core.moment import cutoff
from adpm.core.names import Alias, Digest, PackageName, parse_version
from adpm.core.release import Blob, File
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.workspace import member_path, qualified, unqualified
from adpm.errors import DocumentError, Fault
from adpm.formats.base import base_value, locked_base_node
from adpm.formats.card import requires_node, requires_value
from adpm.formats.conflict import markers
from adpm.formats.json import open_json, pretty
from adpm.formats.manifest import floors, registry_name
from adpm.formats.oci import clash, package_path
from adpm.formats.reader import Decoder, Fields, Node, integer, map_of, parsed, text
from adpm.formats.rules import rules_fields, rules_value
from adpm.formats.source import lock_source, lock_source_value
from adpm.version import __version__

__all__ = ["LOCK_FORMAT", "read_lock", "write_lock"]

LOCK_FORMAT: Final = 1  # what is written; `_READERS` has every format that is read
_SIZES: Final = range(limits.BLOB_BYTES + 1)


def write_lock(lock: Lock) -> bytes:
    """The lock's bytes: they depend on its content alone."""
    out: dict[str, Any] = {
        "lock": LOCK_FORMAT,
        "adapters": {},
        "compose": {},
        "packages": {key: _package_value(package) for key, package in lock.packages.items()},
    }
    if lock.members:
        out["members"] = {path: _member_value(member) for path, member in lock.members.items()}
    for alias, adapter in lock.adapters.items():
        _put(out, "adapters", alias, _adapter_value(adapter))
    for name, composition in lock.compose.items():
        _put(out, "compose", name, str(composition))
    if lock.base is not None:
        out["base"] = base_value(lock.base)
    if lock.bases:
        out["bases"] = {name: base_value(base) for name, base in lock.bases.items()}
    rules = rules_value(lock.rules)
    if lock.before is not None:
        rules["before"] = lock.before
    if rules:
        out["rules"] = rules
    return pretty(out)


def _member_value(member: LockedMember) -> dict[str, Any]:
    return {"adapters": {}, "compose": {}, **({} if member.base is None else {"base": member.base})}


def _put(out: dict[str, Any], section: str, name: str, value: Any) -> None:
    """Put what a project asks for where it belongs: in a workspace under its member."""
    member, own = unqualified(name)
    place = out["members"][member] if "members" in out else out
    place[section][str(own)] = value


def _adapter_value(adapter: LockedAdapter) -> dict[str, Any]:
    out: dict[str, Any] = {"requirement": str(adapter.requirement)}
    if adapter.registry is not None:
        out["registry"] = adapter.registry
    if adapter.group is not None:
        out["group"] = adapter.group
    if adapter.prefer is not None:
        out["prefer"] = str(adapter.prefer)
    if adapter.where:
        out["where"] = [str(floor) for floor in adapter.where]
    return {**out, **_place_value(adapter)}


def _place_value(entry: LockedAdapter | LockedPackage) -> dict[str, str]:
    parts = {"base": entry.base, "slot": entry.slot}
    return {key: value for key, value in parts.items() if value is not None}


def _package_value(package: LockedPackage) -> dict[str, Any]:
    origin = {"registry": package.registry} if package.source is None else {"source": lock_source_value(package.source)}
    return {
        **origin,
        "version": str(package.version),
        "release": _blob_value(package.manifest),
        "card": _blob_value(package.card),
        "files": {file.path: _blob_value(file.blob) for file in package.files},
        "requires": requires_value(package.requires),
        **_place_value(package),
    }


def _blob_value(blob: Blob) -> dict[str, Any]:
    return {"digest": str(blob.digest), "size": blob.size}


def read_lock(data: bytes, source: str, *, references: bool = True) -> Lock:
    """Read a lock; raises ``DocumentError`` (``lock-invalid``) with all its faults, (``lock-too-new``) by its format.

    Without ``references`` what is named may be missing from it, as from one side of a merge that git left undone.
    """
    conflicts = markers(data)
    if conflicts:
        faults = [Fault("", "git's conflict marker: two sides were not merged", line) for line in conflicts]
        hint = f"run 'adpm lock' where {LOCK_FILE} lies: it reads both sides and resolves them"
        raise DocumentError("lock-invalid", source, faults[: limits.DOCUMENT_FAULTS], hint=hint)
    document = open_json(data, source=source, code="lock-invalid", limit=limits.LOCK_BYTES)
    lock = document.root.decode(_reader(document.root))
    if references and lock is not None and not document.faults:
        _check_references(document.root, lock)
    document.finish(hint="run 'adpm lock' to write it anew; the lock is not meant to be edited by hand")
    assert lock is not None  # noqa: S101 - finish has raised otherwise
    return lock


def _reader(root: Node) -> Decoder[Lock]:
    """The reader of the document's own format. A newer one is refused before anything in it is called a fault."""
    number = root.value.get("lock") if isinstance(root.value, dict) else LOCK_FORMAT
    if type(number) is int and number > max(_READERS):
        raise DocumentError(
            "lock-too-new",
            root.document.source,
            [Fault("lock", f"it has format {number}; adpm {__version__} reads up to format {max(_READERS)}")],
            hint="upgrade adpm to the version that wrote it, or newer: pip install --upgrade adpm",
        )
    return _READERS.get(number, _format_1) if type(number) is int else _format_1


def _format_1(node: Node) -> Lock:
    fields = node.fields()
    fields.need("lock", _format)
    rules, before = fields.get("rules", _rules) or (Rules(), None)
    members = fields.get("members", map_of(member_path, _member)) or {}
    adapters, compose = _asked(fields)
    if members and (adapters or compose):
        fields.node.fail("has 'adapters' or 'compose' beside 'members', under which they belong")
    for path, (_, own_adapters, own_compose) in members.items():
        adapters |= {qualified(path, alias): adapter for alias, adapter in own_adapters.items()}
        compose |= {qualified(path, name): composition for name, composition in own_compose.items()}
    lock = Lock(
        base=fields.get("base", locked_base_node),
        adapters=adapters,
        compose=compose,
        packages=fields.need("packages", _packages),
        rules=rules,
        before=before,
        bases=fields.get("bases", map_of(Alias.parse, locked_base_node), default={}),
        members={path: member for path, (member, _, _) in members.items()},
    )
    fields.close()
    return lock


def _asked(fields: Fields) -> tuple[dict[Alias, LockedAdapter], dict[str, Composition]]:
    """What a project asks for: its adapters and its compositions."""
    adapters: dict[Alias, LockedAdapter] | None = fields.need("adapters", map_of(Alias.parse, _adapter))
    compose: dict[str, Composition] | None = fields.need("compose", map_of(_name, parsed(parse_composition)))
    return dict(adapters or {}), dict(compose or {})


def _name(text: str) -> str:
    return Alias.parse(text)


def _member(node: Node) -> tuple[LockedMember, dict[Alias, LockedAdapter], dict[str, Composition]]:
    fields = node.fields()
    adapters, compose = _asked(fields)
    member = LockedMember(fields.get("base", parsed(Alias.parse)))
    fields.close()
    return member, adapters, compose


def _format(node: Node) -> None:
    if node.value not in _READERS or type(node.value) is not int:
        node.fail(f"{node.value!r} is no lock format; this adpm reads {', '.join(map(str, _READERS))}")


_READERS: Final[dict[int, Decoder[Lock]]] = {1: _format_1}


def _rules(node: Node) -> tuple[Rules, str | None]:
    """The rules, and the moment that belongs to ``exclude-newer``."""
    fields = node.fields()
    rules, before = rules_fields(fields), fields.get("before", _moment)
    fields.close()
    if ("exclude-newer" in fields) != ("before" in fields):
        node.fail("must have both 'exclude-newer' and 'before', or neither")
    return rules, before


def _moment(node: Node) -> str:
    value = text(node)
    if cutoff(value) != value or value[10:11] != "T":
        node.fail(f"{value[:80]!r} is not a moment such as 2026-01-31T12:00:00Z")
    return value


def _adapter(node: Node) -> LockedAdapter:
    fields = node.fields()
    adapter = LockedAdapter(
        requirement=fields.need("requirement", parsed(Requirement.parse)),
        registry=fields.get("registry", parsed(registry_name)),
        base=fields.get("base", parsed(Alias.parse)),
        slot=fields.get("slot", parsed(Alias.parse)),
        group=fields.get("group", parsed(Alias.parse)),
        where=fields.get("where", floors) or (),
        prefer=fields.get("prefer", parsed(Preference.parse)),
    )
    fields.close()
    return adapter


def _packages(node: Node) -> dict[str, LockedPackage]:
    return map_of(_key, _package)(node)


def _key(text: str) -> str:
    PackageName.parse(text.partition(":")[0])
    return text


def _files(node: Node) -> tuple[File, ...]:
    files = tuple(File(path, blob) for path, blob in sorted(map_of(package_path, _blob)(node).items()))
    if why := clash(files):
        node.fail(why)
    return files


def _package(node: Node) -> LockedPackage:
    fields = node.fields()
    version: Version = fields.need("version", parsed(parse_version))
    files = fields.need("files", _files)
    key = str(node.path[-1])
    package = LockedPackage(
        name=PackageName(key.partition(":")[0]),
        version=version,
        registry=fields.get("registry", parsed(registry_name)),
        manifest=fields.need("release", _blob),
        card=fields.need("card", _blob),
        files=files or (),
        requires=fields.need("requires", requires_node),
        base=fields.get("base", parsed(Alias.parse)),
        slot=fields.get("slot", parsed(Alias.parse)),
        source=fields.get("source", lock_source),
    )
    fields.close()
    if "registry" not in fields and "source" not in fields:
        node.document.report((*node.path, "registry"), "is missing, and so is 'source'")
    elif "registry" in fields and "source" in fields:
        node.document.report((*node.path, "source"), "stands beside 'registry': a release is from one place")
    if key != package.key:
        node.fail(f"has the base and slot of {package.key}")
    return package


def _blob(node: Node) -> Blob:
    if isinstance(node.value, dict) and len(node.value) == 2:  # most of a lock is blobs: a right one needs no reader
        digest, size = node.value.get("digest"), node.value.get("size")
        if type(size) is int and size in _SIZES and isinstance(digest, str) and Digest.is_one(digest):
            return Blob(Digest(digest), size)
    fields = node.fields()
    blob = Blob(
        digest=fields.need("digest", parsed(Digest.parse)), size=fields.need("size", integer(_SIZES[0], _SIZES[-1]))
    )
    fields.close()
    return blob


def _check_references(node: Node, lock: Lock) -> None:
    """Everything that is named must be locked."""
    report = node.document.report
    if lock.base is not None and lock.bases:
        report(("bases",), "a lock has 'base' or 'bases', not both")
    _check_bases(node, lock)
    for alias, adapter in lock.adapters.items():
        if adapter.key not in lock.packages:
            report(_place(lock, "adapters", alias), f"{adapter.key} is not among the packages")
    for key, package in lock.packages.items():
        for requirement in package.requires:
            keys = (package_key(requirement.name, package.base, slot) for slot in (package.slot, None))
            if not any(key in lock.packages for key in keys):
                report(("packages", key, "requires"), f"{requirement.name} is not locked")
    if not node.document.faults:
        for path, part in lock.parts():
            for name, composition in part.compose.items():
                unknown = part.unknown(composition)
                if unknown is not None:
                    report(_place(lock, "compose", qualified(path, name)), f"{unknown!r} is not locked")


def _check_bases(node: Node, lock: Lock) -> None:
    entries: list[tuple[tuple[str, ...], LockedAdapter | LockedPackage]] = []
    entries += [(_place(lock, "adapters", alias), adapter) for alias, adapter in lock.adapters.items()]
    entries += [(("packages", key), package) for key, package in lock.packages.items()]
    for place, entry in entries:
        if (entry.base is None) != (not lock.bases) or (entry.base is not None and entry.base not in lock.bases):
            node.document.report(place, f"is for base {entry.base}, which is not locked")
    for path, member in lock.members.items():
        if member.base is not None and member.base not in lock.bases:
            node.document.report(("members", path, "base"), f"the base {member.base} is not locked")
    for alias, adapter in lock.adapters.items() if lock.members else ():
        if lock.members[unqualified(alias)[0]].base not in {None, adapter.base}:
            node.document.report(_place(lock, "adapters", alias), "is for another base than its member's only one")


def _place(lock: Lock, section: str, name: str) -> tuple[str, ...]:
    """Where an alias or a composition stands in the document."""
    member, own = unqualified(name)
    return ("members", member, section, str(own)) if lock.members else (section, str(own))
