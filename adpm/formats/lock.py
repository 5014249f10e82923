"""Reading and writing ``adapter.lock``: canonical JSON, one package a block, so that git merges it line by line.

The grammar is in ``specs/lock.md``. ``write_lock`` of what ``read_lock`` read gives the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

from packaging.version import Version

from adpm import limits
from adpm.core.composition import leaves, parse_composition
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import Alias, Digest, PackageName, parse_version
from adpm.core.release import Blob, File
from adpm.core.requirement import Requirement
from adpm.formats.base import base_node, base_value
from adpm.formats.card import requires_node, requires_value
from adpm.formats.json import open_json, pretty
from adpm.formats.manifest import registry_name
from adpm.formats.oci import package_path
from adpm.formats.reader import Node, integer, map_of, parsed
from adpm.formats.source import lock_source, lock_source_value

__all__ = ["LOCK_FORMAT", "read_lock", "write_lock"]

LOCK_FORMAT: Final = 1


def write_lock(lock: Lock) -> bytes:
    """The lock's bytes: they depend on its content alone."""
    out: dict[str, Any] = {
        "lock": LOCK_FORMAT,
        "adapters": {str(alias): _adapter_value(adapter) for alias, adapter in lock.adapters.items()},
        "compose": {str(name): str(composition) for name, composition in lock.compose.items()},
        "packages": {str(name): _package_value(package) for name, package in lock.packages.items()},
    }
    if lock.base is not None:
        out["base"] = base_value(lock.base)
    return pretty(out)


def _adapter_value(adapter: LockedAdapter) -> dict[str, str]:
    out = {"requirement": str(adapter.requirement)}
    if adapter.registry is not None:
        out["registry"] = adapter.registry
    return out


def _package_value(package: LockedPackage) -> dict[str, Any]:
    origin = {"registry": package.registry} if package.source is None else {"source": lock_source_value(package.source)}
    return {
        **origin,
        "version": str(package.version),
        "release": _blob_value(package.manifest),
        "card": _blob_value(package.card),
        "files": {file.path: _blob_value(file.blob) for file in package.files},
        "requires": requires_value(package.requires),
    }


def _blob_value(blob: Blob) -> dict[str, Any]:
    return {"digest": str(blob.digest), "size": blob.size}


def read_lock(data: bytes, source: str) -> Lock:
    """Read a lock; raises ``DocumentError`` (``lock-invalid``) with all its faults."""
    document = open_json(data, source=source, code="lock-invalid", limit=limits.LOCK_BYTES)
    lock = document.root.decode(_lock)
    document.finish(hint="run 'adpm lock' to write it anew; the lock is not meant to be edited by hand")
    assert lock is not None  # noqa: S101 - finish has raised otherwise
    return lock


def _lock(node: Node) -> Lock:
    fields = node.fields()
    fields.need("lock", _format)
    lock = Lock(
        base=fields.get("base", base_node),
        adapters=fields.need("adapters", map_of(Alias.parse, _adapter)),
        compose=fields.need("compose", map_of(Alias.parse, parsed(parse_composition))),
        packages=fields.need("packages", _packages),
    )
    fields.close()
    if not node.document.faults:
        _check_references(node, lock)
    return lock


def _format(node: Node) -> None:
    if node.value != LOCK_FORMAT or type(node.value) is not int:
        node.fail(f"this adpm reads lock format {LOCK_FORMAT}, this is {node.value!r}; use the adpm that wrote it")


def _adapter(node: Node) -> LockedAdapter:
    fields = node.fields()
    adapter = LockedAdapter(
        requirement=fields.need("requirement", parsed(Requirement.parse)),
        registry=fields.get("registry", parsed(registry_name)),
    )
    fields.close()
    return adapter


def _packages(node: Node) -> dict[PackageName, LockedPackage]:
    return map_of(PackageName.parse, _package)(node)


def _package(node: Node) -> LockedPackage:
    fields = node.fields()
    version: Version = fields.need("version", parsed(parse_version))
    files = fields.need("files", map_of(package_path, _blob))
    package = LockedPackage(
        name=PackageName(node.path[-1]),
        version=version,
        registry=fields.get("registry", parsed(registry_name)),
        manifest=fields.need("release", _blob),
        card=fields.need("card", _blob),
        files=tuple(File(path, blob) for path, blob in sorted((files or {}).items())),
        requires=fields.need("requires", requires_node),
        source=fields.get("source", lock_source),
    )
    fields.close()
    if "registry" not in fields and "source" not in fields:
        node.document.report((*node.path, "registry"), "is missing, and so is 'source'")
    elif "registry" in fields and "source" in fields:
        node.document.report((*node.path, "source"), "stands beside 'registry': a release is from one place")
    return package


def _blob(node: Node) -> Blob:
    fields = node.fields()
    blob = Blob(
        digest=fields.need("digest", parsed(Digest.parse)), size=fields.need("size", integer(0, limits.BLOB_BYTES))
    )
    fields.close()
    return blob


def _check_references(node: Node, lock: Lock) -> None:
    """Everything that is named must be locked."""
    for alias, adapter in lock.adapters.items():
        if adapter.requirement.name not in lock.packages:
            node.document.report(("adapters", str(alias)), f"{adapter.requirement.name} is not among the packages")
    for name, package in lock.packages.items():
        for requirement in package.requires:
            if requirement.name not in lock.packages:
                node.document.report(("packages", str(name), "requires"), f"{requirement.name} is not locked")
    if not node.document.faults:
        known = {name for name, _ in lock.names()}
        for composed, composition in lock.compose.items():
            for leaf in leaves(composition):
                if leaf not in known:
                    node.document.report(("compose", composed), f"{leaf!r} is not locked")
