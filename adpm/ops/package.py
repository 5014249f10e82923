"""Reading a package directory: what may be published, and what never is.

Publishable are the files that PEFT and AdapterHub write, with documentation. Pickles, code, links and anything that
leaves the directory are refused by name, all at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from adpm import limits
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.manifest import Manifest, PackageHeader
from adpm.errors import AdpmError, DocumentError, Fault, UsageError
from adpm.formats.manifest import read_manifest
from adpm.formats.oci import package_path
from adpm.ops.workspace import context, enclosing
from adpm.store.files import read_bounded

__all__ = ["PackageDirectory", "goes_into_package", "read_package"]

_PUBLISHED: Final = frozenset({".safetensors", ".json", ".md", ".txt"})
_PUBLISHED_NAMES: Final = frozenset({"LICENSE", "NOTICE"})
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5"})
_CODE: Final = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".exe", ".js", ".whl", ".jar", ".ipynb"})
_OWN: Final = frozenset({MANIFEST_FILE, LOCK_FILE})


@dataclass(frozen=True, slots=True)
class PackageDirectory:
    """A directory that can be published: its header, what it says of its base, its files by package path."""

    root: Path
    header: PackageHeader
    manifest: Manifest
    files: dict[str, Path]


def read_package(root: Path) -> PackageDirectory:
    """Read and check ``root``; raises ``DocumentError`` (``package-unpublishable``) with all its faults."""
    if not root.is_dir():
        raise UsageError("not-a-directory", f"{root} is not a directory", hint="give the directory of one adapter")
    path = root / MANIFEST_FILE
    if not path.is_file() or path.is_symlink():
        raise UsageError(
            "package-header-missing",
            f"{root} has no {MANIFEST_FILE}",
            hint="write one with 'package: {name: ..., version: ...}' and 'base: ...'",
        )
    manifest = _manifest(root, read_bounded(path, limits.MANIFEST_BYTES))
    if manifest.package is None:
        raise UsageError(
            "package-header-missing",
            f"{path} has no 'package:' section",
            hint="add 'package: {name: ..., version: ...}' to say what is published",
        )
    faults: list[Fault] = []
    files: dict[str, Path] = {}
    for name, entry in _walk(root, PurePosixPath(), faults):
        fault = _fault(name, entry)
        if fault is None:
            files[name] = entry
        else:
            faults.append(Fault(name, fault))
    if not faults and not files:
        faults.append(Fault("", "holds no adapter files"))
    if len(files) > limits.RELEASE_FILES:
        faults.append(Fault("", f"holds {len(files)} files, at most {limits.RELEASE_FILES} are allowed"))
    if faults:
        raise DocumentError(
            "package-unpublishable",
            str(root),
            faults,
            hint="move these files away; convert pickles to safetensors by reading and saving the adapter",
        )
    return PackageDirectory(root, manifest.package, manifest, dict(sorted(files.items())))


def _manifest(directory: Path, data: bytes) -> Manifest:
    """What the manifest says, with what the root of its workspace says for it."""
    root, path = enclosing(directory), directory / MANIFEST_FILE
    if root is None:
        return read_manifest(data, str(path))
    above = read_manifest(read_bounded(root / MANIFEST_FILE, limits.MANIFEST_BYTES), str(root / MANIFEST_FILE))
    member = Path(os.path.abspath(directory)).relative_to(root).as_posix()
    return read_manifest(data, str(path), context(above, member))


def goes_into_package(name: str) -> bool:
    """Whether a file of a repository is for the package in it: what is not, a ``.gitignore`` or a script, stays behind.

    Pickles go in, to be refused by name: an adapter must not be taken without its weights.
    """
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return False
    suffix = path.suffix.lower()
    return suffix in _PUBLISHED or suffix in _PICKLES or path.name in _PUBLISHED_NAMES or name in _OWN


def _walk(directory: Path, prefix: PurePosixPath, faults: list[Fault]) -> Iterator[tuple[str, Path]]:
    for entry in sorted(directory.iterdir()):
        name = str(prefix / entry.name)
        if entry.name in _OWN and prefix == PurePosixPath():
            continue
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            if entry.name.startswith("."):
                continue  # .git, .cache: never part of a package
            if len(prefix.parts) >= 8:
                faults.append(Fault(name, "lies too deep"))
                continue
            yield from _walk(entry, prefix / entry.name, faults)
        else:
            yield name, entry


def _fault(name: str, path: Path) -> str | None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "is a symbolic link; packages hold files only"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    try:
        package_path(name)
    except AdpmError:
        return "has a name that packages can't hold (letters, digits, '.', '_', '+', '-'; no leading dot)"
    return _fault_of_kind(path, executable=bool(mode & 0o111))


def _fault_of_kind(path: Path, *, executable: bool) -> str | None:
    suffix = path.suffix.lower()
    if suffix in _PUBLISHED or path.name in _PUBLISHED_NAMES:
        return None
    if suffix in _PICKLES:
        return "is or may be a pickle, which can run code when it is read"
    if suffix in _CODE or executable:
        return "is code; packages hold weights, configs and documentation only"
    return f"is of no kind that packages hold ({', '.join(sorted(_PUBLISHED))}, LICENSE, NOTICE)"
